"""EspoCRM against its double: what an incremental read sees. The numbers are those of what a real server answered."""

from typing import Any

import pytest
from doubles.espocrm import ME, EspoCrm
from doubles.server import Told
from espocrm_reads import OUT, crm, cursor, fields, keys, read

from syncd.connector import Event, Merged, Record, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError

__all__ = ["crm"]  # the fixture


def resync(events: list[Event]) -> bool:
    return any(isinstance(event, Resync) for event in events)


def gone(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Tombstone)]


def test_only_what_was_changed_is_read_and_the_overlap_again(crm: EspoCrm) -> None:
    first = read(crm)
    crm.put("Contact", "c", firstName="New")
    second = read(crm, cursor(first), "firstName")
    assert keys(second) == ["c", "e"]  # e was the latest
    crm.clock.advance_s(290)
    crm.put("Contact", "a", firstName="Newer")
    crm.clock.advance_s(60)
    third = read(crm, cursor(second), "firstName")
    assert keys(third) == ["a", "c"]  # c is within the overlap
    crm.clock.advance_s(3600)
    fourth = read(crm, cursor(third), "firstName")
    assert keys(fourth) == ["a", "c"]
    assert cursor(fourth) == cursor(third)


def test_a_row_that_became_visible_late_is_within_the_overlap(crm: EspoCrm) -> None:
    """A transaction writes its time first, and shows its rows when it ends."""
    first = read(crm)
    before = crm.now()
    crm.clock.advance_s(120)
    crm.put("Contact", "d", firstName="Later")
    second = read(crm, cursor(first), "firstName")
    crm.put("Contact", "b", firstName="Long under way")
    crm.tables["Contact"]["b"]["modifiedAt"] = before
    assert "b" in keys(read(crm, cursor(second), "firstName"))


def test_the_first_second_of_the_overlap_belongs_to_it(crm: EspoCrm) -> None:
    """11: greaterThan leaves out the same second."""
    crm.put("Contact", "a", firstName="Exactly")
    first = read(crm)
    crm.clock.advance_s(300)
    crm.put("Contact", "b", firstName="Five minutes later")
    second = read(crm, cursor(first), "firstName")
    assert keys(read(crm, cursor(second), "firstName")) == ["a", "b"]


def test_rows_that_change_between_pages_are_neither_lost_nor_doubled(crm: EspoCrm) -> None:
    """12: an offset on `modifiedAt` lost a row."""
    everybody = [f"{number:017x}" for number in range(500)]
    for key in everybody:
        crm.put("Contact", key, f"{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in everybody:
        crm.put("Contact", key, firstName="New")  # all at one second

    def touch(asked: Any) -> None:
        if asked.path.endswith("/Contact"):
            crm.clock.advance_s(2)
            for key in (everybody[0], everybody[250], everybody[499]):
                crm.put("Contact", key, firstName="Newer")

    crm.before_answer = touch
    second = read(crm, cursor(first), "firstName")
    crm.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second)))
    crm.clock.advance_s(60)
    third = read(crm, cursor(second), "firstName")
    shown = {e.key: e.fields["firstName"] for e in [*second, *third] if isinstance(e, Record)}
    assert set(shown) >= set(everybody)
    assert [shown[everybody[n]] for n in (0, 250, 499)] == ["Newer"] * 3


@pytest.mark.parametrize("value", ["condition lost", "no time"])
def test_a_condition_that_is_not_kept_is_no_read(crm: EspoCrm, value: str) -> None:
    """11: a time that makes no sense is accepted, and everything comes."""
    first = read(crm)
    if value == "no time":
        row = {"id": "a", "modifiedAt": None, "firstName": "Pa"}
        crm.faults = [None, None, Told(200, {"list": [row], "total": -2})]
    else:
        crm.ignores = "modifiedAt"
    with pytest.raises(SourceError, match="have not changed since"):
        read(crm, cursor(first), "firstName")


def test_the_vendors_clock_counts_and_not_its_other_header(crm: EspoCrm) -> None:
    """19: X-App-Timestamp is another time. A row of the future must not carry the cursor along."""
    answer = crm.answer

    def stamped(asked: Any) -> Told:
        told = answer(asked)
        told.headers["X-App-Timestamp"] = "4102444800"
        return told

    crm.answer = stamped  # type: ignore[method-assign]
    crm.put("Contact", "a", firstName="Later")
    crm.tables["Contact"]["a"]["modifiedAt"] = "2099-01-01 00:00:00"
    first = read(crm)
    crm.clock.advance_s(60)
    crm.put("Contact", "b", firstName="New")
    assert "b" in keys(read(crm, cursor(first), "firstName"))


# Opt-outs


