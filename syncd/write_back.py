"""Back to the source: who has opted out, bounced or replied, written into the CRM that the person came from.

The last step of a run, and only where `[sync.NAME.write_back]` asks for it. Each thing is told at least once: what was written is
noted after it was written, so a death in between writes it again, which changes nothing. What the source refuses is
tried again later; a source that cannot be reached harms nothing else.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

import structlog

from syncd import registry
from syncd.clock import Clock
from syncd.config import Settings
from syncd.config_models import WriteBackSettings
from syncd.connector import Context
from syncd.errors import ConfigError, SourceError
from syncd.reading import asking
from syncd.state import write_back as state_of
from syncd.state.reads import SyncRow
from syncd.state.store import State
from syncd.state.write_back import Due
from syncd.watch import Watch
from syncd.writer import Heard, News, Writer

log = structlog.get_logger(__name__)
WRITE_BACK_REFUSED = "write_back.refused"  # the source does not take so many records

STATUSES = {
    "unsubscribed": Heard.OPTED_OUT,
    "blocked": Heard.OPTED_OUT,
    "bounced": Heard.BOUNCED,
    "replied": Heard.REPLIED,
}


class Told:
    """What one sync's source was told in a run. error: why not the rest of it; empty: it was told everything."""

    def __init__(self) -> None:
        self.written = 0
        self.refused = 0
        self.error = ""


def writer_of(settings: Settings, name: str, clock: Clock) -> Writer | None:
    """The writer of a sync; None where nothing is written back."""
    table = settings.write_backs.get(name)
    if table is None:
        return None
    context = Context(folder=settings.folder, clock=clock)
    return registry.load_writer(table.writer)(table.validated, context)


def write_back(
    settings: Settings, state: State, row: SyncRow, *, clock: Clock, watch: Watch
) -> Told:
    """Tell one sync's source what FluenzR has heard of its people since it was told last."""
    told = Told()
    writer, table = writer_of(settings, row.name, clock), settings.write_backs.get(row.name)
    if writer is None or table is None:
        return told
    watch.phase(row.name, "write back", None)
    try:
        for batch in _batches(state, row, table, size=writer.BATCH_MAX, clock=clock):
            _tell(state, writer, batch, told, source=table.writer, clock=clock)
            watch.advance(len(batch))
    except (SourceError, ConfigError) as error:
        told.error = str(error)
    return told


def _batches(
    state: State, row: SyncRow, table: WriteBackSettings, *, size: int, clock: Clock
) -> Iterator[list[Due]]:
    statuses = [status for status, heard in STATUSES.items() if heard in table.heard]
    last = 0
    while batch := state_of.due(
        state, row, statuses, after=last, now_s=int(clock.now_s()), limit=size
    ):
        last = batch[-1].rowno
        yield batch


def _tell(
    state: State, writer: Writer, batch: list[Due], told: Told, *, source: str, clock: Clock
) -> None:
    at = datetime.fromtimestamp(int(clock.now_s()), UTC)
    news = [News(one.key, one.email, STATUSES[one.status], at) for one in batch]
    with asking(source):
        refusals = {one.key: one.why for one in islice(writer.write(news), len(batch) + 1)}
    with state.tx():
        state_of.told(state, [one for one in batch if one.key not in refusals])
        for one in batch:
            if one.key in refusals:
                state_of.refused(state, one, refusals[one.key], now_s=int(clock.now_s()))
    told.written += len(batch) - len(refusals)
    told.refused += len(refusals)
    if refusals:
        log.warning(WRITE_BACK_REFUSED, source=source, records=len(refusals))
