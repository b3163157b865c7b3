"""`init` and `connectors`: what is suggested, what is written, and that it works as it is."""

import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.hubspot import TOKEN, HubSpot
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from shell import KEY, Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import config
from syncd.connector import SourceField
from syncd.init import Wish, ask, draft, like_opt_outs, suggest, suggest_key, suggest_opt_out
from syncd.registry import names

CSV = ("init", "--connector", "csv", "--yes", "--set", "path=people.csv")


@pytest.fixture(autouse=True)
def no_configuration(shell: Shell) -> None:
    (shell.folder / "config.toml").unlink()


def fields(*names: str) -> list[SourceField]:
    return [SourceField(name) for name in names]


@pytest.mark.parametrize(
    ("header", "mapping"),
    [
        ("email firstname lastname company", "email firstName lastName company"),
        ("E-Mail Vorname Nachname Firma Telefon", "email firstName lastName company phone"),
        ("Courriel Prénom Nom Société Poste", "email firstName lastName company jobTitle"),
        ("EMAIL first_name LastName organization_name", "email firstName lastName company"),
        ("mail Given-Name Family_Name website title", "email firstName lastName website jobTitle"),
    ],
)
def test_the_mapping_is_suggested_from_the_fields_of_the_source(header: str, mapping: str) -> None:
    expected = dict(zip(mapping.split(), header.split(), strict=True))
    assert suggest(fields(*header.split())) == expected


def test_one_field_of_the_source_is_suggested_once() -> None:
    found = suggest(fields("email", "name", "title"))
    assert len(set(found.values())) == len(found)
    assert suggest(fields("colour", "size")) == {}


def test_opt_outs_are_suggested() -> None:
    assert suggest_opt_out(fields("email", "Opt-Out", "x")) == "Opt-Out"
    assert suggest_opt_out(fields("x", "hs_email_optout")) == "hs_email_optout"
    assert suggest_opt_out(fields("a", "b"), known=("b",)) == "b"
    named = [SourceField("a1b2", "Do not e-mail"), SourceField("c", "Unsubscribed from updates")]
    assert like_opt_outs(named) == ["a1b2", "c"]
    of_else = (
        "HasOptedOutOfFax",
        "phoneNumberIsOptedOut",
        "Unsubscribed_Time",
        "Unsubscribed_Mode",
    )
    assert like_opt_outs(fields(*of_else)) == []
    # the opposite of an opt-out: taking it for one would mail the wrong half
    assert suggest_opt_out(fields("subscribed", "newsletter", "consent")) is None


def test_keys_are_suggested() -> None:
    assert suggest_key(fields("email", "Kundennummer")) == "Kundennummer"
    assert suggest_key(fields("email", "name")) is None


def test_what_is_written_works_as_it_is(shell: Shell) -> None:
    shell.write(
        "people.csv",
        'ID,E-Mail,Vorname,Größe "x",Opt out\n1,ann@example.com,Ann,3,no\n2,out@example.com,O,1,yes\n',
    )
    said = shell(*CSV)
    assert (said.code, said.err) == (0, "")
    assert "Next: syncd check" in said.out
    assert "looks like an opt-out" in said.out
    text = (shell.folder / "config.toml").read_text("utf-8")
    written = tomllib.loads(text)
    assert written["source"]["csv"] == {"connector": "csv", "path": "people.csv", "key": "ID"}
    assert written["sync"]["customers"]["fields"] == {"email": "E-Mail", "firstName": "Vorname"}
    assert written["sync"]["customers"]["groups"] == []
    assert "# Groe_x = " in text  # offered, not decided
    mode = (shell.folder / "config.toml").stat().st_mode
    assert not mode & (stat.S_IWGRP | stat.S_IWOTH)

    url = {"SYNCD_FLUENZR__BASE_URL": shell.sandbox.url}
    assert shell("check", env=url).code == 0
    (result,) = shell("sync", "--json", env=url).objects
    assert (result["created"], result["opted_out"]) == (1, 1)


def test_every_offered_line_is_valid_once_it_is_used(shell: Shell) -> None:
    shell.write("people.csv", 'email,"a ""b""",c.d,é!,=1\nann@example.com,1,2,3,4\n')
    assert shell.inside(*CSV).code == 0
    path = shell.folder / "config.toml"
    head, mark, offered = path.read_text("utf-8").partition("[sync.customers.custom_fields]")
    path.write_text(head + mark + offered.replace("\n# ", "\n"), "utf-8")
    said = shell.inside("check", "--offline")
    assert said.code == 0, said.out


def test_nothing_is_overwritten(shell: Shell) -> None:
    shell.write("config.toml", "mine")
    said = shell.inside(*CSV)
    assert said.code == 2
    assert (shell.folder / "config.toml").read_text("utf-8") == "mine"


def test_another_file_is_named_in_the_next_command(shell: Shell) -> None:
    shell.write("people.csv", "email\nann@example.com\n")
    said = shell("--config", "other.toml", *CSV)
    assert said.code == 0
    assert "Next: syncd --config other.toml check" in said.out
    assert (shell.folder / "other.toml").exists()


