"""The agent's memory: an SQLite file of repairs, events and notices, written before and after every deed.

Every write is a transaction of its own on disk before the next deed begins (``synchronous=FULL``). Writers carry
the number of their leadership: a former leader that wakes up late finds that its number is old and stops
(`LostLeadership`) instead of doing things twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpadmin.errors import OperationFailed
from hpadmin.nodes.provider import Repair
from hpadmin.recovery.book import Book, Origin, Phase, RepairRecord
from hpadmin.recovery.database import open_database
from hpadmin.slurm.command import printable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS repairs (
    number INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    action TEXT NOT NULL,
    origin TEXT NOT NULL,
    requester TEXT NOT NULL,
    why TEXT NOT NULL,
    now INTEGER NOT NULL,
    phase TEXT NOT NULL,
    opened REAL NOT NULL,
    changed REAL NOT NULL,
    fault TEXT NOT NULL DEFAULT '',
    instance_before TEXT NOT NULL DEFAULT '',
    booted_before REAL NOT NULL DEFAULT 0,
    boot_before REAL NOT NULL DEFAULT 0,
    slurmd_before REAL NOT NULL DEFAULT 0,
    report_before TEXT NOT NULL DEFAULT '',
    asked REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    result TEXT NOT NULL DEFAULT '',
    closed INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_repair_a_node ON repairs (node) WHERE closed = 0;
CREATE INDEX IF NOT EXISTS repairs_by_time ON repairs (closed, changed);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    node TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    repair INTEGER
);
CREATE INDEX IF NOT EXISTS events_by_node ON events (node, number);
CREATE TABLE IF NOT EXISTS suspects (node TEXT PRIMARY KEY, since REAL NOT NULL);
CREATE TABLE IF NOT EXISTS notices (key TEXT PRIMARY KEY, at REAL NOT NULL, node TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value REAL NOT NULL);
"""
_COLUMNS = (
    "number, node, action, origin, requester, why, now, phase, opened, changed, fault, instance_before,"
    " booted_before, boot_before, slurmd_before, report_before, asked, attempts, not_before, result"
)


class LostLeadership(OperationFailed):
    """Another agent has taken over since this one became the leader."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a node's story."""

    at: float
    node: str
    """Empty for the whole cluster."""
    kind: str
    text: str
    repair: int | None


