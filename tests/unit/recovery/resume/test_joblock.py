"""The lock between supervisors of one job: nobody else's file holds one up, and two are never in it at once."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpadmin.recovery.resume.joblock import JobLock
from hpadmin.recovery.resume.patient import sleep


def test_a_lock_of_somebody_else_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = JobLock(tmp_path, 82, sleep)
    path = lock.path
    with lock.held():
        assert path.exists()
    assert not path.exists()
    path.symlink_to("/etc/passwd")
    with lock.held():
        assert path.is_symlink()
    path.unlink()
    path.touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda _: SimpleNamespace(st_uid=os.getuid() + 1))
        descriptor = lock.take()
    assert descriptor is None
    assert path.exists(), "it is not ours to remove"


def test_supervisors_of_one_job_change_it_one_after_the_other(tmp_path: Path) -> None:
    """Also where one that has waited finds the file removed that it waited for."""
    waits = list[float]()

    def release(seconds: float) -> bool:
        waits.append(seconds)
        first.__exit__(None, None, None)
        return True

    first = JobLock(tmp_path, 82, sleep).held()
    first.__enter__()
    second = JobLock(tmp_path, 82, release)
    with second.held():
        assert len(waits) == 1
        gives_up = JobLock(tmp_path, 82, lambda _: False)
        with gives_up.held():
            assert list(tmp_path.iterdir()), "the lock stays with whoever has it"
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, lock, calls = JobLock(tmp_path, 82, sleep), fcntl.flock, list[int]()

    def late(descriptor: int, how: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:  # whoever had the lock is done, and the next has made the file anew
            mine.path.unlink()
            mine.path.touch()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with mine.held(), mine.path.open() as other:
        assert len(calls) == 2
        with pytest.raises(BlockingIOError):
            lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
