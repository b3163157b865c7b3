"""The command: where it starts, and the one place that turns an error into a text and an exit code.

`syncd --version` answers before anything heavy is imported; each command imports what it needs itself.
What is printed is `syncd.report`'s business.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence

from syncd import __version__
from syncd.errors import Interrupted, SyncdError
from syncd.report import text

EXIT_BUG = 1
MACHINE = frozenset(  # what a machine says that is full, broken or too small: no bug of ours
    {
        errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE,
        errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EPERM, errno.EROFS,
    }
)  # fmt: skip
EXIT_INTERRUPTED = 130


def main(words: Sequence[str] | None = None) -> int:
    """Run the command with these words (those of the shell by default); its exit code."""
    given = list(sys.argv[1:] if words is None else words)
    _prepare_streams()

    def command() -> int:
        if given in (["--version"], ["-V"]):
            text.say(f"syncd {__version__}")
            return 0
        from syncd.cli.app import app

        # It ends by SystemExit, with the command's own exit code.
        app(args=given, prog_name="syncd")
        return 0

    code = guarded(command)
    text.flush()
    return code


def guarded(command: Callable[[], int]) -> int:
    """The exit code of `command`, whatever it raises; what it raised is told on stderr."""
    try:
        return command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Interrupted as problem:
        text.talk(f"stopped: {problem.what}; the next run goes on where this one was")
        return problem.exit_code
    except SyncdError as problem:
        text.error(problem)
        return problem.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as problem:  # noqa: BLE001 - the one place: what is no SyncdError is our bug
        if isinstance(problem, OSError) and problem.errno in MACHINE:  # or the machine's
            text.error(_of_the_machine(problem))
            return SyncdError.exit_code
        reference = os.urandom(4).hex()
        _log_bug(reference, problem)
        text.bug(reference, problem)
        return EXIT_BUG


def _of_the_machine(problem: OSError) -> SyncdError:
    return SyncdError(
        f"{problem.filename or 'A file, or the output,'} cannot be written or read",
        why=problem.strerror or str(problem),
        hint="Put that right, the folder for temporary files included; the next run goes on",
    )


def _log_bug(reference: str, problem: Exception) -> None:
    """The traceback goes to the log at the level debug: it may hold addresses."""
    with contextlib.suppress(ImportError):
        import structlog

        from syncd import log

        if not structlog.is_configured():  # it broke before the command had begun
            return
        structlog.get_logger(__name__).debug(
            log.ERROR_UNEXPECTED, reference=reference, exc_info=problem
        )


def _prepare_streams() -> None:
    """A character that the terminal's encoding lacks, or a stream that is closed, ends nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # `>&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - till the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
