"""One Pipedrive account: where it lives, and the login to it."""

from urllib.parse import urlsplit

from syncd.connector import Context
from syncd.errors import SourceError
from syncd.http import BaseUrl, Login, OAuth, Token, TokenOrApp

HOST = "https://api.pipedrive.com"
TOKEN_URL = "https://oauth.pipedrive.com/oauth/token"  # noqa: S105  an address


class Account(TokenOrApp):
    """token: an API token; or client_id, client_secret and refresh_token of an app."""

    base_url: BaseUrl | None = None
    """The company's own address (`https://NAME.pipedrive.com`), a proxy or a sandbox; without it, what the login says."""
    token_url: BaseUrl = TOKEN_URL
    """Where tokens are handed out, for a proxy or a sandbox."""

    def account_login(self, context: Context) -> Login:
        """The login that these options are."""
        return self.login(
            lambda token: Token(token, header="x-api-token", prefix=""),
            self.token_url,
            context.clock,
            basic=True,
        )

    def host(self, login: Login) -> str:
        """Where the account is asked: the first token of an app tells the account's own host. Raises SourceError."""
        if self.base_url is not None or not isinstance(login, OAuth):
            return self.base_url or HOST
        login.headers()
        host = str(login.granted.get("api_domain") or HOST)
        if urlsplit(host).scheme != urlsplit(self.token_url).scheme:
            raise SourceError("Pipedrive: the login names no host of the account (api_domain)")
        return host
