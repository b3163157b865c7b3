"""A Singer tap for the tests, run as a program. It notes in `seen.jsonl` what it was given, and does what its config says.

table: a file of rows (`id`, `email`, `name`, `at`, `gone`), read as FULL_TABLE, INCREMENTAL by `at`, or LOG_BASED.
play:  a list of steps, for everything that a tap should not do.
"""

import json
import os
import signal
import stat
import sys
import time
from pathlib import Path

SCHEMA = {
    "properties": {name: {"type": "string"} for name in ("id", "email", "name", "at", "inner")}
}


def out(**message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def row(stream="people", **fields):
    version = fields.pop("version", None)
    more = {} if version is None else {"version": version}
    out(type="RECORD", stream=stream, record=fields, **more)


def main():
    arguments = dict(zip(*[iter([a for a in sys.argv[1:] if a != "--discover"])] * 2, strict=True))
    files = {name: Path(path) for name, path in arguments.items()}
    config = json.loads(files["--config"].read_text())
    discover = "--discover" in sys.argv
    seen = {
        "argv": sys.argv[1:],
        "pid": os.getpid(),
        "environment": dict(os.environ),
        "cwd": str(Path.cwd()),
        "modes": [stat.S_IMODE(path.stat().st_mode) for path in files.values()],
        "folder": stat.S_IMODE(files["--config"].parent.stat().st_mode),
        "state": json.loads(files["--state"].read_text()) if "--state" in files else None,
        "catalog": json.loads(files["--catalog"].read_text()) if "--catalog" in files else None,
        "config": config,
    }
    with Path("seen.jsonl").open("a") as file:
        file.write(json.dumps(seen) + "\n")
    if discover:
        if "keep" in config:  # as taps with rotating refresh tokens do
            files["--config"].write_text(json.dumps({**config, **config["keep"]}))
        entry = {"tap_stream_id": "people", "stream": "people", "schema": SCHEMA}
        entry |= config.get("entry", {})
        other = {"tap_stream_id": "deals", "stream": "deals", "schema": SCHEMA, "metadata": []}
        text = json.dumps({"streams": [entry, other]}, indent=2)
        sys.stdout.write(config.get("catalog", text))
    elif "play" in config:
        for step in config["play"]:
            play(*step)
    else:
        table(config, seen)


def table(config, seen):
    """A tap as it should be."""
    lines = Path(config["table"]).read_text().splitlines()
    (entry,) = (e for e in seen["catalog"]["streams"] if e["stream"] == "people")
    (root,) = (each["metadata"] for each in entry["metadata"] if not each["breadcrumb"])
    method = root["replication-method"]
    since = (seen["state"] or {}).get("at", "")
    whole = method == "FULL_TABLE" or not since
    version = config.get("version")
    out(type="SCHEMA", stream="people", schema=SCHEMA, key_properties=["id"])
    latest = since
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:
            sys.exit("the table is damaged")
        gone = fields.pop("gone", None)
        latest = max(latest, fields["at"])
        if not whole and fields["at"] <= since:
            continue
        if gone and method == "LOG_BASED" and not whole:
            row(id=fields["id"], _sdc_deleted_at=fields["at"], version=version)
        elif not gone:
            row(**fields, version=version)
    if version is not None or method == "LOG_BASED":
        out(type="ACTIVATE_VERSION", stream="people", version=version or 1)
    if method != "FULL_TABLE":
        out(type="STATE", value={"at": latest})


def play(step, *values):  # noqa: C901  one case for each fault
    match step:
        case "out":
            out(**values[0])
        case "schema":
            out(
                type="SCHEMA", stream="people", schema=SCHEMA, key_properties=list(values) or ["id"]
            )
        case "row":
            row(**values[0])
        case "rows":
            for number in range(values[0]):
                row(id=str(number), email=f"person{number}@example.com", name="x" * 60)
        case "raw":
            sys.stdout.write(values[0] * (values[1] if values[1:] else 1))
            sys.stdout.flush()
        case "say":
            sys.stderr.write(values[0] * (values[1] if values[1:] else 1))
            sys.stderr.flush()
        case "exit":
            sys.exit(values[0])
        case "die":
            os.kill(os.getpid(), values[0])
        case "hang":
            time.sleep(3600)
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "close":
            os.close(1)
            os.close(2)
            time.sleep(0.2)
            os._exit(values[0])
        case "child":  # a grandchild that keeps the pipes, and ignores what it is asked
            if (child := os.fork()) == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(3600)
            Path("child.pid").write_text(str(child))
        case "spoken":
            Path("spoken").touch()
        case _:
            raise ValueError(step)


if __name__ == "__main__":
    main()
