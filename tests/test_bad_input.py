"""Every kind of bad input, through the command as its users have it: configurations, files, values, words.

Of each: the error stands on stderr and says what, where and what to do next; the exit code is right; nothing
was sent; what the state knows is as before; the next good run works; no traceback, and no secret anywhere.
What surrounds the command (FluenzR, databases, the state, the machine) is in test_bad_surroundings.py.
"""

import shlex
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import KEY, Shell, shell_fixture  # noqa: F401 - a fixture
from spoil import ANN, BOB, BOTH, Spoil, edit, harmless, refused, synced_fixture  # noqa: F401 - a fixture

HEADER = "id,email,first,score,out\n"
GOOD = HEADER + "1,ann@example.com,Ann,10,no\n"


def source(content: bytes | str) -> Spoil:
    """Another content of the source."""
    raw = content.encode() if isinstance(content, str) else content
    return lambda shell: (shell.folder / "people.csv").write_bytes(raw)


def moved(new: str) -> Spoil:
    """Another path of the source."""
    return edit('path = "people.csv"', f'path = "{new}"')


# The configuration

TAGS = 'tags = ["crm"]'
WHERE = "where = 'email != \"filtered@example.com\"'"
SCORE = 'score = { path = "score", as = "number" }'
EVERY = "every 15 minutes"
API_KEY = '"env:FLUENZR_API_KEY"'


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        # misspelt, with the nearest valid name
        ("[guard]", "[gaurd]", ["gaurd: ", 'did you mean "guard"?']),
        ("base_url", "bas_url", ["fluenzr.bas_url: ", 'did you mean "base_url"?']),
        ("schedule =", "shedule =", ["sync.customers.shedule: ", 'did you mean "schedule"?']),
        ("firstName", "fristName", ["sync.customers.fields.fristName: ", '"firstName"?']),
        ('key = "id"', 'kye = "id"', ["source.crm.kye: ", 'did you mean "key"?']),
        ('connector = "csv"', 'connector = "cvs"', ["source.crm.connector: ", '"csv"?']),
        ('source = "crm"', 'source = "cmr"', ["sync.customers.source: ", 'did you mean "crm"?']),
        # wrong types and choices
        ("max_enrolments = 100", 'max_enrolments = "lots"', ["guard.max_enrolments: ", '"10%"']),
        ("[state]", "share = 90\n[state]", ["fluenzr.share: ", "at most 1.0 expected, not 90"]),
        ("[state]", 'settle = "soon"\n[state]', ["fluenzr.settle: ", '"2 minutes"', '"soon"']),
        (TAGS, 'tags = "crm"', ["sync.customers.tags: ", "a list expected"]),
        (TAGS, TAGS + '\ncreate_groups = "no"', ["create_groups: true or false expected"]),
        (TAGS, TAGS + '\non_removal = "ungruop"', ["on_removal: ", 'did you mean "ungroup"?']),
        (TAGS, TAGS + '\ntimezone = "Europe/Pariss"', ["timezone: ", '"Europe/Paris"?']),
        ('as = "number"', 'as = "numbr"', ["custom_fields.score.as: ", 'did you mean "number"?']),
        (SCORE, "score = 5", ["custom_fields.score: ", "a path, or a table", "not 5"]),
        ('"people.csv"', "5", ["source.crm.path: text expected, not 5"]),
        ('path = "people.csv"', 'path = "p"\nencoding = "utf9"', ["crm.encoding: ", "cp1252"]),
        ('path = "people.csv"', 'path = "p"\ndelimiter = ";;"', ["crm.delimiter: one character"]),
        ("http://127", "http://example.com/127", ["fluenzr.base_url: https expected"]),
        # schedules and expressions, with their place
        (EVERY, "evry 15 minutes", ["customers.schedule: ", '"every N minutes"', '"evry']),
        (EVERY, "*/15 7-25 * * 1-5", ["cron field hour: * or numbers 0-23 expected", '"7-25"']),
        (EVERY, "*/15 7 * *", ["five cron fields (minute hour day month weekday) expected"]),
        (EVERY, "0 0 31 2 *", ['the day of the month "31" does not exist in the month "2"']),
        (WHERE, "where = 'email != '", ["sync.customers.where: ", "(at column 10)"]),
        (WHERE, "where = 'email = 1'", ["sync.customers.where: ", 'write "=="', "column 7"]),
        (WHERE, "where = 'email|lowr'", ['there is no filter "lowr"', 'did you mean "lower"?']),
        ("score|number >= 90", "score|number >=", ["sync.customers.groups[1].when: ", "column"]),
        ('"out"', "'out ==='", ["sync.customers.opted_out: ", "(at column 7)"]),
        # what is missing
        ('email = "email"\n', "", ['fields.email: is missing: ', 'email = "email"']),
        ('connector = "csv"\n', "", ["source.crm.connector: is missing: one of "]),
        (f"api_key = {API_KEY}\n", "", ["fluenzr.api_key: is missing", '"env:FLUENZR_API_KEY"']),
        # TOML
        ('email = "email"', 'email = "email', ["not valid TOML: line 25, column 15"]),
        ("[sync.customers]", "[sync.customers", ["line 16", "Expected ']'"]),
        ('email = "email"', 'email = "a"\nemail = "b"', ["line 26", "Cannot overwrite a value"]),
        # secrets
        (API_KEY, f'"{KEY}"', ["fluenzr.api_key: a secret is written as a reference: env:NAME"]),
        (API_KEY, '"env:FLUENZR_KEY"', ["Set the environment variable FLUENZR_KEY"]),
        (API_KEY, '"file:key.txt"', ["key.txt: No such file", "next: Correct the path"]),
        (API_KEY, '"file:."', ["Is a directory", "next: Correct the path"]),
        (API_KEY, '"file:a\\u0000b"', ["cannot be read", "next: Correct the path"]),
        (API_KEY, '"credential:key"', ["CREDENTIALS_DIRECTORY", "LoadCredential=key:"]),
        # columns that the source does not have
        ('"first"', '"frist"', ["customers.fields.firstName: ", '"crm"', 'did you mean "first"?']),
        ("'email != ", "'emial != ", ["sync.customers.where: ", 'did you mean "email"?']),
        ("score|number", "scroe|number", ["groups[1].when: ", 'did you mean "score"?']),
        ('opted_out = "out"', 'opted_out = "opt"', ["customers.opted_out: ", '"out"?']),
        (TAGS, 'tags = [{ from = "label" }]', ["tags[0].from: ", "valid: email, first, id, out"]),
        ('path = "score"', 'path = "points"', ["custom_fields.score: ", "valid: email, first"]),
        ('key = "id"', 'key = "ids"', ["'ids' is not in people.csv", "Did you mean 'id'?"]),
        # the state's path
        ('"syncd.db"', '"."', ["state.path: ", "is a folder"]),
    ],
)  # fmt: skip
def test_a_wrong_configuration(synced: Shell, old: str, new: str, parts: list[str]) -> None:
    harmless(synced, edit(old, new), 2, *parts, "next: ")


