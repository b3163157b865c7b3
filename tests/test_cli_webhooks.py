"""`syncd webhooks`, and the daemon that listens: as its users have them."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from shell import PATIENCE_S, Shell, shell_fixture  # noqa: F401 - a fixture

from syncd.clock import SystemClock
from syncd.sandbox.faults import Rule, Status
from syncd.state import dossier, story

URL = "https://sync.example.com/webhooks/fluenzr"


def receiving(shell: Shell, *, url: str = URL, secret: str = "file:webhook.secret") -> None:
    """Add the tables to the configuration."""
    shell.configure()
    text = (shell.folder / "config.toml").read_text()
    text += (
        f'\n[http]\nlisten = "127.0.0.1:0"\n[webhooks]\nsecret = "{secret}"\npublic_url = "{url}"\n'
    )
    shell.write("config.toml", text)


def registered(shell: Shell) -> list[dict[str, Any]]:
    return list(shell.account.webhooks.values())


def secret(shell: Shell) -> str:
    return (shell.folder / "webhook.secret").read_text().strip()


def status_of(shell: Shell, email: str) -> str | None:
    with story.reading(shell.folder / "syncd.db") as db:
        assert db is not None
        return dossier.person(db, email, ["customers"]).status


def test_register_makes_the_secret_and_asks_for_what_is_needed(shell: Shell) -> None:
    receiving(shell)
    done = shell.inside("webhooks", "register")
    assert (done.code, done.err) == (0, "")
    (webhook,) = registered(shell)
    assert webhook["url"] == URL
    assert {"email.unsubscribed", "email.bounced", "contact.deleted"} <= set(webhook["events"])
    assert webhook["secret"] == secret(shell)
    assert (shell.folder / "webhook.secret").stat().st_mode & 0o077 == 0
    assert secret(shell) not in done.out


def test_register_twice_changes_nothing(shell: Shell) -> None:
    receiving(shell)
    shell.inside("webhooks", "register")
    before = registered(shell)
    again = shell.inside("webhooks", "register")
    assert again.out.startswith("Nothing to do")
    assert registered(shell) == before


def test_register_asks_for_more_where_too_little_was_asked_for(shell: Shell) -> None:
    receiving(shell)
    shell.inside("webhooks", "register")
    registered(shell)[0]["events"] = ["email.replied"]
    shell.inside("webhooks", "register")
    (webhook,) = registered(shell)
    assert "email.unsubscribed" in webhook["events"]
    assert webhook["secret"] == secret(shell)


def test_a_secret_that_no_file_holds_must_be_there(shell: Shell) -> None:
    receiving(shell, secret="env:NOT_THERE")
    said = shell.inside("webhooks", "register")
    assert said.code == 2
    assert "NOT_THERE" in said.err
    assert registered(shell) == []


@pytest.mark.parametrize("words", [("webhooks", "register"), ("webhooks", "serve")])
def test_without_the_table_it_says_what_to_write(shell: Shell, words: tuple[str, ...]) -> None:
    said = shell.inside(*words)
    assert said.code == 2
    assert "[webhooks]" in said.err


def test_list_marks_ours_and_delete_ends_it(shell: Shell) -> None:
    receiving(shell)
    shell.inside("webhooks", "register")
    (found,) = shell.inside("webhooks", "list", "--json").objects
    assert (found["url"], found["ours"], found["active"]) == (URL, True, True)
    assert found["id"] in shell.inside("webhooks", "list").out
    assert shell.inside("webhooks", "delete", found["id"]).code == 0
    assert registered(shell) == []
    again = shell.inside("webhooks", "delete", found["id"])
    assert again.code == 1
    assert "error:" in again.err


def test_rotate_replaces_the_secret(shell: Shell) -> None:
    receiving(shell)
    shell.inside("webhooks", "register")
    before = secret(shell)
    assert shell.inside("webhooks", "rotate").code == 0
    (webhook,) = registered(shell)
    assert webhook["secret"] == secret(shell) != before


def test_rotate_where_fluenzr_cannot_change_a_webhook(shell: Shell) -> None:
    receiving(shell)
    shell.inside("webhooks", "register")
    shell.sandbox.faults.add(
        Rule(name="no put", effect=Status(status=405, applied=False), method="PUT")
    )
    assert shell.inside("webhooks", "rotate").code == 0
    (webhook,) = registered(shell)
    assert webhook["secret"] == secret(shell)


def test_rotate_that_breaks_off_keeps_both_and_is_ended_by_the_next(shell: Shell) -> None:
    """Whether FluenzR has taken the new one is not known: events of both are taken."""
    receiving(shell)
    shell.inside("webhooks", "register")
    before = secret(shell)
    shell.sandbox.faults.add(
        Rule(name="down", effect=Status(status=500, applied=True), method="PUT", times=1)
    )
    assert shell.inside("webhooks", "rotate").code == 1
    assert before in secret(shell).split()
    assert len(secret(shell).split()) == 2
    assert shell.inside("webhooks", "rotate").code == 0
    (webhook,) = registered(shell)
    assert secret(shell) == webhook["secret"]


def test_rotate_needs_something_to_replace(shell: Shell) -> None:
    receiving(shell)
    said = shell.inside("webhooks", "rotate")
    assert said.code == 2
    assert "syncd webhooks register" in said.err


def listening(shell: Shell, *words: str) -> tuple[Any, int]:
    """A process that listens, and its port."""
    process = shell.start(*words)
    for line in iter((process.stdout if words[0] == "webhooks" else process.stderr).readline, ""):
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        if found:
            return process, int(found[1])
        if "listener.started" in line:
            return process, int(json.loads(line)["port"])
    raise AssertionError("it does not listen")


def unsubscribes(shell: Shell, port: int, email: str) -> None:
    """FluenzR tells that a person has unsubscribed."""
    place = f"http://127.0.0.1:{port}/webhooks/fluenzr"
    for webhook in registered(shell):
        webhook["url"] = place
    contact = shell.account.contacts_by_email()[email]
    data = {"contactId": contact["id"], "contactEmail": email}
    assert [one.status for one in shell.account.deliver("email.unsubscribed", data)] == [200]


def within_seconds(shell: Shell, email: str) -> bool:
    clock = SystemClock()
    start_s = clock.monotonic_s()
    while clock.monotonic_s() - start_s < PATIENCE_S:
        if status_of(shell, email) == "unsubscribed":
            return True
        clock.sleep_s(0.05)
    return False


@pytest.mark.parametrize("words", [("webhooks", "serve"), ("run",)])
def test_an_opt_out_is_known_while_nothing_runs(shell: Shell, words: tuple[str, ...]) -> None:
    receiving(shell)
    shell.people((1, "ann@example.com"))
    assert shell.inside("sync").code == 0
    assert shell.inside("webhooks", "register").code == 0
    process, port = listening(shell, *words)
    unsubscribes(shell, port, "ann@example.com")
    assert within_seconds(shell, "ann@example.com")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_the_secret_stands_in_nothing_that_is_written(shell: Shell, tmp_path: Path) -> None:
    receiving(shell)
    shell.people((1, "ann@example.com"))
    shell.inside("sync")
    shell.inside("webhooks", "register")
    process, port = listening(shell, "webhooks", "serve")
    unsubscribes(shell, port, "ann@example.com")
    assert within_seconds(shell, "ann@example.com")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    kept = b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.name != "webhook.secret")
    written = out.encode() + err.encode() + kept
    assert secret(shell).encode() not in written
    assert "ann@example.com" not in out + err
