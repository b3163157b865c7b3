"""A sealed plan: exactly what somebody has looked at is sent, and what moved since is listed, not sent."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from house import House, Killed, Killer, house_fixture, people, row  # noqa: F401 - a fixture
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import run
from syncd.core.result import Status
from syncd.errors import ConfigError, UsageError
from syncd.sandbox.faults import Throttle
from syncd.sealed import Head, SealedPlan, Writer, read
from syncd.watch import Nobody

ANN, BOB = row(1, "ann@example.com", first="Ann"), row(2, "bob@example.com", first="Bob")


def seal(house: House, *names: str, name: str = "friday.plan") -> SealedPlan:
    """What `syncd plan --out` does."""
    path = house.folder / name
    syncs = run.versions(house.settings, names)
    with Writer(path, Head(house.settings.fluenzr.base_url, syncs, "2026-01-02T10:00:00Z")) as file:
        run.plan(
            house.settings,
            run.Order(names=names),
            clock=house.clock,
            watch=Nobody(),
            show=lambda _: None,
            seal=file.add,
        )
        file.finish()
    return read(path)


def refused(house: House, plan: SealedPlan) -> set[str]:
    """The run of this plan; whose changes it refuses. Everybody else's are sent."""
    result = house.sync(sealed=plan)
    assert result.refused is not None
    assert result.status is (Status.PARTIAL if result.refused else Status.OK)
    return {one.email for one in result.refused}


# --- what is sent -------------------------------------------------------------------------------------------------


def test_a_plan_that_still_holds_is_a_run_like_any_other(house: House) -> None:
    house.configure(groups=["Customers"])
    house.write(ANN, BOB)
    assert refused(house, seal(house)) == set()
    assert house.members("Customers") == {"ann@example.com", "bob@example.com"}
    again = house.sync()
    assert (again.unchanged, again.changed) == (2, 0)
    assert house.query("SELECT full_at IS NOT NULL AS whole FROM sync") == [{"whole": 1}]


def test_what_moved_since_is_refused_and_the_rest_is_sent(house: House) -> None:
    house.write(ANN, BOB)
    house.sync()
    house.write(ANN | {"first": "Anna"}, BOB | {"first": "Bobby"})
    plan = seal(house)
    house.write(ANN | {"first": "Annabel"}, BOB | {"first": "Bobby"})
    result = house.sync(sealed=plan)
    assert result.refused is not None
    assert [(one.email, one.change) for one in result.refused] == [("ann@example.com", "update")]
    assert "another change" in result.refused[0].why
    assert result.status is Status.PARTIAL
    assert result.updated == 1
    names = {email: c["firstName"] for email, c in house.account.contacts_by_email().items()}
    assert names == {"ann@example.com": "Ann", "bob@example.com": "Bobby"}
    # Nothing of it is lost: the next run sends it.
    assert house.sync().updated == 1
    assert house.account.contacts_by_email()["ann@example.com"]["firstName"] == "Annabel"


def test_who_came_after_the_plan_is_not_created_by_it(house: House) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Drip"])
    house.write(ANN)
    plan = seal(house)
    house.write(ANN, BOB)
    result = house.sync(sealed=plan)
    assert (result.refused, result.unplanned, result.status) == ([], 1, Status.OK)
    assert house.mailed() == ["ann@example.com"]
    house.sync()
    assert house.mailed() == ["ann@example.com", "bob@example.com"]


def test_a_plan_is_carried_out_once(house: House) -> None:
    house.write(ANN)
    plan = seal(house)
    assert refused(house, plan) == set()
    writes = house.sandbox.writes()
    again = house.sync(sealed=plan)
    assert again.refused is not None
    assert "done meanwhile" in again.refused[0].why
    assert (again.status, house.sandbox.writes()) == (Status.PARTIAL, writes)


def test_only_a_planned_removal_is_done(house: House) -> None:
    house.configure(groups=["Customers"])
    everybody = people(12)
    house.write(*everybody)
    house.sync()
    house.write(*everybody[1:])
    plan = seal(house)
    house.write(*everybody[2:])
    assert refused(house, plan) == set()
    assert house.members("Customers") == {f"p{n}@example.com" for n in range(1, 12)}
    assert house.sync().removed == 1