def test_check_says_the_same_place_by_place(synced: Shell) -> None:
    edit("'email != ", "'emial != ")(synced)
    edit('"first"', '"frist"')(synced)
    said = synced.inside("check", "--offline")
    assert said.code == 2
    assert 'sync.customers.where: the source "crm" has no field "emial"' in said.out
    assert 'sync.customers.fields.firstName: the source "crm" has no field "frist"' in said.out
    assert "next: Write one of its fields: email, first, id, out, score" in said.out


def test_a_broken_source_is_said_once_by_check(synced: Shell) -> None:
    edit('key = "id"', 'key = "ids"')(synced)
    assert synced.inside("check", "--offline").out.count("'ids' is not in people.csv") == 1


def test_a_value_of_the_environment_says_so(synced: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCD_FLUENZR__SHARE", "most")
    refused(
        synced, synced.inside("sync"), 2, "fluenzr.share: ", "it comes from $SYNCD_FLUENZR__SHARE"
    )


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (Path.unlink, ["There is no configuration file", "syncd init"]),
        (lambda file: file.write_bytes(b""), ["fluenzr.api_key: is missing", "sync: at least one"]),
        (lambda file: file.write_text("x", "utf-16"), ["not UTF-8: line 1", "Save it as UTF-8"]),
        (lambda file: file.write_bytes(b"a = 1\nb = '\xf6'"), ["not UTF-8: line 2"]),
        (lambda file: file.write_bytes(b"\0"), ["not valid TOML: line 1"]),
        (lambda file: file.write_bytes(b"#" * 2_000_000), ["larger than 1048576 bytes"]),
        (lambda file: (file.unlink(), file.mkdir()), ["config.toml is a folder", "Name the file"]),
        # As root a file without permissions can be read; this one nobody can read from its start.
        (lambda file: (file.unlink(), file.symlink_to("/proc/self/mem")), ["cannot be read"]),
    ],
    ids=["missing", "empty", "utf-16", "latin-1", "nul", "large", "folder", "unreadable"],
)  # fmt: skip
def test_a_configuration_that_is_none(
    shell: Shell, spoil: Callable[[Path], object], parts: list[str]
) -> None:
    spoil(shell.folder / "config.toml")
    said = shell.inside("sync")
    refused(shell, said, 2, *parts, "next: ")
    assert not shell.sandbox.counts