@pytest.mark.parametrize("late", [False, True])
def test_an_opt_out_through_another_record_or_a_mail_is_seen(crm: EspoCrm, late: bool) -> None:
    """2: it belongs to the address; the person's own time stays. It comes in each read, first of all."""
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.opt_out("b@example.com")
    second = read(crm, cursor(first))
    if late:
        second = read(crm, cursor(second))
    assert keys(second)[0] == "b"
    assert fields(second, "b")[OUT] is True
    crm.put("Contact", "b", firstName="Changed besides")
    assert keys(read(crm, cursor(second))).count("b") == 1


def test_an_opt_out_that_espocrm_took_back_is_no_news(crm: EspoCrm) -> None:
    """3: a lead with the same address makes it "not opted out" for everybody. That it stays opted out is the engine's part."""
    crm.opt_out("b@example.com")
    first = read(crm)
    assert fields(first, "b")[OUT] is True
    crm.clock.advance_s(3600)
    crm.put("Lead", "x", "b@example.com")
    assert "b" not in keys(read(crm, cursor(first)))
    assert fields(read(crm), "b")[OUT] is False


def test_opt_outs_of_leads_are_read_too(crm: EspoCrm) -> None:
    crm.put("Lead", "a", "lead@example.com")
    options = {"entities": ["Contact", "Lead"]}
    first = read(crm, **options)
    crm.clock.advance_s(3600)
    crm.opt_out("lead@example.com")
    second = read(crm, cursor(first), **options)
    assert fields(second, "Lead:a")[OUT] is True


def test_a_further_address_that_was_opted_out_elsewhere_is_found(crm: EspoCrm) -> None:
    """1, 2: as an account's first address, as another contact's further one, and as that one's further one."""
    crm.put("Contact", "a", "a@example.com", "shared@example.com")
    crm.put("Contact", "b", "b@example.com", "Firm@example.com")
    crm.put("Contact", "c", "c@example.com", "firm@example.com", "far@example.com")
    crm.put("Contact", "d", "d@example.com", "shared@example.com")
    crm.put("Contact", "e", "e@example.com", "far@example.com")
    crm.put("Account", "x", "firm@example.com")
    crm.clock.advance_s(3600)
    crm.put("Contact", "f", "f@example.com")  # the overlap has nobody else
    first = read(crm, emails="all")
    crm.clock.advance_s(3600)
    crm.opt_out("firm@example.com")
    crm.opt_out("far@example.com")
    crm.opt_out("shared@example.com", "Contact", "a")
    second = read(crm, cursor(first), emails="all")
    assert len(keys(second)) == len(set(keys(second)))
    out = {
        (e.key[0], e.fields["emailAddress"])
        for e in second
        if isinstance(e, Record) and e.fields[OUT]
    }
    assert out == {
        ("a", "shared@example.com"), ("d", "shared@example.com"), ("b", "Firm@example.com"),
        ("c", "firm@example.com"), ("c", "far@example.com"), ("e", "far@example.com"),
    }  # fmt: skip
    data = read(crm, cursor(first), "emailAddressData")  # which may be what opts out, too
    assert {key for key in keys(data) if "#" not in key} == {"a", "b", "c", "d", "e", "f"}
    crm.denied = {"Account", "Lead"}  # what may not be read is left to the full read
    assert keys(read(crm, cursor(first), emails="all"))


def test_conditions_with_long_addresses_fit_into_a_url(crm: EspoCrm) -> None:
    for number in range(60):
        crm.put("Contact", f"n{number}", f"n{number}.{'long' * 50}@example.com")
        crm.opt_out(f"n{number}.{'long' * 50}@example.com")
    first = read(crm, emails="all")
    crm.asked.clear()
    read(crm, cursor(first), emails="all")
    sizes = [sum(len(n) + len(v) for n, v in one.query.items()) for one in crm.asked]
    assert max(sizes) < 4_500
    assert sum("emailAddress" in one.query.values() for one in crm.asked) == 5


# What else does not change a person


def test_a_renamed_account_brings_its_contacts(crm: EspoCrm) -> None:
    """15: `accountName` changes, `modifiedAt` does not."""
    crm.put("Account", "x1", name="Old")
    crm.put("Contact", "b", accountId="x1")
    crm.put("Contact", "d", accountId="x1")
    crm.clock.advance_s(3600)
    crm.put("Contact", "a", firstName="The latest")
    first = read(crm, None, "_company")
    crm.clock.advance_s(3600)
    crm.put("Account", "x1", name="New")
    second = read(crm, cursor(first), "_company")
    assert [fields(second, key)["_company"]["name"] for key in "bd"] == ["New", "New"]
    assert len(keys(second)) == len(set(keys(second)))
    assert fields(read(crm, cursor(first), "accountName"), "b") == {"accountName": "New"}
    crm.denied = {"Account"}
    assert "b" not in keys(read(crm, cursor(first), "accountName", "firstName"))
    with pytest.raises(SourceDenied, match="Account"):
        read(crm, cursor(first), "_company")


