"""The types of options that connectors of web APIs share."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("a URL such as https://host/path")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "a URL without user, password, query or fragment: secrets have options of their own"
        )
    return text.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url)]
"""The address of a vendor's API; without user, password or query, and without a slash at its end."""
