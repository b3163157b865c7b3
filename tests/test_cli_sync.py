"""`plan` and `sync`: their streams, their JSON, their exit codes, and the way from a held run to an approved one."""

import signal
import time

import pytest
from shell import PATIENCE_S, Shell, shell_fixture  # noqa: F401 - a fixture

from syncd.clock import SystemClock
from syncd.sandbox import Rule
from syncd.sandbox.faults import Drop
from syncd.state.store import hold

SYNC_KEYS = [
    "run", "sync", "status", "read", "gone", "skipped", "opted_out", "changed", "created", "updated",
    "unchanged", "removed", "moved", "grouped", "ungrouped", "quarantined", "held", "enrolled",
    "written_back", "requests", "seconds", "error",
]  # fmt: skip
PLAN_KEYS = [
    "sync", "create", "update", "move", "remove", "group", "ungroup", "enrol", "quarantine", "held",
    "requests", "seconds_at_limit", "changes",
]  # fmt: skip
CHANGE_KEYS = ["email", "change", "fields", "groups", "tags", "why", "campaigns"]
EQUATION = ("skipped", "opted_out", "quarantined", "held", "unchanged", "changed")

ANN, BOB = (1, "ann@example.com", "Ann", 10), (2, "bob@example.com", "Bob", 20)
HOT = (3, "cleo@example.com", "Cleo", 95)


def many(count: int, score: int = 0) -> list[tuple[object, ...]]:
    return [(n, f"p{n}@example.com", f"P{n}", score) for n in range(1, count + 1)]


