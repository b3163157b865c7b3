"""Whoever only reads the state, in the same process as whoever writes it: neither takes the other's locks away."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

from syncd.state import inbox
from syncd.state.store import open_for_reading, open_state

SHARED = 0x40000002  # where SQLite's lock of whoever has a database open begins; 510 bytes
FREE = (
    "import fcntl,sys; f=open(sys.argv[1],'r+b')\n"
    f"try: fcntl.lockf(f, fcntl.LOCK_EX|fcntl.LOCK_NB, 510, {SHARED})\n"
    "except OSError: print('taken')\n"
    "else: print('free')"
)


def lock_of(path: Path) -> str:
    """How another process finds the database's lock."""
    return subprocess.run(
        [sys.executable, "-c", FREE, path], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_opening_the_state_to_write_leaves_the_locks_of_whoever_reads_it(tmp_path: Path) -> None:
    """POSIX: whoever closes any descriptor of a file drops all locks that this process has on it."""
    path = tmp_path / "syncd.db"
    with open_state(path):
        pass
    assert lock_of(path) == "free"
    reader = open_for_reading(path)
    assert reader is not None
    with closing(reader):
        reader.execute("SELECT * FROM meta").fetchall()
        assert lock_of(path) == "taken"
        with open_state(path):
            assert lock_of(path) == "taken"
        assert lock_of(path) == "taken"


def test_opening_the_inbox_again_leaves_the_locks_of_whoever_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "syncd.db"
    with inbox.opened(path) as box:
        assert box.waiting_count() == 0
        with inbox.opened(path):
            pass
        assert lock_of(path.with_name("syncd.db.inbox")) == "taken"


def test_the_state_is_for_its_owner_only_also_when_a_copy_was_open_to_others(
    tmp_path: Path,
) -> None:
    path = tmp_path / "syncd.db"
    with open_state(path):
        pass
    path.chmod(0o644)
    with open_state(path):
        assert path.stat().st_mode & 0o777 == 0o600
