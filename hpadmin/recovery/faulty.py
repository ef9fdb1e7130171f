"""Which nodes want a repair that none has been begun for, and why: pure judgements about one node."""

from __future__ import annotations

from collections.abc import Iterator

from hpadmin.nodes import reasons
from hpadmin.nodes.faults import table
from hpadmin.nodes.provider import Condition, Repair
from hpadmin.nodes.reasons import Owner, Reading
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.recovery.actions import Notice, Open
from hpadmin.recovery.book import Book, Origin, Phase, RepairRecord
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import NodeBase, NodeFlag


def report_of(node: NodeInfo) -> HealthReport | None:
    """Return the health report that the node has made since it booted; None without, or when it is older."""
    report = HealthReport.read(node.extra)
    if report is None or not report.is_current(node.boot_time, node.slurmd_start_time):
        return None
    return report


def judgeable(node: NodeInfo, seen: Observation) -> bool:
    """Whether anything may be concluded from the state that Slurm tells of a node.

    A node that slurmctld has not heard since its start has no state yet. If it lives, that takes moments. If its host
    is dead to others too, it is as dead as one in any other state, and Slurm may call it unknown for ever: until
    SlurmdTimeout is over, which each reconfigure begins anew.
    """
    if not node.state.unheard:
        return not node.state.unreadable
    instance = (seen.instances or {}).get(node.name)
    failed = instance is not None and instance.condition is Condition.FAILED
    return failed or (node.name in seen.unreachable and not seen.cut_off)


def looks_dead(node: NodeInfo, seen: Observation) -> str:
    """Say why a node looks dead; empty when it does not, or when that is somebody's intention.

    Intention is: power saving, a maintenance reservation, a reboot through Slurm, a foreign Reason that keeps it out,
    and whatever the provider itself does to the machine: it is being made, booted, updated or examined. Where the
    agent is cut off, the provider alone can tell: slurmctld, on the same host, has lost all nodes too.
    """
    state = node.state
    if not judgeable(node, seen) or state.powered_away or state.rebooting or state.base is NodeBase.FUTURE:
        return ""
    if NodeFlag.MAINTENANCE in state.flags:
        return ""
    owner = reasons.read(node.reason).owner
    if state.kept_out and owner is Owner.FOREIGN:
        return ""
    instance = (seen.instances or {}).get(node.name)
    if instance is not None and instance.condition in (Condition.STARTING, Condition.STOPPING):
        return ""
    if instance is not None and instance.condition is Condition.FAILED:
        return f"instance {instance.instance_id} {instance.message or 'failed'}"
    if seen.cut_off:
        return ""
    if node.name in seen.unreachable:
        return "out of reach"
    if state.down and owner is Owner.NOBODY:
        return node.reason or "down"
    return ""


def _dead_long_enough(node: NodeInfo, seen: Observation, book: Book, policy: Policy) -> bool:
    since = book.suspects.get(node.name)
    if since is None:
        return False
    instance = (seen.instances or {}).get(node.name)
    if (instance is not None and instance.condition is Condition.FAILED) or node.state.down:
        return seen.at - since >= policy.confirm_after
    return seen.at - max(since, seen.unreachable.get(node.name, since)) >= policy.unreachable_after


def candidate(node: NodeInfo, seen: Observation, book: Book, policy: Policy) -> Open | Notice | None:
    """Return the repair that this node wants, or why it cannot have one, or None."""
    if not judgeable(node, seen) or node.state.powered_away or node.state.base is NodeBase.FUTURE:
        return None
    reading = reasons.read(node.reason)
    last = _last_closed(node.name, book)
    found = (
        _ordered(node, reading, last)
        or _escalated(node, reading, last)
        or _unhealthy(node, reading, last)
        or _dead(node, seen, book, policy)
    )
    if not isinstance(found, Open):
        return found
    if node.name in seen.protected:
        return Notice(
            f"protected:{node.name}",
            f"{node.name} wants {found.action.value} ({found.why}),"
            " but controllers and protected nodes are never touched",
            node.name,
        )
    return _recurring(found, book, policy, seen.at)


def _last_closed(name: str, book: Book) -> RepairRecord | None:
    return next((record for record in book.closed if record.node == name), None)


