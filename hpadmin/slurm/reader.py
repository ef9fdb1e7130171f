"""Reading a running Slurm: what is read, as frozen data, and the protocol that every reader keeps.

Two readers exist: `hpadmin.slurm.commands.CommandReader` (Slurm's own commands, always there) and
`hpadmin.slurm.pyslurm_reader.PyslurmReader` (when pyslurm is installed and of the running release).

Readers tell everything or raise: a list that might be incomplete is never returned, because a node that
is missing from it would look as if nothing ran there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from hpadmin.slurm.states import JobState, NodeState


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node as slurmctld sees it. Times are epoch seconds, 0 where Slurm has none; memory in MiB."""

    name: str
    state: NodeState
    reason: str = ""
    """The Reason without its ``[user@time]``."""
    reason_user: str = ""
    """Who set it. Slurm itself counts as SlurmUser, also when it only appended to somebody's text."""
    reason_time: float = 0
    address: str = ""
    hostname: str = ""
    port: int = 0
    """Of its slurmd; 0 where it is the configured SlurmdPort."""
    partitions: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    gres: str = ""
    gres_used: str = ""
    cpus: int = 0
    cpus_allocated: int = 0
    cores: int = 0
    """Of all sockets together."""
    memory: int = 0
    boot_time: float = 0
    slurmd_start_time: float = 0
    last_busy: float = 0
    version: str = ""
    """Of its slurmd; empty before its first registration."""
    comment: str = ""
    extra: str = ""
    instance_id: str = ""
    instance_type: str = ""
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class JobInfo:
    """One job of the queue: only what Slurm or an administrator decides, never text of the user's own.

    Job names and comments may contain anything, line ends too; they are read for one job (`JobDetail`) only.
    """

    job_id: int
    state: JobState
    reason: str
    user: str
    account: str
    partition: str
    qos: str
    node_count: int
    nodes: str
    """The allocation as a hostlist; empty for a pending job."""
    batch_host: str
    gres: str
    """``--tres-per-node`` or ``--gres`` of the request; empty without."""
    submit_time: float
    start_time: float
    """Expected, for a pending job; 0 where unknown."""
    end_time: float
    array_job_id: int = 0
    """0 where the job is not part of an array."""
    array_task: str = ""
    """An id, or for pending tasks an expression such as ``3-7``."""
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class JobDetail:
    """One job with the text of its user; none of it is to be believed or run."""

    info: JobInfo
    uid: int
    name: str
    comment: str
    admin_comment: str
    extra: str
    requeue: bool
    """Slurm may requeue it (`Requeue=1`)."""
    restarts: int
    batch: bool
    exit_code: int
    signal: int
    time_limit: int | None
    """Minutes; None without limit."""
    dependency: str
    excluded_nodes: str
    required_nodes: str
    features: str
    standard_output: str
    working_directory: str
    exclusive: bool
    tres_allocated: str
    het_job_id: int = 0
    exclusive_topo: bool = False
    """Nobody else gets nodes of its blocks (``--exclusive=topo``, or its partition's ExclusiveTopo)."""
    raw: dict[str, object] = field(default_factory=dict, repr=False, compare=False)
    """The JSON object as Slurm gave it; empty with other readers."""


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One partition."""

    name: str
    state: str
    """``UP``, ``DOWN``, ``DRAIN`` or ``INACTIVE``."""
    nodes: str
    """A hostlist, as configured; empty where it has none."""
    default: bool


@dataclass(frozen=True, slots=True)
class ReservationInfo:
    """One reservation. Times are seconds since the epoch."""

    name: str
    nodes: str
    users: str
    flags: tuple[str, ...]
    start_time: float
    end_time: float
    partition: str = ""


class SlurmReader(Protocol):
    """What the rest of hpadmin asks of a running Slurm.

    Every method raises OperationFailed when slurmctld does not answer or its answer cannot be read whole.
    """

    def nodes(self) -> tuple[NodeInfo, ...]:
        """Return every node, in Slurm's order."""
        ...

    def node(self, name: str) -> NodeInfo | None:
        """Return one node, or None when Slurm has none of that name."""
        ...

    def jobs(self, *, ended: bool = False) -> tuple[JobInfo, ...]:
        """Return the queue; with `ended` also the jobs that slurmctld still remembers (MinJobAge)."""
        ...

    def job(self, job_id: int) -> JobDetail | None:
        """Return one job, or None when slurmctld does not know it."""
        ...

    def partitions(self) -> tuple[PartitionInfo, ...]:
        """Return every partition, hidden ones too."""
        ...

    def reservations(self) -> tuple[ReservationInfo, ...]:
        """Return every reservation."""
        ...

    def configuration(self) -> dict[str, str]:
        """Return slurmctld's configuration in use, keys as ``scontrol show config`` spells them."""
        ...

    def release(self) -> tuple[int, int]:
        """Return the running release, such as (24, 11)."""
        ...
