"""The agent's files: SQLite, written so that a kill at any point loses nothing, opened whatever release made them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hpadmin.errors import OperationFailed


def open_database(path: Path, schema: str, what: str) -> sqlite3.Connection:
    """Open the database at `path`, or make it; tables and columns of `schema` that it lacks are added.

    A column that was added to a schema later needs a default there. `what` names the file in the message of the
    OperationFailed that is raised when it cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=30, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(schema)
        _add_columns(database, schema)
    except (OSError, sqlite3.Error) as error:
        raise OperationFailed(f"{what} {path} cannot be opened: {error}") from error
    return database


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
