"""Users: accounts with the same ids everywhere, homes on shared storage, keys, and SSH where it is allowed."""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import pwd
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.request import read_source
from lifecycle.daemon import Running
from lifecycle.engine import Stage, may_pass
from lifecycle.impersonate import as_user
from lifecycle.machine import Machine
from lifecycle.retry import Retry
from lifecycle.situation import Situation
from lifecycle.step import Block, Directory, File, Step, Transient
from lifecycle.users import FIRST_UID, LAST_UID, User, conflicts, parse, parse_keys

log = logging.getLogger("lifecycle")

GROUP = "hpadmin-users"
"""Group of everybody in `shared_users.txt`: by it sshd tells users from administrators."""
SSHD_CONFIG = "/etc/ssh/sshd_config.d/50-hpadmin.conf"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
_LARGEST = 1 << 20
"""Bytes of a user's own file that are read."""
_BUSY = 10
"""useradd(8), groupadd(8): cannot update the account files (also 1: cannot lock them)."""


def users(situation: Situation) -> tuple[User, ...]:
    """Return the users of the bundle, none without a list.

    With an OpenZFS file system on /home anywhere in the cluster, that is where homes are, whatever the list says,
    as HyperPod's own scripts have it. Raises InvalidInput with everything that is wrong.
    """
    path = situation.bundle / situation.settings.users
    if not path.exists():
        return ()
    existing = [(entry.pw_name, entry.pw_uid) for entry in pwd.getpwall()]
    system = [name for name, uid in existing if not FIRST_UID <= uid < LAST_UID]
    listed = parse(read_source(path).text, path.name, reserved=[*system, GROUP])
    groups = [(entry.gr_name, entry.gr_gid) for entry in grp.getgrall()]
    if problems := conflicts(listed, existing, groups):
        raise InvalidInput("users cannot be made as listed", problems)
    shared = any(fs.mount_path == "/home" for group in situation.cluster.groups for fs in group.filesystems)
    return tuple(
        User(
            user.name,
            user.uid,
            f"/home/{user.name}" if shared else user.home,
            _keys(situation.bundle / "ssh_keys" / f"{user.name}.pub"),
        )
        for user in listed
    )


def has_homes(situation: Situation, home: str) -> bool:
    """Tell whether this node is where `home` can be made.

    A home on a file system that only other groups mount is theirs to make; here it would be a look-alike.
    """

    def covers(mount_path: str) -> bool:
        return PurePosixPath(home).is_relative_to(mount_path)

    here = any(covers(filesystem.mount_path) for filesystem in situation.group.filesystems)
    anywhere = any(covers(fs.mount_path) for group in situation.cluster.groups for fs in group.filesystems)
    return here or not anywhere


def _keys(path: Path) -> tuple[str, ...]:
    return parse_keys(read_source(path).text, path.name) if path.exists() else ()


@dataclass(frozen=True, slots=True)
class Group:
    """A group; with a number, of just this one."""

    name: str
    gid: int | None = None

    def lacking(self, machine: Machine) -> str | None:
        return None if entry_of(machine, "/etc/group", self.name) else f"add group {self.name}"

    def make(self, machine: Machine) -> None:
        number = ["--gid", str(self.gid)] if self.gid is not None else ["--system"]
        _change(machine, ["groupadd", *number, self.name])


@dataclass(frozen=True, slots=True)
class Account:
    """An account with its home's path, a shell and its place in the users' group. It has no password."""

    user: User

    def lacking(self, machine: Machine) -> str | None:
        user = self.user
        entry = entry_of(machine, "/etc/passwd", user.name)
        if entry is None:
            return f"add user {user.name}"
        if entry[2:4] != [str(user.uid), str(user.uid)] or entry[5] != user.home:
            return f"change user {user.name}"
        members = (entry_of(machine, "/etc/group", GROUP) or ["", "", "", ""])[3].split(",")
        if user.name not in members:
            return f"put user {user.name} into {GROUP}"
        return f"complete user {user.name}" if self._shadowless(machine) else None

    def make(self, machine: Machine) -> None:
        user = self.user
        settings = ["--uid", str(user.uid), "--gid", str(user.uid), "--shell", "/bin/bash"]
        if entry_of(machine, "/etc/passwd", user.name) is None:
            command = ["useradd", *settings, "--no-create-home", "--home-dir", user.home, "--groups", GROUP]
        else:
            command = ["usermod", *settings, "--home", user.home, "--append", "--groups", GROUP]
            if self._shadowless(machine):
                command += ["--password", "!"]
        _change(machine, [*command, user.name])

    def _shadowless(self, machine: Machine) -> bool:
        """Tell whether shadow(5) lacks the user, who could not log in then, not even with a key.

        useradd(8) writes one file after the other: when it is killed, the later ones miss what the first has.
        """
        shadow = "/etc/shadow"
        return machine.status(shadow) is not None and entry_of(machine, shadow, self.user.name) is None


