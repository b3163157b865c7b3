"""The configuration: what loads, what is refused, at which place, with which nearest name."""

import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from syncd import config
from syncd.config_models import Table
from syncd.core.guard import Limits
from syncd.core.limit import Limit
from syncd.core.mapping import compile_mapping
from syncd.core.model import Wanted
from syncd.core.schedule import Cron, Every
from syncd.errors import ConfigError

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "config.example.toml"

FLUENZR = '[fluenzr]\napi_key = "env:FLUENZR_API_KEY"\n'
SOURCE = '[source.crm]\nconnector = "csv"\npath = "people.csv"\nkey = "id"\n'
SYNC = '[sync.customers]\nsource = "crm"\n'
FIELDS = '[sync.customers.fields]\nemail = "email"\n'
WHOLE = FLUENZR + SOURCE + SYNC + FIELDS


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """A folder, a home and an environment that hold nothing of ours."""
    for name in [name for name in os.environ if name.startswith("SYNCD_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load(tmp_path):
    def written(text, name="config.toml"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return config.load(file)

    return written


@pytest.fixture
def refused(load):
    """Load what must be refused; the error's text."""

    def written(text):
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert caught.value.exit_code == 2
        return str(caught.value)

    return written


def mistakes(text: str) -> dict[str, str]:
    """place -> what is wrong there, of an error that lists several."""
    lines = re.findall(r"^  (\S+?): (.*)$", text, re.M)
    return dict(lines)


def test_the_smallest_configuration_has_the_promised_defaults(load, tmp_path):
    settings = load(WHOLE)
    assert settings.path == tmp_path / "config.toml"
    assert settings.folder == tmp_path
    assert settings.state.path == tmp_path / "syncd.db"
    fluenzr = settings.fluenzr
    assert (fluenzr.base_url, fluenzr.requests_per_minute, fluenzr.share) == (
        "https://api.fluenzr.co/v1",
        1000,
        0.9,
    )
    assert (fluenzr.bulk, fluenzr.settle_s) == ("auto", 120)
    assert settings.guard.limits() == Limits(
        max_enrolments=Limit(count=100),
        max_removals=Limit(share=0.1),
        max_creates=Limit(share=1.0),
        max_field_changes=Limit(share=0.5),
        max_shrink=Limit(share=0.5),
        max_bounce_rate=Limit(share=0.05),
    )
    sync = settings.syncs["customers"]
    assert (sync.name, sync.source, sync.schedule, sync.timezone) == (
        "customers",
        "crm",
        None,
        "UTC",
    )
    assert (sync.full_every_s, sync.create_groups) == (86400, True)
    assert (sync.on_removal, sync.on_existing, sync.empty) == ("ungroup", "update", "clear")


def test_every_key_reaches_its_setting(load, tmp_path):
    settings = load(
        """
        [fluenzr]
        api_key = "file:key.txt"
        base_url = "http://127.0.0.1:8000/v1/"
        requests_per_minute = 60
        share = 1
        bulk = "off"
        settle = "0 seconds"
        [state]
        path = "data/../state.db"
        [guard]
        max_enrolments = 0
        max_removals = "5%"
        max_creates = 20
        max_field_changes = "2.5%"
        max_shrink = 7
        [source.crm]
        connector = "csv"
        path = "people.csv"
        [source.unused]
        connector = "jsonl"
        path = "people.jsonl"
        [sync.b]
        source = "crm"
        schedule = "*/15 7-19 * * 1-5"
        timezone = "Europe/Paris"
        full_every = "2 hours"
        where = 'a == "b"'
        opted_out = "out"
        groups = ["A", { name = "B", when = "x > 1" }, { from = "_lists", prefix = "P " }]
        tags = ["t", { from = "_tags" }]
        create_groups = false
        on_removal = "delete"
        on_existing = "skip"
        empty = "keep"
        fields = { email = { expr = "mail | lower" }, consent = { value = 1, send_as = "c" } }
        custom_fields = { when = { value = 2026-01-31 }, "Any Name" = { path = "E-mail", as = "date", default = "" } }
        [sync.a]
        source = "crm"
        schedule = "every 15 minutes"
        fields.email = "email"
        """
    )
    assert settings.fluenzr.settle_s == 0
    assert settings.fluenzr.base_url == "http://127.0.0.1:8000/v1"
    (tmp_path / "key.txt").write_text("the key\n")
    assert settings.fluenzr.api_key.reveal() == "the key"
    assert settings.state.path == tmp_path / "data/../state.db"
    assert settings.guard.max_field_changes == Limit(share=0.025)
    assert list(settings.syncs) == ["b", "a"], "the order in the file is the priority"
    assert set(settings.sources) == {"crm", "unused"}
    b = settings.syncs["b"]
    assert isinstance(b.schedule, Cron)
    assert settings.syncs["a"].schedule == Every(900)
    assert (b.timezone, b.full_every_s, b.create_groups) == ("Europe/Paris", 7200, False)
    assert (b.on_removal, b.on_existing, b.empty) == ("delete", "skip", "keep")
    record = {
        "mail": "ANN@example.com",
        "a": "b",
        "out": "",
        "x": 2,
        "_lists": ["L"],
        "_tags": [],
        "E-mail": "",
    }
    assert compile_mapping(b.rules()).map(record) == Wanted(
        email="ann@example.com",
        fields={"c": 1},
        custom_fields={"when": "2026-01-31"},
        groups=("A", "B", "P L"),
        tags=("t",),
    )


def test_a_source_keeps_its_options_as_written_and_as_validated(load):
    source = load(WHOLE).sources["crm"]
    assert (source.name, source.connector) == ("crm", "csv")
    assert source.options == {"path": "people.csv", "key": "id"}
    assert source.validated.model_dump()["key"] == "id"


@pytest.mark.parametrize(
    ("variable", "value", "read", "expected"),
    [
        (
            "SYNCD_FLUENZR__BASE_URL",
            "http://localhost:1/v1",
            lambda s: s.fluenzr.base_url,
            "http://localhost:1/v1",
        ),
        ("SYNCD_FLUENZR__REQUESTS_PER_MINUTE", "50", lambda s: s.fluenzr.requests_per_minute, 50),
        ("SYNCD_FLUENZR__SETTLE", "0", lambda s: s.fluenzr.settle_s, 0),
        ("SYNCD_FLUENZR__API_KEY", "env:OTHER", lambda s: s.fluenzr.api_key.reference, "env:OTHER"),
        ("SYNCD_GUARD__MAX_REMOVALS", "5%", lambda s: s.guard.max_removals, Limit(share=0.05)),
        ("SYNCD_GUARD__MAX_REMOVALS", "5", lambda s: s.guard.max_removals, Limit(count=5)),
        (
            "SYNCD_SOURCE__CRM__PATH",
            "new.csv",
            lambda s: s.sources["crm"].options["path"],
            "new.csv",
        ),
        (
            "SYNCD_SYNC__CUSTOMERS__SCHEDULE",
            "every hour",
            lambda s: s.syncs["customers"].schedule,
            Every(3600),
        ),
        (
            "SYNCD_SYNC__CUSTOMERS__CREATE_GROUPS",
            "false",
            lambda s: s.syncs["customers"].create_groups,
            False,
        ),
        (
            "SYNCD_SYNC__CUSTOMERS__GROUPS",
            '["X"]',
            lambda s: s.syncs["customers"].groups[0].name,
            "X",
        ),
        (
            "SYNCD_SYNC__CUSTOMERS__FIELDS__FIRSTNAME",
            "name",
            lambda s: s.syncs["customers"].fields["firstName"].path,
            "name",
        ),
        ("syncd_fluenzr__bulk", "off", lambda s: s.fluenzr.bulk, "off"),
    ],
)
def test_the_environment_wins_over_the_file(load, monkeypatch, variable, value, read, expected):
    monkeypatch.setenv(variable, value)
    settings = load(WHOLE + 'firstName = "first"\n[guard]\nmax_removals = 3\n')
    assert read(settings) == expected
    assert settings.syncs["customers"].fields["email"].path == "email", "the rest stays"


def test_the_environment_knows_a_sync_in_any_letter_case(load, monkeypatch):
    monkeypatch.setenv("SYNCD_SYNC__MINE__EMPTY", "keep")
    settings = load(WHOLE.replace("customers", "Mine"))
    assert [(sync.name, sync.empty) for sync in settings.syncs.values()] == [("Mine", "keep")]


def test_a_variable_for_no_table_is_a_mistake(load, refused, monkeypatch):
    monkeypatch.setenv("SYNCD_FLUENZ__BASE_URL", "x")
    assert '$SYNCD_FLUENZ__BASE_URL: there is no table fluenz; did you mean "fluenzr"?' in refused(
        WHOLE
    )
    monkeypatch.delenv("SYNCD_FLUENZ__BASE_URL")
    monkeypatch.setenv("SYNCD_CONFIG", "used elsewhere")
    load(WHOLE)


def test_a_variable_that_names_no_key_is_a_mistake(refused, monkeypatch):
    monkeypatch.setenv("SYNCD_FLUENZR", "nonsense")
    assert "SYNCD_FLUENZR__BASE_URL" in refused(WHOLE)


def test_the_file_is_looked_for_in_the_promised_order(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="syncd init"):
        config.find(None)
    home = tmp_path / "home/.config/fluenzr-syncd/config.toml"
    home.parent.mkdir(parents=True)
    home.write_text(WHOLE)
    assert config.find(None) == home
    here = tmp_path / "config.toml"
    here.write_text(WHOLE)
    assert config.find(None) == here
    named = tmp_path / "named.toml"
    named.write_text(WHOLE)
    monkeypatch.setenv("SYNCD_CONFIG", str(named))
    assert config.find(None) == named
    assert config.find(Path("config.toml")) == here


def test_a_named_file_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text(WHOLE)
    with pytest.raises(ConfigError, match=r"no configuration file nobody\.toml"):
        config.load(Path("nobody.toml"))
    monkeypatch.setenv("SYNCD_CONFIG", "gone.toml")
    with pytest.raises(ConfigError, match=r"gone\.toml, as \$SYNCD_CONFIG says"):
        config.load(None)


def test_a_file_that_cannot_be_read_says_why():
    with pytest.raises(ConfigError, match=r"cannot be read.*File name too long"):
        config.load(Path("x" * 5000))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fluenzr\n", "line 1, column 9: [fluenzr"),
        ("[state]\npath = \n", "line 2, column 8: path ="),
        ("[state]\npath = syncd.db\n", "line 2"),
        ('[state]\npath = "a"\npath = "b"\n', 'line 3, column 11: path = "b"'),
        (WHOLE + SYNC, "[sync.customers]. Cannot declare"),
        (WHOLE + SOURCE, "[source.crm]. Cannot declare"),
        ("x = [1,\n", "line 1"),
        (b"a = 1\nb = '\xff'\n", "not UTF-8: line 2"),
        (b"#" * (1024 * 1024 + 1), "larger than"),
    ],
)
def test_a_broken_file_names_the_line(refused, text, words):
    assert words in refused(text)


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "flz_sk_abcdefgh',
        "token = abcdefgh",
        'url = "mysql://u:abcdefgh@h',
        'x = "flz_sk_abcdefgh',
    ],
)
def test_a_broken_line_that_may_hold_a_secret_is_not_repeated(refused, line):
    told = refused(f"[fluenzr]\n{line}\n")
    assert "line 2" in told
    assert "abcdefgh" not in told


