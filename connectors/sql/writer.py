"""Writes back into a database: one statement of the user's own for each thing that FluenzR has heard.

Its parameters are :key, :email, :heard ("opted_out", "bounced", "replied") and :at (UTC, without zone); values are never put into its text.
A batch is one transaction. A statement that changes no row is fine: the row may be gone, or hold it already.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, ClassVar

from pydantic import field_validator
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError

from connectors.sql.database import Place, connected
from syncd.connector import Context, Options
from syncd.writer import News, Unwritten

PARAMETERS = frozenset({"key", "email", "heard", "at"})
HINT = "Check `statement`, and that the user may write"


class SqlWriterOptions(Place):
    """One statement a person."""

    statement: str
    """Any that writes, such as `UPDATE people SET opted_out = true WHERE id = :key`."""

    @field_validator("statement")
    @classmethod
    def _known_parameters(cls, value: str) -> str:
        used = set(text(value)._bindparams)
        unknown = sorted(used - PARAMETERS)
        if unknown or ("key" not in used and "email" not in used):
            what = f":{unknown[0]} is none" if unknown else "neither :key nor :email is there"
            raise ValueError(f"the parameters are :key, :email, :heard and :at; {what}")
        return value.strip().rstrip(";")


class SqlWriter:
    """One statement."""

    OPTIONS: ClassVar[type[Options]] = SqlWriterOptions
    SUMMARY: ClassVar[str] = "Runs a statement of yours, with :key, :email, :heard and :at"
    BATCH_MAX: ClassVar[int] = 100

    def __init__(self, options: SqlWriterOptions, context: Context) -> None:
        self._options, self._folder = options, context.folder
        self._statement = text(options.statement)

    def check(self) -> str:
        """Whether the database can be reached; the statement is not run."""
        with connected(self._options, self._folder, hint=HINT, writes=True):
            return f"runs {' '.join(self._options.statement.split())[:60]}"

    def write(self, news: Sequence[News]) -> Iterator[Unwritten]:
        """All in one transaction; a row that breaks a rule of its table is left out and told."""
        refused = list[Unwritten]()
        with connected(self._options, self._folder, hint=HINT, writes=True) as connection:
            for one in news:
                try:
                    with (
                        connection.begin_nested(),
                        closing(connection.execute(self._statement, _values(one))),
                    ):
                        pass
                except (DataError, IntegrityError) as error:
                    said = str(error.orig).strip().splitlines()
                    refused.append(Unwritten(one.key, said[0] if said else "refused"))
            connection.commit()
        yield from refused


def _values(news: News) -> dict[str, Any]:
    return {
        "key": news.key,
        "email": news.email,
        "heard": news.heard.value,
        "at": news.at.replace(tzinfo=None),
    }
