"""Whose a contact is that FluenzR shows: only positive proof says ours."""

from dataclasses import replace

import pytest

from syncd.core.person import EMPTY, Payload
from syncd.core.seen import (
    Claim,
    Shown,
    is_accident,
    is_just_made,
    is_ours,
    ours_of,
    was_changed,
)

SHOWN = Shown(
    "con_1",
    "ann@example.com",
    "active",
    {"company": "Example"},
    {},
    frozenset(),
    frozenset({"crm"}),
    5_000,
)
CREATED = Claim(
    rid=None, origin="created", made_from=4_000, made=6_000, inflight=None, inflight_at=None
)
SENDING = Claim(
    rid=None, origin=None, made_from=None, made=None, inflight="create", inflight_at=4_000
)
WANT = Payload({"company": "Example", "phone": None}, {}, frozenset({1}), frozenset({"crm"}))


@pytest.mark.parametrize(
    ("claim", "shown", "ours"),
    [
        pytest.param(CREATED, SHOWN, True, id="made in our window"),
        pytest.param(CREATED, replace(SHOWN, created_ms=6_001), False, id="made after it"),
        pytest.param(CREATED, replace(SHOWN, created_ms=3_999), False, id="made before it"),
        pytest.param(CREATED, replace(SHOWN, created_ms=None), False, id="no creation time"),
        pytest.param(replace(CREATED, made=None), SHOWN, False, id="no Date in the confirmation"),
        pytest.param(
            replace(CREATED, rid="con_1"), replace(SHOWN, created_ms=None), True, id="the very id"
        ),
        pytest.param(replace(CREATED, rid="con_2"), SHOWN, False, id="another id"),
        pytest.param(replace(CREATED, origin="adopted"), SHOWN, False, id="adopted stays adopted"),
    ],
)
def test_proof(claim: Claim, shown: Shown, ours: bool) -> None:
    assert is_ours(claim, shown) is ours


@pytest.mark.parametrize(
    ("claim", "shown", "ours"),
    [
        pytest.param(SENDING, SHOWN, True, id="all we sent, since we sent it"),
        pytest.param(SENDING, replace(SHOWN, created_ms=3_999), False, id="was there before"),
        pytest.param(
            SENDING, replace(SHOWN, fields={"company": "Else"}), False, id="another value"
        ),
        pytest.param(SENDING, replace(SHOWN, tags=frozenset()), False, id="without our tag"),
        pytest.param(replace(SENDING, inflight_at=None), SHOWN, False, id="no Date"),
        pytest.param(replace(SENDING, inflight="update"), SHOWN, False, id="not a create"),
    ],
)
def test_a_lost_create_is_ours_only_as_an_image_of_what_was_sent(
    claim: Claim, shown: Shown, ours: bool
) -> None:
    assert is_just_made(claim, WANT, shown) is ours


def test_strangers_memberships_stay_strangers() -> None:
    shown = replace(SHOWN, groups=frozenset({1, 7}), tags=frozenset({"crm", "human"}))
    mine = ours_of(WANT, EMPTY, shown)
    assert (mine.groups, mine.tags) == (frozenset({1}), frozenset({"crm"}))


def test_a_value_written_by_hand_is_not_ours_to_clear() -> None:
    shown = replace(SHOWN, fields={"company": "Example", "phone": "by hand"})
    assert ours_of(WANT, EMPTY, shown).fields == {"company": "Example"}
    assert ours_of(WANT, Payload({"phone": "ours"}), shown).fields == {
        "company": "Example",
        "phone": "by hand",
    }


def test_memberships_that_are_not_shown_stay_as_they_were() -> None:
    sent = Payload(groups=frozenset({1}), tags=frozenset({"crm"}))
    mine = ours_of(WANT, sent, replace(SHOWN, groups=None, tags=None))
    assert (mine.groups, mine.tags) == (sent.groups, sent.tags)


BODY = {"f": {"company": "Example"}, "c": {}}
ACCIDENT = replace(SHOWN, tags=frozenset())


@pytest.mark.parametrize(
    ("shown", "accident"),
    [
        pytest.param(ACCIDENT, True, id="an exact image of the request"),
        pytest.param(replace(ACCIDENT, created_ms=3_999), False, id="was there before"),
        pytest.param(replace(ACCIDENT, tags=frozenset({"x"})), False, id="somebody tagged it"),
        pytest.param(replace(ACCIDENT, groups=frozenset({1})), False, id="somebody grouped it"),
        pytest.param(
            replace(ACCIDENT, fields={**ACCIDENT.fields, "phone": "1"}),
            False,
            id="somebody wrote more",
        ),
        pytest.param(replace(ACCIDENT, groups=None), False, id="groups are not shown"),
    ],
)
def test_only_an_exact_image_of_a_bulk_update_is_an_accident(shown: Shown, accident: bool) -> None:
    assert is_accident(BODY, 4_000, shown) is accident
    assert not is_accident(None, 4_000, shown)


@pytest.mark.parametrize(
    ("updated_ms", "changed"),
    [(5_001, True), (5_000, False), (None, False)],
)
def test_an_accident_was_never_changed_since_it_was_made(
    updated_ms: int | None, changed: bool
) -> None:
    """What tells it from the contact that was meant, where both are as young as the request."""
    assert was_changed(replace(ACCIDENT, updated_ms=updated_ms)) is changed
