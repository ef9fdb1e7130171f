"""What Slurm says about a node's or a job's state, taken apart once and for all.

A node's state is a base and any number of flags (`node_states` and `node_state_flags` in
src/common/slurm_protocol_defs.c); ``scontrol show node`` prints both, joined by ``+``:

>>> state = NodeState.parse("IDLE+DRAIN+NOT_RESPONDING")
>>> state.base, state.draining, state.drained, state.responding
(<NodeBase.IDLE: 'IDLE'>, True, True, False)
>>> NodeState.parse("MIXED+DRAIN").drained
False
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class NodeBase(StrEnum):
    """The base of a node's state. INVALID is Slurm's own word for a base that it does not know."""

    UNKNOWN = "UNKNOWN"
    DOWN = "DOWN"
    IDLE = "IDLE"
    ALLOCATED = "ALLOCATED"
    ERROR = "ERROR"
    MIXED = "MIXED"
    FUTURE = "FUTURE"
    INVALID = "INVALID"


class NodeFlag(StrEnum):
    """The flags of a node's state, as 24.11 to 26.05 print them."""

    BLOCKED = "BLOCKED"
    CLOUD = "CLOUD"
    COMPLETING = "COMPLETING"
    DRAIN = "DRAIN"
    DYNAMIC_FUTURE = "DYNAMIC_FUTURE"
    DYNAMIC_NORM = "DYNAMIC_NORM"
    EXTERNAL = "EXTERNAL"
    INVALID_REG = "INVALID_REG"
    FAIL = "FAIL"
    MAINTENANCE = "MAINTENANCE"
    POWER_DOWN = "POWER_DOWN"
    POWER_UP = "POWER_UP"
    POWERED_DOWN = "POWERED_DOWN"
    REBOOT_REQUESTED = "REBOOT_REQUESTED"
    REBOOT_ISSUED = "REBOOT_ISSUED"
    RESERVED = "RESERVED"
    RESUME = "RESUME"
    NOT_RESPONDING = "NOT_RESPONDING"
    PLANNED = "PLANNED"
    POWERING_UP = "POWERING_UP"
    POWERING_DOWN = "POWERING_DOWN"


_POWER = frozenset(
    {
        NodeFlag.POWER_DOWN,
        NodeFlag.POWER_UP,
        NodeFlag.POWERED_DOWN,
        NodeFlag.POWERING_UP,
        NodeFlag.POWERING_DOWN,
    }
)
_EMPTY_BASES = frozenset({NodeBase.IDLE, NodeBase.DOWN})


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's state. `strange` holds words that this release of hpadmin does not know.

    A state with strange words, or whose base is UNKNOWN, is `unreadable`: neither healthy nor drained.
    """

    base: NodeBase
    flags: frozenset[NodeFlag] = frozenset()
    strange: frozenset[str] = frozenset()

    @staticmethod
    def parse(text: str) -> NodeState:
        """Parse the long form, ``BASE+FLAG+FLAG``, in any case. Unknown words are kept as strange."""
        return _parse_node_state(text)

    def __str__(self) -> str:
        return "+".join([self.base, *sorted(self.flags), *sorted(self.strange)])

    @property
    def unreadable(self) -> bool:
        """True where nothing may be concluded from this state."""
        return bool(self.strange) or self.base in (NodeBase.UNKNOWN, NodeBase.INVALID)

    @property
    def unheard(self) -> bool:
        """Its slurmd has not registered since slurmctld was started or reconfigured. That tells nothing of its jobs."""
        return self.base is NodeBase.UNKNOWN and not self.strange

    @property
    def down(self) -> bool:
        return self.base is NodeBase.DOWN

    @property
    def allocated(self) -> bool:
        """Jobs hold it, wholly or in part, or are leaving it."""
        return self.base in (NodeBase.ALLOCATED, NodeBase.MIXED) or NodeFlag.COMPLETING in self.flags

    @property
    def draining(self) -> bool:
        """The DRAIN flag is set, whatever still runs there."""
        return NodeFlag.DRAIN in self.flags

    @property
    def failing(self) -> bool:
        """The FAIL flag is set (``state=fail``), whatever still runs there."""
        return NodeFlag.FAIL in self.flags

    @property
    def kept_out(self) -> bool:
        """No new job starts here: DRAIN, FAIL or DOWN."""
        return self.draining or self.failing or self.down

    @property
    def drained(self) -> bool:
        """Kept out and empty: the base is IDLE or DOWN and no job is still completing.

        The DRAIN flag alone says nothing about what still runs.
        """
        return self.kept_out and not self.unreadable and self.base in _EMPTY_BASES and not self.allocated

    @property
    def responding(self) -> bool:
        return NodeFlag.NOT_RESPONDING not in self.flags

    @property
    def rebooting(self) -> bool:
        """A reboot through Slurm was asked for or is under way."""
        return bool(self.flags & {NodeFlag.REBOOT_REQUESTED, NodeFlag.REBOOT_ISSUED})

    @property
    def powered_away(self) -> bool:
        """Slurm's power saving has it down, or is moving it up or down."""
        return bool(self.flags & _POWER)

    @property
    def schedulable(self) -> bool:
        """A new job could start here, now or when the running ones end."""
        return (
            self.base in (NodeBase.IDLE, NodeBase.ALLOCATED, NodeBase.MIXED)
            and not self.unreadable
            and not self.kept_out
            and not self.rebooting
            and not self.powered_away
            and self.responding
            and not self.flags & {NodeFlag.INVALID_REG, NodeFlag.MAINTENANCE}
        )


