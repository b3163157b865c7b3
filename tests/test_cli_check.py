"""`check`: what it finds, what it says to do, its exit codes; and what `--probe` finds out under each reading."""

from collections.abc import Callable
from pathlib import Path

import pytest
from shell import KEY, Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import probe
from syncd.check import client
from syncd.clock import SystemClock
from syncd.config import load
from syncd.errors import SyncdError
from syncd.fluenzr import FluenzR
from syncd.sandbox import Quirks, Rule, Sandbox
from syncd.sandbox.faults import Drop, Status
from syncd.state.store import hold, open_for_reading, open_state

ANN = (1, "ann@example.com", "Ann", 10)
NAMES = ("one", "two")


def grades(shell: Shell, *words: str) -> dict[str, str]:
    """What was looked at -> its grade."""
    return {
        found["check"]: found["grade"] for found in shell.inside("check", "--json", *words).objects
    }


def test_all_is_well(shell: Shell) -> None:
    shell.people(ANN)
    shell.account.add_group("Customers")
    said = shell("check")
    assert said.code == 0, said.out
    assert "people.csv, 1 rows" in said.out
    assert "static: joining it mails nobody" in said.out
    assert said.out.splitlines()[-1].endswith("Next: syncd plan")
    assert said.err == ""
    assert "failed" not in grades(shell).values()


def test_a_dynamic_group_is_said_loudly(shell: Shell) -> None:
    shell.people(ANN)
    shell.account.add_group("Drip", dynamic=True)
    said = shell.inside("check")
    assert said.code == 0
    assert "DYNAMIC: whoever joins it is mailed at once" in said.out
    assert grades(shell)['sync.customers.groups "Drip"'] == "warning"
    assert grades(shell)['sync.customers.groups "Customers"'] == "note"  # will be created


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("active", "mails whoever is enrolled"),
        ("draft", "as soon as it runs"),
        ("archived", "nobody is enrolled any more"),
    ],
)
def test_a_campaign_is_said_loudly(shell: Shell, status: str, says: str) -> None:
    shell.sandbox.account.add_campaign("Q1", status=status)
    _edit("tags = ", 'campaigns = ["q1"]\ntags = ')(shell)
    shell.people(ANN)
    assert grades(shell)['sync.customers.campaigns "q1"'] == "warning"
    assert says in shell.inside("check").out


def test_a_group_without_a_type_counts_as_dynamic(tmp_path: Path, shell: Shell) -> None:
    with Sandbox(quirks=Quirks(group_type="absent"), api_key=KEY).serve() as sandbox:
        sandbox.account.add_group("Customers")
        shell.configure(url=sandbox.url)
        shell.people(ANN)
        assert grades(shell)['sync.customers.groups "Customers"'] == "warning"
        assert "counts as dynamic" in shell.inside("check").out


def test_offline_asks_nobody(shell: Shell) -> None:
    shell.people(ANN)
    shell.configure(url="http://127.0.0.1:9")
    assert shell.inside("check", "--offline").code == 0
    assert not shell.sandbox.counts


def _two_groups(shell: Shell) -> None:
    shell.account.add_group("Customers")
    shell.account.add_group("Customers")


def _no_source(shell: Shell) -> None:
    (shell.folder / "people.csv").unlink()


def _edit(old: str, new: str) -> Callable[[Shell], None]:
    def edit(shell: Shell) -> None:
        text = (shell.folder / "config.toml").read_text("utf-8")
        assert old in text
        shell.write("config.toml", text.replace(old, new))

    return edit


def _lost(shell: Shell) -> None:
    with open_state(shell.folder / "syncd.db"):
        pass
    (shell.folder / "syncd.db").unlink()


def _stranger(shell: Shell) -> None:
    shell.write("syncd.db", "this is no database " * 100)


