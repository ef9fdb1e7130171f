"""Services of the machine: systemd where it runs, else System V scripts (containers, and hosts without systemd).

Whether a daemon runs is asked of the kernel, not of a script or a pid file: Debian's scripts for Slurm exit 0
whatever they find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lifecycle.machine import Machine

_SECONDS = 120.0
"""Longest time that a service may take to start or stop."""


class Services(Protocol):
    """The service manager of a machine."""

    def known(self, service: str) -> bool:
        """Tell whether the machine has such a service at all."""
        ...

    def enabled(self, service: str) -> bool:
        """Tell whether the service starts at boot."""
        ...

    def enable(self, service: str) -> None:
        """Make the service start at boot."""
        ...

    def disable(self, service: str) -> None:
        """Make the service not start at boot."""
        ...

    def start(self, service: str) -> None:
        """Start the service. Raises OperationFailed."""
        ...

    def stop(self, service: str) -> None:
        """Stop the service. Raises OperationFailed."""
        ...

    def reload(self, service: str) -> None:
        """Let the service read its configuration anew. Raises OperationFailed."""
        ...

    def own(self, service: str, ids: list[int]) -> list[int]:
        """Return which of these processes may be the service's; others are none of our business."""
        ...


def manager(machine: Machine) -> Services:
    """Return the service manager that this machine has."""
    if machine.is_directory("/run/systemd/system"):
        return Systemd(machine)
    return SystemV(machine)


@dataclass(frozen=True, slots=True)
class Systemd:
    """Units, by systemctl(1)."""

    machine: Machine

    def known(self, service: str) -> bool:
        return self._says("cat", service)

    def enabled(self, service: str) -> bool:
        return self._says("is-enabled", "--quiet", service)

    def enable(self, service: str) -> None:
        self._do("enable", "--quiet", service)

    def disable(self, service: str) -> None:
        self._do("disable", "--quiet", service)

    def start(self, service: str) -> None:
        # Unit files and drop-ins may have been written a moment ago; a unit that failed too often may try again.
        self._do("daemon-reload")
        self._says("reset-failed", service)
        self._do("start", service)

    def active(self, unit: str) -> bool:
        """Tell whether a unit is active, one without a process included."""
        return self._says("is-active", "--quiet", unit)

    def restart(self, unit: str) -> None:
        """Start a unit anew, with its present file. Raises OperationFailed."""
        self._do("daemon-reload")
        self._do("restart", unit)

    def stop(self, service: str) -> None:
        self._do("stop", service)

    def reload(self, service: str) -> None:
        # One that has ended since it was looked at is started: a reload of it would be an error.
        self._do("reload-or-restart", service)

    def own(self, service: str, ids: list[int]) -> list[int]:
        # Users run programs of any name; a unit's are in its control group (cgroups(7), /proc/pid/cgroup), unless a
        # daemon such as slurmd moved itself to another one.
        found = [one for one in ids if f"/{service}.service" in self._groups(one)]
        return found or [one for one in ids if str(one) == self._main(service)]

    def _main(self, service: str) -> str:
        asked = ["systemctl", "show", "--property=MainPID", "--value", service]
        return self.machine.runner.run(asked, timeout=_SECONDS).stdout.strip()

    def _groups(self, process: int) -> str:
        try:
            return (self.machine.read(f"/proc/{process}/cgroup") or b"").decode(errors="replace")
        except ProcessLookupError:  # it ended while we looked
            return ""

    def _says(self, *arguments: str) -> bool:
        return self.machine.runner.run(["systemctl", *arguments], timeout=_SECONDS).returncode == 0

    def _do(self, *arguments: str) -> None:
        self.machine.launcher.run(["systemctl", *arguments], timeout=_SECONDS).check()


@dataclass(frozen=True, slots=True)
class SystemV:
    """Scripts in /etc/init.d, enabled by links in /etc/rc2.d (Debian's default runlevel)."""

    machine: Machine

    def known(self, service: str) -> bool:
        return self.machine.status(f"/etc/init.d/{service}") is not None

    def enabled(self, service: str) -> bool:
        links = self.machine.path("/etc/rc2.d")
        return any(link.name[3:] == service for link in links.glob("S[0-9][0-9]*"))

    def enable(self, service: str) -> None:
        self._run("update-rc.d", service, "defaults")
        self._run("update-rc.d", service, "enable")

    def disable(self, service: str) -> None:
        self._run("update-rc.d", service, "disable")

    def start(self, service: str) -> None:
        self._run("service", service, "start")

    def stop(self, service: str) -> None:
        self._run("service", service, "stop")

    def reload(self, service: str) -> None:
        self._run("service", service, "reload")

    def own(self, service: str, ids: list[int]) -> list[int]:
        return ids

    def _run(self, *argv: str) -> None:
        self.machine.launcher.run(argv, timeout=_SECONDS).check()


def processes(machine: Machine, program: str) -> list[int]:
    """Return the ids of processes whose program is `program`, without zombies and what runs in containers here.

    Words after the program's name must stand on its command line in that order: ``hpadmin agent run``.

    A process of a container has more than one id: that of its own namespace and ours (proc_pid_status(5), NSpid).
    """
    # A daemon that forks while we look, to go to the background or to reconfigure, may be missed twice: the child is
    # not in the list yet, the parent is gone when its turn comes.
    return _look_for(machine, program) or _look_for(machine, program)


def _look_for(machine: Machine, program: str) -> list[int]:
    name, *arguments = program.split()
    wanted = {f"Name:\t{called[:15]}" for called in (name, f"{name}-wlm")}
    found = []
    for entry in machine.path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "status").read_text(errors="replace")
            # A reconfigured slurmctld or slurmd has the name of the file that it is: slurmctld-wlm with Debian.
            if text.partition("\n")[0] not in wanted:
                continue
            command = (entry / "cmdline").read_text(errors="replace").split("\0") if arguments else []
        except OSError:
            continue  # ended while we looked
        status = {key: value.split() for key, _, value in (line.partition(":") for line in text.splitlines())}
        alive = status.get("State", ["X"])[0] not in "ZX"
        ours = alive and len(status.get("NSpid", [""])) == 1
        if ours and _in_order(arguments, command):
            found.append(int(entry.name))
    return sorted(found)


def _in_order(words: list[str], line: list[str]) -> bool:
    rest = iter(line)
    return all(word in rest for word in words)
