"""What `decide` may decide. Each is one step: done and journalled before the next is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from hpadmin.nodes.provider import Repair
from hpadmin.recovery.book import Origin, Phase, RepairRecord
from hpadmin.slurm.control import NewState


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a repair: a line in the journal, nothing else yet."""

    node: str
    action: Repair
    origin: Origin
    why: str
    requester: str = ""
    now: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Keep a node out (FAIL), or end what runs there too (DOWN), under a Reason of ours.

    `expected` is the Reason that was seen; a node whose Reason is another by now is left alone.
    """

    node: str
    state: NewState
    reason: str
    expected: str
    number: int | None = None
    """The repair this belongs to; None for a mark alone."""


@dataclass(frozen=True, slots=True)
class Advance:
    """A repair enters a phase, because of what was seen."""

    record: RepairRecord
    phase: Phase
    why: str = ""
    not_before: float = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the provider to repair these nodes, all in the same way."""

    action: Repair
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One node of an `Ask`, with what its instance and slurmd are before."""

    record: RepairRecord
    instance_id: str
    booted: float
    boot_time: float
    slurmd_start: float
    report_boot: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    """Bring a node back into service under a Reason that is history."""

    record: RepairRecord
    reason: str
    expected: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A repair failed: the node is held out under a Reason that says why, then the record is closed."""

    record: RepairRecord
    why: str
    reason: str
    expected: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """A node looks dead since this moment."""

    node: str


@dataclass(frozen=True, slots=True)
class Acquit:
    """A node no longer looks dead."""

    node: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Tell the administrators something, once for as long as it is so."""

    key: str
    text: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """What a notice said is no longer so."""

    key: str


Action = Open | Mark | Advance | Ask | Resume | GiveUp | Suspect | Acquit | Notice | Withdraw
