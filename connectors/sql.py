"""SQL: the rows of a query, from any database that SQLAlchemy knows.

Tested on SQLite, PostgreSQL and MariaDB. The query runs in a read-only transaction as one snapshot,
and its rows are streamed. A missing row is a gone record in full reads only: incremental reads, which
the option `modified` asks for, see no deletions.

The cursor is the largest `modified` value seen: `2026-01-31T12:00:00+00:00` for a time with zone,
without the offset for a time without, `2026-01-31` for a date, `int:7`, `float:7.5`, `decimal:7.5`
and `text:abc` for the rest. A read goes on from there, `overlap` earlier (times, dates, ISO texts),
for a transaction may be committed later than the time that it wrote. Rows whose `modified` is NULL
are in every read. Times without zone are compared as they are; sessions on MySQL and MariaDB run in
UTC, where no hour comes twice. Numbers must only grow. Texts must sort by code point, as ISO times do.
"""

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import quote, quote_plus
from uuid import UUID

from pydantic import BeforeValidator, Field, field_validator
from sqlalchemy import (
    URL,
    Connection,
    CursorResult,
    Engine,
    NullPool,
    create_engine,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from syncd.connector import (
    Abilities,
    Checkpoint,
    Context,
    Options,
    Record,
    Request,
    Resync,
    SourceField,
)
from syncd.errors import ConfigError, SourceError
from syncd.secret import Secret

CONNECT_TIMEOUT_S = 10  # a database that is there answers at once
SILENCE_TIMEOUT_S = 600  # a query may compute for long before its first row, but not for ever
ROWS_AT_ONCE = 1000  # fetched together: some 100 KiB
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
PLAIN = frozenset({str, int, float, bool, dict, type(None)})
ADDRESSES = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
TEXTUAL = (UUID, time, timedelta, *ADDRESSES)
INT_MAX = 2**63  # larger whole numbers become text, for JSON cannot carry them

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_DURATION = re.compile(r"(\d{1,6}) (second|minute|hour|day)s?")
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ISO_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d).*", re.DOTALL)


def _duration(value: object) -> timedelta:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('a duration is written as "5 minutes"; seconds, minutes, hours or days')
    return timedelta(**{found[2] + "s": int(found[1])})


class SqlOptions(Options):
    """The options of a SQL source.

    url: of the database, as SQLAlchemy writes it, or a reference to a secret that holds it. password:
    goes into the URL. query: any SELECT. key: the column that identifies a row for ever; without it
    the e-mail address does. modified: the column that says when a row last changed. overlap: a duration.
    """

    url: Annotated[Secret | str, Field(union_mode="left_to_right")]
    password: Secret | None = None
    query: str
    key: str | None = Field(default=None, min_length=1)
    modified: str | None = Field(default=None, min_length=1)
    overlap: Annotated[timedelta, BeforeValidator(_duration)] = timedelta(minutes=5)

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

    @field_validator("query")
    @classmethod
    def _without_semicolon(cls, value: str) -> str:
        query = value.strip().rstrip(";").rstrip()
        if not query:
            raise ValueError("a SELECT is expected")
        return query


