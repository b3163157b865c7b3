"""Forgetting one person: erased from the state first, then deleted in FluenzR, as far as that can be done now.

What cannot be done now (FluenzR does not answer, the process dies) is finished by the next run; the address is never created again.
"""

import re

from syncd.backup import folder_of
from syncd.clock import Clock
from syncd.config import Settings
from syncd.errors import ConfigError, FluenzrError, Refused
from syncd.fluenzr import FluenzR
from syncd.state import copies, erase, queue
from syncd.state.groups import Groups
from syncd.state.store import State, hold, open_state
from syncd.upload.account import check_account
from syncd.upload.erase import erase_contact
from syncd.upload.pool import Job, Pool
from syncd.upload.recover import wait_until_settled
from syncd.upload.session import Session
from syncd.watch import Watch

NO_RUN = 0  # nothing of it enters the history


def forget(
    settings: Settings, email: str, *, api: FluenzR, clock: Clock, watch: Watch, wait_s: float
) -> list[str]:
    """Forget an address (lower case); what is in the way of it, in words: empty when nobody is there any more.

    wait_s: for the lock. Raises StateError, StateLost, Interrupted; whatever it raises, the next run goes on with it.
    """
    path = settings.state.path
    with hold(path, wait_s=wait_s, clock=clock), open_state(path) as state:
        cids = erase.forget(state, email)
        problems: list[str] = []
        try:
            problems += _delete(settings, state, cids, api=api, clock=clock, watch=watch)
        except (FluenzrError, ConfigError) as error:
            problems.append(_words(error))
        finally:
            clean = erase.leave_no_trace(state)
        if not clean:
            problems.append(
                "The state could not be written anew, so that traces may stand in its free space:"
                " is the disk full, or does another program read it? The next run tries again"
            )
        problems += copies.clean(state, folder_of(settings), named=[email])
        # FluenzR's words may hold it in another case.
        named = re.compile(re.escape(email), re.IGNORECASE)
        return [named.sub("[address]", problem) for problem in problems]


def _delete(
    settings: Settings, state: State, cids: list[int], *, api: FluenzR, clock: Clock, watch: Watch
) -> list[str]:
    found: list[str] = []
    pool = Pool(clock, api)
    session = Session(
        state, api, pool, Groups(state), clock, watch, NO_RUN, settle_s=settings.fluenzr.settle_s
    )

    def job(cid: int) -> Job:
        error = yield from erase_contact(session, cid)
        if error is not None:
            found.append(_words(error))

    try:
        check_account(session)  # where nobody of ours is, nobody is to be found
        # A create that got no answer may still come: whoever is deleted before it would be there again.
        wait_until_settled(session, queue.last_unsettled(state, cids))
        with state.tx():
            erase.settle(state, cids)
        watch.phase("", "upload", len(cids))
        pool.drive(job(cid) for cid in cids)
    finally:
        pool.close()
    return found


def _words(error: FluenzrError | ConfigError) -> str:
    what = f"{error.what}: {error.why}" if error.why else error.what
    # What to do about a refusal is told for people who are to be changed; this one is to go.
    hint = "" if isinstance(error, Refused) else error.hint
    return f"{what.rstrip('.')}. {hint}" if hint else what
