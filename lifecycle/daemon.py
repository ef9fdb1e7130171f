"""Steps about daemons: running with the configuration that is on disk now, or not running at all."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field

from hpadmin.errors import OperationFailed
from lifecycle.initscripts import Daemon, script
from lifecycle.machine import Machine
from lifecycle.retry import Clock
from lifecycle.services import Services, manager, processes
from lifecycle.step import File, Transient
from lifecycle.words import Words, last_words

log = logging.getLogger("lifecycle")

_ENDS = 10.0
"""Seconds within which a daemon that is about to end is gone."""
_HEEDS = 60.0
"""Seconds that a daemon may take to end once it was told to."""

STATE = "/var/lib/hpadmin/lifecycle"
"""Where the lifecycle keeps what it must remember between runs; readable by root alone."""


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that runs, starts at boot, and was started after the last change of the files in `reads`."""

    service: str
    program: str
    """Name of its process."""
    reads: tuple[str, ...] = ()
    """Files that it reads only when it starts."""
    probe: tuple[str, ...] = ()
    """A command that succeeds once the daemon does its work; without one, its process is enough."""
    log: str = ""
    """Where it says why it does not start."""
    vain: tuple[str, ...] = ()
    """Beginnings of errors in `log` after which no waiting helps: what it was configured with is refused."""
    advice: str = ""
    """What to do about one of `vain`."""
    checked_by: tuple[str, ...] = ()
    """A command that checks its configuration. With one, the daemon is told to read that anew, and is never stopped."""
    pid_file: str = ""
    """Where it notes its number, if others have the same name: sshd's are people's sessions."""
    timeout: float = 60.0
    clock: Clock = field(default_factory=Clock)

    def lacking(self, machine: Machine) -> str | None:
        services = manager(machine)
        if not services.known(self.service):
            return f"start {self.service}, which is not installed"
        if not self._runs(machine):
            return f"start {self.service}"
        if self._outdated(machine):
            return f"{'reload' if self.checked_by else 'restart'} {self.service}, whose configuration changed"
        if not services.enabled(self.service):
            return f"let {self.service} start at boot"
        return None if self._answers(machine) else f"wait for {self.service}"

    def make(self, machine: Machine) -> None:
        services = manager(machine)
        if not services.known(self.service):
            raise OperationFailed(
                f"the service {self.service} is not installed on this machine",
                hint="install the package that brings it, or an image that has it",
            )
        if not services.enabled(self.service):
            services.enable(self.service)
        digest = self._digest(machine)
        anew = not self._runs(machine) or self._outdated(machine)
        if anew:
            self._clear_the_way(machine)
        # What the one before said, up to its end, is not what this one says: only the other may have been refused.
        words = Words(machine, self.log) if self.log else None
        if anew:
            self._start(machine, services)
            # Before it answers: one that waits for others, as slurmdbd does for its database, is not started anew.
            if self.reads:
                machine.write(self._record, digest, mode=0o600)
        if not self.clock.wait_until(lambda: self._settled(machine, words), self.timeout):
            raise Transient(
                f"{self.service} does not work {self.timeout:g} s after its start{self._why(machine)}"
            )

    def _clear_the_way(self, machine: Machine) -> None:
        """Check the configuration of one that runs and can be told to read it; end any other that runs.

        One that is to be started looks at its configuration by itself. One that is just ending, as where an image's
        sshd found no host key at boot, takes /run/sshd with it, without which no configuration is good.
        """
        if self.checked_by:
            check = self.checked_by
            if not self.clock.wait_until(
                lambda: not self._runs(machine) or machine.runner.run(check, timeout=60).returncode == 0,
                _ENDS,
            ):
                machine.runner.run(check, timeout=60).check()
        elif self._runs(machine):
            stop(machine, self.service, self.program, self.clock)

    def _start(self, machine: Machine, services: Services) -> None:
        # One that runs again by itself, as on a machine that is still booting, has read what is there.
        if not self._runs(machine):
            services.start(self.service)
        elif self.checked_by:
            services.reload(self.service)

    def _runs(self, machine: Machine) -> bool:
        found = own_processes(machine, self.service, self.program)
        noted = machine.read(self.pid_file) if self.pid_file else None
        return bool(found) if noted is None else noted.decode(errors="replace").strip() in map(str, found)

    def _outdated(self, machine: Machine) -> bool:
        """Tell whether a file changed since the daemon's start, or nobody knows: a run was killed before it told."""
        return bool(self.reads) and machine.read(self._record) != self._digest(machine)

    @property
    def _record(self) -> str:
        return f"{STATE}/services/{self.service}"

    def _digest(self, machine: Machine) -> bytes:
        sums = [hashlib.sha256(machine.read(path) or b"").hexdigest() for path in self.reads]
        return "".join(f"{sum_}  {path}\n" for sum_, path in zip(sums, self.reads, strict=True)).encode()

    def _settled(self, machine: Machine, words: Words | None) -> bool:
        """Tell whether it works; if not, pass on what it says. Raises OperationFailed when it never will."""
        if self._answers(machine):
            return True
        for said in words.new() if words else ():
            log.warning("  %s says: %s", self.service, said)
            if said.startswith(self.vain):
                # It would ask again and again, and hears no order to end meanwhile (see `stop`).
                kill(machine, self.service, self.program)
                raise OperationFailed(f"{self.service} is refused: {said}", hint=self.advice)
            if said.startswith("fatal:"):
                raise Transient(f"{self.service} ended: {said}")
        return False

    def _answers(self, machine: Machine) -> bool:
        if not self._runs(machine):
            return False
        if not self.probe:
            return True
        try:
            return machine.runner.run(self.probe, timeout=10).returncode == 0
        except OperationFailed:
            return False  # it hangs; the caller waits as long as it may

    def _why(self, machine: Machine) -> str:
        return last_words(machine, self.log) if self.log else ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A daemon that this role must not run: neither now nor at boot."""

    service: str
    program: str
    clock: Clock = field(default_factory=Clock)

    def lacking(self, machine: Machine) -> str | None:
        services = manager(machine)
        if not services.known(self.service):
            return None
        if own_processes(machine, self.service, self.program):
            return f"stop {self.service}"
        return f"keep {self.service} from starting at boot" if services.enabled(self.service) else None

    def make(self, machine: Machine) -> None:
        manager(machine).disable(self.service)
        # Also one without a process: on a machine that is still booting, its turn to be started may come yet.
        stop(machine, self.service, self.program, self.clock)


@dataclass(frozen=True, slots=True)
class InitScript:
    """The daemon's System V script, on a machine that starts its services so."""

    daemon: Daemon

    @property
    def _file(self) -> File:
        return File(f"/etc/init.d/{self.daemon.name}", script(self.daemon), 0o755)

    def lacking(self, machine: Machine) -> str | None:
        return None if machine.is_directory("/run/systemd/system") else self._file.lacking(machine)

    def make(self, machine: Machine) -> None:
        self._file.make(machine)


