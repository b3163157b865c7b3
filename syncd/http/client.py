"""HTTP towards the outside: one client with every limit set, and errors that hold no secret.

It decides how long, how large and how many; what an answer *means* is its users' business. The only
importer of httpx. Nothing is retried here, and no redirect is followed: a redirected POST would be
sent twice, or turned into a GET. No text of a library reaches an error or a log, for it may hold a
URL with somebody's address, or a header with a key.
"""

import logging
import os
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import httpcore
import httpx

from syncd import __version__
from syncd.errors import ConfigError, NoAnswer

CONNECT_S_MAX = 10.0  # TCP and TLS, each
POOL_S_MAX = 60.0  # for a free connection; there is one per thread, so this is never reached
CONNECTIONS_MAX = 40  # as many as requests are ever in flight (syncd.upload.pool)
KEEPALIVE_S = 4.0  # servers commonly close an idle connection after 5 s: never meet one closed
DEADLINE_FACTOR = 2.0  # a whole exchange takes this many time-outs at most, however bytes drip in
TOO_LARGE = "its body is larger than"
BODY_BYTES_MAX = 32 * 1024 * 1024  # 100 contacts are about 100 KB: what is larger is no answer
USER_AGENT = f"fluenzr-syncd/{__version__}"

# When the exchange of this thread must be over, by the monotonic clock: networks keep real time.
_END_S: ContextVar[float] = ContextVar("_END_S")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that arrived.

    headers: names in lower case. fault: why the body cannot be used; the body is empty then. too_large: because of its size.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    fault: str = ""
    too_large: bool = False


class HttpClient:
    """Requests to one host under one base URL; safe to use from several threads.

    headers: sent with each request. timeout_s: for any single wait on the network; the whole
    exchange ends by twice that. Certificates are verified; the environment's proxies and
    certificates (HTTPS_PROXY, SSL_CERT_FILE) are honoured.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.host = urlsplit(base_url).netloc.rpartition("@")[2]  # with the port, for the errors
        self.deadline_s = timeout_s * DEADLINE_FACTOR
        self._timeout_s, self._body_bytes_max = timeout_s, body_bytes_max
        for name in ("httpx", "httpcore"):  # their records hold URLs, and so people's addresses
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            self._client = httpx.Client(
                headers={"User-Agent": USER_AGENT, **(headers or {})},
                timeout=httpx.Timeout(
                    connect=min(CONNECT_S_MAX, timeout_s),
                    read=timeout_s,
                    write=timeout_s,
                    pool=POOL_S_MAX,
                ),
                limits=httpx.Limits(
                    max_connections=CONNECTIONS_MAX,
                    max_keepalive_connections=CONNECTIONS_MAX,
                    keepalive_expiry=KEEPALIVE_S,
                ),
                http1=True,
                http2=False,
                verify=True,
                trust_env=True,
                follow_redirects=False,
            )
        except (OSError, ImportError, ValueError, httpx.InvalidURL) as error:
            raise _unusable_environment(error) from None
        self._watch_the_network()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, once. Raises NoAnswer when no response came.

        path, query: already URL-encoded; the query never shows in an error.
        """
        url = f"{self.base_url}{path}?{query}" if query else f"{self.base_url}{path}"
        _END_S.set(time.monotonic() + self.deadline_s)
        try:
            request = self._client.build_request(
                method, url, content=body or None, headers=dict(headers or {})
            )
            response = self._client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Not with the library's error as the cause: a traceback would show its URL.
            waited_s = self._timeout_s if _left_s(None) > 0 else self.deadline_s
            raise _no_answer(error, f"{method} {path} at {self.host}", waited_s) from None
        try:
            content, fault = self._body(response)
        finally:
            response.close()
            # Its stream holds it, and it the request with its body: else these wait for the next look for cycles, a megabyte each.
            response.stream = httpx.ByteStream(b"")
        headers_seen = {name.lower(): value for name, value in response.headers.items()}
        too_large = fault.startswith(TOO_LARGE)
        return Answer(response.status_code, headers_seen, content, fault, too_large)

    def _body(self, response: httpx.Response) -> tuple[bytes, str]:
        """The decoded body and "", or nothing and the reason."""
        if "," in response.headers.get("content-encoding", ""):
            return b"", "its body is compressed more than once"  # a few bytes would become many GiB
        parts, size = [], 0
        try:
            for part in response.iter_bytes():
                size += len(part)
                if size > self._body_bytes_max:
                    return b"", f"{TOO_LARGE} {self._body_bytes_max} bytes"
                parts.append(part)
        except httpx.TimeoutException:
            return b"", "its body did not arrive in time"
        except httpx.DecodingError:
            return b"", "its body is compressed in a broken way"
        except httpx.HTTPError:
            return b"", "its body ended early"
        return b"".join(parts), ""

    def _watch_the_network(self) -> None:
        """Put the deadline under each connection: else a server that drips bytes holds us for ever.

        httpx limits single waits only, and has no public place for a network backend;
        tests/test_http.py fails when a new version moves this one.
        """
        backend = _Network()
        for transport in (self._client._transport, *self._client._mounts.values()):
            if isinstance(transport, httpx.HTTPTransport):
                transport._pool._network_backend = backend


