"""FluenzR refuses everybody alike: nobody is ground down to single requests, nobody is lost, and it is said."""

from typing import Any

import orjson
import pytest
from house import BULK, House, house_fixture, people  # noqa: F401 - a fixture
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd.core.alike import ALONE_MAX, Alike
from syncd.core.result import Status
from syncd.sandbox import contacts, routes
from syncd.sandbox.exchange import Answer, Request
from syncd.state import quarantine
from syncd.state.store import change

MANY = 500
FEW = 4  # lone refusals that are enough, in the tests that need not show the real number
SCORE = {"custom_fields": {"scoer": {"path": "score", "as": "number"}}}
REQUESTS_MAX = 60  # of some 1000 that single requests for everybody would take


@pytest.fixture(name="soon")
def soon_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few lone refusals are enough."""
    monkeypatch.setattr("syncd.core.alike.ALONE_MAX", FEW)


soon = pytest.mark.usefixtures("soon")


def bulks(house: House) -> int:
    return house.sandbox.counts["POST", BULK]


def retry_all(house: House) -> None:
    change(house.state, lambda state: quarantine.retry(state, ()), clock=house.clock)


def refuse_everybody(house: House) -> None:
    """A custom field that nobody has created in FluenzR."""
    house.quirks(bulk_errors="whole400", unknown_custom_fields="refuse")


def until_quiet(house: House, *, runs: int) -> None:
    for _ in range(runs):
        house.later(hours=25)
        house.sync()


# --- the rule ---------------------------------------------------------------------------------------------------


def test_several_lone_refusals_with_the_same_words_are_everybodys() -> None:
    alike = Alike()
    for number in range(ALONE_MAX):
        assert not alike.general
        alike.refused(f"p{number}@example.com: Unknown field", f"p{number}@example.com")
    assert alike.general
    assert alike.words == "[address]: Unknown field"


@pytest.mark.parametrize("between", ["success", "other words"])
def test_anything_else_between_begins_anew(between: str) -> None:
    alike = Alike()
    for _ in range(ALONE_MAX - 1):
        alike.refused("Unknown field", "a@example.com")
    if between == "success":
        alike.taken()
    else:
        alike.refused("Disposable address", "a@example.com")
    alike.refused("Unknown field", "a@example.com")
    assert not alike.general


# --- creates ----------------------------------------------------------------------------------------------------


@soon
def test_a_field_that_fluenzr_does_not_know_costs_few_requests_and_nobody(house: House) -> None:
    refuse_everybody(house)
    house.configure(groups=["Customers"], **SCORE)
    house.write(*people(MANY, score=7))
    result = house.sync()
    assert bulks(house) < REQUESTS_MAX
    assert (result.created, result.quarantined, result.status) == (0, MANY, Status.PARTIAL)
    assert (house.everybody(), house.in_flight()) == (set(), 0)
    assert "scoer" in result.alike
    before = bulks(house)
    assert house.sync().status is Status.OK  # nothing new, and nothing is tried before its time
    assert bulks(house) == before
    house.later(hours=2)
    house.sync()
    assert bulks(house) - before < REQUESTS_MAX

    house.account.custom_field_names.add("scoer")  # somebody creates it
    before = bulks(house)
    retry_all(house)
    result = house.sync()
    assert (result.created, result.status, result.alike) == (MANY, Status.OK, "")
    assert len(house.everybody()) == MANY
    assert bulks(house) - before < 10


def test_everybody_is_told_why_and_who_was_not_tried_alone(house: House) -> None:
    refuse_everybody(house)
    house.configure(**SCORE)
    house.write(*people(300, score=7))
    house.sync()
    words = [found["err"] for found in house.query("SELECT err FROM contact")]
    assert all("scoer" in text for text in words)
    together = [text for text in words if "not tried alone" in text]
    assert 0 < len(words) - len(together) <= ALONE_MAX + 16  # answers that were under way
    assert {found["tries"] for found in house.query("SELECT tries FROM contact")} == {1}


@soon
def test_a_good_person_among_them_is_found_at_last(house: House) -> None:
    refuse_everybody(house)
    house.configure(custom_fields={"scoer": {"path": "score", "as": "number"}}, empty="keep")
    rows = people(30, score=7)
    rows[22]["score"] = ""  # nothing of the field is sent for this one
    house.write(*rows)
    house.sync()
    until_quiet(house, runs=8)
    assert house.everybody() == {"p22@example.com"}


@soon
@pytest.mark.parametrize("bad", [FEW, 12])
def test_a_cluster_of_bad_rows_keeps_nobody_else_for_long(house: House, bad: int) -> None:
    house.quirks(bulk_errors="whole400")
    house.write(*people(100))
    for number in range(bad):
        house.account.refuse(f"p{number}@example.com", "Disposable address")
    first = house.sync()
    assert first.created >= 50
    until_quiet(house, runs=4)
    assert len(house.everybody()) == 100 - bad


def test_different_words_are_different_people(house: House) -> None:
    house.quirks(bulk_errors="whole400")
    house.write(*people(60))
    for number in range(52):
        house.account.refuse(f"p{number}@example.com", f"Phone 0{number} is wrong")
    result = house.sync()
    assert (result.created, result.quarantined) == (8, 52)


@soon
def test_a_body_that_is_too_large_is_made_smaller_all_the_same(house: House) -> None:
    """413 says nothing about people."""
    refuse_everybody(house)
    house.configure(custom_fields=SCORE["custom_fields"], empty="keep")
    house.write(*people(60, score=7))
    house.sync()
    house.quirks(bulk_errors="whole400", body_bytes_max=2000, unknown_custom_fields="accept")
    retry_all(house)
    assert house.sync().created == 60


# --- updates ----------------------------------------------------------------------------------------------------


@soon
def test_updates_that_are_refused_alike(house: House) -> None:
    house.write(*people(MANY))
    house.configure(guard={"max_field_changes": MANY})
    house.sync()
    refuse_everybody(house)
    house.configure(guard={"max_field_changes": MANY}, **SCORE)
    with_probe(house)
    house.write(*people(MANY, score=7))
    before = bulks(house)
    result = house.sync()
    assert bulks(house) - before < REQUESTS_MAX
    assert (result.updated, result.quarantined, result.status) == (0, MANY, Status.PARTIAL)
    assert "scoer" in result.alike
    house.account.custom_field_names.add("scoer")
    retry_all(house)
    assert house.sync().updated == MANY


def with_probe(house: House) -> None:
    """It has shown that a bulk update leaves other custom fields alone: nobody is read first."""
    change(
        house.state,
        lambda state: state.set_meta("probe", {"bulk_custom_fields": "merge"}),
        clock=house.clock,
    )


@soon
def test_refused_creates_do_not_stand_for_updates(house: House) -> None:
    house.write(*people(40))
    house.sync()
    refuse_everybody(house)
    house.configure(custom_fields=SCORE["custom_fields"], empty="keep")
    house.account.refuse("p3@example.com", "Locked")
    house.write(*people(40, first="New"), *people(60, start=40, score=7))
    result = house.sync()
    assert (result.created, result.updated) == (0, 39)


# --- an answer without numbers that says it of all -----------------------------------------------------------------


@soon
def test_one_error_for_a_whole_batch_is_a_refusal_of_all(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`created: 0` and one message: nothing was done, and nobody needs to be read."""

    def bulk(store: Any, request: Request, item_id: str) -> Answer:
        answer = contacts.bulk(store, request, item_id)
        envelope = orjson.loads(answer.body)
        errors = envelope["data"]["errors"]
        if errors and not envelope["data"]["created"]:
            envelope["data"]["errors"] = [{"message": errors[0]["message"]}]
        answer.body = orjson.dumps(envelope)
        return answer

    monkeypatch.setitem(routes.ENDPOINTS[BULK], "POST", bulk)
    house.quirks(unknown_custom_fields="refuse")
    house.configure(**SCORE)
    house.write(*people(MANY, score=7))
    reads = house.sandbox.counts["GET", "/contacts"]
    result = house.sync()
    assert bulks(house) < REQUESTS_MAX
    assert (result.created, result.quarantined, house.in_flight()) == (0, MANY, 0)
    assert house.sandbox.counts["GET", "/contacts"] - reads < 10


# --- what is said -------------------------------------------------------------------------------------------------


@soon
def test_the_command_says_it(shell: Shell) -> None:
    shell.sandbox.account.quirks = shell.sandbox.quirks = shell.sandbox.quirks.__class__(
        bulk_errors="whole400", unknown_custom_fields="refuse"
    )
    shell.people(*((n, f"p{n}@example.com", "P", 7) for n in range(40)))
    said = shell.inside("sync")
    assert said.code == 3
    assert "40 people could not be delivered" in said.out
    assert "FluenzR gives everybody the same answer: " in said.out
    assert "score" in said.out
    assert "@" not in said.err
    assert "not tried alone" in shell.inside("quarantine", "list").out
