"""Steps: one wanted fact about the machine each, which can tell what is lacking and can make it so.

>>> step = File("/etc/motd", "welcome\\n")
>>> step.lacking(machine)                                   # doctest: +SKIP
'write /etc/motd'
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Protocol

from hpadmin.errors import OperationFailed
from lifecycle.machine import Machine, Owner


class Step(Protocol):
    """One fact that shall be true."""

    def lacking(self, machine: Machine) -> str | None:
        """Say in a few words what has to be done; None when the fact is true already. Changes nothing."""
        ...

    def make(self, machine: Machine) -> None:
        """Make it true. Doing so twice is harmless, and so is being killed in the middle."""
        ...


class Transient(OperationFailed):
    """Something that may succeed when tried again: a server that is late, a lock that is held."""


def owner_of(machine: Machine, user: str | None) -> Owner | None:
    """Return the ids of `user`. Raises OperationFailed when the machine has no such account."""
    if user is None:
        return None
    owner = machine.owner(user)
    if owner is None:
        raise OperationFailed(
            f"the system account {user} does not exist", hint="the package that brings it is not installed"
        )
    return owner


@dataclass(frozen=True, slots=True)
class File:
    """A file with exactly this content. `user` owns it; None leaves the owner (root for a new file)."""

    path: str
    content: str | bytes
    mode: int = 0o644
    user: str | None = None

    @property
    def data(self) -> bytes:
        """The content as bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.encode()

    def lacking(self, machine: Machine) -> str | None:
        found = machine.status(self.path)
        if found is None or not stat.S_ISREG(found.st_mode) or machine.read(self.path) != self.data:
            return f"write {self.path}"
        if machine.partial(self.path).exists():
            return f"write {self.path}, which a run that was killed began"
        return _access_lacking(machine, self.path, self.mode, self.user)

    def make(self, machine: Machine) -> None:
        owner = owner_of(machine, self.user) or _kept(machine, self.path)
        machine.write(self.path, self.data, mode=self.mode, owner=owner)


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of our own in a file that is not ours, between two marks; the rest of the file stays byte by byte."""

    path: str
    lines: tuple[str, ...]
    name: str = "hpadmin"

    def lacking(self, machine: Machine) -> str | None:
        current = machine.read(self.path) or b""
        whole = self.edited(current) == current and not machine.partial(self.path).exists()
        return None if whole else f"edit {self.path}"

    def make(self, machine: Machine) -> None:
        found = machine.status(self.path)
        mode = stat.S_IMODE(found.st_mode) if found else 0o644
        content = self.edited(machine.read(self.path) or b"")
        machine.write(self.path, content, mode=mode, owner=_kept(machine, self.path))

    def edited(self, current: bytes) -> bytes:
        """Return the file's wanted bytes. Raises OperationFailed where nobody can tell which lines are ours."""
        begin, end = f"# BEGIN {self.name}".encode(), f"# END {self.name}".encode()
        kept: list[bytes] = []
        began = 0
        for number, line in enumerate(current.splitlines(keepends=True), start=1):
            if line.rstrip() == begin:
                if began:
                    break
                began = number
            elif began and line.rstrip() == end:
                began = 0
            elif not began:
                kept.append(line)
        if began:
            raise OperationFailed(
                f"{self.path}: the block that begins in line {began} has no end",
                hint=f"write {end.decode()!r} after its last line, or remove the line {begin.decode()!r}",
            )
        if not self.lines:
            return b"".join(kept)
        if kept and not kept[-1].endswith(b"\n"):
            kept.append(b"\n")
        body = [begin, *(line.encode() for line in self.lines), end]
        return b"".join(kept) + b"".join(line + b"\n" for line in body)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory with this mode and owner. What is in it is never touched."""

    path: str
    mode: int = 0o755
    user: str | None = None

    def lacking(self, machine: Machine) -> str | None:
        if not machine.is_directory(self.path):
            return f"make directory {self.path}"
        return _access_lacking(machine, self.path, self.mode, self.user)

    def make(self, machine: Machine) -> None:
        path = machine.path(self.path)
        owner = owner_of(machine, self.user)
        # Closed first, opened when it belongs to whom it should.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
        path.chmod(self.mode)


@dataclass(frozen=True, slots=True)
class Access:
    """Mode and owner of a file whose content is somebody else's matter."""

    path: str
    mode: int
    user: str

    def lacking(self, machine: Machine) -> str | None:
        return _access_lacking(machine, self.path, self.mode, self.user)

    def make(self, machine: Machine) -> None:
        owner = owner_of(machine, self.user)
        path = machine.path(self.path)
        path.chmod(self.mode)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Absent:
    """A file that must not be there."""

    path: str

    def lacking(self, machine: Machine) -> str | None:
        return None if machine.status(self.path) is None else f"remove {self.path}"

    def make(self, machine: Machine) -> None:
        machine.path(self.path).unlink(missing_ok=True)


def _access_lacking(machine: Machine, path: str, mode: int, user: str | None) -> str | None:
    found = machine.status(path)
    if found is None:
        return f"make {path}"
    if stat.S_IMODE(found.st_mode) != mode:
        return f"set the mode of {path} to {mode:04o}"
    owner = machine.owner(user) if user else None
    if user and (owner is None or (found.st_uid, found.st_gid) != (owner.uid, owner.gid)):
        return f"give {path} to {user}"
    return None


def _kept(machine: Machine, path: str) -> Owner | None:
    found = machine.status(path)
    return Owner(found.st_uid, found.st_gid) if found else None
