"""Whether FluenzR refuses everybody alike: an unknown custom field, say, is no mistake of a person. Pure.

A batch that is refused as a whole is halved until the one bad row stands alone. Where everybody is refused, that would end in
two requests a person; so it ends after several lone refusals in a row with the same words.
"""

import re
from dataclasses import dataclass

ALONE_MAX = 50  # so many bad rows in a row are not by chance; they cost about 100 requests, and not two a person


@dataclass(slots=True)
class Alike:
    """What single people of one kind of request, tried as often, were answered, one after the other. words: without their addresses."""

    words: str = ""
    _count: int = 0

    @property
    def general(self) -> bool:
        """Whether the next batch that is refused as a whole is not to be halved."""
        return self._count >= ALONE_MAX

    def refused(self, words: str, email: str) -> None:
        """One person, alone in a request, was refused with these words."""
        plain = re.sub(re.escape(email), "[address]", words, flags=re.IGNORECASE)
        self._count = self._count + 1 if plain == self.words else 1
        self.words = plain

    def taken(self) -> None:
        """Somebody was taken: it is not everybody."""
        self.words, self._count = "", 0
