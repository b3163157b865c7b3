"""A limit of the guards, as it is written: a number of contacts, or a share of what the sync
manages.
"""

import re
from dataclasses import dataclass

SHARE_MAX = 10.0  # 1000 %: larger is a slip of the keyboard

_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *%")


@dataclass(frozen=True, slots=True)
class Limit:
    """Either `count` (people; 0 means none at all) or `share` (0.1 is ten percent); the other one
    is None.
    """

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, written: object) -> "Limit":
        """Read `100`, "100" or "10%". Raises ValueError with what is expected."""
        text = str(written).strip() if isinstance(written, int | str) else ""
        if text.isascii() and text.isdigit():
            return cls(count=int(text))
        match = _SHARE.fullmatch(text)
        share = float(match[1]) / 100 if match else SHARE_MAX + 1
        if share > SHARE_MAX:
            raise ValueError('a number of contacts such as 100, or a share such as "10%", expected')
        return cls(share=share)

    def __str__(self) -> str:
        """As it is written in the configuration."""
        return str(self.count) if self.share is None else f"{self.share * 100:g}%"