def test_target_lists_are_read_whole_and_their_opt_outs_with_them(crm: EspoCrm) -> None:
    """16: the flag is right in the listing of the members only."""
    crm.list_up("l1", "News", "Contact", a=False, b=True)
    crm.list_up("l2", "Fair", "Contact", b=False)
    names = ("_lists", "_lists_opted_out", "targetListIsOptedOut")
    events = read(crm, None, *names[:2])
    assert fields(events, "a") == {"_lists": ["News"], "_lists_opted_out": []}
    assert fields(events, "b") == {"_lists": ["Fair"], "_lists_opted_out": ["News"]}
    assert fields(events, "c") == {"_lists": [], "_lists_opted_out": []}
    assert fields(read(crm, None, "_lists", lists=["Fair"]), "a") == {"_lists": []}
    assert "targetListIsOptedOut" not in fields(read(crm, None, *names), "a")
    with pytest.raises(SourceError, match="no target list 'Fare'"):
        read(crm, None, "_lists", lists=["Fare"])
    crm.hidden = {"targetListIsOptedOut"}
    with pytest.raises(SourceError, match="opted out of the list"):
        read(crm, None, "_lists")


@pytest.mark.parametrize("change", ["join", "leave", "opt out", "rename"])
def test_a_target_list_that_changed_makes_everybody_be_read(crm: EspoCrm, change: str) -> None:
    """15: none of it moves anybody's time."""
    crm.list_up("l1", "News", "Contact", a=False, b=False)
    crm.list_up("l1", "News", "Lead", z=False)
    options = {"entities": ["Contact", "Lead"]}
    crm.put("Lead", "z", "z@example.com")
    crm.clock.advance_s(3600)
    first = read(crm, None, "_lists", **options)
    assert fields(first, "Lead:z")["_lists"] == ["News"]
    crm.clock.advance_s(3600)
    assert not resync(read(crm, cursor(first), "_lists", **options))
    members = crm.members["l1"]
    if change == "join":
        members["Contact"]["c"] = False
    elif change == "leave":
        del members["Lead"]["z"]
    elif change == "opt out":
        members["Contact"]["a"] = True
    else:
        crm.tables["TargetList"]["l1"]["name"] = "Fair"
    second = read(crm, cursor(first), "_lists", **options)
    assert resync(second)
    assert len(keys(second)) == 6


# Deletions


def test_an_api_user_sees_only_what_it_deleted_itself(crm: EspoCrm) -> None:
    """7: the rest is found by the full read; so no ability is claimed."""
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.delete("Contact", "b")
    crm.delete("Contact", "c", by=ME)
    second = read(crm, cursor(first))
    assert gone(second) == ["c"]
    crm.admin = True
    assert gone(read(crm, cursor(first))) == ["b", "c"]
    assert keys(read(crm)) == ["a", "d", "e"]
    crm.denied = {"ActionHistoryRecord"}
    assert gone(read(crm, cursor(first))) == []


def test_what_was_restored_is_not_gone(crm: EspoCrm) -> None:
    """5: an administrator can; it comes back as a change."""
    crm.admin = True
    crm.put("Lead", "b", "lead@example.com")
    options = {"entities": ["Contact", "Lead"]}
    first = read(crm, **options)
    crm.clock.advance_s(3600)
    crm.delete("Contact", "b")
    crm.delete("Lead", "b")
    crm.restore("Contact", "b")
    second = read(crm, cursor(first), **options)
    assert gone(second) == ["Lead:b"]
    assert "b" in keys(second)


def test_a_merge_shows_as_a_deletion_and_keeps_the_opt_out(crm: EspoCrm) -> None:
    """17: the loser's address stays on the winner, with its opt-out."""
    crm.admin = True
    crm.opt_out("b@example.com")
    first = read(crm, emails="all")
    crm.clock.advance_s(3600)
    crm.merge("b", "d")
    second = read(crm, cursor(first), emails="all")
    assert gone(second) == ["b"]
    assert not any(isinstance(event, Merged) for event in second)
    told = {e.fields["emailAddress"]: e.fields[OUT] for e in second if isinstance(e, Record)}
    assert told["b@example.com"] is True
    assert told["d@example.com"] is False


@pytest.mark.parametrize("text", ["?", '{"v":9}', '{"v":1}', '{"v":1,"since":"?"}'])
def test_a_cursor_of_no_use_reads_everything(crm: EspoCrm, text: str) -> None:
    events = read(crm, text)
    assert resync(events)
    assert len(keys(events)) == 5
