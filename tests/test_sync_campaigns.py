"""Campaigns that a sync enrols people in: each person once ever, nobody by mistake, whatever gets lost."""

from typing import Any

import pytest
from house import KEY, House, house_fixture, ids, people, row  # noqa: F401 - a fixture

from syncd import undo
from syncd.core.change import ChangeKind
from syncd.core.result import Status
from syncd.fluenzr import FluenzR
from syncd.sandbox.faults import Act, Drop, Late
from syncd.sandbox.faults import Status as Broken
from syncd.state import dossier, story
from syncd.watch import Nobody

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"
ENROL = "/campaigns/[^/]+/contacts"
MEMBERS = "GET /campaigns/:id/contacts"


def given(house: House, *rows: dict[str, str], status: str = "active", **options: Any) -> None:
    """The campaign Q1 is there, and these people are in the source."""
    house.account.add_campaign("Q1", status=status)
    house.configure(**{"campaigns": ["Q1"], **options})
    house.write(*rows)


def enrolments(house: House) -> int:
    return sum(
        method == "POST" and path.endswith("/contacts") and path.startswith("/campaigns/")
        for method, path in house.writes()
    )


def person(house: House, email: str) -> dossier.Person:
    with story.reading(house.state) as db:
        assert db is not None
        return dossier.person(db, email, ["people"])


# once ever


