"""Reading the account itself: its groups, its opted-out people, everybody.

What a listing shows of this run stands in `scratch.listed`, one row an address, never in memory.
"""

from collections.abc import Callable

from syncd.core.model import OPTED_OUT_STATUSES
from syncd.fluenzr_types import Contact, Page
from syncd.state import contacts, erase, listed
from syncd.state.groups import SeenGroup
from syncd.state.listed import Listed
from syncd.upload.pool import Job
from syncd.upload.session import Session

PAGE_ROWS = 100  # the API's largest page [I]
PAGES_MAX = 200_000  # 20 million contacts; more is a server that never ends its listing


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
    count = 0

    def take(page: Page) -> None:
        nonlocal count
        count += len(page.items)
        _take_opted_out(session, page)
        with session.state.tx(scratch_only=True):
            for contact in page.items:
                note_listed(session, contact)

    _pages(session, take, status=None)
    with session.state.tx():
        erase.note_listed(session.state)
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
    group_rids = tuple(sorted(contact.group_ids or ()))
    listed.note(session.state, Listed(session.shown(contact), group_rids))
