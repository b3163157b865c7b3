"""Downloads of one file over https, of any size: the one client's limits, and redirects that lead nowhere unsafe.

A redirect is followed, as file hosts need it, but only to https, and a login goes to no other host than the one that it was meant
for. What a status means for a source is the caller's business.
"""

import time
from collections.abc import Callable, Mapping
from urllib.parse import urljoin, urlsplit

import httpx

from syncd.errors import NoAnswer
from syncd.http.client import _END_S, Answer, HttpClient, _no_answer

SILENCE_S_MAX = 60.0  # between two pieces of a file
DOWNLOAD_S_MAX = 3600.0  # 2 GiB in an hour are 5 Mbit/s: a slower line needs another way
REDIRECTS_MAX = 5  # file hosts use one or two
PIECE_BYTES = 256 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})

Sink = Callable[[bytes], object]


class UnsafeRedirect(NoAnswer):
    """The server sends us to where nothing must be fetched from."""


class FileClient(HttpClient):
    """A client for files: bodies go to a sink, piece by piece."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url, timeout_s=SILENCE_S_MAX)
        self.deadline_s = DOWNLOAD_S_MAX

    def ask(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str], sink: Sink | None
    ) -> Answer:
        """One request; the body of a 200 goes to `sink`, decoded, every other body is left unread.

        Raises NoAnswer, also when the body ends early.
        """
        url = f"{self.base_url}{path}?{query}" if query else f"{self.base_url}{path}"
        place = f"{method} {path} at {self.host}"
        _END_S.set(time.monotonic() + self.deadline_s)
        try:
            # Compression on the way would hide the size, and says nothing of the file itself.
            wanted = {"Accept-Encoding": "identity", **headers}
            request = self._client.build_request(method, url, headers=wanted)
            response = self._client.send(request, stream=True)
            try:
                if response.status_code == httpx.codes.OK and sink is not None:
                    for piece in response.iter_bytes(PIECE_BYTES):
                        sink(piece)
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _no_answer(error, place, self._timeout_s) from None
        seen = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, seen, b"")


def download(
    url: str, *, login: Mapping[str, str], sink: Sink | None, method: str = "GET"
) -> Answer:
    """The answer for a file, after all redirects; `Answer.body` stays empty, `sink` gets it.

    url: https, without user and password. login: headers for its host alone. Raises NoAnswer, UnsafeRedirect.
    """
    meant_for = urlsplit(url).netloc
    for _ in range(REDIRECTS_MAX + 1):
        parts = urlsplit(url)
        place = f"{method} {parts.path} at {parts.netloc}"
        headers = login if parts.netloc == meant_for else {}
        with FileClient(f"https://{parts.netloc}") as client:
            answer = client.ask(
                method, parts.path or "/", query=parts.query, headers=headers, sink=sink
            )
        if answer.status not in REDIRECTS:
            return answer
        target = urlsplit(urljoin(url, answer.headers.get("location", "")))
        if target.scheme != "https" or target.username or not target.hostname:
            raise UnsafeRedirect(
                f"{place}: the server redirects to what is no plain https address",
                hint="Write the address that the file really has",
                sent=True,
            )
        url = target._replace(fragment="").geturl()
    raise UnsafeRedirect(
        f"{place}: more than {REDIRECTS_MAX} redirects",
        hint="Write the address that the file really has; a log-in page often redirects for ever",
        sent=True,
    )