def test_a_source_that_cannot_be_asked_is_a_note_and_no_failure(shell: Shell) -> None:
    said = shell.inside(*CSV)
    assert said.code == 0
    assert "could not be asked for its fields" in said.out
    assert 'email = "email"' in (shell.folder / "config.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--connector", "csv", "--yes"), "'path' is needed"),
        (
            ("--connector", "csv", "--yes", "--set", "path=a", "--set", "pth=b"),
            'did you mean "path"',
        ),
        (("--connector", "csv", "--yes", "--set", "path"), "--set path=people.csv"),
        (("--connector", "cvs", "--yes", "--set", "path=a"), "Did you mean 'csv'"),
        (("--connector", "csv", "--yes", "--set", "path=a", "--set", "delimiter=ab"), "delimiter"),
        (("--yes",), "--connector NAME"),
        ((), "no terminal to ask on"),
    ],
)
def test_wrong_wishes_are_2_and_write_nothing(
    shell: Shell, words: tuple[str, ...], told: str
) -> None:
    said = shell("init", *words)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert not (shell.folder / "config.toml").exists()


def test_a_secret_itself_is_refused_and_not_repeated(shell: Shell) -> None:
    wish = (
        "--set",
        "url=sqlite:///a.db",
        "--set",
        "query=SELECT 1",
        "--set",
        "password=hunter2-hunter2",
    )
    said = shell.inside("init", "--connector", "sql", "--yes", *wish)
    assert said.code == 2
    assert "env:NAME" in said.err
    assert "hunter2" not in said.out + said.err


def test_connectors_are_listed_and_told(shell: Shell) -> None:
    said = shell("connectors")
    assert said.code == 0
    for name in names():
        assert f"\n{name} " in said.out
    one = shell.inside("connectors", "csv")
    assert one.code == 0
    for words in ("path", "text, needed", "delimiter", "auto", "tells an unchanged source"):
        assert words in one.out
    assert "Next: syncd init --connector csv" in one.out


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("csv", "storage: table"),
        ("singer", "timeout: duration, default 10 minutes"),
        ("sql", "overlap: duration, default 5 minutes"),
        ("hubspot", 'emails: "primary" | "all", default primary'),
        ("dynamics", "client_secret: secret, needed"),
    ],
)
def test_options_are_told_as_the_configuration_writes_them(
    shell: Shell, name: str, line: str
) -> None:
    said = shell.inside("connectors", name)
    assert line in [" ".join(one.split()) for one in said.out.splitlines()], said.out


def test_the_key_is_never_written(shell: Shell) -> None:
    shell.write("people.csv", "email\nann@example.com\n")
    shell.inside(*CSV)
    assert KEY not in (shell.folder / "config.toml").read_text("utf-8")


def test_a_crm_brings_its_mapping_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that `init` writes is whole: the preset's fields and its opt-out."""
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    with HubSpot() as crm:
        crm.types |= {f"custom_{n}": "string" for n in range(60)} | {"do_not_email": "bool"}
        wish = Wish("hubspot", {"token": "env:HUBSPOT_TOKEN", "base_url": crm.url})
        made = draft(wish, folder=tmp_path)
    document = tomllib.loads(made.text)
    sync = document["sync"]["customers"]
    assert sync["opted_out"] == "hs_email_optout"
    (note,) = made.notes
    assert "opted_out = 'hs_email_optout|boolean or do_not_email|boolean'" in note
    assert sync["fields"]["firstName"] == "firstname"
    assert sync["fields"]["company"] == {"expr": "_company.name or company"}
    assert " more fields" in made.text
    (tmp_path / "config.toml").write_text(made.text)
    monkeypatch.setenv("FLUENZR_API_KEY", KEY)
    assert config.load(tmp_path / "config.toml").syncs["customers"].opted_out


@pytest.fixture(name="answered")
def answered_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A terminal on which these keys are pressed."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        yield keys.send_text


def test_questions_about_a_crm_begin_with_its_own_mapping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: Callable[[str], None]
) -> None:
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    with HubSpot() as crm:
        given = {"token": "env:HUBSPOT_TOKEN", "base_url": crm.url}
        up = "\x1b[A"
        answered("\r" * 6 + up + "\r" + "Customers, CRM\r" + "\r")  # all as they stand; no website
        wish = ask("hubspot", given, folder=tmp_path)
        document = tomllib.loads(draft(wish, folder=tmp_path).text)
    fields = document["sync"]["customers"]["fields"]
    assert fields == {
        "email": "email",
        "firstName": "firstname",
        "lastName": "lastname",
        "company": {"expr": "_company.name or company"},
        "jobTitle": "jobtitle",
        "phone": {"expr": "phone or mobilephone"},
    }
    assert document["sync"]["customers"]["opted_out"] == "hs_email_optout"
    assert document["sync"]["customers"]["groups"] == ["Customers", "CRM"]


def test_questions_about_a_file_begin_with_what_its_columns_are_called(
    shell: Shell, answered: Callable[[str], None]
) -> None:
    shell.write("people.csv", "id,E-Mail,Vorname,x\n1,ann@example.com,Ann,1\n")
    answered("\r" * 9)
    wish = ask("csv", {"path": "people.csv"}, folder=shell.folder)
    assert wish.fields == {"email": "E-Mail", "firstName": "Vorname"}
