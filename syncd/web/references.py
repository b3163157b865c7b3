"""Addresses of people by a reference, so that none ever stands in a URL: in a browser's history, or in a proxy's log.

A reference is a keyed hash; what it stands for is known in this process only, and as long as it is among the last `KNOWN_MAX`.
"""

import hashlib
import secrets

KNOWN_MAX = 10_000  # a page of fifty people, two hundred times


class References:
    """One request is answered at a time (`web.page`), so nothing here is locked."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._emails: dict[
            str, str
        ] = {}  # by their reference, the one that was needed longest ago first

    def of(self, email: str) -> str:
        """The reference of an address, the same each time."""
        text = email.encode("utf-8", "surrogatepass")
        found = hashlib.blake2b(text, key=self._key, digest_size=16).hexdigest()
        self._emails.pop(found, None)
        self._emails[found] = email
        if len(self._emails) > KNOWN_MAX:
            del self._emails[next(iter(self._emails))]
        return found

    def email(self, reference: str) -> str | None:
        """Whom it stands for; None: nobody, or it is not known any more."""
        return self._emails.get(reference)