def test_a_mark_at_the_begin_of_the_file_is_no_mistake(load):
    load(b"\xef\xbb\xbf" + WHOLE.encode())


FIELD = "sync.customers.fields"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        # names
        ("[fluenz]\nx = 1\n" + WHOLE, "fluenz", 'no such table; did you mean "fluenzr"?'),
        (WHOLE + "[alarm]\nurl = 'x'\n", "alarm", "no such table; valid: alerts, backup, fluenzr, guard, http"),
        (WHOLE + "[http]\nlisten = 'x'\n", "http.listen", 'such as "127.0.0.1:8787" expected'),
        (WHOLE + "[http]\nlisten = '127.0.0.1:65536'\n", "http.listen", "an address and a port"),
        (WHOLE + "[webhooks]\n", "webhooks.secret", "is missing"),
        (WHOLE + "[webhooks]\nsecret = 'env:S'\npublic_url = 'https://x.example.com/'\n", "webhooks.public_url", "/webhooks/fluenzr"),
        ("stat = 1\n" + WHOLE, "stat", 'no such key; did you mean "state"?'),
        ("state = 1\n" + WHOLE, "state", "a table expected, not 1"),
        (WHOLE + "[guard]\nmax_removal = 1\n", "guard.max_removal", 'did you mean "max_removals"?'),
        (FLUENZR + "basurl = 1\n" + SOURCE + SYNC + FIELDS, "fluenzr.basurl", 'did you mean "base_url"?'),
        (FLUENZR + "settle_s = 1\n" + SOURCE + SYNC + FIELDS, "fluenzr.settle_s", 'did you mean "settle"?'),
        (WHOLE + "[source.x]\nconnector = 'cvs'\n", "source.x.connector", 'no connector "cvs"; did you mean "csv"?'),
        (WHOLE + "[source.x]\npath = 'x'\n", "source.x.connector", "is missing: one of "),
        (WHOLE + "[source.x]\nconnector = ['csv']\n", "source.x.connector", "no connector a list"),
        (WHOLE + "[source.x]\nconnector = 'csv'\npath = 'x'\nkye = 'id'\n", "source.x.kye", 'did you mean "key"?'),
        (WHOLE + "[source.x]\nconnector = 'csv'\n", "source.x.path", "is missing"),
        (WHOLE + "[source.x]\nconnector = 'csv'\npath = 3\n", "source.x.path", "text expected, not 3"),
        (WHOLE + "[source.x]\nconnector = 'sql'\nquery = 'x'\nurl = 3\n", "source.x.url", "reference"),
        (WHOLE + "[source.x]\nconnector = 'csv'\npath = 'x'\nkey = 3\n", "source.x.key", "text expected, not 3"),
        (WHOLE.replace('source = "crm"', 'source = "crn"'), "sync.customers.source", 'no source "crn"; did you mean "crm"?'),
        (WHOLE.replace('source = "crm"\n', ""), "sync.customers.source", "is missing"),
        (WHOLE.replace("customers", '"my customers"'), 'sync."my customers"', "a name of letters"),
        (FLUENZR + SOURCE, "sync", "at least one sync is needed"),
        (FLUENZR + SOURCE + "[sync]\ncustomers = 3\n", "sync.customers", "a table [sync.NAME] expected, not 3"),
        # the mapping
        (FLUENZR + SOURCE + SYNC, FIELD + ".email", "is missing: where the address is"),
        (WHOLE.replace("email = ", "mail = "), FIELD + ".email", "is missing"),
        (WHOLE.replace("email = ", "mail = "), FIELD + ".mail", 'no such field; did you mean "email"?'),
        (WHOLE + "firstname = 'x'\n", FIELD + ".firstname", 'no such field; did you mean "firstName"?'),
        (WHOLE + "title = 'x'\n", FIELD + ".title", 'did you mean "jobTitle"?'),
        (WHOLE + "zzz = { path = 'x' }\n", FIELD + ".zzz", "Any other name needs send_as"),
        (WHOLE + "x = { path = 'x', send_as = 'groupIds' }\n", FIELD + ".x.send_as", "not for a field"),
        (WHOLE + "x = { path = 'x', send_as = 'email' }\n", FIELD + ".x.send_as", "not for a field"),
        (WHOLE + "company = 'a'\nx = { path = 'x', send_as = 'company' }\n", FIELD + ".x", "what company is sent as"),
        (WHOLE.replace('"email"', "{ value = 'a@example.com' }"), FIELD + ".email", "its own address"),
        (WHOLE + "company = 3\n", FIELD + ".company", "a path, or a table with path, expr or value, expected, not 3"),
        (WHOLE + "company = ''\n", FIELD + ".company", "a path must not be empty"),
        (WHOLE + "company = {}\n", FIELD + ".company", "exactly one of path, expr and value"),
        (WHOLE + "company = { path = 'a', expr = 'b' }\n", FIELD + ".company", "exactly one of"),
        (WHOLE + "company = { pth = 'a' }\n", FIELD + ".company.pth", 'did you mean "path"?'),
        (WHOLE + "company = { path = 'a', as = 'txt' }\n", FIELD + ".company.as", 'not "txt"; did you mean "text"?'),
        (WHOLE + "company = { path = 'a', region = 'FR' }\n", FIELD + ".company", 'region is for as = "phone" only'),
        (WHOLE + "phone = { path = 'a', as = 'phone', region = 'FRA' }\n", FIELD + ".phone.region", "two letters"),
        (WHOLE + "company = { value = 'a', default = 'b' }\n", FIELD + ".company", "value is sent as it is"),
        (WHOLE + "company = { path = 'a', default = ['b'] }\n", FIELD + ".company.default", "text, a number"),
        (WHOLE + "company = { expr = 'a ~' }\n", FIELD + ".company.expr", "unexpected end of the expression (at column 4)"),
        (WHOLE + "company = { expr = 'a | lowr' }\n", FIELD + ".company.expr", 'did you mean "lower"?'),
        (WHOLE + "[sync.customers.custom_fields]\nx = { expr = '(' }\n", "sync.customers.custom_fields.x.expr", "at column 2"),
        (WHOLE.replace(FIELDS, "fields = 3\n"), FIELD, "a table expected, not 3"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(refused, text, place, words):
    told = refused(text)
    assert f"{place}: " in told
    assert words in told


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        ("where = 'a b'", "where", "the expression should end here (at column 3)"),
        ("where = 3", "where", "text expected, not 3"),
        ("opted_out = 'a is tru'", "opted_out", 'did you mean "true"?'),
        ("opted_out = true", "opted_out", "text expected, not true"),
        ("schedule = '* * * * 9'", "schedule", "cron field day of the week"),
        ("schedule = 'every 5 mintes'", "schedule", 'not "every 5 mintes"'),
        ("schedule = 15", "schedule", "five cron fields"),
        ("timezone = 'Europe/Pari'", "timezone", 'did you mean "Europe/Paris"?'),
        ("timezone = '../passwd'", "timezone", "no such time zone"),
        ("timezone = 'Europe'", "timezone", "no such time zone"),
        ("full_every = '1 week'", "full_every", 'a duration such as "90 seconds"'),
        ("groups = 'A'", "groups", 'a list expected, not "A"'),
        ("groups = ['']", "groups[0]", "a name of 1 to 200 characters"),
        ("groups = ['A', 3]", "groups[1]", "a name, or a table with name or from, expected, not 3"),
        ("groups = [{ nam = 'A' }]", "groups[0].nam", 'did you mean "name"?'),
        ("groups = [{ name = 'A', from = 'b' }]", "groups[0]", "exactly one of name and from"),
        ("groups = [{ prefix = 'A' }]", "groups[0]", "exactly one of name and from"),
        ("groups = [{ name = 'A', prefix = 'B' }]", "groups[0]", "prefix goes with from only"),
        ("groups = [{ from = 'A', when = 'B' }]", "groups[0]", "when goes with name only"),
        ("groups = [{ name = 'A', when = 'x >' }]", "groups[0].when", "at column 4"),
        ("tags = [{ name = 'A', when = 'x >' }]", "tags[0].when", "at column 4"),
        ("create_groups = 'yes'", "create_groups", 'true or false expected, not "yes"'),
        ("create_groups = 1", "create_groups", "true or false expected, not 1"),
        ("on_removal = 'remove'", "on_removal", "one of 'keep', 'ungroup' or 'delete' expected"),
        ("on_existing = 'skipp'", "on_existing", 'did you mean "skip"?'),
        ("empty = true", "empty", "one of 'clear' or 'keep' expected, not true"),
        ("sorce = 'x'", "sorce", 'no such key; did you mean "source"?'),
        ("name = 'x'", "name", "no such key"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_sync_is_named_with_its_place(refused, line, place, words):
    told = refused(WHOLE.replace(SYNC, SYNC + line + "\n"))
    assert f"sync.customers.{place}: " in told
    assert words in told


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        ("requests_per_minute = 'many'", "requests_per_minute", 'a whole number expected, not "many"'),
        ("requests_per_minute = true", "requests_per_minute", "a whole number expected, not true"),
        ("requests_per_minute = 0", "requests_per_minute", "at least 1 expected, not 0"),
        ("share = 0", "share", "above 0"),
        ("share = 1.1", "share", "at most 1"),
        ("share = '90%'", "share", "a number expected"),
        ("bulk = 'of'", "bulk", 'did you mean "off"?'),
        ("bulk = true", "bulk", "one of 'auto', 'on' or 'off' expected, not true"),
        ("settle = '2 mintes'", "settle", "a duration such as"),
        ("settle = 2", "settle", "a duration such as"),
        ("settle = '-1 minutes'", "settle", "a duration such as"),
        ("base_url = 'http://example.com/v1'", "base_url", "https expected"),
        ("base_url = 'example.com'", "base_url", "a web address such as"),
        ("base_url = 'ftp://127.0.0.1'", "base_url", "a web address such as"),
        ("base_url = 'https://ann:pass@example.com'", "base_url", "without user name and password"),
        ("base_url = 3", "base_url", "text expected"),
    ],
)  # fmt: skip
def test_a_mistake_in_fluenzr_is_named_with_its_place(refused, line, place, words):
    told = refused(WHOLE.replace(FLUENZR, FLUENZR + line + "\n"))
    assert f"fluenzr.{place}: " in told
    assert words in told


