"""The machine that is being made into a node: its files, accounts, commands and services.

All side effects of the lifecycle go through here; tests give it another root and another runner.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hpadmin.slurm.command import Local, Runner
from lifecycle.launch import Launcher


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a file belongs to."""

    uid: int
    gid: int


def system_owner(user: str) -> Owner | None:
    """Return ids of a system account and of the group of the same name, else its primary group; None without it."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return None
    with contextlib.suppress(KeyError):
        return Owner(account.pw_uid, grp.getgrnam(user).gr_gid)
    return Owner(account.pw_uid, account.pw_gid)


@dataclass(frozen=True, slots=True)
class Machine:
    """This host, or in tests a folder that stands for one."""

    root: Path = Path("/")
    runner: Runner = field(default_factory=Local)
    launcher: Runner = field(default_factory=Launcher)
    """For commands that leave daemons behind."""
    owner: Callable[[str], Owner | None] = system_owner
    host: str = field(default_factory=socket.gethostname)
    """This machine's name where several write into one folder; the same in every run."""

    def path(self, absolute: str) -> Path:
        """Return where the file `absolute` of the machine lies."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> bytes | None:
        """Return a file's bytes; None when there is no such file."""
        try:
            return self.path(absolute).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(
        self,
        absolute: str,
        content: bytes,
        *,
        mode: int,
        owner: Owner | None = None,
        durable: bool = True,
    ) -> None:
        """Put a file in place whole or not at all, never readable by more than `mode` says, not even for a moment.

        One that is `durable` is on the disk when this returns.

        A file that something was mounted over (``/etc/hosts`` of a container) cannot be renamed over: it is
        rewritten in place. Raises OSError; nothing of the new file stays behind then.
        """
        target = self.path(absolute)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = self.partial(absolute)
        partial.unlink(missing_ok=True)
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                if owner is not None:
                    os.fchown(file.fileno(), owner.uid, owner.gid)
                os.fchmod(file.fileno(), mode)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            partial.replace(target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            with target.open("r+b") as file:
                file.write(content)
                file.truncate()
        finally:
            partial.unlink(missing_ok=True)

    def partial(self, absolute: str) -> Path:
        """Return where `write` puts a file before it is whole; only a run that was killed leaves one.

        Not a random name: the next run finds what the last one left. The host's name keeps apart nodes that write
        into the same shared home.
        """
        target = self.path(absolute)
        return target.with_name(f".{target.name}.{self.host}.hpadmin-new")

    def status(self, absolute: str) -> os.stat_result | None:
        """Return a path's status without following a link; None when there is nothing."""
        try:
            return self.path(absolute).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def is_directory(self, absolute: str) -> bool:
        """Tell whether a directory, and no link to one, is there."""
        found = self.status(absolute)
        return found is not None and stat.S_ISDIR(found.st_mode)
