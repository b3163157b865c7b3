"""One Salesforce org: where it lives, and the login to it.

Logins: a connected app with a refresh token, or with client credentials (on the org's own domain). There is no JWT bearer
login: its signature would need one more dependency; and none with user name and password.
"""

from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from syncd.connector import Context, Options
from syncd.errors import SourceError
from syncd.http import BaseUrl, OAuth
from syncd.secret import Secret

SHARED_HOSTS = frozenset({"login.salesforce.com", "test.salesforce.com"})


class Org(Options):
    """One org, and the login to it."""

    TOGETHER: ClassVar = frozenset({"client_id", "client_secret", "refresh_token"})

    client_id: Annotated[str, Field(min_length=1)]
    """Of the connected app."""
    client_secret: Secret | None = None
    """Of the same app."""
    refresh_token: Secret | None = None
    """The app's token; without it, the app logs in by client credentials."""
    base_url: BaseUrl | None = None
    """Where the org is asked, instead of where the login says; without `login_url`, the login too."""
    login_url: BaseUrl | None = None
    """The org's own domain, or Salesforce's shared hosts (`https://test.salesforce.com` for a sandbox)."""
    api_version: Annotated[str, Field(pattern=r"^(4[7-9]|[5-9]\d|1\d\d)\.0$")] = "62.0"
    """Of the REST API."""
    objects: Annotated[tuple[Literal["Contact", "Lead"], ...], Field(min_length=1)] = ("Contact",)
    """Whose people they are."""

    @model_validator(mode="after")
    def _one_login(self) -> "Org":
        if self.refresh_token is None and self.client_secret is None:
            raise ValueError(
                "client_secret, and refresh_token unless the app uses client credentials"
            )
        if self.refresh_token is None and urlsplit(self.login_host()).hostname in SHARED_HOSTS:
            raise ValueError(
                "client credentials need the org's own domain: login_url = https://NAME.my.salesforce.com"
            )
        if len(set(self.objects)) != len(self.objects):
            raise ValueError("each of the objects once")
        return self

    def login_host(self) -> str:
        """Where tokens are handed out."""
        return self.login_url or self.base_url or "https://login.salesforce.com"

    def login(self, context: Context) -> OAuth:
        """The login that these options are."""
        form: dict[str, str | Secret] = {"client_id": self.client_id}
        if self.client_secret is not None:
            form["client_secret"] = self.client_secret
        if self.refresh_token is None:
            form["grant_type"] = "client_credentials"
        else:
            form |= {"grant_type": "refresh_token", "refresh_token": self.refresh_token}
        return OAuth(f"{self.login_host()}/services/oauth2/token", form, clock=context.clock)

    def instance(self, login: OAuth) -> str:
        """Where the org lives: the login says so. Raises SourceError."""
        if self.base_url is not None:
            return self.base_url
        login.headers()
        url: Any = login.granted.get("instance_url")
        scheme = urlsplit(self.login_host()).scheme
        if not isinstance(url, str) or urlsplit(url).scheme != scheme or not urlsplit(url).hostname:
            raise SourceError(
                "Salesforce: the login did not say where the org lives (instance_url)",
                hint="Check login_url: is this Salesforce?",
            )
        return url.rstrip("/")
