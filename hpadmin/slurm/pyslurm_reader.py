"""Reading nodes and the queue through pyslurm, where it is installed and of the running release.

pyslurm speaks to slurmctld without starting a process. It is built for one release of Slurm and has no more than
nodes and jobs of what is needed here: the rest comes from Slurm's commands, and the nodes too where pyslurm cannot
tell how much of their GRES is in use. What pyslurm leaves out of a node (its reservation, its instance) is empty.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Runner
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.reader import (
    JobDetail,
    JobInfo,
    NodeInfo,
    PartitionInfo,
    ReservationInfo,
    SlurmReader,
)
from hpadmin.slurm.states import JobState, NodeState
from hpadmin.slurm.text import Unreadable


def best_reader(runner: Runner, *, local: bool = True) -> SlurmReader:
    """Return pyslurm's reader when pyslurm is of the running release and Slurm is this host's; else the commands'.

    Raises OperationFailed when Slurm does not answer.
    """
    commands = CommandReader(runner)
    if not local or importlib.util.find_spec("pyslurm") is None:
        return commands
    # Asked first: where Slurm is not configured, importing pyslurm ends the whole process.
    running = commands.release()
    try:
        module = importlib.import_module("pyslurm")
    except (ImportError, RuntimeError):  # built for another libslurm
        return commands
    built = tuple(int(part) for part in str(module.__version__).split(".")[:2])
    return PyslurmReader(module, commands) if built == running else commands


@dataclass(frozen=True, slots=True)
class PyslurmReader:
    """A `SlurmReader` over the module `pyslurm`."""

    pyslurm: Any
    commands: CommandReader

    def nodes(self) -> tuple[NodeInfo, ...]:
        try:
            found = self.pyslurm.Nodes.load().values()
            if any(_gres_unknown(node) for node in found):
                return self.commands.nodes()
            return tuple(node_info(node) for node in found)
        except self.pyslurm.PyslurmError as error:
            raise OperationFailed(f"slurmctld does not answer pyslurm: {error}") from error

    def node(self, name: str) -> NodeInfo | None:
        return self.commands.node(name)

    def jobs(self, *, ended: bool = False) -> tuple[JobInfo, ...]:
        try:
            found = [_job(job) for job in self.pyslurm.Jobs.load().values()]
        except self.pyslurm.PyslurmError as error:
            raise OperationFailed(f"slurmctld does not answer pyslurm: {error}") from error
        return tuple(job for job in found if ended or not job.state.ended)

    def job(self, job_id: int) -> JobDetail | None:
        return self.commands.job(job_id)

    def partitions(self) -> tuple[PartitionInfo, ...]:
        return self.commands.partitions()

    def reservations(self) -> tuple[ReservationInfo, ...]:
        return self.commands.reservations()

    def configuration(self) -> dict[str, str]:
        return self.commands.configuration()

    def release(self) -> tuple[int, int]:
        return self.commands.release()


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _gres(counts: Mapping[str, object] | None) -> str:
    """Turn ``{"gpu:h100": 8}`` into Slurm's own form; what is not a count keeps its text."""
    return ",".join(f"{name.removeprefix('gres/')}:{count}" for name, count in (counts or {}).items())


def _used(name: str, allocated: Mapping[str, object]) -> object:
    """How much of one GRES is allocated, by its name with its type or, where only that is counted, without."""
    return allocated.get(name, allocated.get(name.partition(":")[0], 0))


def _gres_unknown(node: Any) -> bool:
    """Whether pyslurm cannot tell how much of the node's GRES is in use.

    It knows what the accounting counts (AccountingStorageTRES in slurm.conf(5)), which need not be all, or any.
    """
    if not node.allocated_cpus:
        return False
    told = {name.partition(":")[0] for name in node.allocated_gres or {}}
    return not {name.partition(":")[0] for name in node.configured_gres or {}} <= told


def node_info(node: Any) -> NodeInfo:
    """Return a `pyslurm.Node` as ours. Raises Unreadable for one without a name or a state."""
    state = _text(node.state)
    if not node.name or not state:
        raise Unreadable(f"pyslurm gave a node without name or state: {node.name!r}")
    return NodeInfo(
        name=node.name,
        state=NodeState.parse(state),
        reason=_text(node.reason),
        reason_user=_text(node.reason_user) if node.reason else "",
        reason_time=float(node.reason_time or 0),
        address=_text(node.address),
        hostname=_text(node.hostname),
        port=int(node.slurmd_port or 0),
        partitions=tuple(node.partitions or ()),
        features=tuple(node.active_features or ()),
        gres=_gres(node.configured_gres),
        gres_used=_gres(
            {name: _used(name, node.allocated_gres or {}) for name in node.configured_gres or {}}
        ),
        cpus=int(node.total_cpus or 0),
        cpus_allocated=int(node.allocated_cpus or 0),
        cores=int(node.sockets or 0) * int(node.cores_per_socket or 0),
        memory=int(node.real_memory or 0),
        boot_time=float(node.boot_time or 0),
        slurmd_start_time=float(node.slurmd_start_time or 0),
        last_busy=float(node.last_busy_time or 0),
        version=_text(node.slurm_version),
        comment=_text(node.comment),
        extra=_text(node.extra),
    )


def _job(job: Any) -> JobInfo:
    task = _text(job.array_tasks_waiting)
    if task and job.array_tasks_parallel:
        task += f"%{job.array_tasks_parallel}"
    task = task or _text(job.array_task_id)
    reason = _text(job.state_reason)
    gres = _gres(job.gres_per_node)
    state = JobState.parse(_text(job.state))
    return JobInfo(
        job_id=int(job.id),
        state=state,
        reason="" if reason == "None" else reason,
        user=_text(job.user_name),
        account=_text(job.account),
        partition=_text(job.partition),
        qos=_text(job.qos),
        node_count=int(job.num_nodes or 0),
        nodes=_text(job.allocated_nodes),
        batch_host=_text(job.batch_host),
        gres=f"gres/{gres}" if gres else "",
        submit_time=float(job.submit_time or 0),
        start_time=float(job.start_time or 0),
        # For a job without limit slurmctld assumes a year; squeue(1) tells no end then, nor does this.
        end_time=float(job.end_time or 0) if state.ended or job.time_limit is not None else 0,
        array_job_id=int(job.array_id or 0) if task else 0,
        array_task=task,
        reservation=_text(job.reservation),
    )