@lru_cache(maxsize=4096)
def _parse_node_state(text: str) -> NodeState:
    base_word, *words = text.strip().upper().split("+")
    strange = set[str]()
    try:
        base = NodeBase(base_word)
    except ValueError:
        base = NodeBase.INVALID
        strange.add(base_word or "?")
    flags = set[NodeFlag]()
    for word in words:
        try:
            flags.add(NodeFlag(word))
        except ValueError:
            strange.add(word or "?")
    return NodeState(base, frozenset(flags), frozenset(strange))


class JobState(StrEnum):
    """One word for a job's state, as `squeue` prints it (`job_state_string` in slurm_protocol_defs.c).

    Slurm lets flags such as COMPLETING win over the base. UNREADABLE stands for words of later releases.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    DEADLINE = "DEADLINE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    COMPLETING = "COMPLETING"
    CONFIGURING = "CONFIGURING"
    STAGE_OUT = "STAGE_OUT"
    RESIZING = "RESIZING"
    REQUEUED = "REQUEUED"
    REQUEUE_FED = "REQUEUE_FED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    STOPPED = "STOPPED"
    REVOKED = "REVOKED"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    SIGNALING = "SIGNALING"
    EXPEDITING = "EXPEDITING"
    POWER_UP_NODE = "POWER_UP_NODE"
    UNREADABLE = "?"

    @staticmethod
    def parse(words: str | Iterable[str]) -> JobState:
        """Take one word, or the list of words that JSON gives, of which flags win over the base."""
        given = [words] if isinstance(words, str) else list(words)
        known = [JobState(word) if word in _JOB_WORDS else JobState.UNREADABLE for word in given]
        if not known:
            return JobState.UNREADABLE
        return min(known, key=_JOB_ORDER.__getitem__)

    @property
    def holds_nodes(self) -> bool:
        """Something of the job may still be on its nodes. True also where the state is unreadable."""
        return self in _ON_NODES

    @property
    def ended(self) -> bool:
        """The job will not run again unless somebody requeues it."""
        return self in _ENDED


_JOB_WORDS = frozenset(state.value for state in JobState)
_ON_NODES = frozenset(
    {
        JobState.RUNNING,
        JobState.SUSPENDED,
        JobState.COMPLETING,
        JobState.CONFIGURING,
        JobState.RESIZING,
        JobState.STOPPED,
        JobState.SIGNALING,
        JobState.POWER_UP_NODE,
        JobState.EXPEDITING,
        JobState.UNREADABLE,
    }
)
_ENDED = frozenset(
    {
        JobState.COMPLETED,
        JobState.CANCELLED,
        JobState.FAILED,
        JobState.TIMEOUT,
        JobState.NODE_FAIL,
        JobState.PREEMPTED,
        JobState.BOOT_FAIL,
        JobState.DEADLINE,
        JobState.OUT_OF_MEMORY,
        JobState.REVOKED,
    }
)
# The order in which job_state_string() tests them: flags first, then the base.
_JOB_ORDER = {
    state: position
    for position, state in enumerate(
        [
            JobState.UNREADABLE,
            JobState.COMPLETING,
            JobState.STAGE_OUT,
            JobState.CONFIGURING,
            JobState.EXPEDITING,
            JobState.POWER_UP_NODE,
            JobState.RESIZING,
            JobState.REQUEUED,
            JobState.REQUEUE_FED,
            JobState.REQUEUE_HOLD,
            JobState.SPECIAL_EXIT,
            JobState.STOPPED,
            JobState.REVOKED,
            JobState.RESV_DEL_HOLD,
            JobState.SIGNALING,
            JobState.PENDING,
            JobState.RUNNING,
            JobState.SUSPENDED,
            JobState.COMPLETED,
            JobState.CANCELLED,
            JobState.FAILED,
            JobState.TIMEOUT,
            JobState.NODE_FAIL,
            JobState.PREEMPTED,
            JobState.BOOT_FAIL,
            JobState.DEADLINE,
            JobState.OUT_OF_MEMORY,
        ]
    )
}