class SqlConnector:
    """One configured query."""

    OPTIONS: ClassVar[type[Options]] = SqlOptions
    ABILITIES: ClassVar[Abilities] = Abilities(incremental=True, fields_known=True)
    SUMMARY: ClassVar[str] = "The rows of a query: PostgreSQL, MySQL, MariaDB, SQLite and others"

    def __init__(self, options: SqlOptions, context: Context) -> None:
        self._options, self._folder = options, context.folder
        self._query = options.query.replace(":", r"\:")  # a colon is no parameter for SQLAlchemy

    def check(self) -> str:
        """Connect, look at the columns, and let the database count."""
        with self._connected() as connection:
            columns = self._probe(connection)
            count = connection.scalar(text(self._over("COUNT(*)")))
        return f"{count:,} rows, {len(columns)} columns"

    def fields(self) -> list[SourceField]:
        """The columns of the query, which is not run over."""
        with self._connected() as connection:
            return [SourceField(name) for name in self._probe(connection)]

    def preset(self) -> None:
        """There is none: the names are the user's own."""

    def token(self) -> None:
        """There is none: a database does not tell whether a query would give the same again."""

    def read(self, request: Request) -> Generator[Record | Checkpoint | Resync, None, None]:
        """Yield each row of the query, or each that may have changed since the cursor."""
        since = _decoded(request.cursor) if request.cursor and self._options.modified else None
        if request.cursor is not None and since is None:
            yield Resync("the cursor is not a value of the column `modified`")
        with self._connected() as connection:
            with _streamed(connection, *self._statement(connection, since)) as result:
                latest = yield from self._records(result, request.fields, since)
            if latest is not None:
                yield Checkpoint(_encoded(latest))

    def _statement(self, connection: Connection, since: Any) -> tuple[str, dict[str, Any]]:
        if since is None:
            return self._query, {}
        self._probe(connection)
        preparer, name = connection.dialect.identifier_preparer, self._options.modified or ""
        name = name.replace(preparer.final_quote, preparer.final_quote * 2).replace(":", r"\:")
        column = f"source.{preparer.initial_quote}{name}{preparer.final_quote}"
        statement = self._over("*", f"WHERE {column} >= :since OR {column} IS NULL")
        return statement, {"since": _earlier(since, self._options.overlap)}

    def _over(self, what: str, condition: str = "") -> str:
        # The line end closes a comment with which the query may end.
        return f"SELECT {what} FROM ({self._query}\n) source {condition}"  # noqa: S608  the user's own

    def _probe(self, connection: Connection) -> list[str]:
        """The names of the columns, with `key` and `modified` among them; no row is asked for."""
        columns = _names(connection.execute(text(self._over("*", "WHERE 1 = 0"))))
        self._position(columns, "key")
        self._position(columns, "modified")
        return columns

    def _position(self, columns: list[str], option: str) -> int | None:
        name = getattr(self._options, option)
        if name is None:
            return None
        if name in columns:
            return columns.index(name)
        near = get_close_matches(name, columns, n=1, cutoff=0.5)
        raise ConfigError(
            f"`{option}`: the query has no column {name!r}",
            why=f"Its columns are {', '.join(columns)}",
            hint=f"Did you mean {near[0]!r}?" if near else f"Set `{option}` to one of them",
        )

    def _records(
        self, result: CursorResult[Any], fields: frozenset[str] | None, latest: Any
    ) -> Generator[Record, None, Any]:
        """Yield the rows; return the largest `modified` value of them and `latest`."""
        columns = _names(result)
        key_at, modified_at = self._position(columns, "key"), self._position(columns, "modified")
        chosen = [at for at, name in enumerate(columns) if fields is None or name in fields]
        names = [columns[at] for at in chosen]
        pick = itemgetter(*chosen) if len(chosen) > 1 else None
        for number, row in enumerate(result, 1):
            values = pick(row) if pick else [row[at] for at in chosen]
            try:
                values = [value if type(value) in PLAIN else _plain(value) for value in values]
            except ValueError:
                raise _unusable(names, values, number) from None
            key = _key(row[key_at]) if key_at is not None else ""
            if key is None:
                raise SourceError(
                    f"row {number}: there is no usable key in {self._options.key!r}",
                    why="A key is a text that is not empty, or a whole number",
                    hint="Choose another column as `key`, or leave the row out of the query",
                )
            if modified_at is not None and (moment := row[modified_at]) is not None:
                try:
                    latest = moment if latest is None else max(latest, moment)
                except TypeError:
                    raise _unordered(latest, moment, number) from None
            yield Record(key, dict(zip(names, values, strict=True)), f"row {number}")
        return latest

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A read-only connection for one snapshot; whatever goes wrong in it becomes ours."""
        url = self._url()
        database = (url.database or "").removeprefix("file:")
        name = f"{url.get_backend_name()} database {database}".rstrip()
        engine = _engine(url)
        try:
            with _failures(
                f"The {name} cannot be reached", "Check `url`, `password`, and that it runs", url
            ):
                connection = engine.connect()
            with connection, _failures(f"The {name} did not give the rows", "Check `query`", url):
                _read_only(connection)
                yield connection
        finally:
            engine.dispose()

    def _url(self) -> URL:
        given = self._options.url
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
        if self._options.password is not None:
            url = url.set(password=self._options.password.reveal())
        if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
            path = (self._folder / Path(url.database).expanduser()).absolute()
            url = url.set(database=f"file:{quote(str(path))}")
            url = url.update_query_dict({"mode": "ro", "uri": "true"})
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
def _streamed(
    connection: Connection, statement: str, bound: dict[str, Any]
) -> Iterator[CursorResult[Any]]:
    """The rows of a statement, a few at a time. On leaving early, the server stops sending."""
    streaming = text(statement).execution_options(stream_results=True, yield_per=ROWS_AT_ONCE)
    on_mysql = connection.dialect.name in ("mysql", "mariadb")
    session = connection.scalar(text("SELECT CONNECTION_ID()")) if on_mysql else None
    result = connection.execute(streaming, bound)
    try:
        yield result
    finally:
        if session is not None and not result.closed:
            # MySQL sends a result to its end, and its driver reads it all, unless it is killed.
            with suppress(SQLAlchemyError), connection.engine.connect() as other:
                other.exec_driver_sql(f"KILL QUERY {session:d}")
                while result.fetchmany(ROWS_AT_ONCE):
                    pass
        result.close()


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


def _names(result: CursorResult[Any]) -> list[str]:
    """The names of the columns, each once."""
    if result.cursor is None:
        raise SourceError("The query gives no rows", hint="`query` is one SELECT statement")
    names = [str(column[0]) for column in result.cursor.description]
    for name in names:
        if names.count(name) > 1:
            raise SourceError(
                f"The query gives two columns called {name!r}", hint="Rename one: SELECT ... AS ..."
            )
    return names


def _unusable(names: list[str], values: Iterable[Any], number: int) -> SourceError:
    """Which column it is that holds what JSON cannot carry."""
    name, why = "", ""
    for name, value in zip(names, values, strict=True):  # noqa: B007  the first bad one is kept
        try:
            _plain(value)
        except ValueError as error:
            why = str(error)
            break
    return SourceError(
        f"row {number}: the column {name!r} cannot be used",
        why=why,
        hint="Cast it to text in the query, or leave it out",
    )


def _unordered(latest: Any, moment: Any, number: int) -> SourceError:
    return SourceError(
        f"row {number}: a `modified` of the kind {type(moment).__name__} cannot be compared",
        why=f"Before it, there were values of the kind {type(latest).__name__}",
        hint="Cast the column to one kind in the query, then run `syncd sync --full` once",
    )


def _key(value: Any) -> str | None:
    """The key as text; None for what is no key."""
    if type(value) is str:
        return value or None
    if isinstance(value, bool | float | dict | list):
        return None
    try:
        plain = _plain(value)
    except ValueError:
        return None
    return str(plain) if isinstance(plain, int | str) and plain != "" else None


def _plain(value: Any) -> Any:
    """A value as JSON can carry it, without loss. Raises ValueError for what cannot be."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, TEXTUAL):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes | bytearray | memoryview):
        decoded = bytes(value).decode()
        if _CONTROLS.search(decoded):
            raise ValueError("It holds binary data")
        return decoded
    raise ValueError(f"It holds values of the kind {type(value).__name__}")


