"""What is remembered of the listings of opted-out people: rows of `meta`, one pair a status.

The people themselves stand in the ledger (`!`). Here are only keyed hashes of who was listed, eight bytes a person, so that a
later run can tell who is new, and what was seen of the listing's order.
"""

import base64
import hashlib
from array import array

import orjson

from syncd.core.model import OPTED_OUT_STATUSES
from syncd.core.recency import Distrust, Memory
from syncd.state.store import State

KEY_BYTES = 8


def key_of(state: State, rid: str, email: str) -> int:
    """The key of a contact under an address (lower case): renamed by hand, it is another one."""
    text = f"{rid}\n{email}".encode()
    digest = hashlib.blake2b(text, key=state.salt, digest_size=KEY_BYTES).digest()
    return int.from_bytes(digest, "little")


def recall(state: State, status: str) -> Memory:
    """What is remembered of one status; nothing before its first reading."""
    facts = state.meta(_facts(status))
    if facts is None:
        return Memory()
    text = state.meta(_known(status))
    known = None if text is None else array("Q", base64.b64decode(text))
    why = facts.pop("distrust")
    return Memory(known=known, distrust=None if why is None else Distrust(why), **facts)


def remember(state: State, status: str, memory: Memory) -> None:
    """Keep it (inside a transaction, after everybody in `known` was barred)."""
    facts = {
        "read_ms": memory.read_ms,
        "newest_ms": memory.newest_ms,
        "passed_s": memory.passed_s,
        "run": memory.run,
        "witnesses": memory.witnesses,
        "distrust": memory.distrust,
    }
    _set(state, _facts(status), orjson.dumps(facts).decode())
    known = memory.known
    if known is None:
        state.write("DELETE FROM meta WHERE k=?", _known(status))
    else:
        text = base64.b64encode(array("Q", known)).decode()
        _set(state, _known(status), orjson.dumps(text).decode())


def _set(state: State, name: str, text: str) -> None:
    # Mostly nobody is new, and half a megabyte need not be written anew.
    state.write(
        "INSERT INTO meta VALUES(?,?) ON CONFLICT(k) DO UPDATE SET v=excluded.v WHERE v<>excluded.v",
        name, text,
    )  # fmt: skip


def start_anew(state: State) -> None:
    """Nothing is remembered, and nothing is held against the order of the listing (inside a transaction)."""
    for status in OPTED_OUT_STATUSES:
        state.write("DELETE FROM meta WHERE k IN (?,?)", _facts(status), _known(status))


def was_written(state: State, rid: str, email: str, *, since_run: int) -> bool:
    """Whether we have changed this contact ourselves since that run."""
    sql = "SELECT 1 FROM contact WHERE (rid=? OR email=?) AND wrote_run>=?"
    return state.value(sql, rid, email, since_run) is not None


def _facts(status: str) -> str:
    return f"opt_outs:{status}"


def _known(status: str) -> str:
    return f"opt_outs:{status}:known"
