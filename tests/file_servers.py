"""Places where files are, on 127.0.0.1: an https server with a certificate of its own making, S3, SFTP."""

import hashlib
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import paramiko
import pytest
import trustme

from connectors.csv import CsvConnector, CsvOptions
from syncd.connector import Context, Request
from syncd.errors import SourceError
from syncd.testing.clock import FakeClock
from syncd.testing.conformance import SECRET, SECRET_REFERENCE

CSV = b"id,email\n1,ann@example.com\n2,bob@example.com\n"
MANY = b"id,email\n" + b"".join(b"%d,p%d@example.com\n" % (n, n) for n in range(50_000))
LONG_AGO = datetime(2026, 1, 31, 12, tzinfo=UTC)


@dataclass
class Page:
    """What stands at one path. etag, modified: headers, where there are. cut: bytes that never come. heads: it knows HEAD."""

    body: bytes = b""
    status: int = 200
    kind: str = "text/csv"
    etag: str = ""
    modified: datetime | None = None
    location: str = ""
    login: str = ""
    cut: int = 0
    heads: bool = True


@dataclass
class Web:
    """An https server. seen: (method, path with query, Authorization, Host) of each request."""

    port: int = 0
    pages: dict[str, Page] = field(default_factory=dict)
    seen: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def count(self, method: str) -> int:
        return sum(request[0] == method for request in self.seen)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, headers: dict[str, str], body: bytes, *, size: int = -1) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size if size >= 0 else len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True