def _ordered(node: NodeInfo, reading: Reading, last: RepairRecord | None) -> Open | Notice | None:
    """A Reason that asks for a repair, with a state that makes it an order."""
    order = reading.order
    if order is None or not node.state.kept_out:
        return None
    if reading.owner is Owner.ORDER:
        word = next(word for word, action in reasons.EXACT.items() if action is order.action)
        if not (node.state.failing or node.state.down):
            return Notice(
                f"near-miss:{node.name}",
                f"{node.name} is drained with {word}, which acts with state fail or down only",
                node.name,
            )
        if reading.suffix and not node.state.failing and not node.state.draining:
            # Slurm appends its remarks to whatever text a node still carries from earlier days.
            return Notice(
                f"near-miss:{node.name}",
                f"{node.name} went down by itself ({reading.suffix}) while its Reason still said {word};"
                f" set state=fail reason={word} again if that is meant",
                node.name,
            )
    if last is not None and last.phase is Phase.FAILED and last.changed >= node.reason_time:
        return None
    if reading.owner is Owner.ORDER:
        return Open(node.name, order.action, Origin.ORDER, node.reason, requester=node.reason_user)
    origin = Origin.ADMIN if order.author else Origin.HEALTH
    fault = "" if order.author else order.text.partition(":")[0]
    return Open(
        node.name,
        order.action,
        origin,
        order.text,
        requester=order.author or node.reason_user,
        now=order.now,
        fault=fault,
    )


def _escalated(node: NodeInfo, reading: Reading, last: RepairRecord | None) -> Open | None:
    """A reboot that nobody asked for did not help: replace."""
    if (
        last is None
        or last.phase is not Phase.FAILED
        or last.action is not Repair.REBOOT
        or not last.origin.automatic
        or reading.owner is not Owner.OURS
        or not node.state.kept_out
    ):
        return None
    why = f"reboot did not help: {last.result or last.why}"
    return Open(node.name, Repair.REPLACE, last.origin, why, now=last.now, fault=last.fault)


def _unhealthy(node: NodeInfo, reading: Reading, last: RepairRecord | None) -> Open | Notice | None:
    """A health report with a fault that the node's Reason does not tell already."""
    report = report_of(node)
    if report is None or report.verdict is not Verdict.FAILED:
        return None
    if reading.owner is Owner.OURS and node.state.kept_out:
        return None
    fault = f"{report.fault}: {report.text}"
    if report.action not in (Repair.REBOOT, Repair.REPLACE):
        return Notice(
            f"monitor:{node.name}", f"{node.name} reports {fault}, which is only watched", node.name
        )
    if node.state.kept_out and reading.owner is Owner.FOREIGN and node.reason_user != "slurm":
        return Notice(
            f"foreign:{node.name}",
            f"{node.name} reports {fault}, but {node.reason_user or 'somebody'} keeps it out: {node.reason}",
            node.name,
        )
    if last is not None and last.phase is Phase.FAILED and last.changed >= report.at:
        return None
    return Open(node.name, Repair(report.action), Origin.HEALTH, fault, fault=report.fault)


def _dead(node: NodeInfo, seen: Observation, book: Book, policy: Policy) -> Open | None:
    why = looks_dead(node, seen)
    if not why or not _dead_long_enough(node, seen, book, policy):
        return None
    if reasons.read(node.reason).owner is Owner.OURS and node.state.kept_out:
        return None
    fault = _kind_of_death(node, seen)
    action = policy.actions.get(fault) or Repair(table()[fault].action)
    return Open(node.name, action, Origin.DEAD, why, now=True, fault=fault)


def _kind_of_death(node: NodeInfo, seen: Observation) -> str:
    """The fault's code in the table: what is known of a dead node decides whether a reboot can help it."""
    instance = (seen.instances or {}).get(node.name)
    if instance is not None and instance.condition is Condition.FAILED:
        return "machine-failed"
    return "unreachable" if node.name in seen.unreachable else "slurmd-lost"


def came_back(node: NodeInfo, seen: Observation) -> bool:
    """Whether a node that was taken for dead answers again, machine, host and slurmd, and calls itself healthy."""
    instance = (seen.instances or {}).get(node.name)
    report = report_of(node)
    return (
        node.state.responding
        and node.name not in seen.unreachable
        and instance is not None
        and instance.condition is Condition.RUNNING
        and report is not None
        and report.verdict is Verdict.PASSED
    )


def _recurring(found: Open, book: Book, policy: Policy, at: float) -> Open:
    """The same fault again soon after a reboot: the reboot did not cure it."""
    if found.action is not Repair.REBOOT or not found.origin.automatic:
        return found
    for record in book.closed:
        if (
            record.node == found.node
            and record.action is Repair.REBOOT
            and record.phase is Phase.REPAIRED
            and record.fault == found.fault
            and at - record.changed <= policy.recurrence
        ):
            why = f"{found.why} (again, after a reboot)"
            return Open(found.node, Repair.REPLACE, found.origin, why, now=found.now, fault=found.fault)
    return found


def remarks(node: NodeInfo, seen: Observation) -> Iterator[Notice]:
    """What an administrator should know about a node, whether it is under repair or not."""
    if not node.state.kept_out:
        return
    reading = reasons.read(node.reason)
    if reading.near_miss:
        yield Notice(
            f"near-miss:{node.name}",
            f"{node.name} has the Reason {node.reason!r}, which does nothing: {reading.near_miss} was probably meant",
            node.name,
        )
