"""A lock between the supervisors of one job on one host: several sruns of it write the same field."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpadmin.recovery.resume.patient import OUTAGE_SECONDS

LOCK_SECONDS = 0.05
"""Between two looks at a lock that another supervisor holds."""


@dataclass(frozen=True)
class JobLock:
    """The lock of this user's supervisors of a job: a file in `folder`, which others may write to."""

    folder: Path
    job_id: int
    wait: Callable[[float], bool]
    """How to wait; False where there is no use in it any more."""

    @property
    def path(self) -> Path:
        """The file, which is there while somebody holds the lock."""
        return self.folder / f".auto-resume-{os.getuid()}-{self.job_id}.lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it.

        Where it cannot be had, go on without: several sruns of one job may then overwrite each other's record, which
        `Supervisor` notices and repeats.
        """
        descriptor = self.take()
        try:
            yield
        finally:
            if descriptor is not None:
                self.path.unlink(missing_ok=True)
                os.close(descriptor)

    def take(self) -> int | None:
        """Return the locked file; None where it is somebody else's, cannot be made, or is held for too long.

        Anybody may make a file of that name first, and hold its lock for ever.
        """
        deadline = time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError:
                return None
            mine = os.fstat(descriptor)
            if mine.st_uid != os.getuid():
                os.close(descriptor)
                return None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self.path.lstat().st_ino == mine.st_ino:
                    return descriptor
                os.close(descriptor)  # whoever had it has removed it: the next one locks another
                continue
            except FileNotFoundError:
                os.close(descriptor)
                continue
            except OSError:
                os.close(descriptor)
            if time.monotonic() > deadline or not self.wait(LOCK_SECONDS):
                return None