@pytest.mark.parametrize(
    ("spoil", "code", "what", "words"),
    [
        (_edit('"first"', '"frist"'), 2, "sync.customers.fields.firstName", "first"),
        (_edit("[guard]", "[gaurd]"), 2, "configuration", "guard"),
        (_edit("hot = 1", "hot = 1"), 0, "", ""),
        (_edit("env:FLUENZR_API_KEY", "env:NOBODY"), 2, "fluenzr.api_key", "NOBODY"),
        (_two_groups, 2, 'sync.customers.groups "Customers"', "2 groups of this name"),
        (_edit("tags = ", 'campaigns = ["Q1"]\ntags = '), 2, 'sync.customers.campaigns "Q1"', "syncd campaigns create"),
        (_edit("tags = ", "create_groups = false\ntags = "), 2, 'sync.customers.groups "Customers"', "Create it"),
        (_no_source, 1, "source.crm", "people.csv"),
        (_edit("127.0.0.1", "localhost.invalid"), 2, "configuration", "https"),
        (_lost, 1, "state", "gone"),
        (_stranger, 1, "state", "syncd.db"),
    ],
    ids=[
        "wrong field", "wrong table", "nothing", "no key", "two groups", "no campaign", "no group", "no source",
        "plain http", "lost state", "foreign state",
    ],
)  # fmt: skip
def test_each_failure_says_what_to_do(
    shell: Shell, spoil: Callable[[Shell], None], code: int, what: str, words: str
) -> None:
    shell.write("config.toml", (shell.folder / "config.toml").read_text("utf-8") + "# hot = 1\n")
    shell.people(ANN)
    spoil(shell)
    said = shell.inside("check", "--json")
    assert said.code == code
    failed = [found for found in said.objects if found["grade"] == "failed"]
    assert bool(failed) == bool(code)
    if failed:
        assert failed[0]["check"] == what
        assert words in failed[0]["text"] + failed[0]["hint"]
        assert failed[0]["hint"] or "\n" in failed[0]["text"]


def test_a_refused_key_is_2_and_an_unreachable_fluenzr_is_1(shell: Shell) -> None:
    shell.people(ANN)
    wrong = "flz_sk_" + "w" * 32
    refused = shell("check", env={"FLUENZR_API_KEY": wrong})
    assert refused.code == 2
    assert wrong not in refused.out + refused.err
    for _ in range(5):  # as often as a read is tried
        shell.sandbox.faults.add(Rule(name=f"down {_}", effect=Status(status=503, applied=False)))
    assert _down(shell) == 1


def _down(shell: Shell) -> int:
    """The exit code of the check with a clock that does not wait between the attempts."""
    from syncd.check import findings, gravest
    from syncd.testing.clock import FakeClock

    path = shell.folder / "config.toml"
    found = list(findings(lambda: load(path), offline=False, clock=FakeClock()))
    return gravest(found)


