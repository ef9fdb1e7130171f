"""A cluster that obeys slurmctld's rules for nodes, a provider with moods, and a clock: all in memory.

The rules are those of 24.11 as tried on a real one: FAIL and DOWN together stick, RESUME clears both and leaves
the Reason, DOWN ends jobs at once, a Reason gets `` : …`` appended, a slurmd registers with its start time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hpadmin.errors import OperationFailed
from hpadmin.nodes.provider import (
    Answer,
    Condition,
    Outcome,
    ProviderError,
    ProviderInstance,
    Repair,
)
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.probe import Prober
from hpadmin.slurm.command import Runner
from hpadmin.slurm.control import NewState, checked_text
from hpadmin.slurm.reader import JobDetail, JobInfo, NodeInfo, PartitionInfo, ReservationInfo
from hpadmin.slurm.states import JobState, NodeBase, NodeFlag, NodeState


class Killed(BaseException):
    """The agent's process ends here."""


@dataclass
class Machine:
    """An instance, as it really is."""

    instance_id: str
    launched: float
    booted: float
    up: bool = True
    cut: bool = False
    """Runs, and nobody hears of it: its network is gone."""
    faulty: bool = False
    """Has a hardware fault that its health check finds."""
    busy_until: float = 0
    """The provider works on it until then."""
    after: str = ""
    """What the provider is doing: ``reboot`` or ``replace``."""


@dataclass
class SimNode:
    """A node as slurmctld has it."""

    name: str
    machine: Machine
    base: NodeBase = NodeBase.IDLE
    flags: set[NodeFlag] = field(default_factory=set)
    reason: str = ""
    reason_user: str = ""
    reason_time: float = 0
    extra: str = ""
    slurmd_start: float = 1
    boot_time: float = 1
    silent_since: float = 0

    def info(self) -> NodeInfo:
        return NodeInfo(
            name=self.name,
            state=NodeState(self.base, frozenset(self.flags)),
            reason=self.reason,
            reason_user=self.reason_user,
            reason_time=self.reason_time,
            extra=self.extra,
            slurmd_start_time=self.slurmd_start,
            boot_time=self.boot_time,
        )


@dataclass
class Call:
    """One request that the provider heard."""

    at: float
    action: Repair
    instance_id: str
    node: str
    jobs: tuple[int, ...]
    was_up: bool
    was_faulty: bool
    reason: str


