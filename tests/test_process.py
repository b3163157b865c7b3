"""Programs as sources: whatever one does, it is ended whole, nothing of it is left, and its last words hold no secret."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
import structlog
from test_singer import ANN, INCREMENTAL, TAP, Tap, keys, read

from connectors.singer import SingerConnector, SingerOptions
from syncd.cli.signals import stopping
from syncd.clock import SystemClock
from syncd.connector import Context, Record, Request
from syncd.errors import ConfigError, Interrupted, SourceError
from syncd.process import GRACE_S, LINE_BYTES_MAX, hider
from syncd.testing.clock import FakeClock
from syncd.testing.conformance import SECRET, SECRET_REFERENCE

PATIENCE_S = 5


@pytest.fixture
def tap(tmp_path, monkeypatch):
    """A tap, whose temporary files are looked for at the end, as are its processes."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv(SECRET_REFERENCE.removeprefix("env:"), SECRET)
    tap, before = Tap(tmp_path), open_files()
    yield tap
    assert list((tmp_path / "tmp").iterdir()) == []
    assert open_files() == before
    if (tmp_path / "seen.jsonl").exists():
        assert not [seen["pid"] for seen in tap.seen() if left(seen["pid"])]


def open_files():
    fds = list(Path("/dev/fd").iterdir())
    return sorted(str(fd.readlink()) for fd in fds if fd.exists())


