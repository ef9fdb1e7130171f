"""What daemons say of errors in their logs: the cause of what does not work, for people."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lifecycle.machine import Machine

_ERROR = re.compile(r"(?:fatal|error): .*")
_NO_CAUSE = ("error: The database must be up",)
"""Beginnings of what slurmdbd says after each cause."""
_LAST = 20000
"""Bytes of a log's end that are looked at."""


@dataclass(slots=True)
class Words:
    """What a log says of errors from now on."""

    machine: Machine
    log: str
    _read: int = field(init=False)
    """How many bytes of the log are known."""
    _told: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._read = self._size()

    def new(self) -> list[str]:
        """Return what came since the last time; what is repeated is left out."""
        size = self._size()
        if size < self._read:
            self._read = 0  # rotated
        if size == self._read:
            return []
        with self.machine.path(self.log).open("rb") as file:
            file.seek(max(self._read, size - _LAST))
            whole, newline, half = file.read(_LAST).rpartition(b"\n")
        self._read = size - len(half) if newline else self._read
        found = [said for said in dict.fromkeys(errors(whole)) if said not in self._told]
        self._told.update(found)
        return found

    def _size(self) -> int:
        status = self.machine.status(self.log)
        return status.st_size if status else 0


def errors(text: bytes) -> list[str]:
    """Return the errors in a daemon's log, without their times; what names no cause is left out.

    >>> errors(b"[2026-11-22T10:00:00.000] error: mysql_real_connect failed: 2002 Can't connect\\n")
    ["error: mysql_real_connect failed: 2002 Can't connect"]
    """
    matches = (_ERROR.search(line) for line in text.decode(errors="replace").splitlines())
    said = [match[0].strip() for match in matches if match]
    return [one for one in said if not one.startswith(_NO_CAUSE)]


def last_words(machine: Machine, log: str) -> str:
    """Return what a log said last about an error, as the end of a message; empty when it said nothing."""
    said = errors((machine.read(log) or b"")[-_LAST:])
    return f"; {log} says: {said[-1]}" if said else ""