def test_a_planned_delete_is_done_only_by_a_read_that_counts_whole(house: House) -> None:
    house.configure(on_removal="delete")
    house.write(*people(4))
    house.sync()
    house.later(minutes=1)
    house.write(*people(3))
    plan = seal(house)
    house.write(*people(3), row(9, "ann@example.com"))
    assert refused(house, plan) == set()
    assert len(house.everybody()) == 4  # waits: not everything of this read was promoted
    assert house.sync().removed == 1


def test_a_person_who_left_the_filter_after_the_plan_stays(house: House) -> None:
    house.configure(groups=["Customers"], where="score != '0'")
    house.write(*people(3, score=1))
    house.sync()
    house.write(*people(2, score=1), *people(1, start=2, score=1, first="Other"))
    plan = seal(house)
    house.write(*people(1, score=0), *people(1, start=1, score=1), *people(1, start=2, score=1, first="Other"))  # fmt: skip
    assert refused(house, plan) == set()
    assert len(house.members("Customers")) == 3


def test_the_address_that_somebody_else_takes_after_the_plan(house: House) -> None:
    """Ann was to move; since then another record wants her old address, so it would not be a move any more."""
    house.write(ANN)
    house.sync()
    house.write(ANN | {"email": "anna@example.com"})
    plan = seal(house)
    house.write(ANN | {"email": "anna@example.com"}, row(9, "ann@example.com", first="Other"))
    assert refused(house, plan) == {"ann@example.com"}
    assert house.everybody() == {"ann@example.com"}
    assert house.account.contacts_by_email()["ann@example.com"]["firstName"] == "Ann"


def test_opt_outs_pass_though_the_plan_does_not_have_them(house: House) -> None:
    house.configure(groups=["Customers"], opted_out="out")
    house.write(ANN, BOB)
    house.sync()
    house.write(ANN | {"first": "Anna"}, BOB)
    plan = seal(house)
    house.write(ANN | {"first": "Anna"}, BOB | {"out": "yes"})
    assert refused(house, plan) == set()
    assert house.members("Customers") == {"ann@example.com"}


def test_a_group_that_mails_since_the_plan_is_another_change(house: House) -> None:
    house.account.add_group("Customers", dynamic=False)
    house.configure(groups=["Customers"])
    house.write(ANN)
    plan = seal(house)
    (group,) = house.account.groups.values()
    group.dynamic = True
    assert refused(house, plan) == {"ann@example.com"}
    assert (house.mailed(), house.everybody()) == ([], set())


def test_two_syncs_of_one_person(house: House) -> None:
    house.configure(syncs={"people": {"groups": ["A"]}, "others": {"groups": ["B"]}})
    house.write(ANN)
    house.write(ANN, BOB, source="others")
    plan = seal(house)
    house.write(ANN, BOB | {"first": "Bobby"}, source="others")
    results = house.sync_all(sealed=plan)
    found = {one.email for result in results for one in result.refused or ()}
    assert found == {"bob@example.com"}
    assert house.members("A") == house.members("B") == {"ann@example.com"}


# --- what waits since earlier runs ---------------------------------------------------------------------------------


def test_what_waits_since_an_earlier_run_is_sent_only_if_it_is_planned(house: House) -> None:
    house.write(ANN)
    house.fault(Throttle(retry_after_s=100_000), "POST", "/contacts/bulk", times=1)  # fmt: skip
    assert house.sync().status is Status.FAILED
    empty = replace(seal(house), path=_without_rows(house))
    result = house.sync(sealed=empty)
    assert (result.unplanned, house.everybody()) == (1, set())
    assert refused(house, seal(house)) == set()
    assert house.everybody() == {"ann@example.com"}


def test_older_work_of_a_planned_person_is_part_of_the_plan(house: House) -> None:
    """Ann's create waits since the last run; her record changes, and so does everything that would be sent to her."""
    house.write(ANN)
    house.fault(Throttle(retry_after_s=100_000), "POST", "/contacts/bulk", times=1)
    house.sync()
    house.write(ANN | {"first": "Anna"})
    plan = seal(house)
    assert [change.fields["firstName"] for change, _ in plan.rows()] == [(None, "Anna")]
    house.write(ANN | {"first": "Annabel"})
    assert refused(house, plan) == {"ann@example.com"}
    assert house.everybody() == set()


