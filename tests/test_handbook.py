"""The docs say what is so: the reference leaves nothing out, the pages' parts exist, JSON is as it is described."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from shell import Shell, shell_fixture  # noqa: F401 - a fixture
from typer.main import get_command

from handbook import commands, configuration, connectors, events, exit_codes, man, outside, site
from syncd import errors, registry
from syncd.cli.app import app
from syncd.config import _Tables
from syncd.core import guard
from syncd.core.result import EXIT_CODES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
JSON_PAGE = (DOCS / "reference/json.md").read_text("utf-8")
MAN = shutil.which("man")


# The reference


def test_every_command_has_its_section_with_its_options_and_an_example() -> None:
    text = commands.markdown()
    sections = dict(re.findall(r"^## (syncd.*)\n((?:(?!^## ).*\n?)*)", text, re.MULTILINE))
    assert {"syncd", "syncd run", "syncd quarantine list", "syncd stats"} <= sections.keys()
    for name in get_command(app).commands:
        assert any(f"{words} ".startswith(f"syncd {name} ") for words in sections), name
    assert "`--email ADDRESS`" in sections["syncd sync"]
    assert "| `EMAIL...` |" in sections["syncd release"] or "`EMAIL" in sections["syncd release"]
    for words, section in sections.items():
        assert words == "syncd" or re.search(rf"```sh\nsyncd.* ?{words[6:]}", section), words
        assert "\b" not in section


def test_every_table_of_the_configuration_has_its_section() -> None:
    """The tables that the file may have, the keys that they may have."""
    text = configuration.markdown()
    for name in _Tables.model_fields:
        head = {"sync": "sync.NAME", "source": None}.get(name, name)
        assert head is None or f"## `[{head}]`" in text, name
    assert "| `settle` | duration | `2 minutes` |" in text
    assert "| `source` | text | needed |" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.count(" | ") != 3] == []


def test_every_floor_of_the_guards_is_told() -> None:
    floors = {value for name, value in vars(guard).items() if name.endswith("_FLOOR")}
    assert set(configuration.FLOORS.values()) == floors
    told = configuration.guards()
    assert all(f"`{name}`" in told for name in guard.Limits.__slots__)


def test_every_connector_and_writer_has_its_section() -> None:
    text, writers, lines = connectors.markdown(), connectors.writers(), connectors.summaries()
    for name in registry.names():
        assert f"\n\n## {name}\n" in f"\n\n{text}"
        assert f"(#{name})" in lines
    for name in registry.writers():
        assert f"\n\n## {name}\n" in f"\n\n{writers}"
    assert "The table `storage`:" in text


def test_every_exit_code_has_a_meaning() -> None:
    assert exit_codes.meanings().keys() >= {*exit_codes.errors(), *EXIT_CODES.values(), 0, 130}
    told = exit_codes.markdown()
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.SyncdError):
            assert error is errors.SyncdError or f"`{name}`" in told


def test_every_event_has_a_level_and_a_meaning() -> None:
    """The comment beside its constant; an event without a constant has no place for it."""
    found = {event.name: event for event in events.events()}
    assert {"daemon.started", "guard.held", "sync.completed", "source.waiting"} <= found.keys()
    assert found["guard.held"].levels == {"warning"}
    assert found["guard.held"].fields == ["run", "sync", "people", "why"]
    assert found["sync.completed"].levels == {"info", "warning", "error"}
    assert [event.name for event in found.values() if not (event.meaning and event.levels)] == []


def test_no_constant_of_an_event_is_overlooked() -> None:
    """Each text of the form noun.past_participle that is given a name and used where something is logged."""
    named = set[str]()
    for top in ("syncd", "connectors"):
        for path in (ROOT / top).rglob("*.py"):
            source = path.read_text("utf-8")
            if "structlog" in source:
                named |= set(re.findall(r'^[A-Z_]+ = "([a-z_]+\.[a-z_]+)"', source, re.MULTILINE))
    assert len(named) > 25
    assert named - {event.name for event in events.events()} == set()


def test_events_are_found_however_they_are_logged() -> None:
    first = (
        'import structlog\nONE = "a.made"  # of one\nTWO = "b.made"\nTHREE = "not.logged"  # no\n'
    )
    second = (
        "import structlog\ndef f(x, told):\n    log.info(m.ONE, x=x)\n    log.debug(m.ONE, y=x)\n"
        "    {1: log.error}.get(x, log.warning)(TWO, **told)\n    log.info('c.made', exc_info=x)\n"
    )
    found = events.found_in([first, second])
    assert [(e.name, e.meaning, sorted(e.levels), e.fields) for e in found] == [
        ("a.made", "of one", ["debug", "info"], ["x", "y"]),
        ("b.made", "", ["error", "warning"], [events.MORE]),
        ("c.made", "", ["info"], []),
    ]


# The pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_has_its_parts_and_stands_in_the_menu(page: Path) -> None:
    name = str(page.relative_to(DOCS))
    text = site.filled(page.read_text("utf-8"), name)
    assert text.startswith("# ")
    assert "<!-- handbook" not in text
    assert re.search(rf"(: |- ){re.escape(name)}$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    outside_code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", outside_code):
        assert (page.parent / target).resolve().is_file(), f"{name} leads to {target}"


def test_each_part_is_in_a_page_and_no_other_is_known() -> None:
    marks = {mark for page in PAGES for mark in re.findall(r"handbook: (.+) -->", page.read_text())}
    assert {mark for mark in marks if not mark.startswith(site.FILE)} == site.PARTS.keys()
    with pytest.raises(KeyError):
        site.filled("<!-- handbook: nothing -->", "index.md")


def test_links_of_a_file_from_elsewhere_lead_into_the_site() -> None:
    text = outside.text("deploy/README.md", "how-to/run-as-a-service.md")
    assert "](../how-to/receive-events.md)" in text
    assert "](../docs/" not in text


def test_the_site_asks_nobody_else_for_anything() -> None:
    """Material's fonts, and the diagrams that it would draw with a script from elsewhere."""
    assert re.search(r"^  font: false", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert [page for page in PAGES if "```mermaid" in page.read_text()] == []


# JSON


def fields(words: str, text: str = JSON_PAGE) -> set[str]:
    """The fields that the page has in the section of a command; of its first table."""
    section = re.search(rf"^## {words}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, words
    rows = re.search(r"^\|---.*\n((?:\|.*\n?)+)", section[1], re.MULTILINE)
    assert rows, words
    return {
        name for row in rows[1].splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }


def test_every_command_with_json_is_described() -> None:
    for command in commands.commands():
        if any("--json" in option.names for option in command.options):
            assert re.search(rf"\b{command.words}\b", JSON_PAGE), command.words


def test_fields_are_those_that_the_commands_print(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Ann", 10), (2, "bob@example.com", "Bob", 20))
    shell.account.refuse("bob@example.com")

    def printed(words: str, *more: str) -> set[str]:
        objects = shell.inside(*words.split()[1:], *more, "--json").objects
        assert objects, words
        return set(objects[-1])

    for words, more in (
        ("syncd check", ()),
        ("syncd plan", ()),
        ("syncd sync", ()),
        ("syncd status", ()),
        ("syncd backup", ("copy.db",)),
        ("syncd why", ("ann@example.com",)),
    ):
        assert printed(words, *more) == fields(words), words
    for words, more, sometimes in (
        ("syncd history", ("1",), {"approved", "changes"}),  # a create is no change
        ("syncd quarantine list", (), {"key", "write_back"}),
        ("syncd undo", ("1", "--yes"), set()),
        ("syncd reconcile", (), set()),
    ):
        assert fields(words) - printed(words, *more) == sometimes, words
        assert printed(words, *more) <= fields(words), words


def test_fields_of_a_planned_change(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Ann", 10))
    (plan,) = shell.inside("plan", "--json").objects
    after = JSON_PAGE.partition("Each of `changes`:")[2]
    assert set(plan["changes"][0]) == fields("Each of them", f"## Each of them\n{after}")


def test_fields_of_campaigns_and_webhooks(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Ann", 10))
    shell.inside("sync")
    shell.account.add_campaign("Spring", status="draft")
    shell.write("secret", "s" * 32)
    url = "https://sync.example.com/webhooks/fluenzr"
    table = f'\n[webhooks]\nsecret = "file:secret"\npublic_url = "{url}"\n'
    shell.write("config.toml", (shell.folder / "config.toml").read_text() + table)
    assert shell.inside("webhooks", "register").code == 0

    def printed(words: str, *more: str) -> set[str]:
        return set(shell.inside(*words.split()[1:], *more, "--json").objects[-1])

    assert printed("syncd campaigns list") == fields("syncd campaigns list")
    assert printed("syncd campaigns enrol", "Spring", "--group", "Customers") == fields(
        "syncd campaigns enrol"
    )
    assert printed("syncd campaigns start", "Spring") == fields("syncd campaigns start")
    assert printed("syncd webhooks list") == fields("syncd webhooks list")
    assert fields("syncd stats") <= printed("syncd stats")


# The man page


def test_the_man_page_is_current() -> None:
    """It is part of the package, and so is made beforehand."""
    assert (DOCS / "syncd.1").read_text("utf-8") == man.page(), "run: make man"


def test_the_man_page_has_every_command() -> None:
    page = man.page()
    for command in commands.commands()[1:]:
        assert f".SS {command.words.replace('-', chr(92) + '-')}" in page
    assert ".B 130\n" in page
    assert not [line for line in page.splitlines() if line.startswith("'")]


@pytest.mark.skipif(MAN is None, reason="this machine has no man")
def test_the_man_page_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "syncd.1").write_text(man.page(), "utf-8")
    done = subprocess.run(
        [str(MAN), "--warnings", "-l", "-P", "cat", str(tmp_path / "syncd.1")],
        capture_output=True, text=True, check=False, env={"MANWIDTH": "80", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "syncd quarantine retry" in done.stdout
