"""The ways to log in at a vendor: a fixed token, a name and password, OAuth with its refresh.

A secret is read at its first use and held in memory only. A refresh token that the vendor replaces at each use is written back
into the file that it came from, before the new access token is used: else the next start would have none.

Source: connectors reference, "Auth" of each vendor; part A.3.2.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import orjson

from syncd.clock import Clock
from syncd.errors import ConfigError, NoAnswer, SourceDenied, SourceError
from syncd.http.client import Answer, HttpClient
from syncd.secret import Secret

EARLY_S = 60.0  # a token is renewed so long before it ends: a request must not meet its end
KNOWN_MAX = 20  # tokens and secrets that are kept out of errors: those of the last hours
LIFE_S = 1800.0  # of a token whose vendor does not say


class Login(Protocol):
    """What an Api asks of a login."""

    def headers(self) -> Mapping[str, str]:
        """The headers that log a request in. Raises SourceError, ConfigError."""

    def renew(self) -> bool:
        """The vendor does not take the headers any more: fetch others; False where there are none."""

    def secrets(self) -> tuple[str, ...]:
        """What must never be shown, as far as it is known by now."""


class Open:
    """No login."""

    def headers(self) -> Mapping[str, str]:
        """None."""
        return {}

    def renew(self) -> bool:
        """There is nothing to renew."""
        return False

    def secrets(self) -> tuple[str, ...]:
        """None."""
        return ()


class Token:
    """A fixed token in one header. prefix: what stands before it ("Bearer ")."""

    def __init__(
        self, secret: Secret, *, header: str = "Authorization", prefix: str = "Bearer "
    ) -> None:
        self._secret, self._header, self._prefix = secret, header, prefix
        self._value = ""

    def headers(self) -> Mapping[str, str]:
        """The one header."""
        self._value = self._value or _fit(self._secret)
        return {self._header: f"{self._prefix}{self._value}"}

    def renew(self) -> bool:
        """A fixed token can only be replaced by its owner."""
        return False

    def secrets(self) -> tuple[str, ...]:
        """The token."""
        return (self._value,) if self._value else ()


class Basic:
    """A name and a password, either of which may be a secret or left empty (Close: the key is the name)."""

    def __init__(self, name: str | Secret, password: str | Secret = "") -> None:
        self._name, self._password = name, password
        self._shown: tuple[str, ...] = ()

    def headers(self) -> Mapping[str, str]:
        """The Authorization header."""
        name, password = _text(self._name), _text(self._password)
        pair = b64encode(f"{name}:{password}".encode()).decode()
        hidden = [name] if isinstance(self._name, Secret) else []
        self._shown = tuple(text for text in (*hidden, password, pair) if text)
        return {"Authorization": f"Basic {pair}"}

    def renew(self) -> bool:
        """There is nothing to renew."""
        return False

    def secrets(self) -> tuple[str, ...]:
        """What is not public of the pair, and the pair as it is sent."""
        return self._shown


class OAuth:
    """An access token, fetched from `token_url` by `form` and renewed before it ends.

    form: the parameters; a Secret among the values is read when it is sent. scheme: the word before the token ("Bearer",
    "Zoho-oauthtoken"). basic: client id and secret go into the Authorization header instead of the form (Pipedrive).
    `granted` is the vendor's whole last answer, for what else it tells (instance_url, api_domain).
    """

    def __init__(
        self,
        token_url: str,
        form: Mapping[str, str | Secret],
        *,
        clock: Clock,
        scheme: str = "Bearer",
        basic: tuple[str, Secret] | None = None,
    ) -> None:
        self._url, self._form, self._clock, self._scheme = token_url, dict(form), clock, scheme
        self._basic = Basic(*basic) if basic else None
        self._known: list[str] = []
        self._ends_s = 0.0
        self.granted: Mapping[str, Any] = {}

    def headers(self) -> Mapping[str, str]:
        """The access token's header; a new token is fetched where there is none, or the last one ends."""
        if not self.granted or self._clock.monotonic_s() >= self._ends_s:
            self._fetch()
        return {"Authorization": f"{self._scheme} {self.granted['access_token']}"}

    def renew(self) -> bool:
        """Fetch another token now."""
        self._fetch()
        return True

    def secrets(self) -> tuple[str, ...]:
        """Every token and secret that was sent or received."""
        return tuple(self._known)

    def _fetch(self) -> None:
        parts = urlsplit(
            self._url
        )  # its path is sent as it is: Close insists on a slash at the end
        place = f"{parts.hostname}: no access token"
        form = {name: _text(value) for name, value in self._form.items()}
        for name, value in self._form.items():
            if isinstance(value, Secret) and form[name] not in self._known:
                self._known.append(form[name])
        headers = dict(self._basic.headers()) if self._basic else {}
        headers |= {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        try:
            with HttpClient(f"{parts.scheme}://{parts.netloc}") as http:
                answer = http.send(
                    "POST",
                    parts.path,
                    body=urlencode(form, quote_via=quote).encode(),
                    headers=headers,
                )
        except NoAnswer as error:
            raise SourceError(error.what, why=error.why, hint=error.hint) from None
        found = _json(answer)
        token = found.get("access_token")
        if answer.status != 200 or not isinstance(token, str) or not token:
            raise self._refused(place, answer, found)
        self._known = [*self._known, token][-KNOWN_MAX:]
        self._keep_rotated(found, form)
        life_s = found.get("expires_in")
        life_s = float(life_s) if isinstance(life_s, int | float) and life_s > 0 else LIFE_S
        self._ends_s = self._clock.monotonic_s() + max(EARLY_S, life_s - EARLY_S)
        self.granted = found

    def _refused(self, place: str, answer: Answer, found: Mapping[str, Any]) -> SourceError:
        """Zoho says errors with status 200; OAuth's own form is {"error", "error_description"}."""
        error = found.get("error")
        words = f"{error}" if isinstance(error, str) else f"HTTP {answer.status}"
        if answer.status >= 500 or answer.status == 429:
            return SourceError(place, why=words, hint="Tried again in the next run")
        return SourceDenied(
            place,
            why=f"The vendor answered {words}",
            hint="Check client id, client secret and refresh token; a token that was revoked must be made anew. Some vendors"
            " also say no for ten minutes when too many tokens were asked for",
        )

    def _keep_rotated(self, found: Mapping[str, Any], form: Mapping[str, str]) -> None:
        """A new refresh token replaces the old one, which is dead from now on."""
        new = found.get("refresh_token")
        held = self._form.get("refresh_token")
        if not isinstance(new, str) or not new or held is None or new == form["refresh_token"]:
            return
        self._known.append(new)
        if isinstance(held, Secret) and held.reference.startswith("file:"):
            held.replace(new)
            return
        raise ConfigError(
            f"{urlsplit(self._url).hostname} has replaced the refresh token, and it cannot be kept",
            why="The new one would be lost at the end of this process, and the old one is dead",
            hint="Write the refresh token into a file of its own and name it as file:PATH: it is kept up to date there",
        )


def _json(answer: Answer) -> Mapping[str, Any]:
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value


def _fit(secret: Secret) -> str:
    value = secret.reveal()
    if not value.isascii() or not value.isprintable():
        raise ConfigError(
            f"The secret {secret.reference} has characters that no header may have",
            hint="Check that it was copied whole, without line breaks",
        )
    return value
