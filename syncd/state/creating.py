"""People who are about to be created: who is due, and their marks and confirmations, a batch at a time.

What `state.contacts` does for one contact is done here for a thousand, by the same rules: committed as in flight before they are
sent, confirmed only by the perfectly expected answer.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

from syncd.core.model import GroupKind
from syncd.core.person import EMPTY, Payload, Person, work
from syncd.state import ledger, queue
from syncd.state.contacts import BLOCKED, Mark, person
from syncd.state.store import State

CHUNK_ROWS = 1000
ENDINGS_MAX = 1000  # sets of groups and tags whose texts are kept
NO_CUSTOM_FIELDS = '{"c":{},"f":{'  # the beginning of most wanted texts, and what ends their fields: see `Payload.dump`
GROUPS = '"g":['
THESE = "(SELECT value FROM json_each(?))"
AS_WANTED = "="  # contact.sent_as: FluenzR has what is wanted


Key = TypeVar("Key", bound=Hashable)


class Creation(NamedTuple):
    """One person as a create request has it. A tuple: there are as many as people in a first load.

    body: JSON, without groups. claim, sent: contact.sent_as while it is in flight, and when it is confirmed.
    """

    cid: int
    email: str
    sync: int | None
    gids: tuple[int, ...]
    body: str
    claim: str
    sent: str
    tries: int
    more: bool = False  # something is left to do when it is made: campaigns


DUE = f"""
SELECT c.cid,c.email,c.sync,c.tries,c.want,c.sent_as IS NULL AND c.status IS NULL
  AND NOT {BLOCKED}
FROM contact c INDEXED BY contact_todo
WHERE c.todo=1 AND c.touch=0 AND c.inflight IS NULL AND c.not_before<=? AND c.cid>? AND c.state='new' ORDER BY c.cid LIMIT ?
"""

DUE_STEPPED = DUE.replace("ORDER", "AND c.cid IN (SELECT cid FROM scratch.stepped) ORDER")


def due(
    state: State, kinds: Mapping[int, GroupKind], *, now_s: int, only_stepped: bool
) -> Iterator[Creation]:
    """Who is to be created and may be, in the order of their rows, loaded a chunk at a time."""
    query, last, endings = DUE_STEPPED if only_stepped else DUE, 0, dict[str, _Ending]()
    while rows := _tuples(state, query, now_s, last, CHUNK_ROWS):
        last = rows[-1][0]
        contested = queue.contested_addresses(state)
        known = ledger.of_contacts(state, {row[0]: row[1] for row in rows})
        for cid, email, sync, tries, want, unknown in rows:
            if email in contested:
                continue
            ending = None
            if unknown and want and cid not in known and "null" not in want:
                ending = _ending(want[want.rindex(GROUPS) :], endings, kinds)
            if ending is None or not want.startswith(NO_CUSTOM_FIELDS):
                found = _judged(state, cid, sync, kinds)
                if found is not None:
                    yield found
                continue
            # Nothing is known that could forbid anything: the text that is wanted is the text that is sent (-3 us a contact).
            fields = want[len(NO_CUSTOM_FIELDS) : -len(ending.text) - 2]
            start = f'{{"email":{orjson.dumps(email).decode()}'
            body = f"{start}{',' if fields else ''}{fields}{ending.tags}}}"
            yield Creation(cid, email, sync, ending.gids, body, ending.claim, AS_WANTED, tries)


def _tuples(state: State, query: str, *values: int) -> list[Any]:
    cursor = state.db.execute(query, values)
    cursor.row_factory = None
    return cursor.fetchall()


class _Ending(NamedTuple):
    """The end of a wanted text, which is the same for nearly everybody: groups and tags. tags: as a body goes on with them."""

    text: str
    gids: tuple[int, ...]
    tags: str
    claim: str


def _ending(text: str, known: dict[str, _Ending], kinds: Mapping[int, GroupKind]) -> _Ending | None:
    """None where there is more to it: the source said that the person opted out, or something that mails is wanted."""
    found = known.get(text)
    if found is None:
        data = orjson.loads("{" + text)
        if "out" in data or "p" in data or any(kinds[g] is not GroupKind.STATIC for g in data["g"]):
            return None
        tags = f',"tags":{orjson.dumps(data["t"]).decode()}' if data["t"] else ""
        claim = Payload(groups=frozenset(data["g"]), tags=frozenset(data["t"])).dump()
        found = _Ending(text, tuple(data["g"]), tags, claim)
        if len(known) >= ENDINGS_MAX:
            known.clear()
        known[text] = found
    return found


def _judged(
    state: State, cid: int, sync: int | None, kinds: Mapping[int, GroupKind]
) -> Creation | None:
    who = person(state, cid)
    todo = None if who is None else work(who, kinds)
    if who is None or todo is None or not todo.create:
        return None
    return creation_of(who, todo.join, sync=sync)


def creation_of(who: Person, gids: tuple[int, ...], *, sync: int | None) -> Creation:
    """The create request's part of one who. Clearing is for contacts that exist: what is empty is left out."""
    want = who.want or EMPTY
    fields, custom = _filled(want.fields), _filled(want.custom_fields)
    body: dict[str, Any] = {"email": who.email, **fields}
    if custom:
        body["customFields"] = custom
    if want.tags:
        body["tags"] = sorted(want.tags)
    claim = Payload(groups=frozenset(gids), tags=want.tags)
    sent = Payload(fields, custom, frozenset(gids), want.tags)
    return Creation(
        who.cid, who.email, sync, gids, orjson.dumps(body).decode(), claim.dump(),
        AS_WANTED if sent == want else sent.dump(), who.tries,
        bool(want.campaigns or want.groups != frozenset(gids)),
    )  # fmt: skip


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def mark(state: State, people: Sequence[Creation], how: Mark, mails: Sequence[int]) -> None:
    """Commit the intent (inside a transaction). mails: those of their groups that are not known to be static."""
    for claim, cids in _together((one.claim, one) for one in people):
        state.write(
            f"UPDATE contact SET inflight='create',inflight_at=?,unsettled=?,sent_as=?,body=NULL WHERE cid IN {THESE}",
            how.server_ms, how.now_s, claim, cids,
        )  # fmt: skip
    if mails:
        for one in people:
            ledger.claim(state, one.cid, one.email, mails)


