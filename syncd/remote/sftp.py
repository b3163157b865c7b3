"""Files on a server that speaks SFTP, through fsspec and paramiko.

The server must be known: its key stands in the user's known_hosts, or in the file that `storage` names. (fsspec alone would take any
key, and so anybody's file.) Time and size of a file are its stamp; the times are whole seconds.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from syncd.errors import ConfigError, SourceDenied, SourceError
from syncd.remote.intake import Stamp
from syncd.remote.options import Storage

CONNECT_S_MAX, SILENCE_S_MAX = 15, 60
PIECE_BYTES = 32 * 1024  # more is split
PIECES_MAX = 128  # under way at once
SYSTEM_HOSTS = Path("/etc/ssh/ssh_known_hosts")


class _InPieces:
    """A file in blocks of pieces that are asked for at once."""

    def __init__(self, file: Any) -> None:
        file._start_prefetch = partial(_ask_here, file)
        self._pieces = self._blocks(file)

    def read(self, _size: int) -> bytes:
        """The next piece, of any size; nothing at the end."""
        return next(self._pieces, b"")

    def _blocks(self, file: Any) -> Iterator[bytes]:
        size, block = file.stat().st_size, PIECE_BYTES * PIECES_MAX
        for begin in range(0, size, block):
            end = min(size, begin + block)
            starts = range(begin, end, PIECE_BYTES)
            yield from file.readv([(at, min(PIECE_BYTES, end - at)) for at in starts])


def _ask_here(file: Any, pieces: list[tuple[int, int]], at_once: int | None = None) -> None:
    """`SFTPFile._start_prefetch` without its thread, which tells the world when the connection has ended; so few requests fit anyway."""
    file._prefetching, file._prefetch_done = True, False
    file._prefetch_thread(pieces, at_once)


class Sftp:
    """One server as a place."""

    def __init__(self, url: str, storage: Storage, folder: Path) -> None:
        parts = urlsplit(url)
        self.root = f"sftp://{parts.netloc.rpartition('@')[2]}"
        self._host, self._port = parts.hostname or "", parts.port or 22
        self._user = storage.username or unquote(parts.username or "") or None
        self._storage, self._folder = storage, folder

    def path(self, url: str) -> str:
        """The path from the server's root, as it stands."""
        return "/" + url.partition("://")[2].partition("/")[2]

    def stamp(self, info: Mapping[str, Any]) -> Stamp:
        """Time and size."""
        modified, size = info.get("mtime"), info.get("size")
        if not isinstance(modified, datetime) or size is None:
            return Stamp(size=size)
        return Stamp(f"{modified.timestamp():.0f} {size}", size, modified.timestamp())

    @contextmanager
    def opened(self, system: Any, path: str) -> Iterator[Any]:
        """Read with many pieces under way; one after the other, each would cost a round trip."""
        with system.open(path, "rb") as file:
            yield _InPieces(file)

    @contextmanager
    def reached(self, name: str) -> Iterator[Any]:
        """The file system, connected and afterwards closed."""
        try:
            import paramiko
            from fsspec.implementations.sftp import SFTPFileSystem
        except ImportError as error:
            raise ConfigError(
                f"{name}: what reads sftp:// is not installed",
                why=str(error),
                hint="Run: pip install 'fluenzr-syncd[remote]'",
            ) from None
        logging.getLogger("paramiko").setLevel(
            logging.CRITICAL
        )  # it logs what it raises, at length
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())

        class Verified(SFTPFileSystem):  # type: ignore[misc]  # fsspec has no types
            """With the known hosts loaded, of which fsspec's own has none."""

            def _connect(self) -> None:
                self.client = client
                client.connect(self.host, **self.ssh_kwargs)
                self.ftp = client.open_sftp()
                self.ftp.get_channel().settimeout(SILENCE_S_MAX)

        try:
            self._load_hosts(client)
            yield Verified(self._host, skip_instance_cache=True, **self._login())
        except (OSError, EOFError, ValueError, paramiko.SSHException) as error:
            self._raise(error, name)
        finally:
            client.close()

    def _load_hosts(self, client: Any) -> None:
        named = self._storage.known_hosts
        if named is None:
            client.load_system_host_keys()
            if SYSTEM_HOSTS.exists():
                client.load_system_host_keys(str(SYSTEM_HOSTS))
            return
        from paramiko.hostkeys import InvalidHostKey

        path = self._folder / Path(named).expanduser()
        try:
            client.load_system_host_keys(str(path))
        except (OSError, InvalidHostKey, UnicodeDecodeError) as error:
            raise ConfigError(
                f"`storage.known_hosts`: {path} cannot be read",
                why=getattr(error, "strerror", None) or "A line of it is no host's key",
                hint=f"Fill it by: ssh-keyscan -p {self._port} {self._host}",
            ) from None

    def _login(self) -> dict[str, Any]:
        storage = self._storage
        given: dict[str, Any] = {
            "port": self._port,
            "username": self._user,
            "timeout": CONNECT_S_MAX,
            "banner_timeout": CONNECT_S_MAX,
            "auth_timeout": CONNECT_S_MAX,
            "channel_timeout": CONNECT_S_MAX,
        }
        if storage.password is not None:
            given["password"] = storage.password.reveal()
        if storage.key_file is not None:
            given["key_filename"] = str(self._folder / Path(storage.key_file).expanduser())
            if storage.passphrase is not None:
                given["passphrase"] = storage.passphrase.reveal()
        own = storage.password is None and storage.key_file is None
        return given | {"allow_agent": own, "look_for_keys": own}

    def _key_fault(self) -> str:
        """Why the private key cannot be read; asked after a failure, which paramiko does not tell from a broken line."""
        import paramiko

        given = self._login()
        if "key_filename" not in given or not Path(given["key_filename"]).is_file():
            return ""
        passphrase = given.get("passphrase", "").encode() or None
        try:
            paramiko.PKey.from_path(given["key_filename"], passphrase)
        except (paramiko.PasswordRequiredException, TypeError):
            return "It is encrypted, and there is no `storage.passphrase`"
        except PermissionError:
            return "It may not be read by this user"
        except (paramiko.SSHException, paramiko.UnknownKeyType, ValueError):
            return (
                "The passphrase is another one"
                if passphrase
                else "It is no private key in a known form"
            )
        return ""

    def _raise(self, error: BaseException, name: str) -> NoReturn:
        """Our words for a failure of the server or the line."""
        import paramiko

        server = f"{self._host}:{self._port}"
        if isinstance(error, paramiko.BadHostKeyException):
            raise SourceError(
                f"{name}: {server} shows another key than the known one",
                why="It was set up anew, or somebody stands between",
                hint="Ask who runs it; then replace its line in known_hosts",
            ) from None
        if "not found in known_hosts" in str(error):
            raise SourceError(
                f"{name}: the key of {server} is not known",
                hint=f"Run: ssh-keyscan -p {self._port} {self._host}; compare it with what its"
                " owner says, and add it to ~/.ssh/known_hosts or to `storage.known_hosts`",
            ) from None
        if fault := self._key_fault():
            raise ConfigError(
                f"`storage.key_file`: {self._storage.key_file} cannot be used",
                why=fault,
                hint="Check `storage.key_file` and `storage.passphrase`",
            ) from None
        if isinstance(error, paramiko.AuthenticationException):
            raise SourceDenied(
                f"{name}: {server} does not take the login",
                hint="Check in `storage`: username, and password, or key_file and passphrase",
            ) from None
        if isinstance(error, FileNotFoundError):
            missing = error.filename or ""
            key_file = self._storage.key_file
            if key_file and Path(str(missing)).name == Path(key_file).name:
                raise ConfigError(f"`storage.key_file`: there is no file {key_file}") from None
            raise SourceError(f"There is no file {name}", hint="Correct `path`") from None
        if isinstance(error, PermissionError):
            raise SourceDenied(
                f"{name} may not be read", hint="Check its rights for this user on the server"
            ) from None
        raise SourceError(
            f"{name}: no answer, or the connection broke",
            why=getattr(error, "strerror", None) or type(error).__name__,
            hint=f"Check that {server} is reached; it is tried again in the next run",
        ) from None
