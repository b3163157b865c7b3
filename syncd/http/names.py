"""What vendors' texts say of a person or a company, and the keys of a person's further addresses. Pure functions."""

import re
from hashlib import blake2b
from urllib.parse import urlsplit

CAPITALS_MIN = (
    4  # letters: so many capitals at the beginning are a last name, fewer may be initials
)

_NAME = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")  # letters of any script
_TITLES = frozenset(
    ["dr", "mr", "mrs", "ms", "miss", "prof", "herr", "frau", "sr", "sra", "mme", "mlle", "m"]
)


def split_name(name: object) -> tuple[str | None, str | None]:
    """(first name, last name) of a whole name: only where it is plainly two words; else all of it is the first name.

    "Ada Byron" -> ("Ada", "Byron"); "BYRON Ada" -> ("Ada", "BYRON"); "Dr. Ada Byron", "Anna Maria Lopez" stay whole.
    """
    text = name.strip() if isinstance(name, str) else ""
    words = text.split()
    if len(words) != 2 or words[0].lower() in _TITLES or words[0][0].islower():
        return text or None, None
    if not all(_NAME.fullmatch(word) for word in words):
        return text, None
    first, last = words
    if (
        first.isupper() and not last.isupper()
    ):  # "BYRON Ada" is how many write it; "JP Byron" is not that
        return (last, first) if len(first) >= CAPITALS_MIN else (text, None)
    return first, last


def domain_of(website: object) -> str | None:
    """ "example.com" of "https://www.example.com/about", with or without a scheme; None where there is none."""
    text = website.strip() if isinstance(website, str) else ""
    try:
        host = urlsplit(text if "//" in text else f"//{text}").hostname
    except ValueError:
        return None
    return host.removeprefix("www.") if host and "." in host else None


def further_key(key: str, address: str) -> str:
    """The key of the record that a person's further address is: another one for each address, which it does not show."""
    mark = blake2b(address.strip().lower().encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{key}#{mark}"
