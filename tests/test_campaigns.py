"""`syncd campaigns`: made once, started once, nobody enrolled twice, and nobody beyond the guard."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import KEY, House, house_fixture, people, row  # noqa: F401 - a fixture
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import campaign_file, enrolment
from syncd import campaigns as engine
from syncd.campaigns import Creation
from syncd.core.model import GroupKind
from syncd.core.person import EMPTY, Person, why_not_enrolled
from syncd.enrolment import Choice, Enrolment
from syncd.errors import ConfigError, FluenzrError, UsageError
from syncd.fluenzr import FluenzR
from syncd.sandbox.faults import Act, Drop, Effect, Late
from syncd.sandbox.faults import Status as Broken
from syncd.watch import Nobody

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"
ENROL = "/campaigns/[^/]+/contacts"
FILE = """\
name = "Spring"
emailAccountId = "acc_1"
groups = ["Customers"]
start = true

[settings]
sendDays = ["monday", "tuesday"]
maxEmailsPerHour = 50
"""


@contextlib.contextmanager
def asking(house: House) -> Iterator[dict[str, Any]]:
    """What every command is given."""
    with FluenzR(KEY, base_url=house.sandbox.url, clock=house.clock) as api:
        yield {"api": api, "clock": house.clock, "watch": Nobody(), "wait_s": 0.0}


def enrol(
    house: House,
    name: str = "Q1",
    *,
    allow: int | None = None,
    dry_run: bool = False,
    **choice: Any,
) -> Enrolment:
    with asking(house) as given:
        found = Choice(**(choice or {"groups": ("Customers",)}))
        return enrolment.enrol(house.settings, name, found, allow=allow, dry_run=dry_run, **given)


def create(
    house: House, text: str = FILE, *, allow: int | None = None, dry_run: bool = False
) -> Creation:
    path = house.folder / "spring.toml"
    path.write_text(text)
    with asking(house) as given:
        file = campaign_file.load(path)
        return engine.create(house.settings, file, allow=allow, dry_run=dry_run, **given)


def customers(house: House, *emails: str, **options: Any) -> None:
    """These are in FluenzR, and in the group Customers."""
    with contextlib.suppress(KeyError):
        house.account.group("Customers")
    if "Customers" not in {group.name for group in house.account.groups.values()}:
        house.account.add_group("Customers")
    for email in emails:
        house.account.add_contact(email, groups=["Customers"], **options)


def campaigns(house: House) -> list[str]:
    return [campaign.status for campaign in house.account.campaigns.values()]


# enrolling


def test_a_group_is_enrolled_once_and_a_second_time_changes_nothing(house: House) -> None:
    customers(house, *(one["email"] for one in people(30)))
    house.account.add_campaign("Q1")
    first = enrol(house)
    assert (first.enrolled, first.eligible, first.skipped) == (30, 30, {})
    writes = house.sandbox.writes()
    again = enrol(house)
    assert (again.eligible, again.skipped) == (0, {"enrolled before": 30})
    assert (house.sandbox.writes(), len(house.mailed())) == (writes, 30)


def test_whoever_must_not_be_mailed_is_left_out_and_said(house: House) -> None:
    house.account.add_campaign("Q1")
    customers(house, ANN)
    customers(house, BOB, status="unsubscribed")
    customers(house, CAT, status="replied")
    house.configure(opted_out="out")
    house.write(row(1, "dan@example.com", out="yes"), row(2, "eve@example.com"))
    customers(house, "dan@example.com", "eve@example.com")
    house.sync()
    house.account.put_in("dan@example.com", "Customers")
    house.account.enrol_by_hand("eve@example.com", "Q1")
    result = enrol(house)
    assert result.skipped == {"opted out": 2, "replied": 1, "enrolled before": 1}
    assert (result.enrolled, house.mailed()) == (1, ["eve@example.com", ANN])


@pytest.mark.parametrize("never", ["", "!", "-", "x", "#", "?", "*", "~", "g7", "g8"])
@pytest.mark.parametrize("status", ["active", "", "unsubscribed", "replied", "odd"])
def test_the_reason_is_there_whenever_a_campaign_is_forbidden(never: str, status: str) -> None:
    marks = frozenset({never}) - {""}
    for blocked in (False, True):
        one = Person(
            1, ANN, "con_1", None, status, "ok", None, None, EMPTY, None, marks, 0, blocked
        )
        assert bool(why_not_enrolled(one, 7)) is not one.may_join(7, GroupKind.CAMPAIGN)


def test_people_are_named_by_address(house: House) -> None:
    house.account.add_campaign("Q1")
    customers(house, ANN, BOB)
    assert enrol(house, emails=(ANN,)).enrolled == 1
    assert house.account.enrolled("Q1") == {ANN}
    with pytest.raises(UsageError, match="no contact dan@"):
        enrol(house, emails=(BOB, "dan@example.com"))
    assert house.mailed() == [ANN]


@pytest.mark.parametrize(
    ("name", "groups", "says"),
    [
        ("Q2", ("Customers",), "no campaign 'Q2'"),
        ("Q1", ("Custommers",), "no group 'Custommers'"),
        ("Old", ("Customers",), "'Old' is archived"),
    ],
)
def test_what_is_not_there_is_said_and_nothing_is_sent(
    house: House, name: str, groups: tuple[str, ...], says: str
) -> None:
    house.account.add_campaign("Q1")
    house.account.add_campaign("Old", status="archived")
    customers(house, ANN)
    with pytest.raises(UsageError, match=says):
        enrol(house, name, groups=groups)
    assert house.sandbox.writes() == 0


def test_the_guard_holds_until_so_many_are_allowed(house: House) -> None:
    customers(house, *(one["email"] for one in people(6)))
    house.account.add_campaign("Q1")
    house.configure(guard={"max_enrolments": 5})
    held = enrol(house)
    assert held.held == (
        "6 people would be mailed by the campaign 'Q1'; the limit is 5 (max_enrolments)"
    )
    assert (held.mailed, house.sandbox.writes()) == (6, 0)
    assert enrol(house, allow=5).held
    assert enrol(house, allow=6).enrolled == 6


def test_a_rehearsal_says_who_and_leaves_no_trace(house: House) -> None:
    customers(house, ANN, BOB)
    house.account.add_campaign("Q1")
    house.write(row(1, CAT))
    house.sync()
    before = house.tables()
    result = enrol(house, dry_run=True)
    assert (result.eligible, result.enrolled) == (2, 0)
    assert (house.tables(), house.mailed()) == (before, [])


def test_a_sync_does_not_enrol_whom_a_command_has_enrolled(house: House) -> None:
    house.account.add_campaign("Q1")
    customers(house, ANN)
    enrol(house)
    house.configure(campaigns=["Q1"])
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    assert house.mailed() == [ANN]


def test_a_command_leaves_to_the_sync_what_is_the_syncs(house: House) -> None:
    """A stranger who was enrolled by hand and then comes by a source is adopted as ever."""
    house.account.add_campaign("Q1")
    customers(house, ANN)
    enrol(house)
    assert house.sync_all()[0].unchanged == 0
    house.configure(groups=["All"], on_removal="delete")
    house.write(row(1, ANN, first="Ann"))
    assert house.sync().updated == 1
    house.write(row(2, BOB))
    house.sync()
    assert ANN in house.everybody()  # never deleted: it was there before


@pytest.mark.parametrize(
    ("effect", "sent"),
    [
        (Drop(applied=True), 1),
        (Drop(applied=False), 1),
        (Broken(status=500, applied=True), 1),
        (Late(after_s=30.0), 1),
    ],
    ids=repr,
)
def test_a_lost_enrolment_is_looked_up_and_said(house: House, effect: Effect, sent: int) -> None:
    customers(house, ANN, BOB)
    house.account.add_campaign("Q1")
    house.fault(effect, "POST", ENROL, times=1)
    result = enrol(house)
    applied = effect != Drop(applied=False)
    assert result.enrolled == (2 if applied else 0)
    assert result.unsent == (0 if applied else 2)
    again = enrol(house)
    assert again.enrolled == (0 if applied else 2)
    assert sorted(house.mailed()) == [ANN, BOB]


def test_a_doubt_that_does_not_end_is_said_and_ended_by_the_next_run(house: House) -> None:
    customers(house, ANN)
    house.account.add_campaign("Q1")
    house.fault(Drop(applied=True), "POST", ENROL, times=1)
    house.fault(Broken(status=503, applied=False), "GET", ENROL, nth=range(2, 30))
    result = enrol(house)
    assert (result.doubtful, result.left) == (1, 1)
    house.faults.clear()
    house.later(minutes=10)
    house.sync()
    assert (house.in_flight(), house.mailed()) == (0, [ANN])
    assert enrol(house).skipped == {"enrolled before": 1}


# one file: create, add a group, start


def test_a_file_becomes_a_campaign_with_its_people_started(house: House) -> None:
    customers(house, ANN, BOB)
    result = create(house)
    assert (result.made, result.started, result.enrolment.enrolled) == (True, True, 2)
    campaign = house.account.campaign("Spring")
    assert (campaign.status, campaign.email_account_id) == ("active", "acc_1")
    assert campaign.settings == {"sendDays": ["monday", "tuesday"], "maxEmailsPerHour": 50}
    assert sorted(house.mailed()) == [ANN, BOB]
    writes = house.sandbox.writes()
    again = create(house)
    assert (again.made, again.started, again.enrolment.enrolled) == (False, False, 0)
    assert (house.sandbox.writes(), len(house.account.campaigns)) == (writes, 1)


def test_a_draft_is_left_a_draft(house: House) -> None:
    customers(house, ANN)
    create(house, FILE.replace("start = true", ""))
    assert (campaigns(house), house.mailed()) == (["draft"], [])
    result = create(house)  # started later, by the same file
    assert (result.made, result.started, house.mailed()) == (False, True, [ANN])


def test_a_campaign_that_was_paused_by_hand_stays_paused(house: House) -> None:
    customers(house, ANN)
    create(house)
    house.account.campaign("Spring").status = "paused"
    assert create(house).started is False
    assert campaigns(house) == ["paused"]


def test_an_ended_campaign_is_not_made_anew(house: House) -> None:
    customers(house, ANN)
    house.account.add_campaign("Spring", status="completed")
    with pytest.raises(UsageError, match="would mail its people a second time"):
        create(house)
    assert house.sandbox.writes() == 0


def test_a_held_file_makes_nothing(house: House) -> None:
    customers(house, *(one["email"] for one in people(6)))
    house.configure(guard={"max_enrolments": 5})
    result = create(house)
    assert (
        "6 people would be mailed by the campaign 'Spring', which would be started"
        in result.enrolment.held
    )
    assert (house.account.campaigns, house.sandbox.writes()) == ({}, 0)
    assert create(house, allow=6).enrolment.enrolled == 6


def test_who_waits_in_a_draft_counts_where_it_is_started(house: House) -> None:
    house.configure(guard={"max_enrolments": 5})
    house.account.add_campaign("Spring", status="draft")
    customers(house, *(one["email"] for one in people(6)))
    for one in people(6)[:4]:
        house.account.enrol_by_hand(one["email"], "Spring")
    result = create(house)
    assert result.enrolment.mailed == 6
    assert result.enrolment.held
    assert house.mailed() == []


LOST = [
    (Drop(applied=True), 1),
    (Drop(applied=False), 0),
    (Broken(status=500, applied=True), 1),
    (Broken(status=500, applied=False), 0),
    (Late(after_s=60.0), 1),
]


@pytest.mark.parametrize(("effect", "made"), LOST, ids=repr)
def test_a_lost_create_is_looked_up_by_name_and_never_made_twice(
    house: House, effect: Effect, made: int
) -> None:
    customers(house, ANN)
    house.fault(effect, "POST", "/campaigns", times=1)
    if made:
        assert create(house).started is True
    else:
        with pytest.raises(FluenzrError, match="It is not there: run the command again"):
            create(house)
        assert house.account.campaigns == {}
    create(house)
    assert (campaigns(house), house.mailed()) == (["active"], [ANN])


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("late_s", [None, 60.0])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/campaigns"), ("POST", ENROL), ("POST", "/campaigns/[^/]+/start")],
)
def test_a_command_that_dies_anywhere_is_simply_run_again(
    house: House, monkeypatch: pytest.MonkeyPatch, method: str, path: str, late_s: float | None
) -> None:
    """The request is sent, or comes late, and the process dies before it has an answer."""
    customers(house, ANN, BOB)
    effect: Effect = Drop(applied=True) if late_s is None else Late(after_s=late_s)
    house.fault(effect, method, path, times=1)

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(house.clock, "sleep_s", die)  # whatever would be waited for
        with contextlib.suppress(Died, FluenzrError):
            create(house)
    create(house)
    assert (campaigns(house), sorted(house.mailed())) == (["active"], [ANN, BOB])


def test_a_name_that_is_taken_meanwhile_is_used(house: House) -> None:
    customers(house, ANN)
    house.quirks(campaign_names="unique")

    def somebody() -> None:
        house.account.add_campaign("Spring", status="draft")

    house.fault(Act(action=somebody), "POST", "/campaigns", times=1)
    assert create(house).started is True
    assert campaigns(house) == ["active"]


@pytest.mark.parametrize("answer", ["campaign", "status", "nothing"])
def test_starting_works_whatever_it_answers(house: House, answer: str) -> None:
    house.quirks(campaign_answer=answer)
    customers(house, ANN)
    assert create(house).started is True
    assert house.mailed() == [ANN]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("maxEmailsPerHour", "maxEmailPerHour", 'did you mean "maxEmailsPerHour"'),
        ('name = "Spring"', "", "name: is missing"),
        ("start = true", 'start = "yes"', "start: true or false expected"),
        ("[settings]", "[setings]", 'did you mean "settings"'),
        ("= 50", "= 0", "a number of at least 1 expected"),
        ("= true", "= tru", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    path = tmp_path / "spring.toml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        campaign_file.load(path)
    assert says in str(caught.value)


# starting, pausing, resuming


def step(house: House, name: str, what: str, *, allow: int | None = None) -> engine.Step:
    with asking(house) as given:
        return engine.step(house.settings, name, what, allow=allow, api=given["api"])


def test_a_campaign_is_started_paused_and_resumed_and_twice_is_once(house: House) -> None:
    customers(house, ANN)
    house.account.add_campaign("Q1", status="draft")
    house.account.enrol_by_hand(ANN, "Q1")
    for what, status in (("start", "active"), ("pause", "paused"), ("resume", "active")):
        assert (step(house, "Q1", what).done, campaigns(house)) == (True, [status])
        assert step(house, "Q1", what).done is False
    assert house.mailed() == [ANN]
    house.account.campaign("Q1").status = "paused"
    with pytest.raises(UsageError, match="is paused: it cannot be started") as caught:
        step(house, "Q1", "start")
    assert "syncd campaigns resume" in str(caught.value)


@pytest.mark.parametrize("listing", [True, False])
def test_starting_is_held_where_too_many_wait(house: House, listing: bool) -> None:
    if not listing:
        house.quirks(absent=frozenset({"GET /campaigns/:id/contacts"}))
    house.configure(guard={"max_enrolments": 2})
    customers(house, ANN, BOB, CAT)
    house.account.add_campaign("Q1", status="draft")
    for email in (ANN, BOB, CAT):
        house.account.enrol_by_hand(email, "Q1")
    held = step(house, "Q1", "start")
    assert held.held == (
        "3 people are in the campaign 'Q1' and would be mailed; the limit is 2 (max_enrolments)"
    )
    assert house.mailed() == []
    assert step(house, "Q1", "start", allow=3).done is True
    assert len(house.mailed()) == 3


@pytest.mark.parametrize(
    "effect", [Drop(applied=True), Drop(applied=False), Broken(status=503, applied=True)], ids=repr
)
def test_a_lost_start_is_found_out(house: House, effect: Effect) -> None:
    house.account.add_campaign("Q1", status="draft")
    house.fault(effect, "POST", "/campaigns/[^/]+/start", times=1)
    assert step(house, "Q1", "start").done is True
    assert campaigns(house) == ["active"]


# the command itself


def test_the_commands_speak_and_their_exit_codes_tell(shell: Shell) -> None:
    shell.account.add_group("Customers")
    for number in range(6):
        shell.account.add_contact(f"p{number}@example.com", groups=["Customers"])
    shell.configure(max_enrolments=5)
    shell.write("spring.toml", FILE)
    held = shell.inside("campaigns", "create", "spring.toml")
    assert held.code == 4
    assert "Next: syncd campaigns create spring.toml --allow 6" in held.out
    assert shell.account.campaigns == {}
    (made,) = shell.inside("campaigns", "create", "spring.toml", "--allow", "6", "--json").objects
    assert (made["created"], made["started"], made["enrolled"]) == (True, True, 6)
    said = shell.inside("campaigns", "create", "spring.toml")
    assert (said.code, "is there already" in said.out) == (0, True)
    (listed,) = shell.inside("campaigns", "list", "--json").objects
    assert (listed["name"], listed["stats"]["sent"]) == ("Spring", 6)
    assert "Spring" in shell.inside("campaigns", "list", "--status", "active").out
    assert "no such campaigns" in shell.inside("campaigns", "list", "--status", "draft").out
    shown = shell.inside("campaigns", "show", "spring").out
    assert "maxEmailsPerHour 50" in shown
    assert "sent: 6" in shown
    assert shell.inside("campaigns", "pause", "Spring").out == "Spring: paused\n"
    assert shell.inside("campaigns", "pause", "Spring").out == "Spring is paused already\n"
    resumed = shell.inside("campaigns", "resume", "Spring")
    assert (resumed.code, "syncd campaigns resume Spring --allow 6" in resumed.out) == (4, True)
    assert shell.inside("campaigns", "resume", "Spring", "--allow", "6").code == 0
    assert shell.inside("campaigns", "show", "Winter").code == 2


def test_enrolling_speaks_and_its_exit_code_tells(shell: Shell) -> None:
    shell.account.add_group("Big Customers")
    for number in range(6):
        shell.account.add_contact(f"p{number}@example.com", groups=["Big Customers"])
    shell.account.add_campaign("Q1")
    words = ("campaigns", "enrol", "Q1", "--group", "Big Customers")
    dry = shell.inside(*words, "--dry-run")
    assert (dry.code, shell.account.mailed()) == (0, [])
    assert "6 people to be enrolled in Q1, and mailed by it" in dry.out
    shell.configure(max_enrolments=5)
    held = shell.inside(*words)
    assert held.code == 4
    assert "syncd campaigns enrol Q1 --group 'Big Customers' --allow 6" in held.out
    done = shell.inside(*words, "--allow", "6")
    assert (done.code, "6 people enrolled" in done.out) == (0, True)
    (again,) = shell.inside(*words, "--json").objects
    assert (again["enrolled"], again["skipped"]) == (0, {"enrolled before": 6})
    assert shell.inside("campaigns", "enrol", "Q1").code == 2
    assert shell.inside("campaigns", "enrol", "Q1", "--email", "nobody").code == 2
    assert "(enrol)" in shell.inside("history").out


def test_each_command_has_help_with_an_example(shell: Shell) -> None:
    for name in ("list", "show", "create", "start", "pause", "resume", "enrol"):
        assert "Example:  syncd campaigns" in shell.inside("campaigns", name, "--help").out
