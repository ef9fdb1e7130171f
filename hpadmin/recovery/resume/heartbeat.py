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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpadmin.errors import InvalidInput
from hpadmin.recovery.resume import srunargs

MIN_SECONDS = 5
GAP_SECONDS = 5.0
"""Whoever looks several times a second and has not looked for so long did not run himself: no step is blamed for it."""


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

    def unseen(self, argv: Sequence[str], environment: Mapping[str, str]) -> str:
        """Say why the signs of this srun cannot be seen; empty where they can."""
        if self.path is not None:
            return ""
        output = srunargs.parse(argv).output or environment.get("SLURM_STDOUTMODE", "")
        if output and output != "all":
            return (
                f"what the step prints goes to {output}: name that file, --auto-resume-heartbeat=FILE:SECONDS"
            )
        try:
            regular = stat.S_ISREG(os.fstat(1).st_mode)
        except OSError:
            regular = False
        return "" if regular else "srun's standard output is no file"


@dataclass
class Progress:
    """How long a step has given no sign.

    A sign is that the time of the file is another than before. What time it is, is never compared with ours: a file
    server has its own clock. `at` and all moments are those of `time.monotonic`.
    """

    heartbeat: Heartbeat
    job_id: int
    at: float
    """When there was a sign last; at first, when the step began."""
    trouble: str = ""
    """Why the file cannot be looked at; that is no silence of the step."""
    _looked: float = field(default=0.0, init=False)
    _sign: tuple[int, int] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._looked, self._sign = self.at, self._look()

    def quiet(self, now: float) -> float:
        """Look, and return the seconds without a sign until `now`."""
        if now - self._looked > GAP_SECONDS:
            self.at += now - self._looked
        self._looked = now
        sign = self._look()
        if sign != self._sign or self.trouble:
            self._sign, self.at = sign, now
        return now - self.at

    def overdue(self, now: float) -> bool:
        """Look, and tell whether the limit is over."""
        return self.quiet(now) > self.heartbeat.seconds

    def _look(self) -> tuple[int, int] | None:
        path = self.heartbeat.file(self.job_id)
        try:
            found = os.fstat(1) if path is None else path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self.trouble = ""
            return None
        except OSError as error:
            self.trouble = str(error)
            return None
        self.trouble = ""
        return found.st_mtime_ns, found.st_size


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