# The source


def _folder(shell: Shell) -> None:
    (shell.folder / "people.csv").unlink()
    (shell.folder / "people.csv").mkdir()


LONG = "x" * 9_000_000
TWICE = "The key '1' stands twice in the source: people.csv:2 and people.csv:4"


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (lambda shell: (shell.folder / "people.csv").unlink(), ["No file matches people.csv"]),
        (moved("peple*.csv"), ["No file matches peple*.csv", "folder of the configuration"]),
        (moved("a\\u0000b.csv"), ["No file matches"]),
        (moved("y" * 300), ["File name too long"]),
        (moved("/proc/self/mem"), ["/proc/self/mem cannot be read"]),
        (moved("/dev/zero"), ["/dev/zero is not a file", "a pipe or a device"]),
        (_folder, ["people.csv is not a file, but a folder", "people/*.csv"]),
        (source(""), ["people.csv is empty", "no header line"]),
        (source(b"a,b\n1,J\xf6rg\n"), ["people.csv:2: the bytes do not decode", "cp1252"]),
        (source(GOOD.encode("utf-16-le")), ["people.csv:1: ", "NUL", "utf-16-le"]),
        (source(GOOD + "2,bob\0@example.com,B,1,no\n"), ["people.csv:3: there is a NUL"]),
        (source(b"PK\x03\x04\x14\0\6\0"), ["is a spreadsheet", "Export it as CSV"]),
        (source(GOOD + "2,bob@example.com\n"), ["people.csv:3: the row has 2 fields, the header"]),
        (source(GOOD + "2,b@example.com,B, Jr,1,no\n"), ["people.csv:3: the row has 6 fields"]),
        (source(GOOD + '2,"bob,B,1,no\n3,c,C,1,no\n'), ["people.csv:3: ", "never closed"]),
        (source(GOOD + '2,b@example.com,"B" x,1,no\n'), ["people.csv:3: ", "closed wrongly"]),
        (source(GOOD + "2,b@example.com,B,1,no\n1,c@example.com,C,1,no\n"), [TWICE]),
        (source(GOOD + ",b@example.com,B,1,no\n"), ["people.csv:3: the key column 'id' is empty"]),
        (source("id,email,id\n1,a,1\n"), ["people.csv:1: columns 1 and 3 are both called 'id'"]),
        (source("id,,out\n1,a,no\n"), ["people.csv:1: column 2 has no name"]),
        (source(f"{GOOD}2,{LONG}{LONG}"), ["people.csv:3: the line is longer than 16777216"]),
        (source(b"\x1f\x8b\x08\0cut off"), ["the gzip file is damaged or cut off"]),
    ],
    ids=[
        "missing", "pattern", "NUL in path", "long path", "unreadable", "device", "folder", "empty",
        "latin-1", "utf-16 without mark", "NUL", "xlsx", "short row", "long row", "unclosed quote",
        "quote inside", "duplicate key", "empty key", "duplicate column", "nameless column",
        "20 MB line", "cut gzip",
    ],
)  # fmt: skip
def test_a_bad_file(synced: Shell, spoil: Spoil, parts: list[str]) -> None:
    said = harmless(synced, spoil, 1, "error: customers: ", *parts)
    assert "customers: failed" in said.out


