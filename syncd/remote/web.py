"""One file at an https address. A web server has no patterns."""

import base64
from contextlib import AbstractContextManager, nullcontext
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from syncd.errors import NoAnswer, SourceDenied, SourceError
from syncd.http.client import Answer
from syncd.http.download import download
from syncd.remote.intake import Intake, Stamp
from syncd.remote.options import Storage


class Web:
    """The store of one address."""

    def __init__(self, url: str, storage: Storage) -> None:
        parts = urlsplit(url)
        self._url, self._storage = parts._replace(fragment="").geturl(), storage
        self.pattern = f"https://{parts.netloc}{parts.path}"

    def names(self) -> list[str]:
        """The address, without its query; whether there is a file shows later."""
        return [self.pattern]

    def session(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002  there is one name
        """Each request is a connection of its own: a server may close an idle one at any time."""
        return nullcontext()

    def stamp(self, name: str) -> Stamp:  # noqa: ARG002  there is one name
        """What the headers tell. Raises SourceError when no answer comes."""
        answer = self._answer("HEAD", None)
        if answer.status != 200:  # some servers, and all signed addresses, know GET only
            return Stamp()
        headers = answer.headers
        etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
        size, modified_s = _size(headers.get("content-length", "")), _http_time(modified)
        told = bool(etag) or (modified_s is not None and size is not None)
        if headers.get("content-encoding", "identity") != "identity":
            size = None  # of the compressed bytes
        return Stamp(f"{etag} {modified} {size}" if told else "", size, modified_s)

    def fetch(self, name: str, into: Intake) -> None:
        """Download it. Raises SourceError."""
        answer = self._answer("GET", into)
        if answer.status in (401, 403):
            raise SourceDenied(
                f"{name} may not be read",
                why=f"The server answered {answer.status}",
                hint="Check the login in `storage`, and whether the address is still valid",
            )
        if answer.status != 200:
            raise SourceError(
                f"{name} was not given",
                why=f"The server answered {answer.status}"
                + (": there is no such file" if answer.status in (404, 410) else ""),
                hint="Check `path`" if answer.status < 500 else "It is tried again in the next run",
            )
        if answer.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html":
            raise SourceError(
                f"{name} gave a web page, not a file",
                why="Often it is a page for logging in",
                hint="Check `path`: it must be the address of the download itself, and its login",
            )

    def _answer(self, method: str, into: Intake | None) -> Answer:
        sink = into.take if into is not None else None
        try:
            return download(self._url, login=self._login(), sink=sink, method=method)
        except NoAnswer as error:
            taken = f" after {into.size:,} bytes" if into is not None and into.size else ""
            raise SourceError(
                f"{self.pattern} could not be downloaded{taken}",
                why=error.why or error.what,
                hint=error.hint,
            ) from None

    def _login(self) -> dict[str, str]:
        found = {name: secret.reveal() for name, secret in self._storage.headers.items()}
        if self._storage.token is not None:
            found["Authorization"] = f"Bearer {self._storage.token.reveal()}"
        elif self._storage.password is not None:
            pair = f"{self._storage.username or ''}:{self._storage.password.reveal()}"
            found["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return found


def _size(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 18 else None


def _http_time(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
