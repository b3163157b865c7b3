"""The examples of docs/how-to/use-as-a-library.md run as they stand there, against the sandbox."""

import re
from pathlib import Path

import pytest

from syncd.fluenzr import FluenzR
from syncd.sandbox import Sandbox
from syncd.testing.clock import FakeClock

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "use-as-a-library.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(name="sandbox")
def sandbox_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLUENZR_API_KEY", "flz_sk_" + "k" * 32)
    with Sandbox(clock=FakeClock()).serve() as sandbox:
        defaults = FluenzR.__init__.__kwdefaults__
        monkeypatch.setitem(defaults, "base_url", sandbox.url)
        yield sandbox


def run(number: int) -> None:
    exec(compile(EXAMPLES[number], f"{PAGE.name}, example {number}", "exec"), {})


def test_a_crm_is_synchronised(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox.account.add_contact("cat@example.com", status="unsubscribed")
    run(0)
    assert sandbox.account.members("Customers") == {"ann@example.com", "bob@example.com"}
    assert not sandbox.account.group("Customers").dynamic
    run(0)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "2 created, 0 updated, 0 refused"
    assert out[2] == "0 created, 2 updated, 0 refused"
    assert out[1] == "cat@example.com has opted out: tell the CRM"
    assert len(sandbox.account.groups) == 1


def test_a_campaign_is_automated(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    run(0)
    run(1)
    assert "2 added, 0 skipped" in capsys.readouterr().out
    assert sandbox.account.campaign("Spring").status == "active"
    assert sorted(sandbox.account.mailed()) == ["ann@example.com", "bob@example.com"]


def test_statistics_are_exported(sandbox: Sandbox, tmp_path: Path) -> None:
    run(0)
    run(1)
    sandbox.account.happens("opened", "ann@example.com", campaign="Spring")
    run(2)
    assert (tmp_path / "stats.csv").read_text().splitlines() == [
        "name,sent,openRate,replyRate",
        "Spring,2,50.0,0.0",
    ]


def test_a_taken_address_is_updated(sandbox: Sandbox) -> None:
    run(3)
    run(3)
    ann = sandbox.account.contact("ann@example.com")
    assert (ann["firstName"], ann["tags"]) == ("Ann", ["library"])


def test_every_example_is_run_and_every_method_is_named() -> None:
    assert len(EXAMPLES) == 4
    told = set(re.findall(r"`(\w+)[`(]", PAGE.read_text("utf-8")))
    methods = {name for name in dir(FluenzR) if not name.startswith("_")}
    engine = {
        "contacts_page",
        "close",
        "requests",
        "throttled",
        "budget",
        "server_time_ms",
        "digest",
    }
    assert methods - engine - told == set()
