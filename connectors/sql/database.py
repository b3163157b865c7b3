"""A database as it is reached: its URL, its driver, its time-outs, its errors in its own words but for the password."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, quote_plus

from pydantic import Field, field_validator
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from syncd.connector import Options
from syncd.errors import ConfigError, SourceError
from syncd.secret import Secret

CONNECT_TIMEOUT_S = 10  # a database that is there answers at once
SILENCE_TIMEOUT_S = 600  # a query may compute for long before its first row, but not for ever
DRIVERS = {  # those that the extra `sql` installs
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
TIMEOUTS: dict[str, dict[str, Any]] = {  # how each driver calls them
    "psycopg": {"connect_timeout": CONNECT_TIMEOUT_S},
    "pymysql": {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": SILENCE_TIMEOUT_S},
    "pysqlite": {"timeout": CONNECT_TIMEOUT_S},
}


class Place(Options):
    """Where a database is."""

    url: Annotated[Secret | str, Field(union_mode="left_to_right")]
    """As SQLAlchemy writes it, or a reference to a secret that holds it."""
    password: Secret | None = None
    """It goes into the URL."""

    @field_validator("url")
    @classmethod
    def _without_password(cls, value: Secret | str) -> Secret | str:
        if isinstance(value, Secret):
            return value
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):
            raise ValueError("a URL is expected, such as postgresql://user@host/database") from None
        if _passwords(url):
            raise ValueError(
                'a URL in the configuration holds no password; write password = "env:NAME", '
                'or the whole URL as url = "env:NAME"'
            )
        return value


@contextmanager
def connected(
    place: Place, folder: Path, *, hint: str, writes: bool = False
) -> Iterator[Connection]:
    """A connection for one snapshot, read-only unless it `writes`; whatever goes wrong in it becomes ours. hint: what to look at."""
    url = _url(place, folder, writes=writes)
    database = (url.database or "").removeprefix("file:")
    name = f"{url.get_backend_name()} database {database}".rstrip()
    engine = _engine(url)
    try:
        with _failures(
            f"The {name} cannot be reached", "Check `url`, `password`, and that it runs", url
        ):
            connection = engine.connect()
        what = (
            f"The {name} did not take the changes"
            if writes
            else f"The {name} did not give the rows"
        )
        with connection, _failures(what, hint, url):
            if not writes:
                _read_only(connection)
            yield connection
    finally:
        engine.dispose()


def _url(place: Place, folder: Path, *, writes: bool) -> URL:
    given = place.url
    written = given.reveal() if isinstance(given, Secret) else given
    try:
        if written.count("@") > 1:  # a bare @ in a password would make its end a host name
            raise ValueError
        url = make_url(written)
    except (ArgumentError, ValueError):  # their texts may hold the password
        raise ConfigError(
            f"{given.reference if isinstance(given, Secret) else '`url`'}"
            " does not hold the URL of a database",
            hint="Write it as postgresql://user:password@host/database, an @ in it as %40",
        ) from None
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    if place.password is not None:
        url = url.set(password=place.password.reveal())
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        path = (folder / Path(url.database).expanduser()).absolute()
        url = url.set(database=f"file:{quote(str(path))}")
        url = url.update_query_dict({"mode": "rw" if writes else "ro", "uri": "true"})
    return url


def _engine(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args=TIMEOUTS.get(url.get_driver_name(), {}),
        )
    except NoSuchModuleError:
        raise ConfigError(
            f"`url`: {url.drivername} is not a database that SQLAlchemy knows",
            hint=f"Use one of {', '.join(sorted(DRIVERS))}, sqlite, or install its dialect",
        ) from None
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`url`: the driver of {url.drivername} is not installed",
            why=str(error),
            hint="Run: pip install 'fluenzr-syncd[sql]'"
            if url.drivername in DRIVERS.values()
            else f"Run: pip install {error.name}",
        ) from None


def _read_only(connection: Connection) -> None:
    """Nothing can be written, and all statements of the transaction see the same rows."""
    match connection.dialect.name:
        case "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
        case "postgresql":
            connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{SILENCE_TIMEOUT_S}s'")
        case "mysql" | "mariadb":
            connection.execution_options(isolation_level="REPEATABLE READ")
            connection.exec_driver_sql("SET SESSION time_zone = '+00:00'")
            connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
            connection.commit()  # it holds for the transactions to come
        case _:
            pass  # others are rolled back at the end


@contextmanager
def _failures(what: str, hint: str, url: URL) -> Iterator[None]:
    """Turn the database's errors into ours, in its own words but for the password."""
    try:
        yield
    except (SQLAlchemyError, UnicodeError) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        said = str(cause.args[-1] if cause.args else cause)  # PyMySQL's first one is a number
        lines = [line.strip() for line in said.splitlines() if line.strip()] or [said]
        why = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
        for password in _passwords(url):
            for form in (password, quote(password), quote_plus(password)):
                why = why.replace(form, "***")
        raise SourceError(what, why=why, hint=hint) from None


def _passwords(url: URL) -> list[str]:
    """Every secret that a URL holds, also among its parameters."""
    found = [url.password] if url.password else []
    for name, values in url.query.items():
        if "pass" in name.lower():
            found.extend([values] if isinstance(values, str) else values)
    return [str(password) for password in found if password]
