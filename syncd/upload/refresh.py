"""Once a day the whole account is read: people who were renamed, deleted or put back by hand, ids and statuses.

Absence from a listing proves nothing, for its pages shift while it is read: whoever is missing or looks different is read alone.
"""

from syncd.state import listed
from syncd.upload.listing import list_account
from syncd.upload.readback import verify_job
from syncd.upload.session import Session

EVERY_S = 24 * 3600
LISTED_AT = "account_listed_at"


def refresh_account(session: Session) -> bool:
    """Read everybody if that was not done for a day; whether it was done now."""
    last_s = session.state.meta(LISTED_AT)
    if last_s is None or 0 <= session.now_s() - last_s < EVERY_S:
        return False  # before the first sending each sync lists the account itself
    list_account(session)
    with session.state.tx():
        listed.take_over(session.state, run=session.run)
        listed.absorb_unnamed(session.state, run=session.run)
    cids = listed.to_verify(session.state, run=session.run)
    session.watch.phase("", "check", len(cids))
    session.pool.drive(verify_job(session, cid) for cid in cids)
    return True


def note_account_listed(session: Session) -> None:
    """The account has been listed in this run."""
    with session.state.tx():
        session.state.set_meta(LISTED_AT, session.now_s())