def test_somebody_whom_the_first_listing_finds_is_not_sent_along(house: House) -> None:
    """Ann waits since an earlier run of another sync; meanwhile a hand has made her, and the listing of this run adopts her."""
    house.configure(syncs={"people": {}, "others": {}})
    house.write(ANN)
    house.write(BOB, source="others")
    house.fault(Throttle(retry_after_s=100_000), "POST", "/contacts/bulk", times=1)
    house.sync("people")
    plan = seal(house, "others")
    house.account.add_contact("ann@example.com", firstName="By hand")
    result = house.sync("others", sealed=plan)
    assert (result.refused, result.created) == ([], 1)
    assert house.account.contacts_by_email()["ann@example.com"]["firstName"] == "By hand"


def test_a_run_that_was_killed_is_finished_by_the_same_plan(house: House) -> None:
    house.write(*people(3))
    plan = seal(house)
    with pytest.raises(Killed):
        run.sync(house.settings, run.Order(sealed=plan), clock=house.clock, watch=Killer("upload"))
    assert house.everybody() == set()
    assert refused(house, plan) == set()
    assert len(house.everybody()) == 3


# --- guards ---------------------------------------------------------------------------------------------------------


def test_guards_judge_a_plan_as_they_judge_any_run(house: House) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Drip"], guard={"max_enrolments": 2})
    house.write(*people(3))
    plan = seal(house)
    held = house.sync(sealed=plan)
    assert (held.status, held.held, house.mailed()) == (Status.HELD, 3, [])
    house.approve(held.run)
    assert refused(house, plan) == set()
    assert len(house.mailed()) == 3


def test_who_is_not_planned_does_not_count_for_the_guards(house: House) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Drip"], guard={"max_enrolments": 2})
    house.write(*people(2))
    plan = seal(house)
    house.write(*people(5))
    assert refused(house, plan) == set()
    assert len(house.mailed()) == 2
    assert house.sync().status is Status.HELD  # and is judged when its time comes


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_file_is_its_owners_only_and_says_everything_in_words(house: House) -> None:
    house.write(ANN)
    plan = seal(house)
    assert plan.path.stat().st_mode & 0o777 == 0o600
    head, first, end = map(orjson.loads, plan.path.read_bytes().splitlines())
    assert (head["format"], head["version"]) == ("fluenzr-syncd plan", 1)
    assert head["fluenzr"] == house.settings.fluenzr.base_url
    assert (first["email"], first["change"]) == ("ann@example.com", "create")
    assert first["why"]
    assert end == {"rows": 1}
    # A plan leaves nothing else behind.
    found = {file.name for file in house.folder.iterdir()}
    assert found == {"config.toml", "friday.plan", "people.csv", "syncd.db.lock"}


def test_the_file_is_its_owners_only_whatever_lay_there(house: House) -> None:
    """What a killed process left, or a trap in a folder of everybody, is not written into."""
    trap = house.folder / "friday.plan.part"
    trap.touch(0o666)
    trap.chmod(0o666)
    with trap.open("rb") as theirs:
        house.write(ANN)
        assert seal(house).path.stat().st_mode & 0o777 == 0o600
        assert theirs.read() == b""


def _without_rows(house: House) -> Path:
    def cut(lines: list[bytes]) -> list[bytes]:
        return [lines[0], b'{"rows":0}\n']

    return _edited(house.folder / "friday.plan", cut)


