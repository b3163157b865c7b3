"""What is built to be installed: nothing that the product needs is missing in it, and the sdist can build the wheel."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def built(kind: str, folder: Path, of: Path = ROOT) -> Path:
    """The one file that hatchling makes of a source tree."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=of, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file


@pytest.fixture(name="wheel", scope="module")
def wheel_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the unpacked sdist: what the sdist lacks is missing in it."""
    folder = tmp_path_factory.mktemp("built")
    with tarfile.open(built("sdist", folder)) as sdist:
        sdist.extractall(folder / "unpacked", filter="data")
    (tree,) = (folder / "unpacked").iterdir()
    for name in ("README.md", "LICENSE", "mkdocs.yml", "docs/index.md", "handbook/site.py"):
        assert (tree / name).is_file(), name
    return built("wheel", folder, tree)


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    """Templates and marks too, not only modules."""
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for top in ("syncd", "connectors")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"syncd/py.typed", "syncd/sandbox/page.html"} <= wanted
    assert wanted - names == set()
    assert not [name for name in names if name.startswith(("tests/", "handbook/", "bench/"))]


def test_the_wheel_brings_the_man_page_and_the_command(wheel: Path) -> None:
    content = zipfile.ZipFile(wheel)
    (man,) = [name for name in content.namelist() if name.endswith("/share/man/man1/syncd.1")]
    assert content.read(man) == (ROOT / "docs/syncd.1").read_bytes()
    (entries,) = [name for name in content.namelist() if name.endswith("entry_points.txt")]
    assert b"syncd = syncd.cli:main" in content.read(entries)


def test_the_image_is_given_what_the_wheel_is_built_from(tmp_path: Path) -> None:
    """The Dockerfile copies single files and folders: one that the build has come to need would be missing."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text("utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        *names, target = line.split()
        for name in names:
            into = tmp_path / "tree" / target
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                into = into / Path(name).name if target.endswith("/") else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, into)
    assert built("wheel", tmp_path / "dist", tmp_path / "tree")