def test_a_key_of_another_shape_is_a_warning(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUENZR_API_KEY", "another-shape")
    shell.people(ANN)
    assert grades(shell, "--offline")["fluenzr.api_key"] == "warning"


@pytest.mark.parametrize(
    ("old", "new", "what", "grade"),
    [
        ('key = "id"\n', "", "source.crm.key", "warning"),
        ('opted_out = "out"\n', 'on_removal = "delete"\n', "sync.customers.on_removal", "note"),
        ("[state]", 'settle = "10 seconds"\n[state]', "fluenzr.settle", "warning"),
        (
            "[guard]",
            '[source.idle]\nconnector = "csv"\npath = "x"\n[guard]',
            "source.idle",
            "warning",
        ),
        ('groups = ["Customers"', 'groups = [{ from = "first" }', "sync.customers.groups", "note"),
    ],
)
def test_what_is_worth_knowing(shell: Shell, old: str, new: str, what: str, grade: str) -> None:
    shell.people(ANN)
    _edit(old, new)(shell)
    assert (
        grades(shell, *(("--offline",) if what != "sync.customers.groups" else ()))[what] == grade
    )


def test_a_column_that_looks_like_an_opt_out_and_is_not_read_is_a_warning(shell: Shell) -> None:
    shell.write("people.csv", "id,email,first,score,Do not e-mail\n1,ann@example.com,Ann,1,yes\n")
    _edit('opted_out = "out"\n', "")(shell)
    said = shell.inside("check", "--json", "--offline")
    (found,) = (one for one in said.objects if one["check"] == "sync.customers.opted_out")
    assert found["grade"] == "warning"
    assert found["hint"] == "Write opted_out = 'record[\"Do not e-mail\"]'"


def test_a_second_column_that_looks_like_an_opt_out_is_noted(shell: Shell) -> None:
    shell.write(
        "people.csv", "id,email,first,score,out,unsubscribed\n1,ann@example.com,Ann,1,,yes\n"
    )
    said = shell.inside("check", "--json", "--offline")
    (found,) = (one for one in said.objects if one["check"] == "sync.customers.opted_out")
    assert found["grade"] == "note"
    assert found["hint"] == "If it is one, write opted_out = 'out|boolean or unsubscribed|boolean'"
    _edit('opted_out = "out"', 'opted_out = "out|boolean or unsubscribed|boolean"')(shell)
    said = shell.inside("check", "--json", "--offline")
    assert not [one for one in said.objects if one["check"] == "sync.customers.opted_out"]


def test_names_of_a_source_that_cannot_list_them_are_looked_for_in_its_records(
    shell: Shell,
) -> None:
    shell.write("people.jsonl", '{"id": "1", "email": "ann@example.com", "out": false}\n' * 1)
    _edit('"csv"\npath = "people.csv"', '"jsonl"\npath = "people.jsonl"')(shell)
    found = grades(shell, "--offline")
    assert found["sync.customers.fields.firstName"] == "warning"
    assert "sync.customers.fields.email" not in found


def test_a_state_in_use_is_no_failure(shell: Shell) -> None:
    shell.people(ANN)
    with hold(shell.folder / "syncd.db", wait_s=0, clock=SystemClock()):
        said = shell.inside("check", "--offline")
    assert said.code == 0
    assert "in use by another process" in said.out


# The probe


def test_probe_announces_itself_keeps_its_answers_and_leaves_nothing(shell: Shell) -> None:
    shell.people(ANN)
    shell.inside("sync")
    said = shell("check", "--probe")
    assert said.code == 0, said.err
    assert "made-up contact syncd-probe-" in said.err
    assert "custom fields in a bulk update" in said.out
    assert set(shell.account.contacts_by_email()) == {"ann@example.com"}
    assert shell.account.mailed() == []
    db = open_for_reading(shell.folder / "syncd.db")
    assert db is not None
    (kept,) = db.execute("SELECT v FROM meta WHERE k='probe'").fetchone()
    db.close()
    assert '"bulk_custom_fields":"merge"' in kept
    assert shell.inside("check", "--probe", "--json").objects[-1]["probe"]["clearing"] == "null"


def test_probe_does_not_begin_where_something_fails(shell: Shell) -> None:
    said = shell.inside("check", "--probe")  # there is no people.csv
    assert said.code == 1
    assert shell.sandbox.writes() == 0


def answers(quirks: Quirks) -> dict[str, str]:
    """What the probe finds out of an account with a hundred contacts, under this reading."""
    with Sandbox(quirks=quirks).serve() as sandbox:
        for n in range(30):
            sandbox.account.add_contact(f"p{n}@example.com")
        sandbox.account.custom_field_names.update(NAMES)
        with FluenzR(KEY, base_url=sandbox.url) as api:
            found = probe.probe(api, probe.address(), NAMES)
        assert len(sandbox.account.contacts_by_email()) == 30
        assert sandbox.account.mailed() == []
        return found


@pytest.mark.parametrize(
    ("quirks", "name", "answer"),
    [
        (Quirks(custom_fields_put="merge"), "put_custom_fields", "merge"),
        (Quirks(custom_fields_put="replace"), "put_custom_fields", "replace"),
        (Quirks(custom_fields_bulk="merge"), "bulk_custom_fields", "merge"),
        (Quirks(custom_fields_bulk="replace"), "bulk_custom_fields", "replace"),
        (Quirks(tags_put="merge"), "put_tags", "merge"),
        (Quirks(tags_put="replace"), "put_tags", "replace"),
        (Quirks(tags_bulk="merge"), "bulk_tags", "merge"),
        (Quirks(tags_bulk="replace"), "bulk_tags", "replace"),
        (Quirks(clear_refused="none"), "clearing", "null"),
        (Quirks(clear_refused="null"), "clearing", "empty_string"),
        (Quirks(clear_refused="empty"), "clearing", "null"),
        (Quirks(bulk_errors="index_email"), "bulk_errors", "index_email"),
        (Quirks(bulk_errors="index"), "bulk_errors", "index"),
        (Quirks(bulk_errors="email"), "bulk_errors", "email"),
        (Quirks(bulk_errors="message"), "bulk_errors", "message"),
        (Quirks(bulk_errors="whole400"), "bulk_errors", "whole400"),
        (Quirks(sort="ignored"), "sorting", "ignored"),
        (Quirks(absent=frozenset({"POST /contacts/bulk"})), "bulk_custom_fields", "absent"),
        (Quirks(absent=frozenset({"POST /contacts/bulk"})), "bulk_errors", "absent"),
    ],
    ids=lambda value: "" if isinstance(value, Quirks) else str(value),
)
def test_probe_finds_out(quirks: Quirks, name: str, answer: str) -> None:
    assert answers(quirks)[name] == answer


@pytest.mark.parametrize("unknown", ["drop", "refuse"])
def test_probe_does_not_guess_where_the_account_lacks_the_fields(unknown: str) -> None:
    with Sandbox(quirks=Quirks(unknown_custom_fields=unknown)).serve() as sandbox:  # type: ignore[arg-type]
        with FluenzR(KEY, base_url=sandbox.url) as api:
            found = probe.probe(api, probe.address(), probe.INVENTED)
        assert found["put_custom_fields"] == found["bulk_custom_fields"] == "unknown"
        assert found["put_tags"] == "replace"
        assert found["sorting"] == "unknown"  # nobody else is there
        assert sandbox.account.contacts_by_email() == {}


def test_probe_deletes_also_what_it_was_never_told_about(shell: Shell) -> None:
    shell.people(ANN)
    rule = Rule(name="lost", effect=Drop(applied=True), method="POST", path="/contacts", times=1)
    shell.sandbox.faults.add(rule)
    said = shell.inside("check", "--probe")
    assert said.code == 1
    assert shell.sandbox.faults.unfired() == []
    assert shell.account.contacts_by_email() == {}


def test_probe_says_which_contact_it_could_not_delete() -> None:
    with Sandbox().serve() as sandbox, FluenzR(KEY, base_url=sandbox.url) as api:
        refusal = Status(status=500, applied=False)
        sandbox.faults.add(Rule(name="no", effect=refusal, method="DELETE", path="/contacts/[^/]*"))
        email = probe.address()
        with pytest.raises(SyncdError, match=email):
            probe.probe(api, email, NAMES)


def test_probe_tries_the_custom_fields_of_the_configuration(shell: Shell) -> None:
    settings = load(shell.folder / "config.toml")
    assert probe.custom_fields(settings) == probe.INVENTED  # only one is configured
    _edit("[sync.customers.custom_fields]", '[sync.customers.custom_fields]\nplan = "first"')(shell)
    settings = load(shell.folder / "config.toml")
    assert set(probe.custom_fields(settings)) == {"plan", "score"}
    with client(settings, SystemClock()) as api:
        assert api.groups() == []
