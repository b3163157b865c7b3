"""Real processes of `syncd` without the second that Python needs to start: one that has imported the product forks them.

`Command` is what `subprocess.Popen([sys.executable, "-m", "syncd", ...])` would be, as far as the tests ask: a process
with an id, folder, environment, streams, signals and end of its own. Each process that runs tests has one that forks
for it, and that ends with it. What Python reads from the environment as it starts (PYTHON*) is that one's: who gives
other values needs a process that starts anew.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn, Self

PATIENCE_S = 60.0  # only a failing test waits that long
REQUEST_BYTES_MAX = 128 * 1024
STARTED_WITH = {
    # Apprise looks whether that module is there.
    "PYTHONWARNINGS": "error,ignore:'imghdr' is deprecated:DeprecationWarning",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def fits(environment: Mapping[str, str]) -> bool:
    """Whether Python would start no otherwise with this environment."""
    given = {key: value for key, value in environment.items() if key.startswith("PYTHON")}
    return {**STARTED_WITH, **given} == STARTED_WITH


class Command:
    """A process of `syncd` with these words.

    prelude: Python that runs in it before the command. A stream is a pipe, a descriptor or DEVNULL, as subprocess has
    it; stdout and stderr are texts where they are pipes.
    """

    def __init__(
        self,
        *words: str,
        folder: Path,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        prelude: str = "",
    ) -> None:
        assert fits(env), env
        self.returncode: int | None = None
        self._line, theirs = socket.socketpair()
        lent = list[int]()
        (ends, (_, self.stdout, self.stderr)) = zip(
            *(_end(stream, lent) for stream in (stdin, stdout, stderr)), strict=True
        )
        request = {"words": words, "folder": str(folder), "env": dict(env), "prelude": prelude}
        socket.send_fds(_parent(), [json.dumps(request).encode()], [*ends, theirs.fileno()])
        for descriptor in lent:
            os.close(descriptor)
        theirs.close()
        self._line.settimeout(PATIENCE_S)
        self.pid = int(self._line.recv(16))

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Its exit code, below zero when a signal ended it. Raises TimeoutError."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            self.returncode = int(self._line.recv(16))
            self._line.close()
        return self.returncode

    def poll(self) -> int | None:
        """The same, None while it goes on."""
        with suppress(BlockingIOError):
            self.wait(0.0)
        return self.returncode

    def communicate(self, timeout: float = PATIENCE_S) -> tuple[str, str]:
        """All that it says until it ends; it is killed when that takes too long."""
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        with ThreadPoolExecutor() as pool:
            out, err = pool.map(
                lambda stream: stream.read() if stream else "", (self.stdout, self.stderr)
            )
        self.wait(timeout)
        timer.cancel()
        self.close()
        return out, err

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Nothing of it goes on."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """What it has not said yet is not heard."""
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        self.wait()


def _end(stream: int, lent: list[int]) -> tuple[int, IO[str] | None]:
    """What the process gets, and what we read of it. What is opened for it is noted as lent."""
    if stream not in (subprocess.PIPE, subprocess.DEVNULL):
        return stream, None
    if stream == subprocess.DEVNULL:
        lent.append(os.open(os.devnull, os.O_RDWR))
        return lent[-1], None
    ours, theirs = os.pipe()
    lent.append(theirs)
    return theirs, os.fdopen(ours, encoding="utf-8")


@functools.cache
def _parent() -> socket.socket:
    """Where to ask for a process; it takes a moment at the first time."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The handle is kept by `stop`: its parent outlives every test.
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        env={**STARTED_WITH, "PATH": os.environ["PATH"]},
        pass_fds=[theirs.fileno()],
    )
    theirs.close()

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


# --- in the process that forks ------------------------------------------------------------------------------------


def main(control: socket.socket) -> None:
    """Fork what is asked for, until nobody asks any more."""
    for package in ("syncd", "connectors"):
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            importlib.import_module(module.name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES_MAX, 4)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _watched(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _watched(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """One process becomes the command, the other one tells its id, and how it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, line = descriptors
    if (pid := os.fork()) == 0:
        os.close(line)
        _become(request, streams)
    for descriptor in streams:
        os.close(descriptor)
    with socket.socket(fileno=line) as teller:
        teller.send(str(pid).encode().ljust(16))
        _, status = os.waitpid(pid, 0)
        with suppress(BrokenPipeError):
            teller.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    for descriptor in set(streams) - {0, 1, 2}:
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    os.umask(0o022)  # as a careless login has it
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv[1:] = request["words"]
    sys.path[0] = request["folder"]
    exec(request["prelude"], {})
    from syncd.cli import main

    sys.exit(main())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
