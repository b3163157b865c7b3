"""Whether the key still opens the account that the state is about.

In another account nobody of ours is there: everybody would count as deleted by hand, and would stay so. FluenzR does not tell an
account's name [?], so another key is believed when somebody who is known to be there is shown.
"""

from syncd.core.seen import is_ours
from syncd.errors import ConfigError
from syncd.state import contacts, queue
from syncd.state.store import Row
from syncd.upload.session import Session

ACCOUNT = "account"  # meta: a keyed digest of the key and the address of the API
SAMPLE_PEOPLE = 10  # half of them the first, half the last that the state knows


def check_account(session: Session) -> None:
    """Nothing is done to a state by the key of another account. Raises ConfigError."""
    state = session.state
    digest = session.api.digest(state.salt)
    if state.meta(ACCOUNT) == digest:
        return
    people = queue.first_and_last(state, SAMPLE_PEOPLE // 2)
    if people and not any(_is_there(session, row) for row in people):
        raise ConfigError(
            f"In this FluenzR account there is nobody of {len(people)} people whom the state knows to be there",
            place="fluenzr.api_key",
            why="The key or base_url is not that of the last run: it seems to be another account's",
            hint="Use a key of the same account; for another account, set [state] path to another file",
        )
    with state.tx():
        state.set_meta(ACCOUNT, digest)


def _is_there(session: Session, row: Row) -> bool:
    found = session.api.find(row["email"])
    if found is None:
        return False
    # Somebody may be in both accounts, but with another id, made at another time.
    known = row["rid"] == found.id if row["rid"] is not None else row["origin"] != "created"
    return known or is_ours(contacts.claim_of(row), session.shown(found))