@pytest.mark.parametrize("written", ["'ten'", "-1", "true", "1.5", "'5000%'", "[]"])
def test_a_limit_that_cannot_be_read_is_named(refused, written):
    told = refused(WHOLE + f"[guard]\nmax_creates = {written}\n")
    assert "guard.max_creates: a number of contacts such as 100" in told


@pytest.mark.parametrize("written", ["''", "3", "'.'", "'a\\u0000b'"])
def test_a_state_that_is_no_file_is_refused(refused, written):
    path = written.replace("'", '"')
    assert "state.path: the path of a file expected" in refused(WHOLE + f"[state]\npath = {path}\n")


@pytest.mark.parametrize(
    "url", ["http://localhost:1/v1", "http://[::1]:1", "https://proxy.example.com/v1"]
)
def test_http_is_for_this_machine_only(load, url):
    assert load(WHOLE.replace(FLUENZR, f"{FLUENZR}base_url = '{url}'\n")).fluenzr.base_url == url


def test_a_missing_key_reference_says_how_to_write_one(refused):
    for text in (WHOLE.replace(FLUENZR, ""), WHOLE.replace(FLUENZR, "[fluenzr]\n")):
        assert (
            'fluenzr.api_key: is missing: a reference such as api_key = "env:FLUENZR_API_KEY"'
            in refused(text)
        )


