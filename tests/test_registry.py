"""Connectors are found by entry point, and only the one that is asked for is imported."""

import subprocess
import sys

import pytest

from connectors.csv import CsvConnector
from syncd import registry
from syncd.errors import ConfigError


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a made-up package with a connector `name` onto the import path, as pip would."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(name, code, *, package="acme-sync", module="acme_sync", cls="Acme", requires=()):
        (tmp_path / f"{module}.py").write_text(code)
        folder = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        folder.mkdir(exist_ok=True)
        lines = ["Metadata-Version: 2.1", f"Name: {package}", "Version: 1.0"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        (folder / "entry_points.txt").write_text(f"[syncd.connectors]\n{name} = {module}:{cls}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


WHOLE = """
class Acme:
    OPTIONS = ABILITIES = SUMMARY = None
    def check(self): ...
    def fields(self): ...
    def preset(self): ...
    def token(self): ...
    def read(self, request): ...
"""


def test_our_connectors_are_installed_like_everybodys():
    assert {"csv", "jsonl", "sql"} <= set(registry.names())
    assert registry.load("csv") is CsvConnector


def test_a_third_partys_connector_is_found(install):
    install("acme", WHOLE)
    assert "acme" in registry.names()
    assert registry.names() == sorted(registry.names())
    assert registry.load("acme").__name__ == "Acme"


def test_only_the_connector_asked_for_is_imported():
    code = (
        "import sys\nfrom syncd import registry\nregistry.names()\nregistry.load('csv')\n"
        "sys.exit(any(m in sys.modules for m in ('connectors.sql', 'connectors.jsonl')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_connector_is_a_configuration_error_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"no connector 'cvs'.*Did you mean 'csv'"):
        registry.load("cvs")
    with pytest.raises(ConfigError, match=r"Installed are .*csv.*jsonl"):
        registry.load("???")


def test_a_missing_extra_is_named(install):
    requires = [
        "httpx>=0.28",
        "other-driver>1; extra == 'b'",
        'no-such.driver>=2,<3; extra == "db"',
    ]
    install("acme", "import no_such_driver.deep", requires=requires)
    with pytest.raises(
        ConfigError, match=r"package acme-sync cannot be loaded.*no_such_driver"
    ) as e:
        registry.load("acme")
    assert e.value.hint == "Run: pip install 'acme-sync[db]'"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise ValueError('nothing works')", "ValueError: nothing works"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("class Acme: pass", "is not a connector.*It has no OPTIONS, ABILITIES"),
        (WHOLE + "\nAcme = Acme()", "is not a connector.*not a class"),
    ],
)
def test_a_broken_plugin_is_named_with_its_package_and_harms_no_other(install, code, says):
    install("acme", code)
    with pytest.raises(ConfigError, match=f"acme-sync.*{says}") as caught:
        registry.load("acme")
    assert caught.value.hint
    assert registry.load("csv") is CsvConnector


def test_two_packages_with_one_name_are_refused_and_named(install):
    install("acme", WHOLE)
    install("acme", WHOLE, package="umbrella-sync", module="umbrella_sync")
    with pytest.raises(ConfigError, match="come from acme-sync and umbrella-sync"):
        registry.load("acme")