def _unusable_environment(error: Exception) -> ConfigError:
    """The proxies and certificates that the environment names are read before anything is asked."""
    if isinstance(error, OSError):
        file = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        why = (
            f"SSL_CERT_FILE, {file}: {'no certificate' if error.errno is None else error.strerror}"
        )
    elif isinstance(error, ImportError):
        why = "a SOCKS proxy needs one more package: pip install 'httpx[socks]'"
    else:
        why = "a proxy is written as http://host:port"
    return ConfigError(
        "What the environment says of proxies or certificates cannot be used",
        why=why,
        hint="Check SSL_CERT_FILE, HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY",
    )


def _left_s(timeout_s: float | None) -> float:
    """What is left of the exchange, or the time-out if that is less; not above 0.0: it is over."""
    left_s = _END_S.get() - time.monotonic()
    return left_s if timeout_s is None else min(left_s, timeout_s)


class _Network(httpcore.SyncBackend):
    """The usual network, whose streams know the deadline."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(super().connect_tcp(host, port, timeout, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    """A stream that gives no single wait more than what is left of the whole."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left_s = _left_s(timeout)
        if left_s <= 0:
            raise httpcore.ReadTimeout
        return self._stream.read(max_bytes, left_s)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left_s = _left_s(timeout)
        if left_s <= 0:
            raise httpcore.WriteTimeout
        self._stream.write(buffer, left_s)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _no_answer(error: Exception, place: str, waited_s: float) -> NoAnswer:
    """Our words for a failure of the library; what failed before the request left is told apart."""
    cause, sent = _root(error), False
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        why = "this is not a URL that can be asked"
        hint = "Write the base URL as https://host/path"
    elif isinstance(error, httpx.LocalProtocolError):
        why = "a header holds what no header may"
        hint = "Check the key or token: letters, digits and signs, without line breaks"
    elif isinstance(cause, ssl.SSLCertVerificationError):
        why = f"its certificate is refused: {cause.verify_message}"
        hint = "Check the host; behind a proxy of your own, set SSL_CERT_FILE to its certificate"
    elif isinstance(error, httpx.ConnectError) and isinstance(cause, ssl.SSLError):
        why = "no connection: TLS failed, as it does where a server speaks plain http"
        hint = "Check the host and its port, and any proxy between"
    elif isinstance(error, httpx.ProxyError):
        why = "the proxy refused the connection"
        hint = "Check HTTPS_PROXY and NO_PROXY"
    elif isinstance(error, httpx.ConnectTimeout | httpx.ConnectError | httpx.PoolTimeout):
        why = f"no connection: {_reason(cause, error)}"
        hint = "Check the host's name, any proxy (HTTPS_PROXY), and that this machine reaches it"
    elif isinstance(error, httpx.TimeoutException):
        why, sent = f"nothing complete came within {waited_s:g} seconds", True
        hint = "The server or the network may be slow just now: try again later"
    else:
        why, sent = f"the connection broke: {_reason(cause, error)}", True
        hint = "The server or the network may be in trouble just now: try again later"
    return NoAnswer(f"{place}: no answer", why=why, hint=hint, sent=sent)


def _root(error: BaseException) -> BaseException:
    """The innermost error that this one stems from."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        error = error.__cause__ or error.__context__ or error
    return error


def _reason(cause: BaseException, error: Exception) -> str:
    """A few words that hold nothing of what was sent."""
    if isinstance(cause, socket.gaierror):
        return "the host's name is not known"
    if isinstance(cause, ssl.SSLError):
        return "TLS failed"
    if isinstance(cause, OSError) and cause.errno is not None:
        return os.strerror(cause.errno)
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    if isinstance(error, httpx.ProtocolError):
        return "it was closed without an answer, or what came is not HTTP"
    return "the network failed"