def test_a_key_is_read_when_it_is_used(load, monkeypatch):
    monkeypatch.delenv("FLUENZR_API_KEY", raising=False)
    key = load(WHOLE).fluenzr.api_key
    with pytest.raises(ConfigError, match="FLUENZR_API_KEY"):
        key.reveal()
    monkeypatch.setenv("FLUENZR_API_KEY", "flz_sk_x")
    assert key.reveal() == "flz_sk_x"


SECRET = "Zq7-planted-Zq7"


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace("env:FLUENZR_API_KEY", SECRET),
        WHOLE.replace('"env:FLUENZR_API_KEY"', f"['{SECRET}']"),
        WHOLE.replace(FLUENZR, f"{FLUENZR}base_url = 'http://{SECRET}.example.com'\n"),
        WHOLE.replace(FLUENZR, f"{FLUENZR}base_url = 'https://u:{SECRET}@example.com'\n"),
        WHOLE.replace(FLUENZR, f"{FLUENZR}token = '{SECRET}'\n"),
        WHOLE + f"[source.x]\nconnector = 'sql'\nurl = 'mysql://u:{SECRET}@h/d'\nquery = 3\n",
        WHOLE + f"[source.x]\nconnector = 'sql'\nurl = 'env:URL'\npassword = '{SECRET}'\nquery = 'q'\n",
        WHOLE + f"[source.x]\nconnector = 'csv'\npath = 'p'\npassword = '{SECRET}'\n",
        WHOLE + f"[source.x]\nconnector = 'mysql://u:{SECRET}@h/d'\n",
        WHOLE + f"token = '{SECRET}'\n",
        f"token = '{SECRET}'\n" + WHOLE,
    ],
)  # fmt: skip
def test_no_message_repeats_a_secret(refused, text):
    told = refused(text)
    assert SECRET not in told


