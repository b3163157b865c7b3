"""Whatever is in flight is read before anything else happens to it: after a crash, a time-out, an answer that does not fit."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import structlog

from syncd.core.undo import CUSTOM
from syncd.errors import Refused, Unanswered
from syncd.fluenzr.types import Contact, Page
from syncd.state import contacts, queue
from syncd.state.queue import Unsettled
from syncd.state.runs import log_change
from syncd.upload.campaigns import look_up_lost
from syncd.upload.listing import PAGE_ROWS, note_listed
from syncd.upload.pool import Job, Request
from syncd.upload.readback import verify_job
from syncd.upload.session import Session

log = structlog.get_logger(__name__)
CONTACTS_DOUBTED = "contacts.doubted"  # requests without an answer: so many people are read first

PASSES_MAX = 3  # a read can put another contact into doubt (renamed by hand); it ends soon
MANY = 20  # so many lost rows of one kind are first looked up in the newest-first listing
NEWEST_PAGES_MAX = 60  # two lost batches and some; the rest is read one by one


def recover(session: Session) -> bool:
    """Read everything that is in flight; whether the doubt about anybody ended.

    What cannot be read stays in flight, and is left alone until the next run.
    """
    before = queue.in_flight(session.state)
    for _ in range(PASSES_MAX):
        if not queue.in_flight(session.state):
            break
        log.warning(CONTACTS_DOUBTED, contacts=len(queue.in_flight(session.state)))
        wait_until_settled(session, queue.last_unsettled(session.state))
        look_up_lost(session)
        for kind in ("create", "update"):
            session.pool.drive(iter([_lost_batches(session, kind)]))
        unknown = queue.enrolling(session.state) - session.entered.keys()
        cids = [cid for cid in queue.in_flight(session.state) if cid not in unknown]
        session.watch.phase("", "check", len(cids))
        session.pool.drive(_each(session, cids))
        session.entered.clear()
    return bool(set(before).difference(queue.in_flight(session.state)))


def _each(session: Session, cids: list[int]) -> Iterator[Job]:
    for cid in cids:
        session.watch.advance(1)
        yield verify_job(session, cid)


def wait_until_settled(session: Session, last: Unsettled | None) -> None:
    """Wait until the last request without an answer cannot take effect any more; nothing of it is read before.

    Time that passed between two processes is believed only as far as FluenzR's clock agrees: ours may have jumped ahead meanwhile.
    """
    if last is None:
        return
    server_ms = session.api.server_time_ms()
    passed_s = 0.0  # without a Date header nothing proves that any time has passed
    if server_ms is not None and last.server_ms is not None:
        passed_s = min(session.clock.now_s() - last.at_s, (server_ms - last.server_ms) / 1000)
    # Never longer than the settle time itself, whatever the clocks have done.
    wait_s = min(session.settle_s, max(0.0, session.settle_s - passed_s))
    if wait_s > 0:
        session.watch.phase("", "settle", None)
        session.clock.sleep_s(wait_s)


def _lost_batches(session: Session, kind: str) -> Job:
    """The answer to a large batch was lost: a few listings instead of one read per contact. The rest is read one by one."""
    rows = queue.in_flight_of(session.state, kind)
    since = min((row["inflight_at"] or 0 for row in rows), default=0)
    if len(rows) < MANY or not since:
        return
    try:
        newest, complete = yield from _newest(session, since)
    except (Unanswered, Refused):
        return
    for row in rows:
        contact = newest.get(row["email"])
        if (
            kind == "create"
            and contact is not None
            and (contact.created_ms or 0) >= row["inflight_at"]
        ):
            note_listed(session, contact)
            session.settle(row["cid"], contact)
        elif kind == "update" and contact is None and complete:
            _send_again(session, row["cid"])


def read_created(session: Session, cids: Sequence[int]) -> Job:
    """Many people whom this run has created, and whose ids no answer told: a few listings instead of one read for each."""
    rows = queue.made_in(session.state, cids, run=session.run)
    since = min((row["made_from"] or 0 for row in rows), default=0)
    if len(rows) < MANY or not since:
        return
    try:
        newest, _ = yield from _newest(session, since, pages_max=2 * len(rows) // PAGE_ROWS + 2)
    except (Unanswered, Refused):
        return
    for row in rows:
        contact = newest.get(row["email"])
        if contact is not None:
            note_listed(session, contact)
            session.settle(row["cid"], contact)


def _send_again(session: Session, cid: int) -> None:
    """No accident at this address: the same update may simply be sent again, all of its fields."""
    person = session.person(cid)
    assert person is not None
    with session.state.tx():
        body = queue.body_of(session.state, cid)
        olds = {
            prefix + name: [sent.get(name), new]
            for prefix, part, sent in (
                ("", "f", person.sent.fields),
                (CUSTOM, "c", person.sent.custom_fields),
            )
            for name, new in body.get(part, {}).items()
        }
        detail = {"fields": olds}  # the old values are known here for the last time
        log_change(session.state, session.run, cid, person.email, session.now_s(), "lost", detail)
        # What the fields are now nobody knows: they count as never sent.
        known = replace(person.sent, fields={}, custom_fields={})
        queue.send_again(session.state, cid, known)
        if contacts.bump(
            session.state,
            cid,
            "The answer was lost",
            now_s=session.now_s(),
            kinds=session.groups.kinds,
        ):
            session.books.add(session.sync_of(cid), "quarantined")


def _newest(
    session: Session, since: int, *, pages_max: int = NEWEST_PAGES_MAX
) -> Generator[Request, Any, tuple[dict[str, Contact], bool]]:
    """Contacts made since (ms), by address, and whether none can be missing.

    Nothing is missing only if one page has the whole account, or page 1 alone reaches back far enough and its order is proven: creation
    falls, the last change does not fall as well (so it is not the order of changes), and the other way round it rises.
    """
    api = session.api
    first: Page = yield partial(_page, api, "desc", 1)
    found, number, page = list(first.items), 1, first
    while (
        page.items
        and (first.total is None or len(found) < first.total)
        and (found[-1].created_ms or 0) >= since
        and number < pages_max
    ):
        number += 1
        page = yield partial(_page, api, "desc", number)
        found += page.items
    complete = first.total is not None and len(first.items) >= first.total
    if not complete and first.items and _falls(_created(first)) and not _falls(_updated(first)):
        end = _created(first)[-1]
        if end < since:
            other: Page = yield partial(_page, api, "asc", 1)
            rising = _created(other)
            complete = bool(rising) and _falls(rising[::-1]) and rising[0] < end
    fresh = (c for c in found if (c.created_ms or 0) >= since)
    return {c.email.strip().lower(): c for c in fresh}, complete


def _page(api: Any, order: str, number: int) -> Page:
    page: Page = api.contacts_page(number, sort="createdAt", order=order, per_page=PAGE_ROWS)
    return page


def _created(page: Page) -> list[int]:
    return [contact.created_ms or 0 for contact in page.items]


def _updated(page: Page) -> list[int]:
    return [contact.updated_ms or 0 for contact in page.items]


def _falls(values: list[int]) -> bool:
    return all(a >= b for a, b in pairwise(values))
