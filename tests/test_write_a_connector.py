"""The page "Write a connector" is true: its package installs, shows up, passes the suite, and syncs."""

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from syncd.connector import Tombstone
from syncd.http import Again, Answer, Api, Exhausted, Open
from syncd.testing.server import Asked, Double, Told

PAGE = Path(__file__).parents[1] / "docs/how-to/write-a-connector.md"


def code(name: str) -> str:
    """The block of the page whose first line names this file."""
    block = re.search(rf"```\w+\n# {re.escape(name)}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block, name
    return block[1]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env={"PYTHONPATH": str(folder), "PATH": "", "NO_COLOR": "1"},
    )  # fmt: skip


def install(folder: Path) -> None:
    """What pip leaves of the package, without a package index."""
    (folder / "acme_sync.py").write_text(code("acme_sync.py"))
    (folder / "test_acme_sync.py").write_text(code("test_acme_sync.py"))
    entry = re.search(r'entry-points."syncd.connectors"\]\n(\w+) = "(.*?)"', code("pyproject.toml"))
    assert entry
    info = folder / "acme_sync-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-sync\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[syncd.connectors]\n{entry[1]} = {entry[2]}\n")


def test_the_connector_of_the_page_shows_up(tmp_path: Path) -> None:
    install(tmp_path)
    shown = run(tmp_path, "-m", "syncd", "connectors", "acme")
    assert shown.returncode == 0, shown.stderr
    assert "Acme CRM: people" in shown.stdout
    assert "https://api.acme.example" in shown.stdout


def test_the_connector_of_the_page_passes_the_suite(tmp_path: Path) -> None:
    install(tmp_path)
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "test_acme_sync.py")
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 15


def test_the_suite_of_the_page_finds_a_connector_that_reads_one_page_only(tmp_path: Path) -> None:
    install(tmp_path)
    file = tmp_path / "acme_sync.py"
    broken = file.read_text().replace('page = found["next"]', 'page = ""')
    assert broken != file.read_text()
    file.write_text(broken)
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme_sync.py")
    assert done.returncode == 1, done.stdout
    assert "records did not come" in done.stdout
    assert "the read ended normally" in done.stdout


def test_the_page_keeps_to_its_lengths() -> None:
    for name, lines_max in (("acme_sync.py", 60), ("test_acme_sync.py", 15)):
        lines = [line for line in code(name).splitlines() if line.strip()]
        assert len(lines) <= lines_max, name


def test_what_the_page_says_of_a_vendor_works() -> None:
    beside: dict[str, Any] = {}
    exec(code("acme_beside.py"), beside)
    left_s = beside["heed"](Answer(200, {"x-left": "0", "x-reset": "1060"}, b""), 1000.0)
    assert left_s == 60.0
    today = Answer(429, {"x-left-today": "0"}, b"")
    assert beside["judge"](today, 0.0) == Exhausted("at midnight UTC")
    assert beside["judge"](Answer(429, {"retry-after": "3"}, b""), 0.0) == Again(3.0)
    with People() as double:
        api = Api(double.url, beside["ACME"], Open(), double.clock)
        with api:
            found = beside["companies"](api).of(["7", None, "8"])
    assert found == {"7": {"id": "7", "name": "Example SA"}, "8": None}
    gone = beside["event"]({"id": 1, "deleted": True}, None)
    assert gone == Tombstone("1")
    ann = {"id": 1, "deleted": False}
    assert beside["event"](ann, found["7"]).fields == {**ann, "_company": found["7"]}


class People(Double):
    """One company, whoever is asked for."""

    def answer(self, asked: Asked) -> Told:
        assert asked.query == {"ids": "7,8"}
        return Told(200, [{"id": 7, "name": "Example SA"}])


def test_what_is_installed_says_that_it_has_types() -> None:
    """Else a third party's type checker takes the whole contract for Any."""
    assert files("syncd").joinpath("py.typed").is_file()