class Journal:
    """The journal in one file. Open it, `lead`, then write; anybody may read."""

    def __init__(self, path: Path) -> None:
        """Open or make the journal. Raises OperationFailed when that is not possible."""
        self._db = open_database(path, _SCHEMA, "the agent's journal")
        self._leadership: int | None = None

    def close(self) -> None:
        self._db.close()

    # --- leadership ----------------------------------------------------------------------------------------

    def lead(self) -> None:
        """Become the one writer; whoever was it before finds out at its next write."""
        with self._transaction():
            (old,) = self._db.execute(
                "SELECT coalesce(max(value), 0) FROM state WHERE key = 'leader'"
            ).fetchone()
            self._leadership = int(old) + 1
            self._set("leader", self._leadership)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _sqlite_errors("written"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back where the disk is full
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _write(self) -> Iterator[None]:
        with self._transaction():
            found = self._db.execute("SELECT value FROM state WHERE key = 'leader'").fetchone()
            if self._leadership is None or found is None or int(found[0]) != self._leadership:
                raise LostLeadership("another agent has taken over this cluster's journal")
            yield

    def _set(self, key: str, value: float) -> None:
        self._db.execute(
            "INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    # --- reading -------------------------------------------------------------------------------------------

    def book(self, *, since: float) -> Book:
        """Return what `decide` needs: open repairs, and those closed after `since`, newest first.

        Raises OperationFailed while the file cannot be read.
        """
        select = f"SELECT {_COLUMNS} FROM repairs"  # noqa: S608 - a constant, not input
        with _sqlite_errors("read"), self._one_moment():
            opened = [_record(row) for row in self._db.execute(f"{select} WHERE closed = 0")]
            closed = [
                _record(row)
                for row in self._db.execute(
                    f"{select} WHERE closed = 1 AND changed > ? ORDER BY changed DESC, number DESC", (since,)
                )
            ]
            reset = self._db.execute("SELECT value FROM state WHERE key = 'breaker_reset'").fetchone()
            return Book(
                open={record.node: record for record in opened},
                closed=tuple(closed),
                suspects=dict(self._db.execute("SELECT node, since FROM suspects")),
                notices=dict(self._db.execute("SELECT key, text FROM notices")),
                breaker_reset=reset[0] if reset else 0,
            )

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """All that is read within is of one moment, whatever the leader writes meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def events(self, node: str | None = None, *, last: int = 50) -> tuple[Event, ...]:
        """Return the last events of one node, or of all, oldest first. Raises OperationFailed as `book` does."""
        with _sqlite_errors("read"):
            rows = self._db.execute(
                "SELECT at, node, kind, text, repair FROM events WHERE ?1 IS NULL OR node = ?1"
                " ORDER BY number DESC LIMIT ?2",
                (node, last),
            ).fetchall()
        return tuple(Event(*row) for row in reversed(rows))

    # --- writing -------------------------------------------------------------------------------------------

    def open(
        self,
        at: float,
        *,
        node: str,
        action: Repair,
        origin: Origin,
        requester: str,
        why: str,
        now: bool,
        fault: str,
    ) -> int:
        """Begin a repair; return its number. A node that has one open already keeps that one."""
        with self._write():
            found = self._db.execute(
                "SELECT number FROM repairs WHERE node = ? AND closed = 0", (node,)
            ).fetchone()
            if found:
                return int(found[0])
            why = printable(why)
            cursor = self._db.execute(
                "INSERT INTO repairs (node, action, origin, requester, why, now, phase, opened, changed, fault)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (node, action, origin, requester, why, int(now), Phase.ISOLATE, at, at, fault),
            )
            number = int(cursor.lastrowid or 0)
            by = f" by {requester}" if requester else ""
            self._event(at, node, "opened", f"{action.value} wanted{by} ({origin.value}): {why}", number)
            return number

    def advance(
        self,
        at: float,
        record: RepairRecord,
        phase: Phase,
        *,
        why: str = "",
        not_before: float = 0,
        heard: bool = False,
    ) -> None:
        """Move a repair to `phase`, because of `why`. `heard`: the last request did get an answer."""
        why = printable(why)
        with self._write():
            self._db.execute(
                "UPDATE repairs SET phase = ?, changed = ?, closed = ?, not_before = max(not_before, ?), result = ?,"
                " attempts = CASE WHEN ? THEN 0 ELSE attempts END WHERE number = ?",
                (phase, at, int(phase.closed), not_before, why, int(heard), record.number),
            )
            self._event(
                at, record.node, phase.value, why or f"{record.action.value}: {phase.value}", record.number
            )

    def asking(
        self,
        at: float,
        record: RepairRecord,
        *,
        instance: str,
        booted: float,
        boot: float,
        slurmd: float,
        report: str,
    ) -> None:
        """Write down that the provider is about to be asked, and what was there before."""
        with self._write():
            self._db.execute(
                "UPDATE repairs SET phase = ?, changed = ?, asked = ?, attempts = attempts + 1,"
                " instance_before = ?, booted_before = ?, boot_before = ?, slurmd_before = ?,"
                " report_before = ? WHERE number = ?",
                (Phase.ASKING, at, at, instance, booted, boot, slurmd, report, record.number),
            )
            self._event(at, record.node, "asking", f"{record.action.value} of {instance}", record.number)

    def note(self, at: float, node: str, kind: str, text: str, repair: int | None = None) -> None:
        """Add an event."""
        with self._write():
            self._event(at, node, kind, text, repair)

    def suspect(self, at: float, node: str) -> None:
        """Remember since when a node looks dead."""
        with self._write():
            self._db.execute("INSERT OR IGNORE INTO suspects VALUES (?, ?)", (node, at))

    def acquit(self, node: str) -> None:
        """A node no longer looks dead."""
        with self._write():
            self._db.execute("DELETE FROM suspects WHERE node = ?", (node,))

    def tell(self, at: float, key: str, node: str, text: str) -> None:
        """Remember that the administrators were told, and that it is still so."""
        with self._write():
            self._db.execute(
                "INSERT INTO notices VALUES (?, ?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET at = excluded.at, text = excluded.text",
                (key, at, node, printable(text)),
            )
            self._event(at, node, "notice", text, None)

    def withdraw(self, key: str) -> None:
        """What a notice said is over."""
        with self._write():
            self._db.execute("DELETE FROM notices WHERE key = ?", (key,))

    def reset_breaker(self, at: float, *, by: str) -> None:
        """Let failures before `at` no longer count. Anybody with the right to write the file may do this."""
        with self._transaction():
            self._set("breaker_reset", at)
            self._event(at, "", "reset", f"automatic repair started again by {by}", None)

    def forget_before(self, at: float) -> None:
        """Drop closed repairs and events older than `at`."""
        with self._write():
            self._db.execute("DELETE FROM repairs WHERE closed = 1 AND changed < ?", (at,))
            self._db.execute("DELETE FROM events WHERE at < ?", (at,))

    def _event(self, at: float, node: str, kind: str, text: str, repair: int | None) -> None:
        self._db.execute(
            "INSERT INTO events (at, node, kind, text, repair) VALUES (?, ?, ?, ?, ?)",
            (at, node, kind, printable(text), repair),
        )


@contextmanager
def _sqlite_errors(what: str) -> Iterator[None]:
    """A file that is locked for long, or on a full disk, is the host's trouble: it may be over at the next look."""
    try:
        yield
    except sqlite3.Error as error:
        raise OperationFailed(f"the agent's journal cannot be {what}: {error}") from error


def _record(row: Sequence[Any]) -> RepairRecord:
    (number, node, action, origin, requester, why, now, phase, *rest) = row
    return RepairRecord(
        number, node, Repair(action), Origin(origin), requester, why, bool(now), Phase(phase), *rest
    )