def unmark(state: State, people: Sequence[Creation]) -> None:
    """Definitely not applied: back to where they were before the mark (inside a transaction)."""
    cids = _json(one.cid for one in people)
    state.write(
        f"UPDATE contact SET inflight=NULL,unsettled=0,sent_as=NULL WHERE cid IN {THESE}", cids
    )
    state.write(f"DELETE FROM never WHERE sure=0 AND cid IN {THESE}", cids)


def confirm(
    state: State, people: Sequence[Creation], *, made_ms: int | None, run: int, mailed: bool
) -> None:
    """FluenzR has made them, and but for campaigns nothing is left to do (inside a transaction). mailed: a group may have enrolled them.

    Without a Date nothing proves that they are ours. A bulk tells no ids; they stay unknown until they are needed.
    """
    for (sent, more), cids in _together(((one.sent, one.more), one) for one in people):
        state.write(
            "UPDATE contact SET state='ok',status='active',todo=?5,sent_as=?1,inflight=NULL,unsettled=0,err=NULL,tries=0,"
            "origin=CASE WHEN inflight_at IS NOT NULL AND ?3 IS NOT NULL THEN 'created' ELSE 'adopted' END,"
            "wrote_run=?2,made_from=inflight_at,made=?3,made_run=?2 WHERE cid IN (SELECT value FROM json_each(?4))",
            sent, run, made_ms, cids, more,
        )  # fmt: skip
    if mailed:
        for one in people:
            ledger.confirm(state, one.cid)


def _together(pairs: Iterable[tuple[Key, Creation]]) -> Iterator[tuple[Key, str]]:
    """(values, JSON list of cids): one statement for all who get the same values, nearly always everybody (-2.5 us a contact)."""
    found: dict[Key, list[int]] = {}
    for key, one in pairs:
        found.setdefault(key, []).append(one.cid)
    for key, cids in found.items():
        yield key, _json(cids)


def _json(cids: Iterable[int]) -> str:
    return orjson.dumps(list(cids)).decode()


def note_id(state: State, cid: int, rid: str) -> None:
    """A single create tells FluenzR's id (inside a transaction)."""
    state.write("UPDATE OR IGNORE contact SET rid=? WHERE cid=?", rid, cid)
