"""Who was chosen for something by a command: one row an address in the scratch file, in the order in which they came."""

from collections.abc import Iterator

from syncd.state.store import State

CHOSEN = """
CREATE TABLE IF NOT EXISTS scratch.chosen(id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, why_not TEXT NOT NULL)
"""


def prepare_chosen(state: State) -> None:
    """Make the scratch table."""
    state.db.execute(CHOSEN)


def choose(state: State, email: str, why_not: str) -> None:
    """Somebody is meant; why_not: empty, or the reason why nothing is done to them. Once for each address."""
    state.write("INSERT OR IGNORE INTO scratch.chosen(email,why_not) VALUES(?,?)", email, why_not)


def counts(state: State) -> dict[str, int]:
    """Reason -> people; "" for those to whom something is to be done."""
    return state.pairs("SELECT why_not,count(*) FROM scratch.chosen GROUP BY why_not")


def eligible(state: State, rows: int) -> Iterator[list[str]]:
    """The addresses to which something is to be done, so many at a time."""
    last = 0
    query = "SELECT id,email FROM scratch.chosen WHERE why_not='' AND id>? ORDER BY id LIMIT ?"
    while found := state.rows(query, last, rows):
        last = found[-1]["id"]
        yield [row["email"] for row in found]