def test_settings_show_no_secret(load):
    settings = load(WHOLE + "[source.x]\nconnector = 'sql'\nurl = 'env:URL'\nquery = 'q'\n")
    assert "env:URL" not in repr(settings)
    assert "people.csv" not in repr(settings)


def test_all_mistakes_are_listed_at_once(refused):
    told = refused(
        """
        [fluenzr]
        share = 2
        [gard]
        [guard]
        max_shrink = "x"
        [source.crm]
        connector = "csv"
        [source.other]
        connector = "nothing"
        [sync.a]
        source = "crmm"
        where = "a b"
        groups = [{ name = "x", when = "a b" }, 3]
        fields = { firstname = "x", phone = { path = "p", as = "fone" } }
        [sync.b]
        source = "crm"
        schedule = "x"
        fields = { email = "email" }
        """
    )
    assert set(mistakes(told)) == {
        "fluenzr.api_key",
        "fluenzr.share",
        "gard",
        "guard.max_shrink",
        "source.crm.path",
        "source.other.connector",
        "sync.a.source",
        "sync.a.where",
        "sync.a.groups[0].when",
        "sync.a.groups[1]",
        "sync.a.fields.email",
        "sync.a.fields.firstname",
        "sync.a.fields.phone.as",
        "sync.b.schedule",
    }
    assert told.startswith("14 mistakes in config.toml:\n")
    assert "syncd check" in told


