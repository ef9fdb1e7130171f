"""Login and compute nodes: no configuration of their own, they fetch it from the controller (configless)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from hpadmin.errors import OperationFailed
from hpadmin.model import Node, NodeType
from hpadmin.request.catalog import real_memory
from hpadmin.slurm.command import Completed
from hpadmin.topology.imex import NODES_CONFIG, imex_domains
from lifecycle.daemon import InitScript, Running, Stopped
from lifecycle.engine import Stage
from lifecycle.initscripts import SACKD, SLURMD, Daemon
from lifecycle.machine import Machine
from lifecycle.retry import Clock, Retry
from lifecycle.settings import render_options
from lifecycle.situation import Situation
from lifecycle.step import Absent, Directory, File, Step, Transient
from lifecycle.words import last_words

_WAIT = Retry(deadline=3600, base=0.5, cap=5)


@dataclass(frozen=True, slots=True)
class ControllerKnows:
    """The controller answers and its configuration has this node: slurmd would give up otherwise."""

    name: str
    conf_server: str

    def lacking(self, machine: Machine) -> str | None:
        return None if self._asked(machine) is None else "wait until the controller knows this node"

    def make(self, machine: Machine) -> None:
        if said := self._asked(machine):
            raise Transient(said)

    def _asked(self, machine: Machine) -> str | None:
        """Return None when the node is known, else what is wrong."""
        try:
            answer = machine.runner.run(
                ["scontrol", "--oneliner", "show", "node", self.name],
                timeout=20,
                env={"SLURM_CONF_SERVER": self.conf_server},
            )
        except OperationFailed as error:
            return f"the controller at {self.conf_server} does not answer: {error}"
        if f"NodeName={self.name} " in answer.stdout:
            return None
        said = (answer.stderr or answer.stdout).strip().splitlines()
        if any("not found" in line for line in said):
            return f"the controller does not have node {self.name} in its configuration yet"
        return (
            f"the controller at {self.conf_server} does not answer: {said[-1] if said else 'it said nothing'}"
        )


@dataclass(frozen=True, slots=True)
class Equipped:
    """The machine has the processors and the memory that its node is configured with.

    slurmctld never uses a node that registers with less (slurm.conf(5), NodeName, CPUs and RealMemory). Devices are the
    health check's matter: a driver may come later than this.
    """

    node: Node

    def lacking(self, machine: Machine) -> str | None:
        return "find the hardware that the node is configured with" if self._missing(machine) else None

    def make(self, machine: Machine) -> None:
        if missing := self._missing(machine):
            raise OperationFailed(
                f"this machine has {' and '.join(missing)} for an {self.node.hardware.instance_type}",
                hint="it is another type than resource_config.json says, or broken: replace it",
            )

    def _missing(self, machine: Machine) -> list[str]:
        told = _patiently(machine, "slurmd", "-C").check().stdout
        found = dict(word.split("=", 1) for word in told.split() if "=" in word)
        wanted = {"CPUs": self.node.cpus, "RealMemory": real_memory(self.node.hardware.memory_mib)}
        words = {"CPUs": "CPUs", "RealMemory": "MiB of memory"}
        return [
            f"{found.get(key, 'no')} {words[key]} instead of {least}"
            for key, least in wanted.items()
            if int(found.get(key, 0)) < least
        ]


@dataclass(frozen=True, slots=True)
class Registered:
    """slurmd has told the controller that it is there, and the controller took it."""

    name: str
    log: str
    clock: Clock = field(default_factory=Clock)

    def lacking(self, machine: Machine) -> str | None:
        answer = _patiently(machine, "scontrol", "--oneliner", "show", "node", self.name)
        fields = dict(word.split("=", 1) for word in answer.stdout.split() if "=" in word)
        started = fields.get("SlurmdStartTime", "None")
        responding = "NOT_RESPONDING" not in fields.get("State", "NOT_RESPONDING")
        return None if started != "None" and responding else "register with the controller"

    def make(self, machine: Machine) -> None:
        if not self.clock.wait_until(lambda: self.lacking(machine) is None, 30, every=0.3):
            raise Transient(f"node {self.name} has not registered yet{last_words(machine, self.log)}")


@dataclass(frozen=True, slots=True)
class Fetched:
    """sackd has the configuration: users' commands work from now on."""

    conf_server: str
    clock: Clock = field(default_factory=Clock)

    def lacking(self, machine: Machine) -> str | None:
        # The cheapest command that reads the configuration and asks nobody.
        answer = _patiently(machine, "scontrol", "show", "hostnames", "x")
        return None if answer.returncode == 0 else "fetch the configuration from the controller"

    def make(self, machine: Machine) -> None:
        if not self.clock.wait_until(lambda: self.lacking(machine) is None, 30, every=0.3):
            raise Transient(f"no configuration came from the controller at {self.conf_server} yet")


def _patiently(machine: Machine, *argv: str) -> Completed:
    """Run a command that a busy controller, or a busy host, may let wait. Raises Transient when it does."""
    try:
        return machine.runner.run(argv, timeout=20)
    except OperationFailed as error:
        raise Transient(str(error), hint=error.hint) from error


def login(situation: Situation) -> Iterator[Step]:
    """Yield the steps of a login node: sackd keeps the configuration fresh for users' commands."""
    yield Stopped("slurmctld", "slurmctld")
    yield Stopped("slurmdbd", "slurmdbd")
    yield Stopped("slurmd", "slurmd")
    yield from _configless(situation, SACKD)
    yield Fetched(situation.conf_server)


def compute(situation: Situation) -> Iterator[Step]:
    """Yield the steps of a compute node."""
    yield Stopped("sackd", "sackd")
    options = render_options(situation.settings, situation.cluster)
    log = f"{options.log_directory}/slurmd.log"
    yield Stopped("slurmctld", "slurmctld")
    yield Stopped("slurmdbd", "slurmdbd")
    yield Directory(options.spool_directory)
    yield Directory(options.log_directory, 0o755, options.slurm_user)
    if not (options.config_overrides or "config_overrides" in options.settings.get("SlurmdParameters", "")):
        yield Equipped(situation.node)
    if situation.settings.auth == "munge":
        # With auth/slurm, commands borrow slurmd's or sackd's key: before slurmd runs there is nobody to ask.
        yield ControllerKnows(situation.name, situation.conf_server)
    yield from _imex(situation)
    yield from _configless(situation, SLURMD, log)
    yield Registered(situation.name, log)


def _imex(situation: Situation) -> Iterator[Step]:
    """An UltraServer's node: the list of those that it shares memory with, for the IMEX daemon."""
    for domain in imex_domains(situation.cluster):
        if situation.name in domain.nodes:
            yield Directory(str(PurePosixPath(NODES_CONFIG).parent))
            yield File(NODES_CONFIG, domain.nodes_config)


def _configless(situation: Situation, daemon: Daemon, log: str = "") -> Iterator[Step]:
    # A local slurm.conf would go before the controller's.
    yield Absent(f"{situation.conf_dir}/slurm.conf")
    defaults = f"/etc/default/{daemon.name}"
    yield File(defaults, f'{daemon.options_variable}="--conf-server {situation.conf_server}"\n')
    yield InitScript(daemon)
    yield Running(daemon.name, daemon.name, reads=(defaults,), log=log)


LOGIN = Stage(
    "login", "client configuration through sackd", login, lambda s: s.role is NodeType.LOGIN, retry=_WAIT
)
COMPUTE = Stage("compute", "slurmd", compute, lambda s: s.role is NodeType.COMPUTE, retry=_WAIT)
