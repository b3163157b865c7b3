"""What is to be done to one contact, and what is never done."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import GroupKind
from syncd.core.person import EMPTY, Payload, Person, load, same_value, work

STATIC, DYNAMIC, UNKNOWN = 1, 2, 3
KINDS = {STATIC: GroupKind.STATIC, DYNAMIC: GroupKind.DYNAMIC, UNKNOWN: GroupKind.UNKNOWN}
ALL_GROUPS = frozenset(KINDS)
WANT = Payload({"company": "Example"}, {"score": 3}, ALL_GROUPS, frozenset({"crm"}))


def absent(**changes: Any) -> Person:
    person = Person(
        cid=1, email="ann@example.com", rid=None, origin=None, status=None, state="new", policy="ungroup",
        want=WANT, sent=EMPTY, move_to=None, never=frozenset(), judged=ALL_GROUPS,
    )  # fmt: skip
    return replace(person, **changes)


def present(**changes: Any) -> Person:
    return absent(
        **{"state": "ok", "rid": "con_1", "origin": "created", "status": "active", **changes}
    )


def test_a_wanted_person_who_is_absent_is_created_with_groups_and_tags() -> None:
    todo = work(absent(), KINDS)
    assert todo.create
    assert set(todo.join) == ALL_GROUPS
    assert todo.tag == ("crm",)


@pytest.mark.parametrize("what", ["!", "x", "#", "?"])
def test_the_ledger_forbids_to_create(what: str) -> None:
    todo = work(absent(never=frozenset({what})), KINDS)
    assert not todo.any
    assert todo.forbidden == what


def test_a_record_that_cannot_be_read_creates_nobody() -> None:
    assert not work(absent(blocked=True), KINDS).any


def test_what_is_there_already_is_not_sent() -> None:
    assert not work(present(sent=WANT), KINDS).any


def test_only_what_differs_is_sent() -> None:
    sent = replace(
        WANT, fields={"company": "Old"}, groups=frozenset({STATIC, 9}), tags=frozenset({"old"})
    )
    todo = work(present(sent=sent), KINDS)
    assert todo.fields == {"company": ("Old", "Example")}
    assert not todo.custom_fields
    assert (todo.join, todo.leave, todo.tag, todo.untag) == (
        (DYNAMIC, UNKNOWN),
        (9,),
        ("crm",),
        ("old",),
    )


def test_only_what_we_had_written_is_cleared() -> None:
    want = Payload({"company": None})
    assert work(present(want=want, sent=Payload({"company": "ours"})), KINDS).fields == {
        "company": ("ours", None)
    }
    assert not work(present(want=want, sent=EMPTY), KINDS).any


@pytest.mark.parametrize(
    ("changes", "joined"),
    [
        ({}, {STATIC, DYNAMIC, UNKNOWN}),
        ({"status": "replied"}, {STATIC}),
        ({"status": "unsubscribed"}, set()),
        ({"status": "bounced"}, set()),
        ({"status": "blocked"}, set()),
        ({"never": frozenset({"!"})}, set()),
        ({"never": frozenset({"?"})}, set()),
        ({"never": frozenset({"#"})}, set()),
        ({"never": frozenset({"x"})}, {STATIC}),
        ({"never": frozenset({"*"})}, {STATIC}),
        ({"never": frozenset({f"g{DYNAMIC}"})}, {STATIC, UNKNOWN}),
        ({"blocked": True}, {STATIC}),
        ({"judged": frozenset()}, {STATIC}),
        ({"judged": frozenset({UNKNOWN})}, {STATIC, UNKNOWN}),
    ],
)
def test_who_may_join_which_group(changes: dict[str, Any], joined: set[int]) -> None:
    assert set(work(present(**changes), KINDS).join) == joined
    assert joined - {STATIC} <= set(work(present(**changes), KINDS, unjudged=True).join)


def test_a_group_that_nobody_knows_counts_as_dynamic() -> None:
    assert work(present(never=frozenset({"*"})), {}).join == ()


@pytest.mark.parametrize(
    ("changes", "deleted", "left"),
    [
        ({"policy": "keep"}, False, ()),
        ({"policy": None}, False, ()),
        ({"policy": "ungroup"}, False, (STATIC,)),
        ({"policy": "delete"}, True, ()),
        ({"policy": "delete", "origin": "adopted"}, False, (STATIC,)),
        ({"policy": "delete", "status": "unsubscribed"}, False, (STATIC,)),
        ({"policy": "delete", "never": frozenset({"!"})}, False, (STATIC,)),
    ],
)
def test_removal_takes_back_only_what_is_ours(
    changes: dict[str, Any], deleted: bool, left: tuple[int, ...]
) -> None:
    todo = work(present(want=None, sent=Payload(groups=frozenset({STATIC})), **changes), KINDS)
    assert todo.delete is deleted
    assert todo.leave == left


def test_an_opt_out_of_the_source_looks_up_whom_it_does_not_know_and_empties_whom_it_does() -> None:
    out = Payload(out=True)
    assert work(absent(want=out), KINDS).look_up
    assert not work(absent(want=out, sent=out), KINDS).any
    todo = work(present(want=out, sent=WANT), KINDS)
    assert todo.leave_all
    assert not todo.join
    assert not work(present(want=out, sent=out), KINDS).any


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a", "a", True), ("a", "A", False), (" a", "a", True), (None, "", True), (None, None, True), (3, "3", True),
        (3.0, "3", True), (3, 4, False), (True, "true", True), (True, "false", False), (None, "x", False), (0, None, False),
    ],
)  # fmt: skip
def test_values_are_compared_as_fluenzr_may_give_them_back(
    one: Any, other: Any, same: bool
) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same


PAYLOADS = st.builds(
    Payload,
    fields=st.dictionaries(
        st.sampled_from(["company", "phone"]), st.one_of(st.none(), st.text(max_size=3))
    ),
    custom_fields=st.dictionaries(st.just("score"), st.integers(0, 3)),
    groups=st.frozensets(st.sampled_from([1, 2, 3])),
    tags=st.frozensets(st.sampled_from(["a", "b"])),
    out=st.booleans(),
)


@given(PAYLOADS)
def test_a_payload_survives_the_state(payload: Payload) -> None:
    assert load(payload.dump()) == payload


@given(PAYLOADS, PAYLOADS, st.sampled_from([None, "active", "replied", "unsubscribed", "blocked", "bounced"]),
    st.frozensets(st.sampled_from(["!", "x", "#", "?", "*", "g2"])))  # fmt: skip
def test_opted_out_people_join_nothing_and_are_never_created_or_deleted(
    want: Payload, sent: Payload, status: str | None, never: frozenset[str]
) -> None:
    for person in (absent(want=want, sent=sent, never=never), present(want=want, sent=sent, status=status, never=never),
                   present(want=None, sent=sent, status=status, never=never, policy="delete")):  # fmt: skip
        todo = work(person, KINDS)
        if person.opted_out:
            assert (todo.create, todo.join, todo.delete) == (False, (), False)
