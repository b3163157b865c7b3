"""Who was merged into whom: Odoo deletes the loser and leaves a message at the winner, in the words of whoever merged.

Only the English words are known [connectors-seen, Odoo, point 5]; a merge in another language shows as a deletion. The text
holds the losers' names, which anybody can choose, and anybody can write such a message: so a loser counts only if it is gone.
"""

import re
from collections.abc import Iterator
from datetime import datetime

from connectors.odoo.vendor import Server, pages, search
from syncd.connector import Merged

WORDS = "Merged with the following partners"
MESSAGE_ROWS = 500
IDS_BATCH = 1_000
READ_MESSAGES = "the right to read the messages of contacts"

_LOSER = re.compile(r"\(ID (\d{1,18})\)")


def merges_since(server: Server, since: datetime) -> Iterator[Merged]:
    """The merges of partners since a time; each loser with the one who is left after all of them. Raises SourceError."""
    into: dict[int, int] = {}
    domain = [
        ["model", "=", "res.partner"],
        ["date", ">=", f"{since:%Y-%m-%d %H:%M:%S}"],
        ["body", "ilike", WORDS],
    ]
    for rows in pages(
        server,
        "mail.message",
        domain,
        ["res_id", "body"],
        rows_max=MESSAGE_ROWS,
        needs=READ_MESSAGES,
    ):
        for row in rows:
            winner, body = row.get("res_id"), str(row.get("body") or "")
            if isinstance(winner, int) and winner and WORDS in body:
                into |= {int(loser): winner for loser in _LOSER.findall(body.partition(WORDS)[2])}
    there = _existing(server, sorted({*into, *into.values()}))
    for loser in sorted(into):
        winner, steps = into[loser], 0
        while winner not in there and winner in into and steps < len(into):
            winner, steps = into[winner], steps + 1
        if loser not in there and winner in there:
            yield Merged(str(loser), str(winner))


def _existing(server: Server, ids: list[int]) -> set[int]:
    found: set[int] = set()
    for start in range(0, len(ids), IDS_BATCH):
        domain = [["id", "in", ids[start : start + IDS_BATCH]]]
        rows = search(server, "res.partner", domain, ["id"], rows_max=IDS_BATCH, archived=True)
        found.update(row["id"] for row in rows)
    return found
