"""The room that a state takes: how much of its file is free, and when that is given back to the disk.

Rows that are deleted leave free pages, which the next rows take; so a file hardly grows by what comes and goes. What is not taken again (a
sync that was removed, a year of history that ended) is given back after a run, as soon as it is worth writing the file anew.
Nobody's data stands in free pages: `secure_delete` overwrites them, and `syncd.state.erase` writes the file anew where that is not enough.
"""

import sqlite3

import structlog

from syncd.state.store import State

FREE_SHARE_MIN = 0.25  # below it, writing the file anew costs more than the room is worth
FREE_BYTES_MIN = 16 * 1024 * 1024

log = structlog.get_logger(__name__)
ROOM_GIVEN_BACK = "room.given_back"  # free pages of the state went back to the disk
ROOM_KEPT = (
    "room.kept"  # they could not, most of all for want of room; tried again after the next run
)


def give_back(state: State) -> bool:
    """Write the file anew where much of it is free; whether that was done. Where it cannot be done now, nothing is lost."""
    pages, free, size = (
        int(state.value(f"PRAGMA main.{name}")) for name in ("page_count", "freelist_count", "page_size")
    )  # fmt: skip
    if free < pages * FREE_SHARE_MIN or free * size < FREE_BYTES_MIN:
        return False
    try:
        state.db.execute("VACUUM main")
        state.value("PRAGMA main.wal_checkpoint(TRUNCATE)")
    except sqlite3.DatabaseError as error:  # most of all: it needs that room once more
        log.warning(ROOM_KEPT, bytes=free * size, why=str(error))
        return False
    log.info(ROOM_GIVEN_BACK, bytes=free * size)
    return True
