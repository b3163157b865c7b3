"""Who may look at the page: the token, the sessions, and the checks that a foreign site cannot pass.

A session is a random number in a cookie that no script and no other site can use; what it opens is known in this process only, and ends
with it, with the token it was opened by, or after `SESSION_S`. One request is answered at a time (`web.page`), so nothing here is locked.
"""

import hashlib
import ipaddress
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import Response

from syncd.clock import Clock
from syncd.config_models import HttpSettings
from syncd.errors import ConfigError, SyncdError
from syncd.secret import Secret

log = structlog.get_logger(__name__)
LOGIN_ACCEPTED = "login.accepted"  # somebody has opened the page
LOGIN_REFUSED = "login.refused"  # a wrong token was given for the page

TOKEN_CHARS_MIN = 16
SESSION_S = 12 * 3600.0
SESSIONS_MAX = 50  # the oldest ends when there is one more
ATTEMPTS_MAX = 10  # wrong tokens within `ATTEMPTS_S`, from anywhere: behind a proxy everybody comes from one address
ATTEMPTS_S = 60.0
SESSION_COOKIE = "syncd_session"
LOGIN_COOKIE = "syncd_login"  # is sent back by the form of the login: another site cannot know it
COOKIES_MAX = 4096  # characters of one that is looked at
MAKE_ONE = (
    'make one with `openssl rand -hex 24`, and name it in [http]: token = "env:SYNCD_PAGE_TOKEN"'
)


class PageOff(SyncdError):
    """The page cannot be opened by anybody."""


class TooMany(SyncdError):
    """So many wrong tokens came that none is looked at for a while."""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who gave the right token. csrf: stands in each form of theirs; by: a digest of that token; until_s: monotonic."""

    csrf: str
    by: bytes
    until_s: float


class Door:
    """http: the table of the configuration as it is now."""

    def __init__(self, http: Callable[[], HttpSettings | None], *, clock: Clock) -> None:
        self._http, self._clock = http, clock
        self._sessions: dict[bytes, Session] = {}  # by a digest of the cookie, the oldest first
        self._wrong: deque[float] = deque(maxlen=ATTEMPTS_MAX)

    def check_open(self) -> str:
        """The token. Raises PageOff where there is none that can be used."""
        http = self._http()
        if http is None or http.token is None:
            hint = f"To switch it on, {MAKE_ONE}"
            raise PageOff("The page is off", why="It has no token", hint=hint)
        try:
            return token_of(http.token)
        except ConfigError:  # whoever asks need not know where secrets are kept
            hint = "`syncd check` says why"
            raise PageOff("The page is off", why="Its token cannot be used", hint=hint) from None

    def is_ours(self, host: str) -> bool:
        """Whether the page is meant under this name: a foreign one that leads here is DNS rebinding. An address is no name."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or (host.lower() == self._public().netloc.lower() and host):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def is_secure(self, request: Request) -> bool:
        """Whether the browser speaks https, to a proxy: then its cookies are for https only."""
        told = request.headers.get("x-forwarded-proto", "")
        public = self._public()
        host = request.headers.get("host", "").lower()
        return told == "https" or (public.scheme == "https" and host == public.netloc.lower())

    def session(self, request: Request) -> Session | None:
        """Whose request this is. Raises PageOff."""
        token = self.check_open()
        found = self._sessions.get(_digest(_cookie(request, SESSION_COOKIE)))
        if found is None or found.until_s < self._clock.monotonic_s():
            return None
        return found if secrets.compare_digest(found.by, _digest(token)) else None

    def enter(self, given: str) -> str | None:
        """A new session's cookie for the right token; None for a wrong one. Raises PageOff, TooMany."""
        token, now_s = self.check_open(), self._clock.monotonic_s()
        if len(self._wrong) == ATTEMPTS_MAX and now_s - self._wrong[0] < ATTEMPTS_S:
            raise TooMany(
                "Too many wrong tokens",
                hint=f"Wait a minute; at most {ATTEMPTS_MAX} a minute are looked at",
            )
        if not secrets.compare_digest(_digest(given.strip()), _digest(token)):
            self._wrong.append(now_s)
            log.warning(LOGIN_REFUSED, of_the_last_minute=self._recent(now_s))
            return None
        if len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        cookie = secrets.token_urlsafe(32)
        session = Session(secrets.token_urlsafe(32), _digest(token), now_s + SESSION_S)
        self._sessions[_digest(cookie)] = session
        log.info(LOGIN_ACCEPTED)
        return cookie

    def leave(self, request: Request) -> None:
        """The session ends."""
        self._sessions.pop(_digest(_cookie(request, SESSION_COOKIE)), None)

    def _recent(self, now_s: float) -> int:
        return sum(now_s - at_s < ATTEMPTS_S for at_s in self._wrong)

    def _public(self) -> SplitResult:
        http = self._http()
        return urlsplit(http.public_url or "" if http is not None else "")


def token_of(secret: Secret) -> str:
    """The token. Raises ConfigError when it cannot be read, or could be guessed."""
    token = secret.reveal()
    if len(token) < TOKEN_CHARS_MIN:
        raise ConfigError(
            f"The token of the page is shorter than {TOKEN_CHARS_MIN} characters",
            why="It could be guessed",
            hint="Take a longer one: openssl rand -hex 24",
        )
    return token


def from_here(request: Request) -> bool:
    """Whether a form was sent by one of our own pages, as far as the browser says."""
    return request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}


def same(given: str, expected: str) -> bool:
    """Whether both are the same and not empty, in a time that tells nothing."""
    return bool(expected) and secrets.compare_digest(_digest(given), _digest(expected))


def login_cookie(request: Request) -> str:
    """What the form of the login must send back."""
    return _cookie(request, LOGIN_COOKIE)


def set_cookie(response: Response, name: str, value: str | None, *, secure: bool) -> None:
    """A cookie for this page alone, until the browser is closed; None takes it back."""
    response.set_cookie(
        name,
        value or "",
        max_age=None if value else 0,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def _cookie(request: Request, name: str) -> str:
    return request.cookies.get(name, "")[:COOKIES_MAX]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