def test_plan_json_is_the_contract_and_sends_nothing(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people(ANN, BOB, HOT)
    said = shell("plan", "--json")
    assert said.code == 0
    (plan,) = said.objects
    assert list(plan) == PLAN_KEYS
    assert (plan["create"], plan["enrol"]) == (3, 1)
    assert [list(change) for change in plan["changes"]] == [CHANGE_KEYS] * 3
    ann = next(change for change in plan["changes"] if change["email"] == "ann@example.com")
    assert ann["change"] == "create"
    assert ann["fields"]["firstName"] == [None, "Ann"]
    assert ann["groups"] == {"add": ["Customers"], "remove": []}
    assert shell.sandbox.writes() == 0
    assert not (shell.folder / "syncd.db").exists()


def test_plan_says_first_who_would_be_mailed(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people(ANN, HOT, (4, "none@example", "No", 0))
    said = shell.inside("plan")
    lines = said.out.splitlines()
    assert lines[0] == "customers"
    assert "1 person would be mailed" in lines[1]
    assert '"Drip" (1)' in lines[1]
    assert "cleo@example.com" in lines[2]
    assert '"Customers"' in said.out  # a group that would be created
    assert "1 without a usable address" in said.out
    assert "      firstName: Cleo" in lines
    assert lines[-1] == "Next: syncd sync"


def test_plan_and_status_name_the_rows_that_cannot_be_used(shell: Shell) -> None:
    shell.people(
        ANN,
        (2, "none@example", "No", 0),
        (3, "", "No", 0),
        (4, "dan@example.com", "Dan", 0, "maybe"),
    )
    out = shell.inside("plan").out
    assert "people.csv:3: not a valid e-mail address" in out
    assert "people.csv:4: no e-mail address" in out
    assert "people.csv:5: opted_out: true, false, yes, no, 1 or 0 expected" in out
    assert "none@example" not in out  # it may be somebody's, misspelt
    shell.inside("sync")
    out = shell.inside("plan").out  # unchanged: where they stand is not known, their keys are
    assert "key 2: not a valid e-mail address" in out
    status = shell.inside("status").out
    assert "key 2" in status
    assert "key 4 <dan@example.com>" in status
    shell.people(ANN, *((n, "nowhere", "No", 0) for n in range(2, 40)))
    assert "and 33 more that cannot be used" in shell.inside("plan").out
    shell.inside("sync")
    assert "and 18 more records" in shell.inside("status").out


def test_plan_counts_who_opted_out(shell: Shell) -> None:
    shell.people(ANN, (2, "bob@example.com", "Bob", 0, "yes"))
    assert "Records: 2 read, 0 unchanged, 1 opted out" in shell.inside("plan").out


def test_rows_without_key_and_address_are_named_by_their_place(shell: Shell) -> None:
    text = (shell.folder / "config.toml").read_text("utf-8")
    shell.write("config.toml", text.replace('key = "id"', ""))
    shell.people(ANN, (2, "", "No", 0))
    assert "people.csv:3: no e-mail address, and no key" in shell.inside("plan").out


def test_plan_shows_old_and_new(shell: Shell) -> None:
    shell.people(ANN, BOB)
    shell.inside("sync")
    shell.people((1, "ann@example.com", "Anna", 10), BOB)
    said = shell.inside("plan", "customers", "--limit", "5")
    assert "      firstName: Ann -> Anna" in said.out.splitlines()
    assert "Nobody would be mailed" in said.out
    assert said.out.splitlines()[-1] == "Next: syncd sync customers --limit 5"


def test_plan_says_who_would_leave(shell: Shell) -> None:
    shell.people(*many(30))
    shell.inside("sync")
    shell.people(*many(23))
    out = shell.inside("plan").out
    assert "7 people would leave" in out
    assert "and 2 more" in out
    assert "  - p30@example.com  remove" in out


def test_plan_shows_the_first_changes_and_how_many_more(shell: Shell) -> None:
    shell.people(*many(50))
    said = shell.inside("plan")
    assert said.out.count("  create  ") == 20
    assert "and 30 more" in said.out
    (plan,) = shell.inside("plan", "--json").objects
    assert len(plan["changes"]) == 50


def test_plan_of_nothing_says_so(shell: Shell) -> None:
    shell.people(ANN)
    shell.inside("sync")
    assert shell.inside("plan").out.splitlines()[-1] == "Nothing to send."


def test_sync_json_is_the_contract_and_alone_on_stdout(shell: Shell) -> None:
    shell.people(ANN, BOB, (3, "filtered@example.com"), (4, "out@example.com", "Out", 0, "yes"))
    said = shell("sync", "--json")
    assert said.code == 0
    (first,) = said.objects
    assert list(first) == SYNC_KEYS
    assert (first["status"], first["created"], first["opted_out"], first["skipped"]) == (
        "ok",
        2,
        1,
        1,
    )
    assert first["error"] is None
    (second,) = shell.inside("sync", "--json").objects
    assert (second["created"], second["unchanged"]) == (0, 2)
    for result in (first, second):
        assert result["read"] + result["gone"] == sum(result[name] for name in EQUATION)


def test_sync_in_words(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people(ANN, HOT)
    said = shell.inside("sync")
    assert said.out.startswith("customers: ok  (run 1, ")
    assert "people: created 2" in said.out
    assert "mailed: 1 person" in said.out
    assert shell.account.mailed() == ["cleo@example.com"]
    assert "nothing to send" in shell.inside("sync").out


def test_dry_run_is_a_plan(shell: Shell) -> None:
    shell.people(ANN)
    said = shell.inside("sync", "--dry-run", "--json")
    assert list(said.objects[0]) == PLAN_KEYS
    assert shell.sandbox.writes() == 0


def test_one_person_is_a_careful_first_try(shell: Shell) -> None:
    shell.people(ANN, BOB)
    said = shell.inside("sync", "--email", " ANN@example.com ", "--json")
    assert (said.code, said.objects[0]["created"]) == (0, 1)
    assert set(shell.account.contacts_by_email()) == {"ann@example.com"}


def test_held_is_4_until_it_is_approved(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people(*many(30))
    assert shell.inside("sync").code == 0
    shell.configure(hot=90, max_enrolments=5)
    shell.people(*many(30, score=95))

    plan = shell.inside("plan")
    assert plan.code == 0
    assert "A guard would hold this sync whole" in plan.out
    held = shell("sync")
    assert held.code == 4
    assert "30 people would join 'Drip'" in held.out
    assert "syncd approve 2 customers" in held.out
    assert shell.account.mailed() == []
    assert "syncd approve 2 customers" in shell.inside("status").out

    assert shell.inside("approve", "7").code == 2
    assert shell.inside("approve", "2", "nobody").code == 2
    approved = shell.inside("approve", "2", "customers")
    assert approved.code == 0
    assert "Approved: 30 changes of run 2" in approved.out
    assert "Next: syncd sync customers" in approved.out
    again = shell.inside("approve", "2")
    assert again.code == 2
    assert "approved already" in again.err
    done = shell.inside("sync", "--json")
    assert (done.code, done.objects[0]["enrolled"]) == (0, 30)
    assert len(shell.account.mailed()) == 30
    assert "Nothing is held" in shell.inside("approve", "2").err


def test_refused_people_are_3_and_status_says_who_and_why(shell: Shell) -> None:
    shell.people(ANN, BOB)
    shell.account.refuse("bob@example.com", "Mailbox is a trap")
    said = shell.inside("sync")
    assert said.code == 3
    assert "1 person could not be delivered" in said.out
    status = shell.inside("status").out
    assert "bob@example.com" in status
    assert "Mailbox is a trap" in status
    assert "Mailbox is a trap" in shell.inside("why", "bob@example.com").out
    assert shell.inside("status", "--json").objects[0]["quarantined"] == 1


def test_a_broken_source_is_1_and_its_error_is_in_the_json(shell: Shell) -> None:
    shell.people(ANN)
    shell.inside("sync")
    shell.write("people.csv", "id,email,first,score,out\n1,ann@example.com\n")
    said = shell("sync", "--json")
    assert said.code == 1
    (result,) = said.objects
    assert result["status"] == "failed"
    assert "people.csv:2" in result["error"]
    words = shell.inside("sync")
    assert "people.csv:2" in words.out
    plan = shell.inside("plan", "--json")
    assert plan.code == 1
    assert "people.csv:2" in plan.objects[0]["error"]
    assert "No plan: " in shell.inside("plan").out


def test_a_name_that_the_source_lacks_is_2(shell: Shell) -> None:
    shell.write("people.csv", "id,email,score,out\n1,ann@example.com,1,no\n")
    said = shell.inside("sync", "--json")
    assert said.code == 2
    assert "sync.customers.fields.firstName" in said.err + said.out


def test_a_missing_key_is_2(shell: Shell) -> None:
    shell.people(ANN)
    said = shell("sync", "--json", env={"FLUENZR_API_KEY": ""})
    assert (said.code, said.out) == (2, "")
    assert "FLUENZR_API_KEY" in said.err


def test_a_refused_key_is_1_and_is_never_shown(shell: Shell) -> None:
    shell.people(ANN)
    wrong = "flz_sk_" + "w" * 32
    said = shell("--debug", "sync", env={"FLUENZR_API_KEY": wrong})
    assert said.code == 1
    assert wrong not in said.out + said.err
    assert all(wrong.encode() not in path.read_bytes() for path in shell.folder.iterdir())


def test_a_busy_state_is_5_at_once_or_after_the_wait(shell: Shell) -> None:
    shell.people(ANN)
    with hold(shell.folder / "syncd.db", wait_s=0, clock=SystemClock()):
        said = shell("sync", "--json")
        assert (said.code, said.out) == (5, "")
        assert "--wait" in said.err
        start_s = time.monotonic()
        assert shell.inside("plan", "--wait", "0.3").code == 5
        assert time.monotonic() - start_s >= 0.3
        # those that only read need no lock
        for words in (("status",), ("history",), ("why", "ann@example.com")):
            assert shell.inside(*words).code == 0
    assert shell.inside("sync", "--wait", "1").code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_stops_the_run_and_the_next_one_finishes_it(
    shell: Shell, number: signal.Signals
) -> None:
    """The create is lost, so the run waits until it has settled: that is when the signal comes."""
    shell.people(ANN)
    rule = Rule(
        name="lost", effect=Drop(applied=True), method="POST", path="/contacts/bulk", times=1
    )
    shell.sandbox.faults.add(rule)
    process = shell.start("sync")
    _until(lambda: not shell.sandbox.faults.unfired())
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert out == ""
    assert "stopped: " in err
    assert "Traceback" not in err
    text = (shell.folder / "config.toml").read_text("utf-8")
    shell.write("config.toml", text.replace("[state]", 'settle = "0"\n\n[state]'))
    assert shell.inside("sync").code == 0
    assert set(shell.account.contacts_by_email()) == {"ann@example.com"}


def _until(true: object) -> None:
    assert callable(true)
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.02)
