"""What the agent remembers of its own doings: repairs and their phases. Kept by `hpadmin.recovery.journal`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hpadmin.nodes.provider import Repair


class Origin(StrEnum):
    """Why a repair was begun."""

    ADMIN = "admin"
    """A person asked, with `hpadmin node`."""
    ORDER = "order"
    """HyperPod's exact words in the Reason; with NodeRecovery None they only mark."""
    HEALTH = "health"
    """The node's own health check."""
    DEAD = "dead"
    """The node is out of reach."""

    @property
    def automatic(self) -> bool:
        """No person asked: limits, storms and the breaker hold it back."""
        return self in (Origin.HEALTH, Origin.DEAD)


class Phase(StrEnum):
    """How far a repair is. The order is the order of life."""

    ISOLATE = "isolate"
    """To be kept out of scheduling, under our Reason or the order's."""
    DRAIN = "drain"
    """Kept out; what runs there is waited for."""
    READY = "ready"
    """Empty: the provider may be asked."""
    ASKING = "asking"
    """Written down before the provider is asked, so that a lost answer is known to be lost."""
    AWAIT = "await"
    """The provider said yes; the node has to go and come back."""
    VERIFY = "verify"
    """It is back; its health report decides."""
    RETURN = "return"
    """Healthy, about to be resumed: written down first, as Slurm from 26.05 on forgets a Reason with the state."""
    REPAIRED = "repaired"
    FAILED = "failed"
    """Given up; the node stays out, and a person is told."""
    CANCELLED = "cancelled"
    """Somebody else took the node over, or brought it back."""

    def comes_after(self, other: Phase) -> bool:
        order = list(Phase)
        return order.index(self) > order.index(other)

    @property
    def closed(self) -> bool:
        return self in (Phase.REPAIRED, Phase.FAILED, Phase.CANCELLED)

    @property
    def in_flight(self) -> bool:
        """Between a request to the provider and the end."""
        return self in (Phase.ASKING, Phase.AWAIT, Phase.VERIFY, Phase.RETURN)


@dataclass(frozen=True, slots=True)
class RepairRecord:
    """One repair of one node. Times are epoch seconds by the agent's clock, but for those of node and instance."""

    number: int
    node: str
    action: Repair
    origin: Origin
    requester: str
    why: str
    now: bool
    """What runs on the node is not waited for."""
    phase: Phase
    opened: float
    changed: float
    """When the phase began."""
    fault: str = ""
    """Code of the fault; empty for an order."""
    instance_before: str = ""
    booted_before: float = 0
    """The provider's boot time of the instance before the request; 0 where it tells none."""
    boot_before: float = 0
    """Slurm's boot time of the node before the request."""
    slurmd_before: float = 0
    report_before: str = ""
    """Boot of the node's last health report before the request (`HealthReport.boot`)."""
    asked: float = 0
    """When the provider was last asked; 0 before."""
    attempts: int = 0
    not_before: float = 0
    """The next request waits for this moment."""
    result: str = ""
    """Why it is in this phase."""

    @property
    def in_flight(self) -> bool:
        """The provider is, or may be, at work on it."""
        return bool(self.attempts) and self.phase.in_flight


@dataclass(frozen=True, slots=True)
class Book:
    """The journal at one moment, as `decide` sees it."""

    open: Mapping[str, RepairRecord] = field(default_factory=dict)
    """Node to its repair under way: never more than one."""
    closed: tuple[RepairRecord, ...] = ()
    """Those closed lately, newest first: at least as far back as the policy looks."""
    suspects: Mapping[str, float] = field(default_factory=dict)
    """Node to the time since when it looks dead."""
    notices: Mapping[str, str] = field(default_factory=dict)
    """What a person has been told and is still so: key to text."""
    breaker_reset: float = 0
    """Failures before this moment no longer count: somebody looked at them."""
