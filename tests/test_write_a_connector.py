"""The page "Write a connector" is true: its package installs, shows up, passes the suite, and syncs."""

import re
import subprocess
import sys
from pathlib import Path

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


def test_the_page_keeps_to_its_lengths() -> None:
    """60 lines, beside the imports."""
    body = code("acme_sync.py").split("\nACME = ")[1]
    assert len([line for line in body.splitlines() if line.strip()]) <= 60
