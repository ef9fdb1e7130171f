"""What one evaluation of a topology plugin works on, and what it answers.

All node sets are masks (`hpadmin.topology.placement.bits`) over the node table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum


class Code(StrEnum):
    """Slurm's own verdicts on a node selection; the value is the text that users see (slurm_errno.c)."""

    SUCCESS = ""
    ERROR = "Requested nodes are busy"
    TOPOLOGY = "Requested topology configuration is not available"
    REQUIRED_BUSY = "Required nodes lack available resources"
    REQUIRED_APART = "Required nodes do not fit topology"
    NO_FIT = "No suitable topology unit found"
    SEGMENT_NO_FIT = "No suitable topology unit found for segment"
    INSUFFICIENT = "Insufficient resources in topology unit"
    WEIGHT_NO_FIT = "Weight-based selection could not satisfy request within topology unit"
    NODE_LIMIT = "Exceeded maximum node limit during topology allocation"
    EMPTY = "No available nodes in topology"


class Action(Enum):
    """What `common_topo_choose_nodes` does after a failed evaluation (25.11 and later)."""

    NONE = "none"
    BREAK = "break"
    RETRY = "retry without the nodes given back"
    HINT = "retry without one of the nodes given back"
    DEFAULT = "retry without one node"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job wants of the topology, after features, GRES and states have made the set of nodes."""

    nodes: int
    segment: int = 0
    required: int = 0
    """Mask of the node list (``-w``)."""
    whole: bool = False
    """``--exclusive``: takes all CPUs of its nodes."""
    switches: int = 0
    """``--switches``: leaf switches at most; 0 is any."""
    spread_segments: bool = False
    consolidate_segments: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """The nodes that a job could use."""

    available: int
    weights: Sequence[tuple[int, int]]
    """Scheduling weight and the mask of all nodes that have it, lightest first."""
    cpus: Sequence[int]
    """CPUs that the job could have on each node, by index."""
    size: int
    """Nodes in the node table."""

    def groups(self, mask: int) -> list[tuple[int, int]]:
        """The weight groups of `mask`, lightest first, none empty."""
        return [(weight, mask & group) for weight, group in self.weights if mask & group]


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one evaluation."""

    code: Code
    nodes: int = 0
    """The nodes chosen; after a failure the node map that the plugin leaves behind, for `Action`."""
    action: Action = Action.NONE
    touched: int = 0
    """Nodes for which CPUs were set aside on the way; a failure leaves their resource count reduced."""
    met_switches: bool = True
    """False when more leaf switches are used than ``--switches`` allows: the job waits."""
    why: str = ""
    """What stood in the way, in our own words."""

    @property
    def ok(self) -> bool:
        """Whether nodes were found."""
        return self.code is Code.SUCCESS