@contextmanager
def _served(handler: type[_Handler], context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that refuse us
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def https(authority: trustme.CA) -> Iterator[Web]:
    """A web server whose certificate for localhost comes from `authority`."""
    web = Web()

    class Handler(_Handler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            login = self.headers.get("Authorization", "")
            web.seen.append((self.command, self.path, login, self.headers["Host"]))
            page = web.pages.get(parts.path, Page(status=404))
            if self.command == "HEAD" and not page.heads:
                return self.answer(405, {}, b"")
            if page.login and login != page.login:
                return self.answer(401, {}, b"")
            headers = {"Content-Type": page.kind}
            if page.etag:
                headers["ETag"] = page.etag
            if page.modified is not None:
                headers["Last-Modified"] = format_datetime(page.modified, usegmt=True)
            if page.location:
                headers["Location"] = page.location
            sent = page.body[: len(page.body) - page.cut]
            return self.answer(page.status, headers, sent, size=len(page.body))

        do_HEAD = do_GET

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with _served(Handler, context) as web.port:
        yield web


@dataclass
class Bucket:
    """An S3 server with one bucket, "people". objects: key -> bytes."""

    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    denied: bool = False
    cut: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def s3() -> Iterator[Bucket]:
    """What s3fs asks of S3: HEAD and GET of objects, ranges, listings; errors in S3's words."""
    bucket = Bucket()

    class Handler(_Handler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            bucket.seen.append((self.command, self.path))
            name, _, key = unquote(parts.path).lstrip("/").partition("/")
            if bucket.denied or "Credential=AKID/" not in self.headers.get("Authorization", ""):
                return self.fail(403, "AccessDenied")
            if name != "people":
                return self.fail(404, "NoSuchBucket")
            return self.object(key) if key else self.listing(parse_qs(parts.query))

        do_HEAD = do_GET

        def object(self, key: str) -> None:
            if key not in bucket.objects:
                return self.fail(404, "NoSuchKey")
            body = bucket.objects[key]
            etag = f'"{hashlib.md5(body).hexdigest()}"'
            if self.headers.get("If-Match", etag) != etag:
                return self.fail(412, "PreconditionFailed")
            headers = {"ETag": etag, "Last-Modified": format_datetime(LONG_AGO, usegmt=True)}
            wanted = self.headers.get("Range", "").removeprefix("bytes=")
            if not wanted:
                return self.answer(200, headers, body)
            first, _, last = wanted.partition("-")
            part = body[int(first) : int(last or len(body)) + 1]
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
            return self.answer(206, headers, part[: len(part) - bucket.cut], size=len(part))

        def listing(self, query: dict[str, list[str]]) -> None:
            prefix = query.get("prefix", [""])[0]
            keys = [key for key in sorted(bucket.objects) if key.startswith(prefix)]
            inner = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(bucket.objects[key])}</Size>"
                f"<LastModified>{LONG_AGO.isoformat()}</LastModified>"
                f'<ETag>"{hashlib.md5(bucket.objects[key]).hexdigest()}"</ETag></Contents>'
                for key in keys
                if not query.get("delimiter") or "/" not in key.removeprefix(prefix)
            )
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{inner}</ListBucketResult>"
            self.answer(200, {"Content-Type": "application/xml"}, body.encode())

        def fail(self, status: int, code: str) -> None:
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
            self.answer(status, {"Content-Type": "application/xml"}, body.encode())

    with _served(Handler) as bucket.port:
        yield bucket


@dataclass
class Shell:
    """An SFTP server for one user, "ann". cut: its files end so many bytes early."""

    folder: Path
    port: int
    host_key: paramiko.PKey
    password: str
    cut: int = 0
    hang_up: bool = False
    logins: list[str] = field(default_factory=list)
    transports: list[paramiko.Transport] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"sftp://ann@127.0.0.1:{self.port}"

    def known(self) -> str:
        """Its line for known_hosts."""
        return f"[127.0.0.1]:{self.port} {self.host_key.get_name()} {self.host_key.get_base64()}\n"


class _Login(paramiko.ServerInterface):
    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        self._shell.logins.append(username)
        fine = (username, password) == ("ann", self._shell.password)
        return paramiko.AUTH_SUCCESSFUL if fine else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


class _Folder(paramiko.SFTPServerInterface):
    def __init__(self, server: _Login, *_: object, **__: object) -> None:
        super().__init__(server)
        self._shell = server._shell

    def _at(self, path: str) -> Path:
        return self._shell.folder / path.lstrip("/")

    def list_folder(self, path: str) -> list[paramiko.SFTPAttributes] | int:
        found = []
        for file in self._at(path).iterdir():
            attributes = paramiko.SFTPAttributes.from_stat(file.stat())
            attributes.filename = file.name
            found.append(attributes)
        return found

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(self._at(path).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    lstat = stat

    def open(self, path: str, flags: int, attr: object) -> paramiko.SFTPHandle | int:
        if self._at(path).name.startswith("denied"):
            return paramiko.SFTP_PERMISSION_DENIED
        return _Handle(self._shell, self._at(path))


class _Handle(paramiko.SFTPHandle):
    def __init__(self, shell: Shell, path: Path) -> None:
        super().__init__()
        self._shell, self._body = shell, path.read_bytes()
        self._attributes = paramiko.SFTPAttributes.from_stat(path.stat())

    def stat(self) -> paramiko.SFTPAttributes:
        return self._attributes

    def read(self, offset: int, length: int) -> bytes | int:
        if self._shell.hang_up:
            for transport in self._shell.transports:
                transport.close()
        end = min(offset + length, len(self._body) - self._shell.cut)
        return self._body[offset:end] if offset < end else paramiko.SFTP_EOF


@contextmanager
def sftp(folder: Path, password: str) -> Iterator[Shell]:
    """A server for the files of `folder`."""
    listener = socket.create_server(("127.0.0.1", 0))
    key = paramiko.ECDSAKey.generate()
    shell = Shell(folder, listener.getsockname()[1], key, password)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                transport = paramiko.Transport(connection)
                transport.add_server_key(key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Folder)
                shell.transports.append(transport)
                transport.start_server(threading.Event(), _Login(shell))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield shell
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in shell.transports:
            transport.close()
        thread.join(timeout=5)


def settle(path: Path) -> None:
    """Let a file be as old as those that nobody has just written."""
    os.utime(path, (LONG_AGO.timestamp(), LONG_AGO.timestamp()))


@pytest.fixture(name="authority", scope="module")
def authority_fixture():
    return trustme.CA()


@pytest.fixture(name="trusted")
def trusted_fixture(authority, tmp_path_factory, monkeypatch):
    """The machine trusts the certificate of the servers here."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


@pytest.fixture(name="web")
def web_fixture(authority, trusted):
    with https(authority) as server:
        server.pages["/people.csv"] = Page(CSV, etag='"1"')
        yield server


@pytest.fixture(name="bucket")
def bucket_fixture(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("S3_KEY", "AKID")
    with s3() as server:
        server.objects["in/people.csv"] = CSV
        yield server


@pytest.fixture(name="shell")
def shell_fixture(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "people.csv").write_bytes(CSV)
    settle(folder / "people.csv")
    with sftp(folder, SECRET) as server:
        (tmp_path / "known").write_text(server.known())
        yield server


@pytest.fixture(name="spare_room", autouse=True)
def spare_room_fixture(monkeypatch, tmp_path_factory):
    """Downloads go to a folder of their own, and leave nothing there. A secret is at hand."""
    folder = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("SYNCD_SUITE_SECRET", SECRET)
    yield folder
    assert list(folder.iterdir()) == []


def csv_at(url, tmp_path=None, *, clock=None, **storage):
    storage = storage or None
    options = CsvOptions.model_validate({"path": url, "key": "id", "storage": storage})
    return CsvConnector(options, Context(tmp_path or Path(), clock or FakeClock()))


def csv_in(bucket, key="people/in/people.csv", **storage):
    given = {"key": "env:S3_KEY", "secret": SECRET_REFERENCE, "endpoint_url": bucket.url}
    return csv_at(f"s3://{key}", **{**given, **storage})


def csv_by(shell, tmp_path, path="/people.csv", **storage):
    given = {"password": SECRET_REFERENCE, "known_hosts": "known"}
    return csv_at(f"{shell.url}{path}", tmp_path, **{**given, **storage})


def keys(connector):
    return [record.key for record in connector.read(Request())]


def failure(connector, kind=SourceError):
    with pytest.raises(kind) as caught:
        keys(connector)
    assert SECRET not in str(caught.value)
    return caught.value
