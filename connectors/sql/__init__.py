"""SQL: the rows of a query, from any database that SQLAlchemy knows.

Tested on SQLite, PostgreSQL and MariaDB. The query runs in a read-only transaction as one snapshot,
and its rows are streamed. A missing row is a gone record in full reads only: incremental reads, which
the option `modified` asks for, see no deletions.

An incremental read goes on at the largest `modified` value seen, `overlap` earlier (times, dates, ISO texts),
for a transaction may be committed later than the time that it wrote. Rows whose `modified` is NULL
are in every read. Times without zone are compared as they are; sessions on MySQL and MariaDB run in
UTC, where no hour comes twice. Numbers must only grow. Texts must sort by code point, as ISO times do.
"""

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from difflib import get_close_matches
from operator import itemgetter
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, field_validator
from sqlalchemy import Connection, CursorResult, text
from sqlalchemy.exc import SQLAlchemyError

from connectors.sql.cursor import decoded, earlier, encoded
from connectors.sql.database import Place, connected
from connectors.sql.values import PLAIN, key_of, plain
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

ROWS_AT_ONCE = 1000  # fetched together: some 100 KiB

_DURATION = re.compile(r"(\d{1,6}) (second|minute|hour|day)s?")


def _duration(value: object) -> timedelta:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('a duration is written as "5 minutes"; seconds, minutes, hours or days')
    return timedelta(**{found[2] + "s": int(found[1])})


class SqlOptions(Place):
    """The rows of a query."""

    query: str
    """Any SELECT."""
    key: str | None = Field(default=None, min_length=1)
    """The column that identifies a row for ever; without it the e-mail address does."""
    modified: str | None = Field(default=None, min_length=1)
    """The column that says when a row last changed, for incremental reads."""
    overlap: Annotated[timedelta, BeforeValidator(_duration)] = timedelta(minutes=5)
    """How far an incremental read goes back behind the latest change; a duration such as `10 minutes`."""

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
        with connected(self._options, self._folder, hint="Check `query`") as connection:
            columns = self._probe(connection)
            count = connection.scalar(text(self._over("COUNT(*)")))
        return f"{count:,} rows, {len(columns)} columns"

    def fields(self) -> list[SourceField]:
        """The columns of the query, which is not run over."""
        with connected(self._options, self._folder, hint="Check `query`") as connection:
            return [SourceField(name) for name in self._probe(connection)]

    def preset(self) -> None:
        """There is none: the names are the user's own."""

    def token(self) -> None:
        """There is none: a database does not tell whether a query would give the same again."""

    def read(self, request: Request) -> Generator[Record | Checkpoint | Resync, None, None]:
        """Yield each row of the query, or each that may have changed since the cursor."""
        since = decoded(request.cursor) if request.cursor and self._options.modified else None
        if request.cursor is not None and since is None:
            yield Resync("the cursor is not a value of the column `modified`")
        with connected(self._options, self._folder, hint="Check `query`") as connection:
            with _streamed(connection, *self._statement(connection, since)) as result:
                latest = yield from self._records(result, request.fields, since)
            if latest is not None:
                yield Checkpoint(encoded(latest))

    def _statement(self, connection: Connection, since: Any) -> tuple[str, dict[str, Any]]:
        if since is None:
            return self._query, {}
        self._probe(connection)
        preparer, name = connection.dialect.identifier_preparer, self._options.modified or ""
        name = name.replace(preparer.final_quote, preparer.final_quote * 2).replace(":", r"\:")
        column = f"source.{preparer.initial_quote}{name}{preparer.final_quote}"
        statement = self._over("*", f"WHERE {column} >= :since OR {column} IS NULL")
        return statement, {"since": earlier(since, self._options.overlap)}

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
                values = [value if type(value) in PLAIN else plain(value) for value in values]
            except ValueError:
                raise _unusable(names, values, number) from None
            key = key_of(row[key_at]) if key_at is not None else ""
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
            plain(value)
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