def alive(pid):
    """Whether there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def left(pid):
    """Whether it still runs, or waits as a zombie for us to take note of its end."""
    if not alive(pid):
        return False
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return state != "Z" or int(parent) == os.getpid()


def failing(tap, *steps, **options):
    """The error of a read whose tap does these steps."""
    with pytest.raises(SourceError) as caught:
        read(tap.playing(["schema"], ["row", ANN], *steps, **options))
    return str(caught.value)


# --- how a program may end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([["exit", 1]], "failed with exit code 1"),
        ([["die", signal.SIGKILL]], "was ended by SIGKILL"),
        ([["die", signal.SIGRTMIN + 1]], "was ended by signal"),
        ([["close", 7]], "failed with exit code 7"),
        ([["say", "one\ntwo"], ["exit", 1]], "one / two. Its own documentation"),
        ([["say", 'a\nb\n  File "x.py", line 7, in f\n  ^^^^\nc\nd\n'], ["exit", 1]], "b / c / d"),
        ([["say", "x" * 10_000], ["exit", 1]], "x{200}[^x]"),
        ([["raw", "half a ro"]], "cannot be used, in line 3.*unexpected character"),
        ([["raw", '{"type": "RECORD", "stream": "people", "rec']], "cannot be used, in line 3"),
        ([["raw", "[]\n"]], "in line 3"),
        ([["raw", "7\n"]], "in line 3"),
        ([["raw", "\xff\n"]], "in line 3"),
        ([["raw", '{"stream": "people"}\n']], "There is no 'type'"),
        ([["out", {"type": "RECORD", "stream": "people"}]], "There is no 'record'"),
        ([["out", {"type": "RECORD", "stream": "people", "record": 7}]], "in line 3"),
        ([["out", {"type": "HELLO"}]], "type 'HELLO' are not known"),
        ([["out", {"type": "BATCH", "stream": "people"}]], "leave `batch_config` out"),
        ([["schema", "email"]], "changes the key"),
    ],
)  # fmt: skip
def test_a_tap_that_does_not_end_well_is_no_read(tap, steps, words):
    assert re.search(words, failing(tap, *steps))


def test_what_is_broken_is_not_quoted(tap):
    assert "ann@example.com" not in failing(tap, ["raw", '"ann@example.com", ...\n'])


def test_a_last_line_without_end_and_empty_lines_are_fine(tap):
    last = json.dumps({"type": "RECORD", "stream": "people", "record": {"id": "9"}})
    assert keys(read(tap.playing(["schema"], ["raw", "\n \r\n"], ["raw", last]))) == ["9"]


def test_a_stream_that_was_never_mentioned_is_no_empty_stream(tap):
    with pytest.raises(SourceError, match=r"sent nothing of the stream people.*It sent no stream"):
        read(tap.playing())
    assert read(tap.playing(["schema"])) == []


def test_a_record_before_its_schema_is_refused(tap):
    with pytest.raises(SourceError, match="before the SCHEMA"):
        read(tap.playing(["row", ANN], ["schema"]))


@pytest.mark.parametrize("step", ["raw", "say"])
def test_a_line_without_end_is_not_kept(tap, step):
    steps = [[step, "x" * 65536, LINE_BYTES_MAX // 65536 + 2], ["hang"]]
    assert f"more than {LINE_BYTES_MAX} bytes" in failing(tap, *steps)


def test_a_silent_tap_is_ended(tap):
    class Hasty(FakeClock):
        """Half an hour passes between any two looks at it, once the tap has spoken."""

        def monotonic_s(self):
            if (tap.folder / "spoken").exists():
                self.advance_s(1801)
            return super().monotonic_s()

    options = {"command": TAP, "stream": "people", "timeout": "1 hour"}
    options["config"] = {"play": [["schema"], ["say", "still busy\n"], ["spoken"], ["hang"]]}
    source = SingerConnector(SingerOptions.model_validate(options), Context(tap.folder, Hasty()))
    with pytest.raises(SourceError, match=r"silent for 3600 seconds.*still busy"):
        read(source)


def test_a_tap_that_talks_much_is_not_blocked(tap):
    steps = [["say", "x" * 1000 + "\n", 1000], ["row", {"id": "9"}], ["say", "y" * 300_000]]
    assert keys(read(tap.playing(["schema"], *steps))) == ["9"]


@pytest.mark.parametrize("command", ["no-such-tap-anywhere", "/", "./people.jsonl"])
def test_a_tap_that_cannot_be_started_is_a_mistake_in_the_configuration(tap, command):
    tap.table(ANN)
    with pytest.raises(ConfigError, match="cannot be started"):
        read(tap.source(command=command))


# --- how we end it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [{}, INCREMENTAL])
def test_closing_early_ends_the_tap_and_its_children(tap, monkeypatch, entry):
    monkeypatch.setattr("syncd.process.GRACE_S", 0.1)
    steps = [["deaf"], ["child"], ["schema"], ["row", ANN], ["exit", 1] if entry else ["hang"]]
    with closing(tap.playing(*steps, entry=entry).read(Request())) as events:
        assert isinstance(next(events), Record)
        child = int((tap.folder / "child.pid").read_text())
        assert alive(child) or entry
    deadline = time.monotonic() + PATIENCE_S
    while left(child):
        assert time.monotonic() < deadline


def test_a_tap_that_writes_on_is_ended_by_the_closed_pipe_or_the_signal(tap):
    began = time.monotonic()
    with closing(tap.playing(["schema"], ["rows", 1_000_000]).read(Request())) as events:
        assert len(list(islice(events, 3))) == 3
    assert time.monotonic() - began < GRACE_S


def test_a_stop_ends_the_tap_although_signals_are_blocked_in_a_run(tap):
    clock, began = SystemClock(), time.monotonic()
    source = tap.playing(["schema"], ["row", ANN], ["hang"])
    source._context = Context(tap.folder, clock)
    with stopping(clock), closing(source.read(Request())) as events:
        assert isinstance(next(events), Record)
        threading.Timer(0.05, clock.stop).start()  # as the first signal does
        with pytest.raises(Interrupted):
            next(events)
    assert time.monotonic() - began < GRACE_S  # it heeded SIGTERM


def test_a_killed_syncd_leaves_no_tap_that_writes(tap):
    """Nobody can clean up after SIGKILL; the pipe ends the tap with its next line."""
    code = (
        "import json, sys\nfrom connectors.singer import *\n"
        "o = SingerOptions.model_validate(json.loads(sys.argv[1]))\n"
        "e = SingerConnector(o, Context(Path(sys.argv[2]))).read(Request())\n"
        "next(e)\nos.kill(os.getpid(), 9)\n"
    ).replace("import json, sys", "import json, os, sys\nfrom pathlib import Path")
    options = {"command": TAP, "stream": "people"}
    options["config"] = {"play": [["schema"], ["rows", 10_000_000]]}
    subprocess.run([sys.executable, "-c", code, json.dumps(options), tap.folder], check=False,
                   env={**os.environ, "TMPDIR": str(tap.folder)})  # fmt: skip
    deadline = time.monotonic() + PATIENCE_S
    while left(tap.seen()[-1]["pid"]):
        assert time.monotonic() < deadline


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_a_tap_gets_its_config_in_a_file_of_its_own_and_little_of_our_environment(tap, monkeypatch):
    monkeypatch.setenv("FLUENZR_API_KEY", "flz_sk_" + "a" * 32)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    read(tap.playing(["schema"], environment={"TAP_X": "1"}))
    for seen in tap.seen():
        assert set(seen["modes"]) == {0o600}
        assert seen["folder"] == 0o700
        assert seen["cwd"] == str(tap.folder)
        assert {"FLUENZR_API_KEY", SECRET_REFERENCE.removeprefix("env:")}.isdisjoint(seen["environment"])  # fmt: skip
        assert seen["environment"]["TAP_X"] == "1"
        assert seen["environment"]["HTTPS_PROXY"] == "http://127.0.0.1:1"
        assert not [word for word in seen["argv"] if SECRET in word]


def test_the_last_words_hold_no_secret_and_no_address(tap):
    source = tap.source(
        {
            "password": SECRET_REFERENCE,
            "api_key": "written-in-plain",
            "play": [
                ["schema"],
                ["say", f"ann@example.com: login {SECRET} written-in-plain denied\n"],
                ["exit", 1],
            ],
        }
    )
    with structlog.testing.capture_logs() as logs, pytest.raises(SourceError) as caught:
        read(source)
    assert "(address): login (secret) (secret) denied" in str(caught.value)
    assert SECRET not in str(caught.value) + repr(logs)
    (line,) = (each for each in logs if each["event"] == "program.said")
    assert line["log_level"] == "debug"
    assert line["line"] == "ann@example.com: login (secret) (secret) denied"


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("a/b c+d&e", "?p=a/b%20c%2Bd%26e"),
        ("a/b c+d&e", "?p=a%2Fb%20c%2Bd%26e"),
        ("a/b c+d&e", "?p=a%2Fb+c%2Bd%26e"),
        ('quote"d', '{"p": "quote\\"d"}'),
        ("-----BEGIN-----\nfirst-line\nsecond-line\n", "at second-line of the key"),
        ("postgresql://me:pa55word@db/crm", "password pa55word is wrong"),
    ],
)
def test_a_secret_is_hidden_in_every_form(secret, text):
    hidden = hider([secret])(text)
    assert "(secret)" in hidden
    assert not any(part in hidden for part in ("%2B", "quote", "second", "pa55"))


def test_nothing_to_hide_hides_nothing():
    assert hider([""])("a text") == "a text"


def test_a_refresh_token_that_the_tap_replaced_goes_back_into_its_file(tap):
    (tap.folder / "token").write_text("old-one\n")
    config = {"refresh_token": "file:token", "password": SECRET_REFERENCE}
    config |= {"keep": {"refresh_token": "new-one", "password": "other"}, "play": [["schema"]]}
    with structlog.testing.capture_logs() as logs:
        read(tap.source(config))
    assert (tap.folder / "token").read_text() == "new-one\n"
    warnings = [(log["event"], log["option"]) for log in logs if log["log_level"] == "warning"]
    assert warnings == [("tap.secret_not_kept", "password")]
    tokens = [seen["config"]["refresh_token"] for seen in tap.seen()]
    assert tokens == ["old-one", "new-one"]  # in the next run of the same read too


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [{}, INCREMENTAL])
def test_memory_is_flat(tap, monkeypatch, entry):
    monkeypatch.setattr("syncd.temporary.PART_BYTES", 1000)
    source = tap.playing(["schema"], ["rows", 10_000], entry=entry)  # some 1.4 MB
    tracemalloc.start()
    try:
        count = sum(1 for _ in source.read(Request()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 10_000
    assert peak < 900_000, peak
