"""Reading the account itself: its groups, its opted-out people, everybody.

What a listing shows of this run stands in `scratch.listed`, one row an address, never in memory.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from syncd.core.model import OPTED_OUT_STATUSES
from syncd.core.person import LATCHES
from syncd.core.recency import SKIM_PAGES_MAX, Distrust
from syncd.errors import Refused, Unanswered
from syncd.fluenzr.types import Contact, Page
from syncd.state import erase, ledger, listed
from syncd.state.groups import SeenGroup
from syncd.state.listed import Listed
from syncd.upload.account import check_account
from syncd.upload.opt_outs import Audit, Reading
from syncd.upload.pool import THREADS_MAX, Job
from syncd.upload.session import Session

PAGE_ROWS = 100  # the API's largest page [I]
PAGES_MAX = 200_000  # 20 million contacts; more is a server that never ends its listing


def read_groups(session: Session) -> None:
    """Take over the account's groups and their types, first of all that is asked. Raises ConfigError for another account."""
    check_account(session)
    seen = [SeenGroup(group.id, group.name, group.kind) for group in session.api.groups()]
    with session.state.tx():
        session.groups.refresh(seen)


def refresh_opt_outs(session: Session) -> int:
    """Read those who have unsubscribed, bounced or were blocked: opt-outs come first in each run. How many there are.

    Newest first where that was seen to find everybody who is new, else all pages; and all pages once a day.
    """
    session.watch.phase("", "opt-outs", None)
    readings = [
        Reading(session, status, page_rows=PAGE_ROWS) for status in sorted(OPTED_OUT_STATUSES)
    ]
    session.pool.drive(_skim(session, reading) for reading in readings if reading.may_skim())
    for reading in readings:
        if not reading.is_done:
            _read_whole(session, reading)
    with session.state.tx():
        return sum(reading.keep() for reading in readings)


def _skim(session: Session, reading: Reading) -> Job:
    """Newest first, as far as needed. Whatever is wrong with it: all pages are read then."""
    for number in range(1, SKIM_PAGES_MAX + 1):
        try:
            page: Page = yield partial(_newest_page, session, reading.status, number)
        except Refused:
            reading.distrust(Distrust.REFUSED)
            return
        except Unanswered:
            return
        latch(session, page.items)
        session.watch.advance(1, detail=f"page {number}")
        if not reading.wants_next(page):
            return


def _read_whole(session: Session, reading: Reading) -> None:
    """All pages, in the documented order; then one page newest first, if somebody is there who may prove that order."""
    reading.begin_pass()

    def take(page: Page) -> None:
        latch(session, page.items)
        reading.take(page)

    _pages(session, take, status=reading.status)
    if reading.wants_trial():
        session.pool.drive(iter([_try_newest(session, reading)]))
    reading.end_pass()


def _try_newest(session: Session, reading: Reading) -> Job:
    try:
        page: Page = yield partial(_newest_page, session, reading.status, 1)
    except Refused:
        reading.distrust(Distrust.REFUSED)
        return
    except Unanswered:
        return  # proves nothing either way
    latch(session, page.items)
    reading.take_trial(page)


def _newest_page(session: Session, status: str, number: int) -> Page:
    return session.api.contacts_page(
        number, status=status, sort="updatedAt", order="desc", per_page=PAGE_ROWS
    )


def begin_listing(session: Session) -> None:
    """Ask for the account's first page while the sources are read: a request counts for the limit's minute from its start."""
    session.first_page = session.pool.begin(partial(_oldest_page, session, 1, None))


def list_account(session: Session) -> int:
    """Read everybody in the account, 100 a request; how many. The oldest come first, so that new ones do not shift the pages."""
    count, audit = 0, Audit(session.state)

    def take(page: Page) -> None:
        nonlocal count
        count += len(page.items)
        latch(session, page.items)
        audit.take(page)
        with session.state.tx(scratch_only=True):
            for contact in page.items:
                note_listed(session, contact)

    _pages(session, take, status=None)
    with session.state.tx():
        erase.note_listed(session.state)
    return count


def _pages(session: Session, take: Callable[[Page], None], *, status: str | None) -> None:
    """All pages of a listing, oldest first: the first tells how many there are, the others come several at a time.

    The total is a help, not the end: where the last page of it is full, or there is none, the next ones are read until nobody new comes.
    """
    rids: dict[int, frozenset[str]] = {}  # of the last pages that came, by number
    totals: list[int | None] = []
    ended = False

    def one(number: int) -> Job:
        nonlocal ended
        page: Page | None = None
        if status is None and session.first_page is not None:
            begun, session.first_page = session.first_page, None
            page = yield begun
        if page is None or page.total != len(page.items):  # more may follow, and have shifted
            page = yield partial(_oldest_page, session, number, status)
        totals.append(page.total)
        rids[number] = frozenset(contact.id for contact in page.items)
        ended = ended or not page.items
        take(page)
        session.watch.advance(1, detail=f"page {number}")

    def counted(last: int) -> Iterator[Job]:
        for number in range(2, last + 1):
            if ended:
                return  # the total counts others as well
            rids.pop(number - 2 * THREADS_MAX, None)
            yield one(number)

    session.pool.drive(iter([one(1)]))
    total, rows = totals[0], len(rids[1])
    number = 1
    if total is not None and rows:
        number = (
            min(-(-total // rows), PAGES_MAX) or 1
        )  # a server may give fewer than were asked for
        session.watch.phase("", "list" if status is None else "opt-outs", number)
        session.pool.drive(counted(number))
    while not ended and number < PAGES_MAX and _may_go_on(rids, number, total, rows):
        number += 1
        session.pool.drive(iter([one(number)]))


def _oldest_page(session: Session, number: int, status: str | None) -> Page:
    return session.api.contacts_page(
        number, status=status, sort="createdAt", order="asc", per_page=PAGE_ROWS
    )


def _may_go_on(rids: dict[int, frozenset[str]], number: int, total: int | None, rows: int) -> bool:
    """Whether there may be a page after this one. rows: of the first page."""
    if number > 1 and rids[number] == rids.get(number - 1):
        return False  # past its end, this server gives the last page again
    full = PAGE_ROWS if number == 1 else rows
    return total is None or len(rids[number]) >= full


def latch(session: Session, found: Iterable[Contact]) -> None:
    """Whoever opted out or replied is known for ever, wanted or not."""
    telling = [contact for contact in found if contact.status in LATCHES]
    if not telling:
        return
    with session.state.tx():
        for contact in telling:
            ledger.note_status(
                session.state, contact.email.strip().lower(), contact.id, contact.status
            )


def note_listed(session: Session, contact: Contact) -> None:
    """Keep what FluenzR shows of a contact for the rest of the run."""
    group_rids = tuple(sorted(contact.group_ids or ()))
    listed.note(session.state, Listed(session.shown(contact), group_rids))