@dataclass(frozen=True, slots=True)
class Home:
    """A home directory, made whole or not at all, by whichever node comes first; an existing one is left alone."""

    user: User

    def lacking(self, machine: Machine) -> str | None:
        found = machine.status(self.user.home)
        if found is not None and found.st_uid != self.user.uid:
            raise OperationFailed(
                f"{self.user.home} exists and belongs to user id {found.st_uid}, not to {self.user.name}",
                hint="it is somebody's data: move it away, or give it to the user",
            )
        # What the user has in its place, such as a link to another file system, is the user's own.
        whole = found is not None and not self._draft(machine).exists()
        return None if whole else f"make home {self.user.home}"

    def make(self, machine: Machine) -> None:
        home = machine.path(self.user.home)
        parent = home.parent
        parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        draft = self._draft(machine)
        if draft.exists():
            shutil.rmtree(draft)
        if machine.status(self.user.home):
            return
        # Filled while only root can look into it, then renamed: a rename onto a home that another node made in
        # the meantime fails, and theirs stays.
        draft.mkdir(mode=0o700)
        try:
            skeleton = machine.path("/etc/skel")
            if skeleton.is_dir():
                shutil.copytree(skeleton, draft, symlinks=True, dirs_exist_ok=True)
            for path in [*draft.rglob("*"), draft]:
                os.chown(path, self.user.uid, self.user.uid, follow_symlinks=False)
            draft.chmod(0o700)
            draft.rename(home)
        except PermissionError as error:
            raise OperationFailed(
                f"{home} cannot be given to {self.user.name}: {error.strerror}",
                hint="the file server refuses root (root_squash): allow root from this network",
            ) from error
        except OSError:
            if not machine.status(self.user.home):
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _draft(self, machine: Machine) -> Path:
        """Where the home is filled; only a run that was killed leaves one."""
        home = machine.path(self.user.home)
        return home.with_name(f".hpadmin-home.{self.user.name}.{machine.host}")


@dataclass(frozen=True, slots=True)
class Keys:
    """A key of the user's own for going from node to node, and the keys that may log in; all made as the user.

    What stands in the way in a home is its user's to mend: it is told, and the node goes on without these keys.
    """

    user: User
    _left: list[str] = field(default_factory=list, compare=False, repr=False)
    """What stood in the way in this run."""

    def lacking(self, machine: Machine) -> str | None:
        return None if self._left else self._as_user(partial(self._look, machine)) or None

    def make(self, machine: Machine) -> None:
        self._as_user(partial(self._make, machine))

    def _as_user(self, what: Callable[[], str | None]) -> str:
        try:
            return as_user(self.user.uid, self.user.uid, what)
        except OSError as error:
            if may_pass(error):  # the file server's matter
                raise
            cause = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        except OperationFailed as error:
            cause = str(error)
        log.warning("  SSH keys of %s: %s; left to the user", self.user.name, " ".join(cause.split()))
        self._left.append(cause)
        return ""

    @property
    def _private(self) -> str:
        return f"{self.user.home}/.ssh/id_ed25519"

    @property
    def _public(self) -> str:
        return f"{self._private}.pub"

    def _draft(self, machine: Machine) -> Path:
        """Where a new key is made; only a run that was killed leaves one."""
        return machine.path(f"{self.user.home}/.ssh/.hpadmin-key.{machine.host}")

    def _look(self, machine: Machine) -> str | None:
        public = _read_plain(machine, self._public)
        authorized = self._authorized(public)
        current = _read_plain(machine, authorized.path) or b""
        whole = (
            _is_plain(machine, self._private)
            and public is not None
            and not self._draft(machine).exists()
            and authorized.edited(current) == current
            and not machine.partial(authorized.path).exists()
        )
        return None if whole else f"make SSH keys of {self.user.name}"

    def _make(self, machine: Machine) -> None:
        private, draft = machine.path(self._private), self._draft(machine)
        private.parent.mkdir(mode=0o700, exist_ok=True)
        if draft.exists():
            shutil.rmtree(draft)
        if not _is_plain(machine, self._private):
            draft.mkdir(mode=0o700)
            try:
                made = draft / "key"
                machine.runner.run(
                    ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.user.name, "-f", str(made)],
                    timeout=60,
                ).check()
                # Unless another node was quicker: link(2) refuses to replace.
                with contextlib.suppress(FileExistsError):
                    private.hardlink_to(made)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        if _read_plain(machine, self._public) is None:
            # From whichever private key is there now: nodes that do so at the same time write the same.
            asked = ["ssh-keygen", "-y", "-P", "", "-f", str(private)]
            public = machine.runner.run(asked, timeout=60).check().stdout
            machine.write(self._public, public.encode(), mode=0o644)
        authorized = self._authorized(_read_plain(machine, self._public))
        found = machine.status(authorized.path)
        content = authorized.edited(_read_plain(machine, authorized.path) or b"")
        machine.write(authorized.path, content, mode=stat.S_IMODE(found.st_mode) if found else 0o644)

    def _authorized(self, public: bytes | None) -> Block:
        lines = [*self.user.keys, (public or b"").decode("utf-8", "replace").strip()]
        return Block(f"{self.user.home}/.ssh/authorized_keys", tuple(line for line in lines if line))