def test_new_people_are_created_then_enrolled_and_a_second_run_sends_nothing(house: House) -> None:
    given(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    result = house.sync()
    assert (result.created, result.enrolled, result.status) == (2, 2, Status.OK)
    assert house.account.enrolled("Q1") == {ANN, BOB}
    assert sorted(house.mailed()) == [ANN, BOB]
    writes = house.sandbox.writes()
    again = house.sync()
    assert (again.unchanged, again.enrolled, house.sandbox.writes()) == (2, 0, writes)


def test_many_new_people_cost_a_few_listings_and_one_enrolment(house: House) -> None:
    given(house, *people(250))
    house.configure(campaigns=["Q1"], guard={"max_enrolments": 1000})
    result = house.sync()
    assert (result.enrolled, len(house.account.enrolled("Q1"))) == (250, 250)
    assert enrolments(house) == 1
    assert house.sandbox.counts["GET", "/contacts/:id"] == 0
    assert result.requests < 20


def test_whoever_left_and_came_back_is_not_enrolled_again(house: House) -> None:
    given(house, *people(12), on_removal="ungroup")
    house.sync()
    house.write(*people(12)[1:])
    result = house.sync()
    assert "p0@example.com" in house.account.enrolled("Q1")  # a removal takes nobody out
    assert (result.removed, result.gone) == (0, 1)
    house.write(*people(12))
    house.sync()
    assert len(house.mailed()) == 12


def test_whoever_was_taken_out_by_hand_is_not_enrolled_again(house: House) -> None:
    given(house, row(1, ANN))
    house.sync()
    house.account.campaign("Q1").members.clear()
    house.write(row(1, ANN, first="Anna"))
    house.sync()
    assert (house.account.enrolled("Q1"), house.mailed()) == (set(), [ANN])


def test_another_record_of_the_same_person_does_not_enrol_again(house: House) -> None:
    given(house, row(1, ANN))
    house.sync()
    house.write(row(2, ANN, first="Ann"))
    house.sync()
    assert house.mailed() == [ANN]


def test_a_campaign_that_got_another_name_is_the_same(house: House) -> None:
    given(house, row(1, ANN))
    house.sync()
    house.account.campaign("Q1").name = "Spring"
    house.write(row(1, ANN), row(2, BOB))
    house.sync()
    assert sorted(house.mailed()) == [ANN, BOB]
    assert house.account.enrolled("Spring") == {ANN, BOB}


def test_a_condition_that_comes_and_goes_enrols_once(house: House) -> None:
    given(house, row(1, ANN, score=1), campaigns=[{"name": "Q1", "when": "score|int > 5"}])
    for score, enrolled in ((1, 0), (6, 1), (4, 0), (7, 0)):
        house.write(row(1, ANN, score=score))
        assert house.sync().enrolled == enrolled
    assert house.mailed() == [ANN]


def test_several_campaigns_each_mail_once(house: House) -> None:
    names = [f"C{number}" for number in range(7)]
    for name in names:
        house.account.add_campaign(name)
    house.configure(campaigns=names)
    house.write(row(1, ANN), row(2, BOB))
    assert house.sync().enrolled == 2  # people, and not enrolments
    assert len(house.mailed()) == 14
    assert all(house.account.enrolled(name) == {ANN, BOB} for name in names)
    assert house.sync().unchanged == 2


def test_fields_are_there_before_the_mail_that_uses_them(house: House) -> None:
    given(house, row(1, ANN, first="Anna", score=6), campaigns=[])
    house.sync()
    house.configure(campaigns=["Q1"])
    house.write(row(1, ANN, first="Ann"))
    seen: list[str] = []
    house.fault(
        Act(action=lambda: seen.append(house.account.contact(ANN)["firstName"])), "POST", ENROL
    )
    house.sync()
    assert (seen, house.mailed()) == (["Ann"], [ANN])


# nobody by mistake


@pytest.mark.parametrize("status", ["unsubscribed", "bounced", "blocked", "replied"])
def test_who_opted_out_or_replied_is_not_enrolled(house: House, status: str) -> None:
    given(house, row(1, ANN, first="Ann"), row(2, BOB))
    house.account.add_contact(ANN, status=status)
    assert house.sync().enrolled == 1
    assert house.account.enrolled("Q1") == {BOB}
    assert enrolments(house) == 1


def test_who_opts_out_after_the_refresh_is_seen_by_the_fresh_read(house: House) -> None:
    given(house, row(1, ANN), campaigns=[])
    house.sync()
    house.configure(campaigns=["Q1"])
    house.fault(Act(action=lambda: house.account.opt_out(ANN)), "GET", "/contacts", nth={4})
    house.sync()
    assert (enrolments(house), house.mailed()) == (0, [])


def test_an_opt_out_of_the_source_takes_out_of_the_campaign(house: House) -> None:
    given(house, row(1, ANN), opted_out="out")
    house.sync()
    house.write(row(1, ANN, out="yes"))
    house.sync()
    assert house.account.enrolled("Q1") == set()
    house.write(row(1, ANN))
    house.sync()
    assert (house.account.enrolled("Q1"), house.mailed()) == (set(), [ANN])


def test_a_guard_counts_who_would_be_mailed_and_holds_them(house: House) -> None:
    given(house, *people(3))
    house.configure(campaigns=["Q1"], guard={"max_enrolments": 2})
    plan, changes = house.plan()
    assert (plan.enrol, plan.enrol_by_group) == (3, {"Q1": 3})
    assert {change.campaigns for change in changes} == {("Q1",)}
    result = house.sync()
    assert result.status is Status.HELD
    assert result.trips == [
        "3 people would join 'Q1' and be mailed; the limit is 2 (max_enrolments)"
    ]
    assert house.everybody() == set()
    house.approve(result.run)
    assert house.sync().enrolled == 3
    assert len(house.mailed()) == 3


def test_a_plan_shows_an_enrolment_alone_as_a_change(house: House) -> None:
    given(house, row(1, ANN), campaigns=[])
    house.sync()
    house.configure(campaigns=["Q1"])
    plan, (change,) = house.plan()
    assert (plan.group, plan.enrol) == (1, 1)
    assert (change.kind, change.campaigns, change.groups.add) == (ChangeKind.GROUP, ("Q1",), ())
    assert change.contract()["campaigns"] == {"add": ["Q1"], "remove": []}


@pytest.mark.parametrize("members", ["contact", "contact_id", "nested", "id"])
def test_who_was_in_the_campaign_before_is_neither_counted_nor_mailed(
    house: House, members: str
) -> None:
    house.quirks(members=members)
    given(house, *people(150))
    for one in people(150):
        house.account.add_contact(one["email"])
        if one["email"] != "p0@example.com":
            house.account.enrol_by_hand(one["email"], "Q1")
    before = house.mailed()
    assert house.sync().status is Status.OK  # one new, where 100 are allowed
    assert house.mailed()[len(before) :] == ["p0@example.com"]


@pytest.mark.parametrize("skips", ["skipped", "errors"])
@pytest.mark.parametrize("errors", ["contact_id", "email", "message"])
def test_who_was_added_by_hand_meanwhile_is_not_counted_as_enrolled(
    house: House, skips: str, errors: str
) -> None:
    house.quirks(enrol_skips=skips, enrol_errors=errors)
    given(house, row(1, ANN))
    house.sync()
    house.account.add_contact(BOB)
    house.account.enrol_by_hand(BOB, "Q1")
    house.write(row(1, ANN), row(2, BOB), row(3, CAT))
    result = house.sync()
    assert result.enrolled == 1
    assert house.account.enrolled("Q1") == {ANN, BOB, CAT}
    assert sorted(house.mailed()) == [ANN, BOB, CAT]
    assert house.sync().unchanged == 3


# campaigns that are not there, or not any more


def test_a_campaign_that_is_not_there_stops_the_sync_that_names_it(house: House) -> None:
    house.account.add_campaign("Q1")
    house.configure(syncs={"crm": {"campaigns": ["Q2"]}, "shop": {}})
    house.write(row(1, ANN), source="crm")
    house.write(row(1, BOB), source="shop")
    crm, shop = house.sync_all()
    assert (crm.status, shop.status) == (Status.FAILED, Status.OK)
    assert crm.error is not None
    assert "sync.crm.campaigns: FluenzR has no campaign 'Q2'" in crm.error
    assert 'Did you mean "Q1"' in crm.error or "Q1" in crm.error
    assert house.everybody() == {BOB}
    assert house.account.campaigns.keys() == {house.account.campaign("Q1").id}


def test_two_campaigns_of_one_name_are_told_apart_by_id(house: House) -> None:
    given(house, row(1, ANN))
    other = house.account.add_campaign("Q1")
    result = house.sync()
    assert result.status is Status.FAILED
    assert result.error is not None
    assert "2 campaigns named 'Q1'" in result.error
    house.configure(campaigns=[other.id])
    assert house.sync().enrolled == 1
    assert other.members


@pytest.mark.parametrize("status", ["completed", "archived"])
def test_an_ended_campaign_takes_nobody_and_stops_nothing(house: House, status: str) -> None:
    given(house, row(1, ANN), status=status)
    assert house.sync().status is Status.OK
    assert (house.everybody(), enrolments(house)) == ({ANN}, 0)
    # Should it take people again, they are new to the guards.
    house.account.campaign("Q1").status = "active"
    house.configure(campaigns=["Q1"], guard={"max_enrolments": 0})
    house.write(row(1, ANN, first="Ann"))
    assert house.sync().status is Status.HELD


def test_a_new_campaign_of_an_archived_name_is_another_one(house: House) -> None:
    given(house, row(1, ANN))
    house.sync()
    house.account.campaign("Q1").status = "archived"
    house.account.add_campaign("Q1")
    house.write(row(1, ANN, first="Ann"))
    plan, _ = house.plan()
    assert plan.enrol == 1  # shown, and for the guards to judge
    house.sync()
    assert house.mailed() == [ANN, ANN]


def test_a_campaign_that_ends_just_before_takes_nobody(house: House) -> None:
    given(house, *people(40))

    def archive() -> None:
        house.account.campaign("Q1").status = "archived"

    house.fault(Act(action=archive), "POST", ENROL, nth={1})
    result = house.sync()
    assert (result.status, result.enrolled, enrolments(house)) == (Status.OK, 0, 1)
    assert house.mailed() == []


def test_a_draft_enrols_and_mails_when_it_starts(house: House) -> None:
    given(house, row(1, ANN), status="draft")
    assert house.sync().enrolled == 1
    assert (house.account.enrolled("Q1"), house.mailed()) == ({ANN}, [])


# what gets lost


@pytest.mark.parametrize("members", ["contact", "contact_id", "nested", "id"])
@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_answer_is_looked_up_and_nobody_is_mailed_twice(
    house: House, applied: bool, members: str
) -> None:
    house.quirks(members=members)
    given(house, *people(30))
    house.fault(Drop(applied=applied), "POST", ENROL, times=1)
    result = house.sync()
    assert len(house.account.enrolled("Q1")) == 30
    assert (len(house.mailed()), result.enrolled, result.status) == (30, 30, Status.OK)
    assert enrolments(house) == (1 if applied else 2)


def test_a_late_enrolment_is_waited_for(house: House) -> None:
    given(house, row(1, ANN))
    house.fault(Late(after_s=60.0), "POST", ENROL, times=1)
    assert house.sync().enrolled == 1
    assert (enrolments(house), house.mailed()) == (1, [ANN])


@pytest.mark.parametrize("applied", [True, False])
def test_where_nobody_can_tell_an_enrolment_is_never_sent_again(
    house: House, applied: bool
) -> None:
    house.quirks(absent=frozenset({MEMBERS}))
    given(house, row(1, ANN))
    house.fault(Drop(applied=applied), "POST", ENROL, times=1)
    house.sync()
    house.sync()
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    assert enrolments(house) == 1
    assert house.mailed() == ([ANN] if applied else [])


@pytest.mark.parametrize("skips", ["skipped", "errors"])
def test_without_a_listing_of_members_the_numbers_decide(house: House, skips: str) -> None:
    house.quirks(absent=frozenset({MEMBERS}), enrol_skips=skips)
    given(house, row(1, ANN), row(2, BOB))
    for email in (ANN, BOB):
        house.account.add_contact(email)
    house.account.enrol_by_hand(BOB, "Q1")
    result = house.sync()
    assert result.enrolled == 1
    assert sorted(house.mailed()) == [ANN, BOB]
    house.later(days=2)
    house.sync()
    assert sorted(house.mailed()) == [ANN, BOB]


def test_a_listing_that_fails_leaves_the_doubt_for_the_next_run(house: House) -> None:
    given(house, row(1, ANN))
    house.sync()
    house.write(row(1, ANN), row(2, BOB))
    house.fault(Drop(applied=True), "POST", ENROL, times=1)
    house.fault(Broken(status=503, applied=False), "GET", ENROL)
    assert house.sync().status is Status.PARTIAL
    assert house.in_flight() == 1
    house.faults.clear()
    house.later(minutes=10)
    assert house.sync().status is Status.OK
    assert (house.in_flight(), house.mailed()) == (0, [ANN, BOB])


def test_a_run_that_dies_after_the_mark_sends_nothing_twice(house: House) -> None:
    given(house, row(1, ANN))
    house.fault(Drop(applied=True), "POST", ENROL, times=1)
    house.killed_at("settle")
    assert house.in_flight() == 1
    house.later(minutes=10)
    assert house.sync().status is Status.OK
    assert (enrolments(house), house.mailed()) == (1, [ANN])


def test_who_was_deleted_while_the_answer_was_lost_is_not_enrolled_again(house: House) -> None:
    given(house, row(1, ANN))
    house.fault(Drop(applied=True), "POST", ENROL, times=1)
    house.killed_at("settle")
    house.account.remove(ANN)
    house.later(minutes=10)
    house.sync()
    house.account.add_contact(ANN)
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    assert enrolments(house) == 1


def test_answers_whose_numbers_do_not_fit_are_not_believed(house: House) -> None:
    given(house, row(1, ANN), row(2, BOB))

    # One vanishes and comes back while the answer is made: it counts one instead of two.
    def vanish() -> None:
        house.account.remove(BOB)

    house.quirks(enrol_errors="message")
    house.fault(Act(action=vanish), "POST", ENROL, times=1)
    house.sync()
    assert house.mailed() == [ANN]
    assert house.account.enrolled("Q1") == {ANN}


def test_who_is_refused_waits_with_the_reason(house: House) -> None:
    house.quirks(enrol_skips="errors")
    given(house, row(1, ANN), row(2, BOB))

    def bounce() -> None:
        house.account.opt_out(BOB, status="bounced")

    house.fault(Act(action=bounce), "POST", ENROL, times=1)
    result = house.sync()
    assert (result.enrolled, result.status) == (1, Status.PARTIAL)
    assert house.known(BOB)["err"] == "Cannot be enrolled"
    house.later(days=1)
    house.sync()
    assert house.mailed() == [ANN]


# what is told


def test_why_and_history_tell_of_campaigns(house: House) -> None:
    given(house, row(1, ANN))
    house.sync()
    found = person(house, ANN)
    (campaign,) = found.campaigns
    assert (campaign.name, campaign.kind, campaign.by) == ("Q1", "campaign", ["people"])
    assert (campaign.wanted, campaign.there, found.groups) == (True, True, [])
    assert "p:Q1" in found.never
    assert found.changes[-1].detail["campaigns"] == {"add": ["Q1"], "remove": []}


def test_undo_tells_who_was_mailed_by_a_campaign(house: House) -> None:
    given(house, row(1, ANN), campaigns=[])
    house.sync()
    house.configure(campaigns=["Q1"])
    number = house.sync(full=True).run
    told: list[Any] = []
    with FluenzR(KEY, base_url=house.sandbox.url, clock=house.clock) as api:
        undo.undo(
            house.settings,
            number,
            api=api,
            clock=house.clock,
            watch=Nobody(),
            show=told.append,
            wait_s=0.0,
        )
    assert [(one.email, one.reason.value) for one in told] == [(ANN, "mailed")]
    assert "Q1" in told[0].what
    assert ids(house)