def test_a_file_that_changes_while_it_is_read(synced: Shell) -> None:
    people = "".join(f"{n},p{n}@example.com,P,0,no\n" for n in range(20_000))
    path = synced.write("people.csv", HEADER + people)
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.001):
            with path.open("a") as file:
                file.write("\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        writes = synced.sandbox.writes()
        said = synced.inside("sync")
    finally:
        ended.set()
        writer.join()
    refused(synced, said, 1, "people.csv was changed while it was read", "then rename")
    assert synced.sandbox.writes() == writes


def test_a_header_alone_removes_nobody(synced: Shell) -> None:
    writes = synced.sandbox.writes()
    synced.write("people.csv", HEADER)
    said = synced.inside("sync")
    refused(synced, said, 4)
    assert "The source is empty" in said.out
    assert "syncd approve 2 customers" in said.out
    assert synced.sandbox.writes() == writes


def test_html_in_place_of_a_file(synced: Shell) -> None:
    page = source("<!DOCTYPE html>\n<html>Please log in, now</html>\n")
    harmless(synced, page, 2, "'id' is not in people.csv", "<!DOCTYPE html>")


def test_addresses_that_cannot_be_used_are_counted_and_the_others_go_on(synced: Shell) -> None:
    bad = ["", "nobody", "a@b@example.com", "x@localhost", "l" * 300 + "@example.com",
           "a b@example.com", "ann@example..com"]  # fmt: skip
    synced.people(ANN, BOB, *((10 + n, email, "X", 1) for n, email in enumerate(bad)))
    said = synced.inside("sync")
    assert said.code == 0
    assert "7 skipped (7 without a usable address)" in said.out
    assert set(synced.account.contacts_by_email()) == BOTH
    refused(synced, synced.inside("why", "l" * 300 + "@x.example"), 2, "longer than 254", "next: ")
    refused(synced, synced.inside("why", "nobody"), 2, "nobody cannot be used", "ann@example.com")


@pytest.mark.parametrize(
    ("score", "out", "edited"),
    [
        ("10", "maybe", ("", "")),  # an opt-out that cannot be read is no consent
        ("high", "no", ("", "")),
        ("high", "no", ("where = '", "where = 'score|number > 1 and ")),
    ],
    ids=["opted_out", "field", "where"],
)
def test_a_rule_that_fails_for_one_record_stops_this_one_alone(
    synced: Shell, score: str, out: str, edited: tuple[str, str]
) -> None:
    edit(*edited)(synced)
    synced.people(ANN, BOB, (3, "cleo@example.com", "Cleo", score, out))
    said = synced.inside("sync")
    assert said.code == 3
    assert "1 person could not be delivered: `syncd quarantine list` says who" in said.out
    assert set(synced.account.contacts_by_email()) == BOTH
    again = synced.inside("sync")
    assert again.code == 0  # nothing new; but it is still said
    assert "1 person still could not be delivered" in again.out
    listed = synced.inside("quarantine", "list").out
    assert "key 3 <cleo@example.com>" in listed
    (one,) = synced.inside("quarantine", "list", "--json").objects
    assert (one["key"], one["tries"], one["next_try"]) == ("3", 0, None)
    assert "value that could not be read" in synced.inside("why", "cleo@example.com").out


# The command's words


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("sync custmers", ["There is no sync 'custmers'", 'did you mean "customers"?']),
        ("sync --limit 0", ["--limit"]),
        ("sync --limit 99999999999999999999999", ["--limit"]),
        ("sync --email nobody", ["nobody cannot be used", "ann@example.com"]),
        ("sync --wait -1", ["--wait"]),
        ("syncc", ["No such command 'syncc'", "Did you mean 'sync'?"]),
        ("sync --ful", ["--full"]),
        ("history 999", ["There is no run 999", "The last one is run 1", "syncd history"]),
        ("history 99999999999999999999999", ["RUN"]),
        ("approve 999", ["run 999", "next: "]),
        ("approve 1", ["Nothing is held in run 1", "next: "]),
        ("approve", ["Missing argument 'RUN'"]),
        ("why ''", ["(empty) cannot be used", "ann@example.com"]),
        ("connectors cvs", ["There is no connector 'cvs'", "Did you mean 'csv'?"]),
        ("init", ["config.toml is there already", "next: "]),
        ("check --offline --probe", ["exclude each other"]),
        ("sandbox --port 99999", ["--port"]),
    ],
)
def test_words_that_mean_nothing(synced: Shell, words: str, parts: list[str]) -> None:
    writes = synced.sandbox.writes()
    refused(synced, synced.inside(*shlex.split(words)), 2, *parts)
    assert synced.sandbox.writes() == writes


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("status", 0, "customers: has never run"),
        ("history", 0, "Nothing has run yet"),
        ("why ann@example.com", 0, "nothing is known about it"),
        ("history 1", 2, "There is no run 1"),
        ("approve 1", 2, "There is no run 1"),
    ],
)
def test_questions_before_the_first_run(shell: Shell, words: str, code: int, part: str) -> None:
    said = shell.inside(*words.split())
    refused(shell, said, code)
    assert part in said.out + said.err
    assert not (shell.folder / "syncd.db").exists()
