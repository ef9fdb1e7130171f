"""The optional sign of progress of ``--auto-resume-heartbeat``: past its limit a step counts as failed.

>>> parse("log:600", "/home/ann")
Heartbeat(path=None, seconds=600, folder='/')
>>> parse("/fsx/run-%j.beat:120", "/home/ann").file(82)
PosixPath('/fsx/run-82.beat')
>>> parse("run-%j.beat:120", "/home/ann/100%j").file(82)
PosixPath('/home/ann/100%j/run-82.beat')
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from hpadmin.errors import InvalidInput

MIN_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What must change at least every `seconds`."""

    path: str | None
    """A file that the program touches, ``%j`` is the job's id; None for what the step prints."""
    seconds: int
    folder: str = "/"
    """Where a relative `path` begins."""

    def file(self, job_id: int) -> Path | None:
        """Return the file that is touched."""
        return None if self.path is None else Path(self.folder, self.path.replace("%j", str(job_id)))

    def last(self, job_id: int) -> float | None:
        """Return when there was a sign last, in seconds since the epoch; None where none can be seen yet."""
        try:
            path = self.file(job_id)
            found = os.fstat(1) if path is None else path.stat()
        except OSError:
            return None
        if path is None and not stat.S_ISREG(found.st_mode):
            return None
        return found.st_mtime


def parse(text: str, folder: str) -> Heartbeat | None:
    """Read the option's argument; None when it is empty. Raises InvalidInput.

    `folder` is srun's: the supervisor's own is another, and the file is looked for where the user wrote its name.
    """
    if not text:
        return None
    path, colon, seconds = text.rpartition(":")
    if not colon or not path or not (seconds.isascii() and seconds.isdigit()) or int(seconds) < MIN_SECONDS:
        raise InvalidInput(
            f"--auto-resume-heartbeat={text} is neither FILE:SECONDS nor log:SECONDS",
            hint=f"for example --auto-resume-heartbeat=log:600; at least {MIN_SECONDS} seconds",
        )
    return Heartbeat(None, int(seconds)) if path == "log" else Heartbeat(path, int(seconds), folder)
