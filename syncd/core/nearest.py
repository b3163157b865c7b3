"""The nearest valid name: what somebody most likely meant by a name that does not exist."""

import difflib
from collections.abc import Iterable

LISTED_MAX = 12  # names that a message lists when none is near; more would hide the message


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name most like `name`, letter case and punctuation aside; None when none is like
    it.
    """
    plain = {_plain(candidate): candidate for candidate in valid}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def suggestion(name: str, valid: Iterable[str]) -> str:
    """Words that end a message about an unknown name: the nearest one, else the names there are,
    else nothing.
    """
    names = sorted(set(valid))
    found = nearest(name, names)
    if found is not None:
        return f'did you mean "{found}"?'
    if not names:
        return ""
    more = ", ..." if len(names) > LISTED_MAX else ""
    return "valid: " + ", ".join(names[:LISTED_MAX]) + more


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")
