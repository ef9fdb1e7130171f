"""The agent's files are opened whatever release made them, and nothing in them is lost."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.recovery import database as database_module
from hpadmin.recovery.database import on_this_host, open_database
from hpadmin.recovery.journal import Journal
from hpadmin.recovery.resume.store import Store

OLD = "CREATE TABLE IF NOT EXISTS nodes (name TEXT PRIMARY KEY);"
NEW = """
CREATE TABLE IF NOT EXISTS nodes (name TEXT PRIMARY KEY, block TEXT NOT NULL DEFAULT '', since REAL NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS blocks (name TEXT PRIMARY KEY);
"""


def test_what_an_earlier_release_made_gets_what_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "state" / "agent.sqlite"
    with contextlib.closing(open_database(path, OLD, "the test's file")) as database:
        database.execute("INSERT INTO nodes VALUES ('n1')")
    for _ in range(2):
        with contextlib.closing(open_database(path, NEW, "the test's file")) as database:
            assert list(database.execute("SELECT * FROM nodes")) == [("n1", "", 0)]
            assert list(database.execute("SELECT * FROM blocks")) == []


def test_controllers_that_share_the_file_need_no_memory_in_common(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was kept with a write-ahead log is taken over with all that is in the log."""
    path = tmp_path / "agent.sqlite"
    monkeypatch.setattr(database_module, "_filesystem", lambda _: "xfs")
    with contextlib.closing(open_database(path, OLD, "the test's file")) as database:
        database.execute("INSERT INTO nodes VALUES ('n1')")
        assert path.with_name("agent.sqlite-wal").exists()
    monkeypatch.setattr(database_module, "_filesystem", lambda _: "nfs4")
    with contextlib.closing(open_database(path, OLD, "the test's file")) as database:
        database.execute("INSERT INTO nodes VALUES ('n2')")
        assert [file.name for file in tmp_path.iterdir()] == ["agent.sqlite"]
        with contextlib.closing(open_database(path, OLD, "the test's file")) as other:
            assert list(other.execute("SELECT name FROM nodes")) == [("n1",), ("n2",)]


def test_what_others_may_share_is_told_by_the_file_system() -> None:
    assert database_module._filesystem(Path("/proc/self")) == "proc"
    assert not on_this_host(Path("/proc/agent.sqlite"))
    assert on_this_host(Path("/dev/shm/agent.sqlite"))


@pytest.mark.parametrize("kind", [Journal, Store])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, kind: type[Journal] | type[Store]) -> None:
    path = tmp_path / "agent.sqlite"
    path.write_bytes(b"not a database, but some longer text that is none either" * 20)
    with pytest.raises(OperationFailed, match=f"{path} cannot be opened: file is not a database"):
        kind(path)


def test_an_agents_journal_of_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    Journal(path).close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE repairs DROP COLUMN report_before")
    with contextlib.closing(Journal(path)) as journal:
        assert journal.book(since=0).open == {}
