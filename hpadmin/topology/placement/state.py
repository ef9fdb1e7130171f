"""What a placement is planned on: nodes with their state, partitions, jobs and topologies, as frozen data.

Made from a running Slurm (`hpadmin.topology.live`) or from files and arguments (`hpadmin.topology.offline`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpadmin.topology.graph import TopologySet
from hpadmin.topology.release import Release


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node of Slurm's node table."""

    name: str
    state: str = "IDLE"
    """Slurm's word for it, for people: ``IDLE``, ``ALLOCATED``, ``IDLE+DRAIN`` …"""
    usable: bool = True
    """Neither down nor drained nor otherwise kept from new jobs."""
    cpus: int = 1
    cpus_used: int = 0
    weight: int = 1
    boot: int = 0
    """How far it is from being up: 0 is up, 1 powers up, 2 is powered down. Slurm prefers the smaller one, whatever the
    weights are (``_set_sched_weight``, node_scheduler.c)."""
    features: frozenset[str] = frozenset()
    gres: Mapping[str, int] = field(default_factory=dict)
    """Count by name (``gpu``) and by name and type (``gpu:h100``)."""
    gres_used: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobView:
    """One job that holds nodes."""

    job_id: str
    nodes: frozenset[str]
    user: str = ""
    whole: bool = True
    """Nobody else may use its nodes (``--exclusive``)."""
    exclusive_topo: bool = False
    """Nobody else may use the base blocks that it touches (``--exclusive=topo``)."""
    partition: str = ""


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition."""

    name: str
    nodes: frozenset[str]
    default: bool = False
    whole: bool = False
    """``OverSubscribe=EXCLUSIVE``."""
    exclusive_topo: bool = False
    """``ExclusiveTopo=yes`` (26.05: ``Exclusive=topo``)."""
    max_nodes: int | None = None
    """Nodes that one job may have; None is any number."""
    min_nodes: int = 0
    state: str = "UP"
    """``UP``, ``DOWN`` (jobs wait), ``DRAIN`` or ``INACTIVE`` (submissions are refused)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A cluster at one moment. Nodes are in the order of Slurm's node table, which decides ties."""

    nodes: tuple[NodeView, ...]
    topologies: TopologySet
    release: Release
    partitions: tuple[PartitionView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    enforce_part_limits: bool = False
    """``EnforcePartLimits`` other than ``NO``: a job beyond a partition's limits is refused, not left waiting."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all nodes."""
        return tuple(node.name for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks of ``sbatch``, as far as it decides about nodes."""

    nodes: int
    segment: int = 0
    exclusive_topo: bool = False
    whole: bool = False
    """``--exclusive``."""
    switches: int = 0
    partition: str | None = None
    """None is the default partition, or all nodes where there are no partitions."""
    constraint: str = ""
    """A feature expression of names, ``&``, ``|`` and parentheses."""
    gres: Mapping[str, int] = field(default_factory=dict)
    """Per node: name or ``name:type`` to count."""
    nodelist: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    spread_segments: bool = False
    consolidate_segments: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """What Slurm would do with a request."""

    result: str
    """``starts``, ``pending`` (may start later) or ``rejected`` (never, as configured)."""
    nodes: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    """Blocks or leaf switches that the nodes are in, in file order."""
    slurm_says: str = ""
    """Slurm's own words: the error of a refused submission, or why a job pends."""
    why: str = ""
    """What stands in the way, in our words; for a start what is left unused."""
    topology: str = "flat"
    """``block``, ``tree`` or ``flat``."""
