"""One reading of those who opted out, status by status: what came, what it proves of the listing's order, what is remembered.

It decides by `core/recency.py` and asks nothing of FluenzR itself; `listing.py` has the requests, and bars everybody on a page
before the page comes here.
"""

from array import array
from dataclasses import replace

import structlog

from syncd.core import recency
from syncd.core.model import OPTED_OUT_STATUSES
from syncd.core.recency import Distrust, Entry, Memory, Step
from syncd.fluenzr.types import Contact, Page
from syncd.state import opt_outs
from syncd.state.store import State
from syncd.upload.session import Session

log = structlog.get_logger(__name__)
ORDER_DISTRUSTED = "order.distrusted"  # opt-outs are read whole from now on: newest first hid some

KNOWN_MAX = 1_000_000  # people of one status, 8 MB; of more, all pages are read in each run
WITNESSES_KEPT_MAX = 50  # of one pass: few are needed, and they fit on the page that must show them


class Reading:
    """The reading of one status in one run: newest first as far as that is proven, else whole."""

    def __init__(self, session: Session, status: str, *, page_rows: int) -> None:
        self._session, self.status, self._page_rows = session, status, page_rows
        self._memory = opt_outs.recall(session.state, status)
        self._start_ms = session.api.server_time_ms()
        self._skimmed: list[Entry] = []
        self._totals: list[int | None] = []
        self._found = array("Q")
        self._witnesses: list[Entry] = []
        self._newest_ms: int | None = None
        self._edited_count = 0
        self.is_done = False

    # --- newest first -----------------------------------------------------------------------------------------

    def may_skim(self) -> bool:
        """Whether newest first may be tried."""
        return recency.may_skim(
            self._memory, now_s=self._session.now_s(), page_rows=self._page_rows
        )

    def wants_next(self, page: Page) -> bool:
        """Take one page, newest first; whether the next one is wanted. `is_done` tells whether this was enough."""
        if any(contact.status != self.status for contact in page.items):
            return False
        self._skimmed += map(self._entry, page.items)
        self._totals.append(page.total)
        step = recency.after_page(
            self._memory,
            self._skimmed,
            self._totals,
            page_rows=self._page_rows,
            is_last=len(page.items) < self._page_rows,
        )
        if isinstance(step, Distrust):
            self.distrust(step)
            return False
        if step is Step.ENOUGH:
            self._keep_skimmed()
        return step is Step.MORE

    def distrust(self, why: Distrust) -> None:
        """Newest first is not believed any more, from now on."""
        if self._memory.distrust is None:
            self._memory = _distrusted(self._memory, self.status, why)

    def _keep_skimmed(self) -> None:
        self.is_done = True
        memory = self._memory
        assert memory.known is not None
        new = {e.key for e in self._skimmed if not recency.is_known(memory, e.key)}
        self._memory = replace(
            memory,
            known=array("Q", sorted([*memory.known, *new])) if new else memory.known,
            read_ms=self._start_ms,
            newest_ms=self._skimmed[0].updated_ms,
            run=self._session.run,
        )

    # --- all pages --------------------------------------------------------------------------------------------

    def take(self, page: Page) -> None:
        """Take one page of a complete pass."""
        self._totals.append(page.total)
        for contact in page.items:
            if contact.status == self.status:  # else the filter does not filter
                self._take(contact)

    def _take(self, contact: Contact) -> None:
        entry, memory = self._entry(contact), self._memory
        self._found.append(entry.key)
        if entry.updated_ms is not None:
            self._newest_ms = max(self._newest_ms or 0, entry.updated_ms)
        if memory.known is None or memory.distrust is not None:
            return
        if recency.is_known(memory, entry.key):
            self._edited_count += (
                memory.read_ms is not None and (entry.updated_ms or 0) >= memory.read_ms
            )
        elif (why := recency.disproves(memory, entry, self._skimmed)) is not None:
            self.distrust(why)
        elif recency.is_moved(memory, entry) and not self._was_written(contact):
            self._witnesses = [*self._witnesses, entry][:WITNESSES_KEPT_MAX]

    def begin_pass(self) -> None:
        """From here on come the pages of a complete pass."""
        self._totals.clear()

    def wants_trial(self) -> bool:
        """After a complete pass: whether there is something to be proven by the first page, newest first."""
        memory = self._memory
        unproven = memory.distrust is None and memory.witnesses < recency.WITNESSES_MIN
        enough = len(self._found) > self._page_rows and bool(self._witnesses)
        return unproven and enough and not recency.proves_little(memory, self._edited_count)

    def take_trial(self, page: Page) -> None:
        """The first page, newest first, right after a complete pass."""
        if any(contact.status != self.status for contact in page.items):
            return
        entries = [self._entry(contact) for contact in page.items]
        count, why = recency.trial(self._witnesses, entries, self._newest_ms or 0)
        self._memory = replace(self._memory, witnesses=self._memory.witnesses + count)
        if why is not None:
            self.distrust(why)

    def end_pass(self) -> None:
        """All pages have come. They are built on only if FluenzR counts exactly those who were seen."""
        keys = sorted(set(self._found))
        complete = set(self._totals) == {len(keys)} and len(keys) <= KNOWN_MAX
        self._memory = replace(
            self._memory,
            known=array("Q", keys) if complete else None,
            read_ms=self._start_ms,
            newest_ms=self._newest_ms,
            passed_s=self._session.now_s(),
            run=self._session.run,
        )
        self.is_done = True

    # --- the end ----------------------------------------------------------------------------------------------

    def keep(self) -> int:
        """Remember it (inside a transaction, when everybody who was read is barred); how many there are, as far as was read."""
        assert self.is_done
        opt_outs.remember(self._session.state, self.status, self._memory)
        known = self._memory.known
        return len(set(self._found)) if known is None else len(known)

    def _entry(self, contact: Contact) -> Entry:
        return _entry(self._session.state, contact)

    def _was_written(self, contact: Contact) -> bool:
        # Our own writing moves `updatedAt` too: that proves nothing of opting out.
        return opt_outs.was_written(
            self._session.state, contact.id, _email(contact), since_run=self._memory.run
        )


class Audit:
    """A listing of the whole account against what the readings of opted-out people know: whoever they have missed ends the trust."""

    def __init__(self, state: State) -> None:
        self._state = state
        memories = {status: opt_outs.recall(state, status) for status in OPTED_OUT_STATUSES}
        self._memories = {
            status: memory
            for status, memory in memories.items()
            if memory.known is not None and memory.distrust is None
        }

    def take(self, page: Page) -> None:
        """One page of the account."""
        for contact in page.items:
            memory = self._memories.get(contact.status)
            if memory is None:
                continue
            entry = _entry(self._state, contact)
            if recency.is_known(memory, entry.key):
                continue
            why = recency.disproves(memory, entry, ())
            if why is not None:
                del self._memories[contact.status]
                with self._state.tx():
                    opt_outs.remember(
                        self._state, contact.status, _distrusted(memory, contact.status, why)
                    )


def _distrusted(memory: Memory, status: str, why: Distrust) -> Memory:
    log.warning(ORDER_DISTRUSTED, status=status, why=why.value)
    return replace(memory, distrust=why)


def _entry(state: State, contact: Contact) -> Entry:
    key = opt_outs.key_of(state, contact.id, _email(contact))
    return Entry(key, contact.created_ms, contact.updated_ms)


def _email(contact: Contact) -> str:
    return contact.email.strip().lower()
