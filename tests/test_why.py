"""`syncd why`: the whole chain of one person, from the record and its rule to what FluenzR has; or why not, and since when."""

import json
import re

import pytest
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

ANN, BOB = (1, "ann@example.com", "Ann", 10), (2, "bob@example.com", "Bob", 20)
HOT = (3, "cleo@example.com", "Cleo", 95)
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def why(shell: Shell, email: str) -> str:
    said = shell.inside("why", email)
    assert (said.code, said.err) == (0, "")
    return said.out


def test_each_value_is_told_with_its_rule(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people(HOT)
    shell.inside("sync")
    out = why(shell, "cleo@example.com")
    assert "firstName: Cleo  from customers, `first`" in out
    assert "customFields.score: 95  from customers, `score` as number" in out
    assert "asked for by customers (when `score|number >= 90`)" in out
    assert '"Customers" (static): is in it, asked for by customers (always)' in out
    assert re.search(rf"created by a sync in run 1, {TIME}", out)
    (told,) = shell.inside("why", "cleo@example.com", "--json").objects
    assert told["created_run"] == 1


def test_who_approved_is_told_of_whom_it_was_approved_and_of_nobody_else(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "joan")
    shell.account.add_group("Drip", dynamic=True)
    shell.people(ANN)
    shell.inside("sync")
    shell.configure(max_enrolments=0)
    shell.people(ANN, HOT)
    assert shell.inside("sync").code == 4
    shell.inside("approve", "2")
    shell.people((1, "ann@example.com", "Anna", 10), HOT)
    assert shell.inside("sync").code == 0
    approved = rf"held in run 2, approved by joan, {TIME}"
    assert re.search(rf"created by a sync in run 3, .*; {approved}", why(shell, "cleo@example.com"))
    assert "approved" not in why(shell, "ann@example.com")
    history = shell.inside("history", "3").out
    assert re.search(rf"customers: carried out what was {approved}", history)
    assert "created cleo@example.com" in history
    (run,) = shell.inside("history", "3", "--json").objects
    assert (run["created"], run["approved"][0]["by"]) == (["cleo@example.com"], "joan")


def test_an_approved_update_says_so_at_its_change(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "joan")
    shell.people(ANN, BOB)
    shell.inside("sync")
    text = (shell.folder / "config.toml").read_text("utf-8")
    shell.write("config.toml", text.replace("[guard]", "[guard]\nmax_field_changes = 0"))
    shell.people((1, "ann@example.com", "Anna", 10), BOB)
    assert shell.inside("sync").code == 4
    shell.inside("approve", "2")
    assert shell.inside("sync").code == 0
    out = why(shell, "ann@example.com")
    assert re.search(r"update  \(run 3\); held in run 2, approved by joan, ", out)
    (told,) = shell.inside("why", "ann@example.com", "--json").objects
    assert told["changes"][0]["approved"][0]["run"] == 2


def test_an_approval_that_was_overtaken_is_nobodys(shell: Shell) -> None:
    shell.people(ANN, BOB)
    shell.inside("sync")
    text = (shell.folder / "config.toml").read_text("utf-8")
    shell.write("config.toml", text.replace("[guard]", "[guard]\nmax_field_changes = 0"))
    shell.people((1, "ann@example.com", "Anna", 10), BOB)
    shell.inside("sync")
    shell.inside("approve", "2")
    shell.people(ANN, BOB)  # the source is put right
    assert shell.inside("sync").code == 0
    shell.write("config.toml", text)
    shell.people((1, "ann@example.com", "Annie", 10), BOB)
    assert shell.inside("sync").code == 0
    assert "approved" not in why(shell, "ann@example.com")


def test_what_bars_somebody_is_told_with_since_when(shell: Shell) -> None:
    shell.people(ANN, BOB)
    shell.inside("sync")
    shell.account.remove("ann@example.com")
    shell.account.opt_out("bob@example.com")
    shell.people((1, "ann@example.com", "Anna", 10), BOB)
    shell.inside("sync")
    out = why(shell, "ann@example.com")
    words = "was deleted by hand in FluenzR: is not created again until `syncd release`"
    assert re.search(rf"{words} \(since {TIME}\)", out)
    assert "(not confirmed in FluenzR yet)" not in out
    assert re.search(
        rf"opted out, bounced or blocked: .* \(since {TIME}\)", why(shell, "bob@example.com")
    )
    shell.inside("release", "ann@example.com")
    out = why(shell, "ann@example.com")
    assert "deleted by hand" not in out
    assert re.search(rf"joins no dynamic group: .*, or was released \(since {TIME}\)", out)


def test_why_somebody_is_not_in_a_group(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people(HOT, ANN)
    shell.inside("sync")
    shell.people(ANN)
    shell.inside("sync")
    shell.people(HOT, ANN)
    shell.inside("sync")
    assert "is not in it: was added once, and never is again" in why(shell, "cleo@example.com")
    shell.account.opt_out("ann@example.com")
    shell.people(HOT, (1, "ann@example.com", "Ann", 99))
    shell.inside("sync")
    assert (
        '"Drip" (dynamic, mails whoever joins): is not in it, because of what stands under never'
        in why(shell, "ann@example.com")
    )


def test_who_is_in_no_source_is_told_when_these_were_read(shell: Shell) -> None:
    out = why(shell, "eve@example.com")
    assert "nothing is known about it: no source has been read yet" in out
    assert "customers: last read never" in out
    shell.people(ANN, BOB)
    shell.inside("sync")
    out = why(shell, "eve@example.com")
    assert "no source had this address when it was last read, and nothing is known about it" in out
    assert re.search(rf"customers: last read {TIME} \(just now\)", out)
    assert "syncd plan --email eve@example.com" in out
    shell("forget", "bob@example.com", "--yes")
    told = [
        re.sub(r" \(.*ago\)| \(just now\)", "", why(shell, f"{who}@example.com"))
        for who in ("eve", "bob")
    ]
    assert told[0].replace("eve@", "bob@") == told[1]
    told = [
        json.dumps(shell.inside("why", f"{who}@example.com", "--json").objects)
        for who in ("eve", "bob")
    ]
    assert told[0].replace("eve@", "bob@") == told[1]


def test_who_waits_in_quarantine_is_told_with_fluenzrs_words(shell: Shell) -> None:
    shell.account.refuse("bob@example.com", "Mailbox is a trap")
    shell.people(ANN, BOB)
    shell.inside("sync")
    out = why(shell, "bob@example.com")
    assert re.search(
        rf"in quarantine, tried 1 time, again {TIME} \(in \d+ minutes\): Mailbox is a trap", out
    )


def test_a_lost_answer_is_told(shell: Shell) -> None:
    from syncd.sandbox.faults import Cut, Rule

    shell.people(ANN, BOB)
    shell.inside("sync")
    shell.sandbox.faults.add(
        Rule(name="cut", effect=Cut(), method="POST", path="/contacts/bulk", times=1)
    )
    shell.people((1, "ann@example.com", "Anna", 10), BOB)
    assert shell.inside("sync").code == 0
    assert "; its answer was lost, a read has shown it" in why(shell, "ann@example.com")