class World:
    """Slurm's reader and control, the provider, and time."""

    name = "world"

    def __init__(self, nodes: int = 4, *, bad_replacements: Callable[[int], bool] = lambda _: False) -> None:
        self.now = 1000.0
        self._ids = itertools.count(1)
        self.nodes_: dict[str, SimNode] = {}
        for index in range(nodes):
            self.nodes_[f"n{index}"] = SimNode(f"n{index}", Machine(f"i-{next(self._ids)}", 1, 1))
        self.jobs_: dict[int, tuple[str, ...]] = {}
        self.ended: dict[int, str] = {}
        self._job_ids = itertools.count(1)
        self.calls: list[Call] = []
        self.down_calls: list[tuple[str, str, tuple[int, ...], bool]] = []
        self.overwritten: list[tuple[str, str, str]] = []
        """(node, old Reason, its user) for every Reason that the agent replaced."""
        self.provider_down = False
        self.slurm_down = False
        self.moods: list[Answer] = []
        self.blind = False
        """The provider calls every machine running."""
        self.forgets = False
        """A node that is resumed loses its Reason, as in 26.05."""
        self.recovery = True
        self.slurmd_timeout = 300.0
        self.reboot_takes = 60.0
        self.replace_takes = 300.0
        self.bad_replacements = bad_replacements
        self._replacements = itertools.count()
        self.step_hook: Callable[[str], None] = lambda _: None
        """Called around everything the agent does to the outside: raises Killed to end it there."""
        self.health_reports = True

    # --- the world's own doings ------------------------------------------------------------------------------

    def clock(self) -> float:
        return self.now

    def submit(self, *names: str) -> int | None:
        """Start a job on these nodes if all can run it."""
        if not all(self._schedulable(self.nodes_[name]) for name in names):
            return None
        job = next(self._job_ids)
        self.jobs_[job] = names
        self._refresh()
        return job

    def finish(self, job: int) -> None:
        self.jobs_.pop(job, None)
        self._refresh()

    def _schedulable(self, node: SimNode) -> bool:
        return NodeState(node.base, frozenset(node.flags)).schedulable and node.machine.up

    def _refresh(self) -> None:
        used = {name for names in self.jobs_.values() for name in names}
        for node in self.nodes_.values():
            if node.base in (NodeBase.IDLE, NodeBase.ALLOCATED):
                node.base = NodeBase.ALLOCATED if node.name in used else NodeBase.IDLE

    def jobs_of(self, name: str) -> tuple[int, ...]:
        return tuple(job for job, names in self.jobs_.items() if name in names)

    def _kill_jobs(self, name: str, why: str) -> None:
        for job in self.jobs_of(name):
            self.ended[job] = why
            del self.jobs_[job]
        self._refresh()

    def append_reason(self, node: SimNode, remark: str) -> None:
        """`set_node_reason` of slurmctld."""
        node.reason = f"{node.reason} : {remark}" if node.reason else remark
        node.reason_user, node.reason_time = "slurm", self.now

    def die(self, name: str) -> None:
        """The machine loses power."""
        node = self.nodes_[name]
        node.machine.up = False
        node.silent_since = self.now

    def cut(self, name: str) -> None:
        """The machine loses its network: no reboot brings that back."""
        node = self.nodes_[name]
        node.machine.cut = True
        node.silent_since = self.now

    def mend(self, name: str) -> None:
        """The network comes back by itself."""
        self.nodes_[name].machine.cut = False

    def reconfigure(self) -> None:
        """`scontrol reconfigure`: every slurmd that hears it starts anew, and none of them checks its health.

        Of one that does not, slurmctld knows nothing any more, and waits for SlurmdTimeout from the beginning.
        """
        for node in self.nodes_.values():
            if node.machine.up and not node.machine.cut and not node.machine.after:
                node.slurmd_start = self.now
            elif node.base is not NodeBase.DOWN:
                node.base, node.silent_since = NodeBase.UNKNOWN, self.now
                node.slurmd_start = node.boot_time = 0
                node.flags.add(NodeFlag.NOT_RESPONDING)

    def _registered(self, node: SimNode) -> None:
        if node.base is NodeBase.UNKNOWN:
            node.base = NodeBase.IDLE
            node.slurmd_start, node.boot_time = self.now, node.machine.booted
            self._refresh()

    def break_gpu(self, name: str) -> None:
        self.nodes_[name].machine.faulty = True

    def admin(self, name: str, state: NewState, reason: str, user: str = "alice") -> None:
        """An administrator's scontrol update."""
        node = self.nodes_[name]
        node.reason, node.reason_user, node.reason_time = reason, user, self.now
        self._apply(node, state)

    def advance(self, seconds: float) -> None:
        """Let time pass: the provider works, slurmctld pings, slurmds register, health checks report."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 10)
            for node in self.nodes_.values():
                self._tick(node)

    def _tick(self, node: SimNode) -> None:
        machine = node.machine
        if machine.after and self.now >= machine.busy_until:
            self._provider_done(node)
            machine = node.machine
        if not machine.up or machine.after or machine.cut:
            silent = self.now - node.silent_since
            if silent > self.slurmd_timeout / 3:
                node.flags.add(NodeFlag.NOT_RESPONDING)
            if silent > self.slurmd_timeout and node.base is not NodeBase.DOWN:
                self.append_reason(node, "Not responding")
                node.base = NodeBase.DOWN
                self._kill_jobs(node.name, "node failed")
            return
        node.flags.discard(NodeFlag.NOT_RESPONDING)
        self._registered(node)
        self._health_check(node)

    def _provider_done(self, node: SimNode) -> None:
        machine = node.machine
        if machine.after == "replace":
            bad = self.bad_replacements(next(self._replacements))
            node.machine = Machine(f"i-{next(self._ids)}", self.now, self.now, faulty=bad)
        else:
            machine.up, machine.booted, machine.after = True, self.now, ""
        node.slurmd_start = node.boot_time = self.now
        self._kill_jobs(node.name, "machine gone")
        node.flags.discard(NodeFlag.NOT_RESPONDING)
        if (
            node.base is NodeBase.DOWN
            and NodeFlag.FAIL not in node.flags
            and NodeFlag.DRAIN not in node.flags
        ):
            node.base = NodeBase.IDLE

    def _health_check(self, node: SimNode) -> None:
        """What the check program on the node does, run by its slurmd."""
        if not self.health_reports:
            return
        old = HealthReport.read(node.extra)
        verdict = Verdict.FAILED if node.machine.faulty else Verdict.PASSED
        boot = f"{node.machine.instance_id}@{node.machine.booted:g}"
        if old is None or old.verdict is not verdict or old.boot != boot:
            fault = ("gpu-count", "reboot", "7 of 8") if node.machine.faulty else ("", "", "")
            merged = HealthReport(verdict, self.now, *fault, boot).merged_into(node.extra)
            if merged is not None:
                node.extra = merged

    # --- reader ----------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        if self.slurm_down:
            raise OperationFailed("slurm_load_node error: Unable to contact slurm controller")

    def nodes(self) -> tuple[NodeInfo, ...]:
        self._answer()
        return tuple(node.info() for node in self.nodes_.values())

    def node(self, name: str) -> NodeInfo | None:
        self._answer()
        return self.nodes_[name].info() if name in self.nodes_ else None

    def jobs(self, *, ended: bool = False) -> tuple[JobInfo, ...]:
        self._answer()
        return tuple(
            JobInfo(
                job,
                JobState.RUNNING,
                "",
                "u",
                "",
                "p",
                "",
                len(names),
                ",".join(names),
                names[0],
                "",
                1,
                1,
                0,
            )
            for job, names in self.jobs_.items()
        )

    def job(self, job_id: int) -> JobDetail | None:
        return None

    def partitions(self) -> tuple[PartitionInfo, ...]:
        return ()

    def reservations(self) -> tuple[ReservationInfo, ...]:
        return ()

    def configuration(self) -> dict[str, str]:
        self._answer()
        return {"ClusterName": "world", "SlurmctldHost[0]": "head"}

    def release(self) -> tuple[int, int]:
        return (24, 11)

    # --- control ---------------------------------------------------------------------------------------------

    def set_state(self, nodes: Sequence[str], state: NewState, reason: str) -> None:
        self.step_hook("before set_state")
        self._answer()
        for name in nodes:
            node = self.nodes_[name]
            if node.reason and node.reason != reason:
                self.overwritten.append((name, node.reason, node.reason_user))
            if state is NewState.DOWN:
                self.down_calls.append((name, reason, self.jobs_of(name), node.machine.up))
            node.reason, node.reason_user, node.reason_time = checked_text(reason), "root", self.now
            self._apply(node, state)
        self.step_hook("after set_state")

    def _apply(self, node: SimNode, state: NewState) -> None:
        match state:
            case NewState.FAIL:
                node.flags.discard(NodeFlag.DRAIN)
                node.flags.add(NodeFlag.FAIL)
            case NewState.DRAIN:
                node.flags.add(NodeFlag.DRAIN)
            case NewState.DOWN:
                node.base = NodeBase.DOWN
                self._kill_jobs(node.name, "down")
            case NewState.RESUME:
                if self.forgets:
                    node.reason = node.reason_user = ""
                node.flags -= {NodeFlag.FAIL, NodeFlag.DRAIN}
                node.base = NodeBase.IDLE
                self._refresh()

    def set_extra(self, node: str, extra: str) -> None:
        self.nodes_[node].extra = extra

    def reserve(self, name: str, nodes: Sequence[str], *, minutes: int, flags: Sequence[str]) -> None:
        raise NotImplementedError

    def release_reservation(self, name: str) -> None:
        raise NotImplementedError

    # --- provider --------------------------------------------------------------------------------------------

    def instances(self) -> tuple[ProviderInstance, ...]:
        self._provider_answers()
        return tuple(
            ProviderInstance(
                instance_id=node.machine.instance_id,
                node=node.name,
                condition=self._condition(node.machine),
                launched=node.machine.launched,
                booted=node.machine.booted,
            )
            for node in self.nodes_.values()
        )

    def _condition(self, machine: Machine) -> Condition:
        if self.blind and not machine.after:
            return Condition.RUNNING
        if machine.after:
            return Condition.STOPPING if machine.after == "replace" else Condition.STARTING
        return Condition.RUNNING if machine.up else Condition.FAILED

    def node_recovery(self) -> bool:
        self._provider_answers()
        return self.recovery

    def _provider_answers(self) -> None:
        if self.provider_down:
            raise ProviderError("could not connect to the endpoint", transient=True)

    def repair(self, action: Repair, instance_ids: Sequence[str]) -> Mapping[str, Outcome]:
        self.step_hook("before repair")
        self._provider_answers()
        outcomes = {instance: self._repair_one(action, instance) for instance in instance_ids}
        self.step_hook("after repair")
        return outcomes

    def _repair_one(self, action: Repair, instance_id: str) -> Outcome:
        node = next((each for each in self.nodes_.values() if each.machine.instance_id == instance_id), None)
        if node is None:
            return Outcome(Answer.GONE, "InstanceIdNotFound")
        if node.machine.after:
            return Outcome(Answer.BUSY, "InstanceIdInUse", "Node has active operation")
        if self.moods and (mood := self.moods.pop(0)) is not Answer.ACCEPTED:
            return Outcome(mood, "InternalServerError", "try again")
        machine = node.machine
        self.calls.append(
            Call(
                self.now,
                action,
                instance_id,
                node.name,
                self.jobs_of(node.name),
                machine.up,
                machine.faulty,
                node.reason,
            )
        )
        machine.after = action.value
        machine.busy_until = self.now + (self.reboot_takes if action is Repair.REBOOT else self.replace_takes)
        node.silent_since = self.now
        return Outcome(Answer.ACCEPTED)

    def runner(self, node: str) -> Runner | None:
        return None


@dataclass
class Eyes(Prober):
    """The agent's probe, which sees who does not answer in `world`."""

    world: World = field(kw_only=True)

    def complete(self, seen: Observation) -> Observation:
        silent = {
            node.name: node.silent_since
            for node in self.world.nodes_.values()
            if node.machine.cut or not node.machine.up
        }
        return replace(seen, unreachable=silent)
