"""The command as its users have it: a folder, a configuration, a sandbox on 127.0.0.1, and `syncd`.

`shell(...)` starts a real process, for exit codes, streams and signals; `shell.inside(...)` calls the same
`main` in this process, which is much faster. Time is real, so nothing here waits for it.
"""

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from warm import STARTED_WITH, Command, fits

from syncd.cli import main
from syncd.sandbox import Quirks, Sandbox

KEY = "flz_sk_" + "k" * 32
PATIENCE_S = 60.0  # only a failing test waits that long
CONFIG = """\
[fluenzr]
api_key = "env:FLUENZR_API_KEY"
base_url = "{url}"

[state]
path = "syncd.db"

[guard]
max_enrolments = {max_enrolments}

[source.crm]
connector = "csv"
path = "people.csv"
key = "id"

[sync.customers]
source = "crm"
schedule = "every 15 minutes"
opted_out = "out"
where = 'email != "filtered@example.com"'
groups = ["Customers", {{ name = "Drip", when = "score|number >= {hot}" }}]
tags = ["crm"]

[sync.customers.fields]
email = "email"
firstName = "first"

[sync.customers.custom_fields]
score = {{ path = "score", as = "number" }}
"""


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it said where."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """stdout as JSON, one object a line; anything else on it fails the test."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """A folder with a configuration for the sandbox."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder, self.sandbox, self.account = folder, sandbox, sandbox.account
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "FLUENZR_API_KEY": KEY,
            "SSL_CERT_DIR": os.environ["SSL_CERT_DIR"],
            **STARTED_WITH,
        }
        self.started: list[Command | subprocess.Popen[str]] = []
        self.configure()

    def configure(
        self, *, hot: int = 90, max_enrolments: int = 100, url: str | None = None
    ) -> None:
        """Write the configuration; people with a score of `hot` join the dynamic group."""
        text = CONFIG.format(url=url or self.sandbox.url, hot=hot, max_enrolments=max_enrolments)
        self.write("config.toml", text)

    def write(self, name: str, text: str) -> Path:
        """A file of this folder."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path

    def people(self, *rows: tuple[object, ...]) -> None:
        """What the source holds: (id, email, first, score, out); the last ones may be left out."""
        lines = ["id,email,first,score,out"]
        for row in rows:
            values = (*row, *("", "0", "no")[len(row) - 2 :])
            lines.append(",".join(map(str, values)))
        self.write("people.csv", "\n".join(lines) + "\n")

    def __call__(self, *words: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Said:
        """A process of its own."""
        environment = {**self.environment, **(env or {})}
        if fits(environment):
            return self._warm(words, environment, stdin)
        done = subprocess.run(
            [sys.executable, "-m", "syncd", *words],
            cwd=self.folder,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def _warm(self, words: Sequence[str], environment: Mapping[str, str], stdin: str) -> Said:
        with tempfile.TemporaryFile("w+", encoding="utf-8") as asked:
            asked.write(stdin)
            asked.seek(0)
            process = Command(*words, folder=self.folder, env=environment, stdin=asked.fileno())
        out, err = process.communicate(PATIENCE_S)
        return Said(process.wait(), out, err)

    def start(self, *words: str) -> Command:
        """A process that goes on; what still runs when the test is over is killed."""
        process = Command(*words, folder=self.folder, env=self.environment)
        self.started.append(process)
        return process

    def end(self) -> None:
        """Nothing goes on any more."""
        for process in self.started:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def inside(self, *words: str) -> Said:
        """The same in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["--config", str(self.folder / "config.toml"), *words])
        return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(name="shell")
def shell_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A folder, a sandbox, nobody in either."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLUENZR_API_KEY", KEY)
    monkeypatch.delenv("SYNCD_CONFIG", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with Sandbox(quirks=Quirks(), api_key=KEY).serve() as sandbox:
        shell = Shell(tmp_path, sandbox)
        yield shell
        shell.end()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
