"""The options that connectors of web APIs share: addresses, and the usual two ways to log in."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from syncd.clock import Clock
from syncd.connector import Options
from syncd.http.login import Login, OAuth
from syncd.secret import Secret


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("a URL such as https://host/path")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "a URL without user, password, query or fragment: secrets have options of their own"
        )
    return text.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url), "URL"]
"""The address of a vendor's API; without user, password or query, and without a slash at its end."""


class TokenOrApp(Options):
    """Options with one of two logins: token, as the vendor gives it to its users; or client_id, client_secret and refresh_token of an
    OAuth app.
    """

    TOGETHER: ClassVar = frozenset({"token", "client_id", "client_secret", "refresh_token"})

    token: Secret | None = None
    """The vendor's token or key of one user or one account."""
    client_id: str | None = None
    """Of an OAuth app, instead of `token`."""
    client_secret: Secret | None = None
    """Of the same app."""
    refresh_token: Secret | None = None
    """The app's token for this account; `file:PATH` where the vendor replaces it at each use."""

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        missing = [self.client_id, self.client_secret, self.refresh_token].count(None)
        if missing != (0 if self.token is None else 3):
            raise ValueError("either token, or client_id, client_secret and refresh_token")
        return self

    def login(
        self,
        by_token: Callable[[Secret], Login],
        token_url: str,
        clock: Clock,
        *,
        basic: bool = False,
    ) -> Login:
        """The login that these options are. by_token: makes one of a token. basic: the app's id and secret go into the header."""
        if self.token is not None:
            return by_token(self.token)
        if self.client_id is None or self.client_secret is None or self.refresh_token is None:
            raise AssertionError("the options have one login or the other")
        form: dict[str, str | Secret] = {"grant_type": "refresh_token"}
        form |= {} if basic else {"client_id": self.client_id, "client_secret": self.client_secret}
        return OAuth(
            token_url,
            {**form, "refresh_token": self.refresh_token},
            clock=clock,
            basic=(self.client_id, self.client_secret) if basic else None,
        )
