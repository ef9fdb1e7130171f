"""Shared file systems of the node's group: FSx for Lustre, and FSx for OpenZFS over NFS.

What lies in a file system is never touched but for one file of our own, written and removed as a test. Mounting is
tried again with jitter: when hundreds of nodes start together, file servers and DNS refuse some.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from hpadmin.errors import InvalidInput, OperationFailed, Problem
from hpadmin.model import Filesystem
from lifecycle.daemon import STATE
from lifecycle.engine import Stage
from lifecycle.machine import Machine
from lifecycle.retry import Retry
from lifecycle.situation import Situation
from lifecycle.step import Block, Directory, File, Step, Transient

LUSTRE_OPTIONS = "noatime,flock,_netdev,x-systemd.automount,x-systemd.requires=network-online.target"
"""As AWS documents for FSx for Lustre; mount(8) passes over what starts with x- where there is no systemd."""
NFS_OPTIONS = "nfsvers=4.2,noatime,nconnect=16,rsize=1048576,wsize=1048576,_netdev"
"""As AWS documents for FSx for OpenZFS; a hard mount, so that a server that is away for a while loses no data."""
NFS_EXPORT = "/fsx"
"""Path of an OpenZFS file system's root volume."""
_TYPES = {"lustre": ("lustre", "fuse.lustre"), "openzfs": ("nfs", "nfs4", "fuse.nfs")}
_SECONDS = 60.0
"""Longest time for one attempt to mount, and for the test file."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of fstab(5)."""

    source: str
    path: str
    kind: str
    options: str

    @property
    def line(self) -> str:
        """The line's text. Not checked at boot (0 0): the server does that."""
        return f"{self.source} {self.path} {self.kind} {self.options} 0 0"


def mount_of(filesystem: Filesystem) -> Mount:
    """Return how a file system of the request is mounted.

    >>> mount_of(Filesystem("lustre", "fs-0a.fsx.us-west-2.amazonaws.com", "/fsx", "abcdefgh")).source
    'fs-0a.fsx.us-west-2.amazonaws.com@tcp:/abcdefgh'
    """
    if filesystem.kind == "lustre":
        source = f"{filesystem.dns_name}@tcp:/{filesystem.mount_name}"
        return Mount(source, filesystem.mount_path, "lustre", LUSTRE_OPTIONS)
    return Mount(f"{filesystem.dns_name}:{NFS_EXPORT}", filesystem.mount_path, "nfs", NFS_OPTIONS)


def check(filesystems: tuple[Filesystem, ...]) -> None:
    """Refuse what fstab(5) would read differently. Raises InvalidInput with every problem."""
    problems = []
    for filesystem in filesystems:
        for value in (filesystem.dns_name, filesystem.mount_path, filesystem.mount_name):
            if any(char.isspace() or char in "\\#,\"'" or not char.isprintable() for char in value):
                problems.append(Problem(filesystem.mount_path, f"{value!r} cannot stand in /etc/fstab"))
        if not filesystem.mount_path.startswith("/") or ".." in filesystem.mount_path.split("/"):
            problems.append(Problem(filesystem.mount_path, "must be an absolute path without .."))
    if problems:
        raise InvalidInput("file systems cannot be mounted as requested", problems)


@dataclass(frozen=True, slots=True)
class Mounted:
    """The file system is mounted where it should be."""

    mount: Mount
    kind: str
    """``lustre`` or ``openzfs``."""

    def lacking(self, machine: Machine) -> str | None:
        found = mounted(machine, self.mount.path)
        if found is None:
            return f"mount {self.mount.source} on {self.mount.path}"
        source, kind = found
        if not self._is_ours(source) or kind not in _TYPES[self.kind]:
            raise OperationFailed(
                f"{source} ({kind}) is mounted on {self.mount.path}, where {self.mount.source} belongs",
                hint="unmount it; file systems change only when a group's nodes are made anew",
            )
        if self._is_dead(machine, kind):
            return f"mount {self.mount.source} on {self.mount.path} anew"
        return None

    def make(self, machine: Machine) -> None:
        if mounted(machine, self.mount.path):
            machine.launcher.run(["umount", "--lazy", self.mount.path], timeout=_SECONDS).check()
        try:
            done = machine.launcher.run(["mount", self.mount.path], timeout=_SECONDS)
        except OperationFailed as error:
            raise Transient(f"{self.mount.source} cannot be mounted: {error}") from error
        if done.returncode != 0:
            said = done.stdout.strip() or f"mount exited {done.returncode}"
            raise Transient(f"{self.mount.source} cannot be mounted on {self.mount.path}: {said}")

    def _is_ours(self, source: str) -> bool:
        """Tell whether this source in mountinfo is the wanted file system.

        mount.lustre(8) resolves host names, and a server has several addresses: what stays is the file system's own
        name, after the last ``:/``.
        """
        wanted, found = self.mount.source.rstrip("/"), source.rstrip("/")
        if self.kind == "lustre":
            wanted, found = wanted.rpartition(":/")[2], found.rpartition(":/")[2]
        return wanted == found

    def _is_dead(self, machine: Machine, kind: str) -> bool:
        """Tell whether the process that serves a file system in user space is gone: the mount outlives it (fuse(4)).

        One that is killed while it mounts leaves this. Whoever does not answer in time lives, and waits for its server.
        """
        if not kind.startswith("fuse."):
            return False
        try:
            # Not the directory's own status, which the kernel may have kept.
            asked = ["stat", "--file-system", self.mount.path]
            done = machine.runner.run(asked, timeout=10, env={"LC_ALL": "C"})
        except OperationFailed:
            return False
        return done.returncode != 0 and os.strerror(errno.ENOTCONN) in done.stderr


