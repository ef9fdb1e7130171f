"""slurmrestd on the controller, for clients that show a token: its key, its own account, its service."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from lifecycle.daemon import InitScript, Running
from lifecycle.engine import Stage
from lifecycle.initscripts import RESTD
from lifecycle.machine import Machine
from lifecycle.packages import Packages, plugin_file
from lifecycle.retry import Retry
from lifecycle.settings import render_options
from lifecycle.situation import Situation
from lifecycle.stages.accounts import entry_of
from lifecycle.step import Access, Directory, File, Step, owner_of

ADDRESS = "0.0.0.0:6820"
UNIT = "/etc/systemd/system/slurmrestd.service.d/hpadmin.conf"


@dataclass(frozen=True, slots=True)
class TokenKey:
    """The key that tokens are signed with: made once, by the kernel's random numbers, and never changed."""

    path: str
    user: str

    def lacking(self, machine: Machine) -> str | None:
        return None if machine.status(self.path) else f"make {self.path}"

    def make(self, machine: Machine) -> None:
        machine.write(self.path, secrets.token_bytes(32), mode=0o600, owner=owner_of(machine, self.user))


@dataclass(frozen=True, slots=True)
class SystemUser:
    """A system account without a home or a login, and its group.

    useradd(8) writes one file after the other: when it is killed, the account may be there without its group.
    """

    name: str

    def lacking(self, machine: Machine) -> str | None:
        if not machine.owner(self.name):
            return f"add system user {self.name}"
        return None if entry_of(machine, "/etc/group", self.name) else f"add group {self.name}"

    def make(self, machine: Machine) -> None:
        if owner := machine.owner(self.name):
            command = ["groupadd", "--gid", str(owner.gid), self.name]
            machine.runner.run(command, timeout=60).check()
            return
        machine.runner.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
             "--shell", "/usr/sbin/nologin", self.name],
            timeout=60,
        ).check()  # fmt: skip


@dataclass(frozen=True, slots=True)
class TokenPlugin:
    """Slurm's plugin for tokens: part of most builds of Slurm, a package of its own in Debian's."""

    package: str = "slurm-wlm-jwt-plugin"

    def lacking(self, machine: Machine) -> str | None:
        return None if plugin_file(machine, "auth_jwt.so") else f"install {self.package}"

    def make(self, machine: Machine) -> None:
        Packages((self.package,)).make(machine)


def key(situation: Situation) -> Iterator[Step]:
    """Yield the steps of the tokens' key: slurmctld does not start without the one that slurm.conf names."""
    options = render_options(situation.settings, situation.cluster)
    path = f"{options.state_directory}/jwt_hs256.key"
    yield TokenPlugin()
    yield Directory(options.state_directory, 0o700, options.slurm_user)
    yield TokenKey(path, options.slurm_user)
    yield Access(path, 0o600, options.slurm_user)


def service(situation: Situation) -> Iterator[Step]:
    """Yield the steps of slurmrestd. It must be neither root nor SlurmUser (slurmrestd(8))."""
    yield SystemUser(RESTD.user)
    defaults = f"/etc/default/{RESTD.name}"
    yield File(defaults, f'{RESTD.options_variable}="-a rest_auth/jwt {ADDRESS}"\n')
    yield File(
        UNIT,
        f"[Service]\nUser={RESTD.user}\nGroup={RESTD.user}\nExecStart=\n"
        f"ExecStart={RESTD.executable} ${RESTD.options_variable}\n",
    )
    yield InitScript(RESTD)
    yield Running(RESTD.name, RESTD.name, reads=(defaults, UNIT), log=RESTD.background)


KEY = Stage(
    "tokens",
    "key of the tokens",
    key,
    applies=lambda s: s.is_primary and s.settings.rest,
    retry=Retry(deadline=600, base=2, cap=30),
)
SERVICE = Stage(
    "rest",
    "slurmrestd",
    service,
    applies=lambda s: s.is_primary and s.settings.rest,
    retry=Retry(deadline=120),
)