def _is_plain(machine: Machine, path: str) -> bool:
    """Tell whether a file is there. Raises OperationFailed when something else is."""
    found = machine.status(path)
    if found is None or stat.S_ISREG(found.st_mode):
        return found is not None
    raise OperationFailed(f"{path} is {'a link' if stat.S_ISLNK(found.st_mode) else 'no regular file'}")


def _read_plain(machine: Machine, path: str) -> bytes | None:
    """Read a file that its user may have put anything in place of; None without one.

    Raises OperationFailed for what is no file of a sensible size: a pipe or a device would never end.
    """
    if not _is_plain(machine, path):
        return None
    # It may have changed since: never wait for a pipe's other end.
    descriptor = os.open(machine.path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise OperationFailed(f"{path} has more than {_LARGEST} bytes")
    return content


@dataclass(frozen=True, slots=True)
class HostKey:
    """The node's own SSH key, there whole or not at all: sshd passes over one that it cannot read, and starts."""

    def lacking(self, machine: Machine) -> str | None:
        return None if machine.status(HOST_KEY) else "make the SSH host key"

    def make(self, machine: Machine) -> None:
        draft = machine.partial(HOST_KEY)
        public = draft.with_name(f"{draft.name}.pub")
        for path in (draft, public):
            path.unlink(missing_ok=True)  # ssh-keygen would ask whether to overwrite it
        machine.runner.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(draft)], timeout=60
        ).check()
        public.replace(machine.path(f"{HOST_KEY}.pub"))
        # Last, as it is what `lacking` looks for.
        draft.replace(machine.path(HOST_KEY))


def accounts(situation: Situation) -> Iterator[Step]:
    """Yield the steps for users."""
    listed = users(situation)
    yield Group(GROUP)
    for user in listed:
        yield Group(user.name, user.uid)
        yield Account(user)
        if has_homes(situation, user.home):
            yield Home(user)
            yield Keys(user)


def ssh(situation: Situation) -> Iterator[Step]:
    """Yield the steps for sshd: users may come in on node types that `login_shell_groups` names."""
    allowed = situation.role.value in situation.settings.login_shell_groups
    yield HostKey()
    lines = ["# Written by hpadmin's lifecycle.", "PasswordAuthentication no"]
    if not allowed:
        lines += [
            "# Users log in on login nodes; administrators are not in this group.",
            f"DenyGroups {GROUP}",
        ]
    yield Directory("/run/sshd")
    yield File(SSHD_CONFIG, "".join(f"{line}\n" for line in lines))
    yield Running(
        "ssh",
        "sshd",
        reads=(SSHD_CONFIG, HOST_KEY),
        checked_by=("/usr/sbin/sshd", "-t"),
        pid_file="/run/sshd.pid",
    )


def entry_of(machine: Machine, database: str, name: str) -> list[str] | None:
    """Return the fields of a line of passwd(5) or group(5); None without it."""
    for line in (machine.read(database) or b"").decode(errors="replace").splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return fields
    return None


def _change(machine: Machine, command: list[str]) -> None:
    """Run a command of shadow(5)'s tools. Raises Transient when another one holds the lock."""
    done = machine.runner.run(command, timeout=60)
    if done.returncode in (1, _BUSY):
        raise Transient(f"{' '.join(command)}: {done.stderr.strip()}")
    done.check()


STAGE = Stage(
    "users",
    "accounts, homes and keys",
    accounts,
    applies=lambda situation: (situation.bundle / situation.settings.users).exists(),
    retry=Retry(deadline=120),
)
SSH = Stage("ssh", "sshd", ssh, retry=Retry(deadline=60))
