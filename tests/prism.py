"""Vendors' APIs by their descriptions in tests/specs, served by Prism, which refuses each request that does not fit them.

Prism is an npm package: `make prism` puts it into .prism. It keeps no state: it proves the shape of a request, not what a server does
over time; the doubles are for that. One process serves all descriptions, each below its own name, for starting takes seconds.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from doubles.server import Asked, Double, Told

ROOT = Path(__file__).parents[1]
SPECS = ROOT / "tests/specs"
LISTENING = "Prism is listening"
START_S_MAX = 120.0  # two seconds on an idle machine
ANSWER_S_MAX = 60.0
# Of an answer of Prism's: what belongs to one connection, or comes from the clock of the test.
NOT_PASSED_ON = ("connection", "content-length", "date", "keep-alive", "transfer-encoding")

Choice = Callable[[Asked], str]  # a request -> "example=NAME", "code=204"; "" for the first example


def executable() -> Path | None:
    """Where Prism is, if it is anywhere."""
    ours = ROOT / ".prism/node_modules/.bin/prism"
    found = shutil.which("prism")
    return ours if ours.exists() else Path(found) if found else None


def description(name: str) -> Any:
    """A description, its references within resolved."""
    document = json.loads((SPECS / f"{name}.mock.json").read_text("utf-8"))

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(one) for one in node]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        if isinstance(reference, str):
            found = document
            for part in reference.removeprefix("#/").split("/"):
                found = found[part]
            return resolved(found)
        return {key: resolved(value) for key, value in node.items()}

    return resolved(document)


def described() -> list[str]:
    """The names of all descriptions."""
    return sorted(path.name.removesuffix(".mock.json") for path in SPECS.glob("*.mock.json"))


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The port of a Prism with all descriptions. Skips the tests where there is none, but never in CI."""
    prism = executable()
    if prism is None:
        if os.environ.get("CI") != "true":
            pytest.skip("Prism is not installed: make prism (it needs npm)")
        pytest.fail("Prism must be there in CI: make prism (it needs npm)")
    file = folder / "all.json"
    file.write_text(json.dumps(_together(described())))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [prism, "mock", "--host", "127.0.0.1", "--port", str(port), "--errors", file]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    ) as process:
        late = threading.Timer(START_S_MAX, process.kill)
        late.start()
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if LISTENING in line:
                break
        late.cancel()
        # It says a few lines of each request, which would fill the pipe and stop it.
        reader = threading.Thread(target=list, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            if process.poll() is not None:
                pytest.fail(f"Prism did not start: {''.join(said)}")
            yield port
        finally:
            process.kill()
            reader.join()


def _together(names: Iterable[str]) -> Any:
    """One description of all, each below its own name."""
    schemes: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for name in names:
        document = description(name)
        for scheme, meaning in document["components"]["securitySchemes"].items():
            schemes[f"{name}_{scheme}"] = meaning
        for path, item in document["paths"].items():
            for operation in item.values():
                operation["operationId"] = f"{name}_{operation['operationId']}"
                operation["security"] = [
                    {f"{name}_{scheme}": scopes for scheme, scopes in one.items()}
                    for one in operation.get("security", document.get("security", ()))
                ]
            paths[f"/{name}{path}"] = item
    info = {"title": "All vendors", "version": "1"}
    components = {"securitySchemes": schemes}
    return {"openapi": "3.0.3", "info": info, "components": components, "paths": paths}


class Vendor(Double):
    """One vendor as its users' configurations know it; behind it stands Prism.

    choose: which example answers a request; disturb: asked before, for what is no token. violations: what was asked in a way that the
    description does not know; must be empty at the end of a test.
    """

    def __init__(self, name: str, port: int, choose: Choice, clock: Any = None) -> None:
        super().__init__(clock)
        self._name, self._port, self._choose = name, port, choose
        document = description(name)
        self._host = document["servers"][0]["url"]
        self._paths = {_pattern(path): item for path, item in document["paths"].items()}
        self._schemes = document["components"]["securitySchemes"]
        self.disturb: Choice = lambda asked: ""
        self.violations: list[str] = []

    def answer(self, asked: Asked) -> Told:
        """What Prism says."""
        operation = self._operation(asked)
        self._look_at(asked, operation)
        wish = ""
        if operation and operation["operationId"] != "token":
            wish = self.disturb(asked)
        wish = wish or self._choose(asked)
        told = self._forwarded(asked, wish)
        wanted = wish.removeprefix("code=")
        if str(told.status) != wanted if wanted != wish else told.status >= 400:
            self._violate(asked, f"{told.status} {told.body!r}")
        return told

    def _operation(self, asked: Asked) -> Any:
        for pattern, item in self._paths.items():
            if pattern.fullmatch(asked.path) and asked.method.lower() in item:
                return item[asked.method.lower()]
        return None

    def _look_at(self, asked: Asked, operation: Any) -> None:
        """What Prism does not: names in the query that nobody knows, and the word before a token."""
        if operation is None:
            self._violate(asked, "no such operation")
            return
        known = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
        for name, _ in parse_qsl(urlsplit(asked.target).query, keep_blank_values=True):
            if not {name, name.partition("[")[0]} & known:
                self._violate(asked, f"unknown in the query: {name}")
        for one in operation["security"]:
            for scheme in map(self._schemes.__getitem__, one):
                held = asked.headers.get(str(scheme.get("name", "")).lower(), "")
                if "x-value" in scheme and not re.fullmatch(scheme["x-value"], held):
                    self._violate(asked, f"{scheme['name']} is not {scheme['x-value']}")

    def _forwarded(self, asked: Asked, wish: str) -> Told:
        headers = {name: value for name, value in asked.headers.items() if name != "host"}
        prefer = ", ".join(filter(None, (headers.get("prefer"), wish)))
        if prefer:
            headers["prefer"] = prefer
        connection = HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S_MAX)
        try:
            target = f"/{self._name}{asked.target}"
            connection.request(asked.method, target, body=asked.body or None, headers=headers)
            answer = connection.getresponse()
            body = answer.read().replace(self._host.encode(), self.url.encode())
        finally:
            connection.close()
        kept = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in NOT_PASSED_ON and not name.lower().startswith("access-control")
        }
        return Told(answer.status, body, kept)

    def _violate(self, asked: Asked, what: str) -> None:
        self.violations.append(f"{asked.method} {asked.target} {asked.body!r}: {what}")


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", path)
    return re.compile("[^/]+".join(map(re.escape, parts)))
