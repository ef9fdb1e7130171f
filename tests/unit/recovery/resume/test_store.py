"""What is told of resumed jobs to whoever asks, who may be anybody."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from admin_cli.root import root
from hpadmin.errors import OperationFailed
from hpadmin.recovery.resume.store import JobRecord, State, Store, path_in

JOB = JobRecord(82, 1000.0, "ann", "p", State.WATCHED, nodes="n[1-4]")


def test_readers_change_nothing_and_see_what_is_written_meanwhile(tmp_path: Path) -> None:
    """Who may not write beside the file may not have SQLite do so either."""
    path = path_in(tmp_path)
    with closing(Store(path)) as store:
        store.save(JOB, 1000.0)
        with closing(Store(path, reads=True)) as reader:
            store.save(JobRecord(83, 1000.0, "ann", "p", State.WATCHED), 1000.0)
            assert {job.job_id for job in reader.jobs()} == {82, 83}
    before = sorted(tmp_path.iterdir())
    with closing(Store(path, reads=True)) as reader:
        assert len(reader.jobs()) == 2
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.save(JOB, 1000.0)
        assert sorted(tmp_path.iterdir()) == before
    with closing(Store(tmp_path / "none" / "resume.sqlite", reads=True)) as reader:
        assert reader.jobs() == ()
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path_in(tmp_path).write_text("no database at all, whatever its name says")
    with pytest.raises(OperationFailed, match="cannot be read: file is not a database"):
        Store(path_in(tmp_path), reads=True)


def test_a_state_that_a_later_release_wrote_is_told(tmp_path: Path) -> None:
    with closing(Store(path_in(tmp_path))) as store:
        store.save(JOB, 1000.0)
        store._db.execute("UPDATE jobs SET state = 'dreaming'")
        with pytest.raises(OperationFailed, match="does not know: dreaming"):
            store.jobs()


@pytest.mark.parametrize("job", ["0", "-1", "4294967296", "99999999999999999999", "x"])
def test_what_is_no_job_is_refused(tmp_path: Path, job: str) -> None:
    done = CliRunner().invoke(root, ["job", "show", "--state-dir", str(tmp_path), "--", job])
    assert done.exit_code == 2
    assert "Invalid value for 'JOB_ID'" in done.output
