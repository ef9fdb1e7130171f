"""What the agent knows about a job and its nodes when it decides: frozen, from Slurm and our probes only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from hpadmin.nodes import reasons
from hpadmin.nodes.reasons import Owner
from hpadmin.nodes.report import Verdict
from hpadmin.recovery.faulty import report_of
from hpadmin.recovery.observe import Observation
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import NodeFlag


class Reach(StrEnum):
    """What a node's slurmd does when it is spoken to (`hpadmin.recovery.resume.reach`)."""

    ANSWERS = "answers"
    REFUSES = "refuses"
    """Its host is there, its slurmd is not."""
    SILENT = "silent"
    """The connection is taken, and then nothing: the host hangs."""
    LOST = "lost"
    """The host does not answer at all."""
    MUTE = "mute"
    """Silent, while another server of this host speaks: the host lives, and its slurmd hangs or waits for something."""
    DOUBTFUL = "doubtful"
    """Silent or mute, as most others are: that is no fault of this host. slurmd looks up the name of whoever connects
    before it answers, so a name service that is away looks like this."""


class Health(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNSURE = "unsure"
    """Not to be concluded yet: look again."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node of a job, judged."""

    name: str
    health: Health
    why: str = ""
    dead: bool = False
    """Its host is gone: nothing that ran there still runs, and nothing there will ever say so."""
    refuses: bool = False
    """Its host is there, its slurmd is not, or hangs: what runs there goes on, nothing new starts."""
    marked: bool = False
    """It is kept out of scheduling already, under a Reason of hpadmin's or an order."""
    restarted: bool = False
    """Its host was started since the step began, or is another one under the same name: the step is gone there."""


@dataclass(frozen=True, slots=True)
class JobView:
    """One running job of ours."""

    job_id: int
    nodes: tuple[str, ...]
    batch_host: str
    """Empty for an allocation of salloc or srun."""
    batch: bool
    requeue: bool
    gres: bool
    """It holds GRES, or whole nodes that have some: Slurm does not let such a job grow."""
    can_grow: bool
    """The configuration lets jobs grow (``permit_job_expansion``) and shrink, steps run on what they grew by, and it
    holds whole nodes."""
    holds_blocks: bool = False
    """It holds whole blocks: Slurm gives their other nodes to no job, not to one that would join it either."""


@dataclass(frozen=True, slots=True)
class History:
    """What happened to this job before, over all its runs."""

    resumes: int = 0
    quick_failures: int = 0
    """Failures in a row that came within `Limits.quick` seconds after a resume."""


def judge(node: NodeInfo, seen: Observation, reach: Reach | None, since: float = float("inf")) -> NodeView:
    """Judge one node by its state, its own health report and, where it was spoken to, its slurmd.

    `since` is when the step began, by slurmctld's clock.
    A drain of somebody else's is that person's business: jobs go on there, so it is no fault.
    """
    state, reading = node.state, reasons.read(node.reason)
    marked = state.kept_out and reading.owner in (Owner.OURS, Owner.ORDER)

    def view(health: Health, why: str = "", dead: bool = False) -> NodeView:
        # Both are whole seconds. A host needs some to boot, so one that did in the second of the start did so after it.
        restarted = node.boot_time >= since
        refuses = reach in (Reach.REFUSES, Reach.MUTE)
        return NodeView(node.name, health, why, dead, refuses, marked, restarted)

    if reach is Reach.LOST:
        return view(Health.BAD, "the host does not answer", dead=True)
    if reach is Reach.SILENT:
        return view(Health.BAD, "the host hangs", dead=True)
    if state.down:
        return view(Health.BAD, node.reason or "down", dead=reach not in (Reach.ANSWERS, Reach.MUTE))
    if marked:
        return view(Health.BAD, node.reason)
    if NodeFlag.INVALID_REG in state.flags:
        return view(Health.BAD, node.reason or "it registered with less than it is configured with")
    report = report_of(node)
    if report is not None and report.verdict is Verdict.FAILED and report.action in ("reboot", "replace"):
        return view(Health.BAD, f"{report.fault}: {report.text}")
    if reach is Reach.DOUBTFUL:
        return view(Health.UNSURE, "silent, as most hosts are")
    if reach is Reach.MUTE:  # a name service that is slow comes back, a slurmd that hangs does not
        return view(Health.UNSURE, "slurmd says nothing, though its host lives")
    if node.name in seen.unreachable and reach is None:
        return view(Health.UNSURE, "out of reach")
    if state.unreadable:
        return view(Health.UNSURE, "its state cannot be read")
    if reach is Reach.REFUSES:
        return view(Health.GOOD, "slurmd does not run")
    return view(Health.GOOD, f"kept out by an administrator: {node.reason}" if state.kept_out else "")


def lost(view: NodeView) -> NodeView:
    """Return the view of a node that Slurm took from the job while its step ran: the step ended of that.

    Whatever it is like by now, it is nothing to be kept out for.
    """
    if view.health is Health.BAD:
        return view
    return replace(view, health=Health.BAD, why="Slurm took it from the job", refuses=False, marked=True)


def has_gres(tres: str, nodes: Mapping[str, NodeInfo], held: tuple[str, ...], exclusive: bool) -> bool:
    """Tell whether Slurm counts a job as one with GRES (`select_p_job_expand`, select_cons_tres.c).

    A job on whole nodes holds all GRES of those nodes, asked for or not (`_handle_exclusive_gres`).
    """
    if "gres/" in tres:
        return True
    return exclusive and any(nodes[name].gres for name in held if name in nodes)