def stop(machine: Machine, service: str, program: str, clock: Clock) -> None:
    """Stop a service and see it gone. Raises OperationFailed when it lives on.

    As systemd does it, what does not heed the order is killed. Scripts of System V do not see whether anybody heard it,
    nor, in a container without CAP_SYS_PTRACE, which daemons of other users run the program that they look for
    (start-stop-daemon(8), --exec): hence the order is given by process, too.
    """
    manager(machine).stop(service)
    if left := own_processes(machine, service, program):
        _signal(machine, "TERM", left)
    if clock.wait_until(lambda: not own_processes(machine, service, program), _HEEDS):
        return
    log.warning("%s does not stop within %g s: killing it", service, _HEEDS)
    kill(machine, service, program)
    if not clock.wait_until(lambda: not own_processes(machine, service, program), 10):
        raise OperationFailed(f"{service} does not stop")


def kill(machine: Machine, service: str, program: str) -> None:
    """Kill a service's processes, if there are any."""
    if found := own_processes(machine, service, program):
        _signal(machine, "KILL", found)


def own_processes(machine: Machine, service: str, program: str) -> list[int]:
    """Return the processes of a service whose program is `program`; where systemd runs, those of its unit alone."""
    return manager(machine).own(service, processes(machine, program))


def _signal(machine: Machine, signal: str, ids: list[int]) -> None:
    machine.runner.run(["kill", f"-{signal}", *map(str, ids)], timeout=10)
