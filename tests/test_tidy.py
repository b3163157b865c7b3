"""The shape of the code, checked as a test: who may import what, and how long things may get.

Every rule here is written in words in docs/architecture.md; a failure names file, line and rule.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for top in ("syncd", "connectors") for p in (ROOT / top).rglob("*.py"))

CORE_MAY = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "email_validator",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "hmac",
    "itertools",
    "jinja2",
    "json",
    "math",
    "operator",
    "orjson",
    "phonenumbers",
    "re",
    "string",
    "types",
    "typing",
    "unicodedata",
    "urllib.parse",
    "zoneinfo",
    "syncd.core",
    "syncd.errors",
}
CONNECTOR_MAY_FROM_SYNCD = {
    "syncd.connector",
    "syncd.core.model",
    "syncd.errors",
    "syncd.files",
    "syncd.http",
    "syncd.process",
    "syncd.secret",
    "syncd.temporary",
    "syncd.writer",
}
ONLY_IN = {  # module -> patterns of the files that may import it
    "sqlite3": {"syncd/state/*"},
    "sqlite_utils": {"syncd/state/*", "syncd/migrations.py"},
    "httpx": {"syncd/http/*"},
    "stamina": {"syncd/http/api.py"},
    "fsspec": {"syncd/remote/*"},
    "paramiko": {"syncd/remote/*"},
    "s3fs": {"syncd/remote/bucket.py"},
    "apscheduler": {"syncd/timetable.py"},
    "concurrent.futures": {"syncd/upload/pool.py"},
    "threading": {
        "syncd/cli/signals.py",
        "syncd/clock.py",
        "syncd/daemon.py",
        "syncd/lookout.py",
        "syncd/stream.py",
        "syncd/timetable.py",
        "syncd/wire.py",
        "syncd/sandbox/*",
        "syncd/testing/*",
        "syncd/web/listener.py",
        "syncd/web/rehearsals.py",
    },
    "apprise": {"syncd/alerts.py"},
    "prometheus_client": {"syncd/metrics.py"},
    "typer": {"syncd/cli/*"},
    "rich": {"syncd/report/*"},
    "questionary": {"syncd/init.py"},
    "pydantic_settings": {"syncd/config.py"},
    "starlette": {"syncd/web/*"},
    "uvicorn": {"syncd/sandbox/*", "syncd/web/listener.py"},
}
ASYNC_IN = {
    "syncd/sandbox/asgi.py",
    "syncd/web/body.py",
    "syncd/web/receive.py",
}  # where an ASGI server asks for it
PRINTS_IN = {"syncd/report/*"}
NAMELESS = {
    "utils.py",
    "util.py",
    "helpers.py",
    "helper.py",
    "common.py",
    "misc.py",
    "base.py",
    "manager.py",
}
FUNCTION_LINES_MAX, MODULE_LINES_MAX = 70, 500


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of each import, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def under(module: str, allowed: set[str]) -> bool:
    return any(module == a or module.startswith(a + ".") for a in allowed)


def leads_to(module: str, allowed: set[str]) -> bool:
    """Whether `module` is a package on the way to something that is allowed."""
    return any(a.startswith(module + ".") for a in allowed)


def matches(name: str, patterns: set[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def layer_fault(name: str, module: str) -> str | None:
    """Why this file may not import this module because of the ring that it is in."""
    if module.startswith("."):
        return "relative import"
    if name.startswith("syncd/core/"):
        fine = under(module, CORE_MAY) or leads_to(module, CORE_MAY)
        return None if fine else f"core imports {module}"
    if name.startswith("syncd/"):
        return "syncd imports connectors" if under(module, {"connectors"}) else None
    if under(module, {"connectors"}):
        own = "connectors." + Path(name).parts[1].removesuffix(
            ".py"
        )  # a package's modules are one connector
        fine = module == "connectors" or under(module, {own})
        return None if fine else f"a connector imports another connector ({module})"
    fine = under(module, CONNECTOR_MAY_FROM_SYNCD) or leads_to(module, CONNECTOR_MAY_FROM_SYNCD)
    return None if fine or not under(module, {"syncd"}) else f"a connector imports {module}"


def import_faults(name: str, tree: ast.AST) -> Iterator[str]:
    for line, imported in set(imports(tree)):
        if fault := layer_fault(name, imported):
            yield f"{line}: {fault}"
        for module, allowed in ONLY_IN.items():
            if under(imported, {module}) and not matches(name, allowed):
                yield f"{line}: {module} is for {', '.join(sorted(allowed))} only"


def size_faults(name: str, source: str, tree: ast.Module) -> Iterator[str]:
    if Path(name).name in NAMELESS:
        yield "0: a file is named after what it holds"
    if not ast.get_docstring(tree):
        yield "1: module docstring missing"
    if source.count("\n") > MODULE_LINES_MAX:
        yield f"0: more than {MODULE_LINES_MAX} lines"
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if (node.end_lineno or node.lineno) - node.lineno >= FUNCTION_LINES_MAX:
            yield f"{node.lineno}: {node.name} is longer than {FUNCTION_LINES_MAX} lines"


def faults(name: str, source: str) -> Iterator[str]:
    """What is wrong with this file, as sentences."""
    tree = ast.parse(source)
    yield from import_faults(name, tree)
    yield from size_faults(name, source, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and not matches(name, ASYNC_IN):
            yield f"{node.lineno}: this code base is synchronous"
        elif isinstance(node, ast.Name) and node.id == "print" and not matches(name, PRINTS_IN):
            yield f"{node.lineno}: only {', '.join(PRINTS_IN)} prints"
        elif (
            name.startswith("syncd/core/")
            and isinstance(node, ast.Attribute)
            and node.attr in {"now", "today", "utcnow"}
        ):
            yield f"{node.lineno}: core reads the clock; take `now` as an argument"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_is_tidy(path: Path) -> None:
    assert sorted(faults(str(path.relative_to(ROOT)), path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("syncd/core/diff.py", '"""d"""\nimport sqlite3\n', "core imports sqlite3"),
        ("syncd/core/diff.py", '"""d"""\nfrom syncd import state\n', "core imports syncd.state"),
        ("syncd/core/diff.py", '"""d"""\nimport urllib.request\n', "core imports urllib.request"),
        (
            "syncd/core/diff.py",
            '"""d"""\nfrom datetime import datetime\nx = datetime.now()\n',
            "reads the clock",
        ),
        ("syncd/run.py", '"""d"""\nfrom connectors import hubspot\n', "syncd imports connectors"),
        ("syncd/run.py", '"""d"""\nfrom .state import store\n', "relative import"),
        ("connectors/hubspot.py", '"""d"""\nfrom connectors.other import X\n', "another connector"),
        ("connectors/hubspot.py", '"""d"""\nfrom syncd.state import X\n', "imports syncd.state"),
        ("connectors/hubspot.py", '"""d"""\nfrom syncd import run\n', "imports syncd.run"),
        ("connectors/utils.py", '"""d"""\n', "named after what it holds"),
        ("syncd/run.py", "x = 1\n", "docstring missing"),
        ("syncd/run.py", '"""d"""\nprint(1)\n', "only syncd/report/* prints"),
        ("syncd/run.py", '"""d"""\nasync def f(): ...\n', "synchronous"),
        ("syncd/run.py", '"""d"""\ndef f():\n' + "    x = 1\n" * 70, "longer than 70"),
        ("syncd/sandbox/asgi.py", '"""d"""\nasync def f():\n' + "    x = 1\n" * 70, "longer"),
        ("syncd/run.py", '"""d"""\n' + "x = 1\n" * 500, "more than 500 lines"),
        *(("syncd/run.py", f'"""d"""\nimport {m}\n', f"{m} is for") for m in ONLY_IN),
        *(("syncd/run.py", f'"""d"""\nfrom {m} import x\n', f"{m} is for") for m in ONLY_IN),
    ],
)
def test_each_rule_can_fail(name: str, source: str, fault: str) -> None:
    """A checker that cannot fail checks nothing."""
    assert any(fault in sentence for sentence in faults(name, source))


def test_each_permission_is_used() -> None:
    """A permission that nobody needs would let the next file in unseen."""
    used = {
        (str(path.relative_to(ROOT)), imported)
        for path in FILES
        for _, imported in imports(ast.parse(path.read_text("utf-8")))
    }
    unused = [
        f"{module} in {pattern}"
        for module, patterns in ONLY_IN.items()
        for pattern in sorted(patterns)
        if not any(fnmatch(name, pattern) and under(imported, {module}) for name, imported in used)
    ]
    assert unused == []
