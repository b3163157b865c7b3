"""Reading the account itself: its groups, its opted-out people, everybody.

What a listing shows of this run stands in `scratch.listed`, one row an address, never in memory.
"""

from collections.abc import Callable

import orjson

from syncd.core.model import OPTED_OUT_STATUSES
from syncd.core.seen import Shown
from syncd.fluenzr_types import Contact, Page
from syncd.state import contacts
from syncd.state.groups import SeenGroup
from syncd.upload.pool import Job
from syncd.upload.session import Session

PAGE_ROWS = 100  # the API's largest page [I]
PAGES_MAX = 200_000  # 20 million contacts; more is a server that never ends its listing

LISTED = """
CREATE TABLE IF NOT EXISTS scratch.listed(
  email TEXT PRIMARY KEY, rid TEXT NOT NULL, shown TEXT NOT NULL) WITHOUT ROWID
"""


def prepare(session: Session) -> None:
    """Make the scratch table."""
    session.state.db.execute(LISTED)


def read_groups(session: Session) -> None:
    """Take over the account's groups and their types."""
    seen = [SeenGroup(group.id, group.name, group.kind) for group in session.api.groups()]
    with session.state.tx():
        session.groups.refresh(seen)


def refresh_opt_outs(session: Session) -> int:
    """Read everybody who has unsubscribed, bounced or was blocked: opt-outs come first in each run. How many there are."""
    seen = 0
    session.watch.phase("", "opt-outs", None)

    def take(page: Page) -> None:
        nonlocal seen
        seen += len(page.items)
        _take_opted_out(session, page)

    for status in sorted(OPTED_OUT_STATUSES):
        _pages(session, take, status=status)
    return seen


def list_account(session: Session) -> int:
    """Read everybody in the account, 100 a request; how many. The oldest come first, so that new ones do not shift the pages."""
    prepare(session)
    count = 0

    def take(page: Page) -> None:
        nonlocal count
        count += len(page.items)
        _take_opted_out(session, page)
        for contact in page.items:
            note_listed(session, contact)

    _pages(session, take, status=None)
    return count


def _pages(session: Session, take: Callable[[Page], None], *, status: str | None) -> None:
    """All pages of a listing: the first tells how many there are, the others come several at a time."""
    total: list[int | None] = [None]

    def one(number: int) -> Job:
        page = yield lambda: session.api.contacts_page(
            number, status=status, sort="createdAt", order="asc", per_page=PAGE_ROWS
        )
        total[0] = page.total
        last.append(len(page.items))
        take(page)
        session.watch.advance(1, detail=f"page {number}")

    last: list[int] = []
    session.pool.drive(iter([one(1)]))
    known = total[0]
    if known is not None:
        session.watch.phase("", "list" if status is None else "opt-outs", -(-known // PAGE_ROWS))
        pages = min(-(-known // PAGE_ROWS), PAGES_MAX)
        session.pool.drive(one(number) for number in range(2, pages + 1))
        return
    number = 1
    while last[-1] >= PAGE_ROWS and number < PAGES_MAX:
        number += 1
        session.pool.drive(iter([one(number)]))


def _take_opted_out(session: Session, page: Page) -> None:
    opted = [contact for contact in page.items if contact.status in OPTED_OUT_STATUSES]
    if not opted:
        return
    with session.state.tx():
        for contact in opted:
            contacts.note_status(
                session.state, contact.email.strip().lower(), contact.id, contact.status
            )


def note_listed(session: Session, contact: Contact) -> None:
    """Keep what FluenzR shows of a contact for the rest of the run."""
    shown = session.shown(contact)
    data = {
        "status": shown.status,
        "f": dict(shown.fields),
        "c": dict(shown.custom_fields),
        "g": None if shown.groups is None else sorted(shown.groups),
        "t": None if shown.tags is None else sorted(shown.tags),
        "created_ms": shown.created_ms,
        "all": None if contact.group_ids is None else sorted(contact.group_ids),
    }
    session.state.write(
        "INSERT OR REPLACE INTO scratch.listed VALUES(?,?,?)",
        shown.email, contact.id, orjson.dumps(data).decode(),
    )  # fmt: skip


def shown_of(email: str, rid: str, text: str) -> Shown:
    """What `note_listed` kept."""
    data = orjson.loads(text)
    return Shown(
        rid=rid,
        email=email,
        status=data["status"],
        fields=data["f"],
        custom_fields=data["c"],
        groups=None if data["g"] is None else frozenset(data["g"]),
        tags=None if data["t"] is None else frozenset(data["t"]),
        created_ms=data["created_ms"],
    )


def adopt_listed(session: Session) -> int:
    """Take over everybody who is wanted and was listed (inside a transaction); how many."""
    rows = session.state.db.execute(
        "SELECT c.cid,c.email,l.rid,l.shown FROM contact c JOIN scratch.listed l ON l.email=c.email"
        " WHERE c.state='new' AND c.inflight IS NULL"
    ).fetchall()
    for cid, email, rid, text in rows:
        contacts.absorb(session.state, cid, shown_of(email, rid, text), run=session.run)
    return len(rows)


def forget_looked_up(session: Session) -> None:
    """After a whole listing: who opted out in the source and is not in FluenzR needs no look-up (inside a transaction)."""
    session.state.write(
        "DELETE FROM contact WHERE state='new' AND inflight IS NULL AND want LIKE '%\"out\":true%'"
        " AND NOT EXISTS (SELECT 1 FROM scratch.listed l WHERE l.email=contact.email)"
        " AND NOT EXISTS (SELECT 1 FROM record r WHERE r.cid=contact.cid AND r.live=1)"
    )


def listed(session: Session, email: str) -> Shown | None:
    """What this run's reads have shown of an address."""
    row = session.state.one("SELECT rid,shown FROM scratch.listed WHERE email=?", email)
    return None if row is None else shown_of(email, row[0], row[1])


def all_group_ids(session: Session, email: str) -> list[str]:
    """FluenzR's ids of every group in which this run has seen the contact, ours or not."""
    text = session.state.value("SELECT shown FROM scratch.listed WHERE email=?", email)
    return list(orjson.loads(text)["all"] or ()) if text else []