def _edited(path: Path, edit: Callable[[list[bytes]], list[bytes]]) -> Path:
    file = path.with_name("edited.plan")
    file.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))
    return file


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda _: [], "line 1 is not JSON"),
        (lambda _: [b"id,email\n"], "line 1 is not JSON"),
        (lambda _: [b"[1]\n"], "line 1 is not an object"),
        (lambda _: [b'{"some":"thing"}\n'], "does not begin as a plan does"),
        (lambda _: [b'{"format":"fluenzr-syncd plan","version":1}\n'], "line 1 lacks something"),
        (lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]], "version 2"),
        (lambda lines: lines[:-1], "its end is missing"),
        (lambda lines: [lines[0], *lines[2:]], "line 3: it had 2 rows"),
        (lambda lines: [*lines, lines[1]], "line 4: it had 2 rows"),
        (lambda lines: [lines[0], b"{}\n", *lines[2:]], "line 2 lacks something"),
        (lambda lines: [lines[0], lines[1].replace(b"Ann", b"Eve"), *lines[2:]], "line 2 was changed"),
        (lambda lines: [lines[0].replace(b'"people"', b'"other"'), *lines[1:]], "does not name"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_whole_plan_is_refused(
    house: House, edit: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    house.write(ANN, BOB)
    path = _edited(seal(house).path, edit)
    with pytest.raises(UsageError, match=words) as caught:
        read(path)
    assert "syncd plan --out" in caught.value.hint


def test_a_plan_of_another_account_or_configuration_is_refused(house: House) -> None:
    house.write(ANN)
    plan = seal(house)
    house.configure(tags=["crm"])
    with pytest.raises(ConfigError, match="another configuration") as caught:
        house.sync(sealed=plan)
    assert caught.value.place == "sync.people"
    house.configure(fluenzr={"base_url": "http://127.0.0.1:1/v1"})
    with pytest.raises(ConfigError, match="another FluenzR"):
        house.sync(sealed=plan)
    assert house.sandbox.writes() == 0
    house.configure()
    assert refused(house, plan) == set()


def test_only_an_older_plan_is_replaced(house: House) -> None:
    house.write(ANN)
    seal(house)
    house.write(ANN, BOB)
    assert len(list(seal(house).rows())) == 2
    own = house.folder / "people.csv"
    before = own.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        seal(house, name="people.csv")
    assert own.read_bytes() == before
    with pytest.raises(UsageError, match="cannot be written"):
        seal(house, name="nowhere/friday.plan")
    with pytest.raises(UsageError, match="cannot be read"):
        read(house.folder / "nothing.plan")


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_from_a_plan_to_its_run(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Ann"), (2, "bob@example.com", "Bob"))
    planned = shell("plan", "--out", "friday.plan", "--json")
    assert planned.code == 0
    assert planned.objects[0]["create"] == 2
    assert "Sealed: 2 changes in friday.plan" in planned.err
    assert "Next: syncd sync --plan friday.plan" in shell.inside("plan", "--out", "friday.plan").out

    shell.people((1, "ann@example.com", "Anna"), (2, "bob@example.com", "Bob"), (3, "c@example.com", "C"))  # fmt: skip
    done = shell("sync", "--plan", "friday.plan", "--json")
    assert done.code == 3
    (result,) = done.objects
    assert (result["created"], result["status"], result["unplanned"]) == (1, "partial", 1)
    assert [one["email"] for one in result["refused"]] == ["ann@example.com"]
    assert set(shell.account.contacts_by_email()) == {"bob@example.com"}

    words = shell.inside("sync", "--plan", "friday.plan")
    assert words.code == 3
    assert "2 changes of the plan not sent, not the same any more:" in words.out
    assert "bob@example.com  create: nothing is to be done any more" in words.out
    assert "1 person with changes that the plan does not have" in words.out
    assert "refused" not in shell.inside("sync", "--json").objects[0]


def test_a_plan_goes_with_no_other_choice(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Ann"))
    shell.inside("plan", "--out", "friday.plan")
    for words in (("customers",), ("--full",), ("--dry-run",), ("--email", "a@b.co"), ("--limit", "1")):  # fmt: skip
        said = shell.inside("sync", "--plan", "friday.plan", *words)
        assert (said.code, said.out) == (2, "")
        assert "--plan is exactly that plan" in said.err
    assert shell.inside("sync", "--plan", "people.csv").code == 2
    assert shell.inside("sync", "--plan", "friday.plan").code == 0


def test_a_plan_that_is_not_whole_is_not_sealed(shell: Shell) -> None:
    shell.write("people.csv", "id,email,first,score,out\n1,ann@example.com\n")
    said = shell.inside("plan", "--out", "friday.plan")
    assert said.code == 1
    assert "was not written" in said.err
    assert not list(shell.folder.glob("*.plan*"))