# The example


def models(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """key -> model, of a table and of all that are inside it."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        found[field.alias or name] = model
        for inner in inside(field.annotation):
            found |= {f"{field.alias or name}.{key}": one for key, one in models(inner).items()}
    return found


def inside(annotation: Any) -> list[type[Table]]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return [annotation]
    return [model for argument in get_args(annotation) for model in inside(argument)]


KEYS = sorted(
    {
        key.rpartition(".")[2]
        for model in (
            config.FluenzrSettings,
            config.StateSettings,
            config.GuardSettings,
            config.SyncSettings,
        )
        for key in models(model)
    }
)


def test_the_example_loads_as_it_stands():
    settings = config.load(EXAMPLE)
    record = {
        "email": "ann@example.com",
        "lifecycle": "customer",
        "country": "FR",
        "unsubscribed": "no",
        "first_name": "ANN",
        "company": {"name": "Acme"},
        "score": "81",
        "lists": ["News"],
        "segment": "a",
    }
    outcome = compile_mapping(settings.syncs["customers"].rules()).map(record)
    assert isinstance(outcome, Wanted)
    assert outcome.fields["firstName"] == "Ann"
    assert outcome.groups == ("CRM News", "Customers", "VIP")


@pytest.mark.parametrize("key", KEYS)
def test_the_example_names_every_key(key):
    as_key, as_table = rf"(^(# )?|[{{,] ){key} = ", rf"^\[sync\.\w+\.{key}\]$"
    assert re.search(f"{as_key}|{as_table}", EXAMPLE.read_text(), re.M)


def test_what_the_example_shows_as_defaults_are_the_defaults(tmp_path):
    shown = re.sub(r"^# ([a-z_]+ = )", r"\1", EXAMPLE.read_text(), flags=re.M)
    assert shown != EXAMPLE.read_text()
    uncommented = tmp_path / "config.toml"
    uncommented.write_text(shown)
    with_defaults, without = config.load(uncommented), config.load(EXAMPLE)
    assert with_defaults.fluenzr == without.fluenzr
    assert with_defaults.guard == without.guard
    assert with_defaults.syncs == without.syncs
    assert with_defaults.state.path.name == without.state.path.name