@dataclass(frozen=True, slots=True)
class Tested:
    """The file system took a test file: a mount that hangs or refuses to write is found now, not by the first job.

    Told by a record on this machine, not asked of the file system: one whose server is away would not answer.
    """

    mount: Mount

    @property
    def _record(self) -> File:
        return File(
            f"{STATE}/mounts/{self.mount.path.strip('/').replace('/', '-')}", f"{self.mount.source}\n"
        )

    def lacking(self, machine: Machine) -> str | None:
        return f"write a test file to {self.mount.path}" if self._record.lacking(machine) else None

    def make(self, machine: Machine) -> None:
        """Write and remove the file."""
        test = f"{self.mount.path}/.hpadmin-write-test.{self._token(machine)}"
        try:
            machine.runner.run(["rm", "-f", test], timeout=_SECONDS)
            # Everybody may write there: whatever has this name is not ours, and a link is not followed.
            done = machine.runner.run(
                ["dd", "if=/dev/zero", f"of={test}", "bs=4096", "count=1", "conv=excl,fsync", "oflag=nofollow",
                 "status=none"],
                timeout=_SECONDS,
            )  # fmt: skip
            machine.runner.run(["rm", "-f", test], timeout=_SECONDS)
        except OperationFailed as error:
            raise Transient(f"{self.mount.path} is mounted and does not answer: {error}") from error
        # root_squash: root is nobody there, users are not.
        if done.returncode != 0 and "Permission denied" not in done.stderr:
            raise OperationFailed(
                f"{self.mount.path} is mounted and cannot be written: {done.stderr.strip()}"
            )
        machine.path(self._began).unlink(missing_ok=True)
        self._record.make(machine)

    @property
    def _began(self) -> str:
        return f"{self._record.path}.begun"

    def _token(self, machine: Machine) -> str:
        """Return the end of the file's name: nobody can foresee it, and a run after one that was killed knows it."""
        if known := machine.read(self._began):
            return known.decode("ascii")
        token = secrets.token_hex(16)
        machine.write(self._began, token.encode(), mode=0o600)
        return token


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A directory to mount on; one that is there already stays as it is, whatever it holds."""

    path: str

    def lacking(self, machine: Machine) -> str | None:
        # Asking a mounted directory could hang on a server that is away.
        if mounted(machine, self.path) or machine.is_directory(self.path):
            return None
        return Directory(self.path).lacking(machine)

    def make(self, machine: Machine) -> None:
        Directory(self.path).make(machine)


def mounted(machine: Machine, path: str) -> tuple[str, str] | None:
    """Return source and type of what is mounted on `path`, None when nothing is (proc_pid_mountinfo(5))."""
    found = None
    for line in (machine.read("/proc/self/mountinfo") or b"").decode(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4]
        with contextlib.suppress(ValueError):
            kind, source, *_ = after.split(" ")
            if _plain(point) == path and kind != "autofs":
                found = (_plain(source), kind)  # a later line covers an earlier one
    return found


def _plain(text: str) -> str:
    """Undo the octal escapes of blanks and backslashes."""
    for escape, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, char)
    return text


def steps(situation: Situation) -> Iterator[Step]:
    """Yield the steps of the stage."""
    filesystems = situation.group.filesystems
    check(filesystems)
    mounts = [(mount_of(filesystem), filesystem.kind) for filesystem in filesystems]
    for mount, _ in mounts:
        yield MountPoint(mount.path)
    yield Block("/etc/fstab", tuple(mount.line for mount, _ in mounts))
    for mount, kind in mounts:
        yield Mounted(mount, kind)
        yield Tested(mount)


STAGE = Stage(
    "storage",
    "shared file systems",
    steps,
    applies=lambda situation: bool(situation.group.filesystems),
    retry=Retry(deadline=3600, base=2, cap=30),
)
