"""The agent's files: SQLite, written so that a kill at any point loses nothing, opened whatever release made them."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from hpadmin.errors import OperationFailed

_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "tmpfs"})


def open_database(path: Path, schema: str, what: str) -> sqlite3.Connection:
    """Open the database at `path`, or make it; tables and columns of `schema` that it lacks are added.

    A column that was added to a schema later needs a default there. `what` names the file in the message of the
    OperationFailed that is raised when it cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=30, isolation_level=None)
        database.execute(f"PRAGMA journal_mode={'WAL' if on_this_host(path) else 'DELETE'}")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(schema)
        _add_columns(database, schema)
    except (OSError, sqlite3.Error) as error:
        raise OperationFailed(f"{what} {path} cannot be opened: {error}") from error
    return database


def on_this_host(path: Path) -> bool:
    """Whether `path` is on a file system that no other host can share.

    Controllers share their state directory over the network, where a write-ahead log, which needs memory in common,
    does not work (https://www.sqlite.org/wal.html). A rollback journal needs no more than locks, and costs several
    times as much for each write: so it is kept to where it must be.
    """
    return path.name == ":memory:" or _filesystem(path.absolute().parent.resolve()) in _LOCAL


def _filesystem(folder: Path) -> str:
    """The type of the file system that `folder` is on, by the last mount at or above it (proc_pid_mountinfo(5))."""
    found, deepest = "", -1
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        place = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split()[4]))
        if folder.is_relative_to(place) and len(place.parts) >= deepest:
            found, deepest = after.split()[0], len(place.parts)
    return found


def _add_columns(database: sqlite3.Connection, schema: str) -> None:
    """Add what `schema` has and a file made by an earlier release has not."""
    wanted = sqlite3.connect(":memory:")
    try:
        wanted.executescript(schema)
        tables = [name for (name,) in wanted.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            there = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
            for _, name, kind, filled, default, _ in wanted.execute(f"PRAGMA table_info({table})"):
                if name not in there:
                    rule = (" NOT NULL" if filled else "") + (f" DEFAULT {default}" if default else "")
                    database.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}{rule}")
    finally:
        wanted.close()
