"""Files in S3, or in what speaks as S3 does (MinIO, R2, Spaces, ...), through fsspec's s3fs.

An object's ETag is made from its bytes, and a download asks for the ETag that it began with. Without credentials in `storage`, those
count that the AWS tools find: environment, profile, the machine's role. Errors are told by S3's codes, in our own words.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, NoReturn

from syncd.errors import ConfigError, SourceDenied, SourceError
from syncd.remote.intake import Stamp
from syncd.remote.options import Storage
from syncd.secret import Secret

CONNECT_S_MAX, SILENCE_S_MAX = 10, 60
ATTEMPTS_MAX = 4  # of each request, with the library's own pauses between
BLOCK_BYTES = 16 * 1024 * 1024  # asked for at once
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


class Bucket:
    """S3 as a place."""

    root = "s3://"

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def path(self, url: str) -> str:
        """Bucket and key, as they stand: a key may hold what means something in other URLs."""
        return url.partition("://")[2]

    def stamp(self, info: Mapping[str, Any]) -> Stamp:
        """The ETag and the size."""
        etag, modified = info.get("ETag") or "", info.get("LastModified")
        modified_s = modified.timestamp() if isinstance(modified, datetime) else None
        size = info.get("size")
        return Stamp(f"{etag} {size}" if etag else "", size, modified_s, by_content=True)

    def opened(self, system: Any, path: str) -> AbstractContextManager[Any]:
        """Read in blocks, all of them of one version."""
        opened: AbstractContextManager[Any] = system.open(
            path, "rb", block_size=BLOCK_BYTES, cache_type="readahead"
        )
        return opened

    @contextmanager
    def reached(self, name: str) -> Iterator[Any]:
        """The file system, connected and afterwards closed."""
        try:
            import fsspec
            from aiohttp import ClientError as NetworkError
            from botocore.exceptions import BotoCoreError, ClientError
            from s3fs import S3FileSystem
            from s3fs.utils import FileExpired
        except ImportError as error:
            raise ConfigError(
                f"{name}: what reads s3:// is not installed",
                why=str(error),
                hint="Run: pip install 'fluenzr-syncd[remote]'",
            ) from None
        system = None
        try:
            system = fsspec.filesystem("s3", **self._options())
            yield system
        except (FileExpired, OSError, BotoCoreError, ClientError, NetworkError) as error:
            _raise(error, name)
        finally:
            if system is not None and system._s3 is not None:
                S3FileSystem.close_session(system.loop, system._s3)

    def _options(self) -> dict[str, Any]:
        storage = self._storage
        given = {
            "key": _revealed(storage.key),
            "secret": _revealed(storage.secret),
            "token": _revealed(storage.token),
            "profile": storage.profile,
            "endpoint_url": storage.endpoint_url,
            "client_kwargs": {"region_name": storage.region} if storage.region else None,
        }
        return {name: value for name, value in given.items() if value is not None} | {
            "anon": storage.anon,
            "config_kwargs": {
                "connect_timeout": CONNECT_S_MAX,
                "read_timeout": SILENCE_S_MAX,
                "retries": {"total_max_attempts": ATTEMPTS_MAX},
            },
            "use_ssl": True,
            "use_listings_cache": False,
            "skip_instance_cache": True,  # it would keep secrets, and answers of the last run
        }


def _revealed(secret: Secret | None) -> str | None:
    return secret.reveal() if secret is not None else None


def _raise(error: BaseException, name: str) -> NoReturn:
    """Our words for a failure of S3; the library's may hold what was sent."""
    bucket = name.removeprefix("s3://").partition("/")[0]
    code, kinds = _code(error), _kinds(error)
    if code == "NoSuchBucket":
        raise SourceError(
            f"There is no bucket {bucket!r}", hint="Correct `path`, or `endpoint_url`"
        )
    if code in MISSING or isinstance(error, FileNotFoundError):
        raise SourceError(f"There is no file {name}", hint="Correct `path`")
    if kinds & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}:
        raise SourceDenied(
            f"{name}: there are no credentials for S3",
            hint='Set storage = { key = "env:NAME", secret = "env:NAME" }, or `profile`, or `anon`',
        )
    if code in {"403", "401", "400"} or "Denied" in code or isinstance(error, PermissionError):
        raise SourceDenied(
            f"{name} may not be read",
            why=f"S3 answered {code or 'that it is forbidden'}",
            hint="Check key, secret and region in `storage`, and that they may list and get",
        )
    if "FileExpired" in kinds or code in {"PreconditionFailed", "412"}:
        raise SourceError(
            f"{name} was changed while it was read", hint="It is read again in the next run"
        )
    if code:
        raise SourceError(f"{name} was not given", why=f"S3 answered {code}", hint="See its manual")
    if any("Endpoint" in kind or "Connect" in kind or "DNS" in kind for kind in kinds):
        raise SourceError(
            f"{name}: no connection to S3",
            why=", ".join(sorted(kind for kind in kinds if "Connect" in kind or "DNS" in kind)),
            hint="Check the network, `endpoint_url` and `region`",
        )
    raise SourceError(
        f"{name}: the download broke off",
        why=type(error).__name__,
        hint="It is tried again in the next run",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _code(error: BaseException) -> str:
    """S3's own code, from whichever error of the chain has it; "" if none."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _kinds(error: BaseException) -> set[str]:
    return {type(each).__name__ for each in _chain(error)}