def _number(value: Decimal) -> int | float | str:
    if value.is_finite():
        if abs(value) < INT_MAX and value == value.to_integral_value():
            return int(value)
        if Decimal(repr(float(value))) == value:
            return float(value)
    return f"{value:f}"


def _encoded(value: Any) -> str:
    """The cursor for a `modified` value."""
    match value:
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
        case date():
            return value.isoformat()
        case int() | float() | Decimal():
            return f"{type(value).__name__.lower()}:{value}"
        case str():
            return f"text:{value}"
    raise SourceError(
        f"`modified`: a {type(value).__name__} does not tell what is newer",
        hint="Choose a column of times, dates or growing numbers",
    )


def _decoded(cursor: str) -> Any:
    """The value of a cursor; None if it is not one of ours."""
    kind, _, rest = cursor.partition(":")
    try:
        match kind:
            case "text":
                return rest
            case "int":
                return int(rest)
            case "float":
                return float(rest)
            case "decimal":
                return Decimal(rest)
        return date.fromisoformat(cursor) if len(cursor) == 10 else datetime.fromisoformat(cursor)
    except (ValueError, ArithmeticError):
        return None


def _earlier(value: Any, overlap: timedelta) -> Any:
    """`value`, a little earlier if it tells a time."""
    try:
        match value:
            case datetime():
                return value - overlap
            case date():
                return (datetime.combine(value, time()) - overlap).date()
            case str() if found := _ISO_TIME.fullmatch(value):
                # Cut off after the seconds: it sorts before every text that goes on differently.
                moved = datetime.fromisoformat(found[1]) - overlap
                return moved.isoformat(sep=value[10], timespec="seconds")
            case str() if _ISO_DATE.fullmatch(value):
                return (datetime.fromisoformat(value) - overlap).date().isoformat()
    except (OverflowError, ValueError):
        pass  # the beginning of the calendar, or a 31 February
    return value
