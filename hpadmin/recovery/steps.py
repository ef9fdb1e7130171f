"""The life of one repair, phase by phase: what its node and instance, as seen, make it do next. Pure."""

from __future__ import annotations

from hpadmin.nodes import reasons
from hpadmin.nodes.provider import Condition, ProviderInstance, Repair
from hpadmin.nodes.reasons import Owner, Reading
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.recovery.actions import Advance, GiveUp, Mark, Notice, Resume, Target
from hpadmin.recovery.book import Origin, Phase, RepairRecord
from hpadmin.recovery.faulty import came_back, judgeable, looks_dead
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.control import NewState
from hpadmin.slurm.reader import NodeInfo

Step = Advance | GiveUp | Mark | Notice | Resume | Target | None


def vanished(record: RepairRecord) -> Advance:
    """Slurm no longer knows the node of this repair."""
    return Advance(record, Phase.CANCELLED, "Slurm no longer has this node")


def step(record: RepairRecord, node: NodeInfo, seen: Observation, policy: Policy) -> Step:
    """Return what this repair does now; None to wait."""
    if not judgeable(node, seen):
        return None
    if (
        seen.cut_off
        and record.origin is Origin.DEAD
        and not record.phase.in_flight
        and not looks_dead(node, seen)
    ):
        return None
    match record.phase:
        case Phase.ISOLATE:
            return _taken_over(record, node) or _isolate(record, node)
        case Phase.DRAIN:
            return _taken_over(record, node) or _drain(record, node, seen)
        case Phase.READY:
            return _taken_over(record, node) or _ready(record, node, seen, policy)
        case Phase.ASKING:
            return _asking(record, node, seen, policy)
        case Phase.AWAIT:
            return _await(record, node, seen, policy)
        case Phase.VERIFY | Phase.RETURN:
            return _verify(record, node, seen, policy)
        case _:
            return None


def _taken_over(record: RepairRecord, node: NodeInfo) -> Advance | None:
    """Before anything was asked of the provider, another hand on the node ends the repair."""
    reading = reasons.read(node.reason)
    if node.state.kept_out and reading.owner is Owner.FOREIGN and not _slurms(node):
        return Advance(
            record, Phase.CANCELLED, f"{node.reason_user or 'somebody'} keeps the node out: {node.reason}"
        )
    if record.phase is not Phase.ISOLATE and not node.state.kept_out:
        return Advance(record, Phase.CANCELLED, "somebody brought the node back")
    order = reading.order
    if order is None or not node.state.kept_out:
        return None
    from_a_person = _outranks(reading, record)
    if (order.action, order.now) == (record.action, record.now) and not from_a_person:
        return None
    if record.phase is Phase.ISOLATE and record.origin.automatic and not from_a_person:
        return None  # an escalation: our own older Reason is about to be replaced
    return Advance(record, Phase.CANCELLED, f"the Reason now says: {node.reason}")


def _outranks(reading: Reading, record: RepairRecord) -> bool:
    """Whether a person has ordered meanwhile what was begun by itself: limits and NodeRecovery bind his order less."""
    if reading.owner is Owner.ORDER:
        return record.origin.automatic
    return reading.order is not None and bool(reading.order.author) and record.origin is not Origin.ADMIN


def _asks_for_more(record: RepairRecord, node: NodeInfo) -> Advance | None:
    """A replacement ordered while the provider reboots the machine: no reboot, whatever comes of it, fulfils that."""
    order = reasons.read(node.reason).order
    if (
        order is None
        or not node.state.kept_out
        or (order.action, record.action) != (Repair.REPLACE, Repair.REBOOT)
    ):
        return None
    return Advance(record, Phase.CANCELLED, f"the Reason now asks for more: {node.reason}")


def _slurms(node: NodeInfo) -> bool:
    """A Reason that slurmctld or slurmd set by itself, such as ``Prolog error``; nobody keeps the node out with it.

    When a node that somebody drained goes away, Slurm appends to that somebody's Reason, in its own name.
    """
    drained_before = bool(reasons.read(node.reason).suffix) and (node.state.draining or node.state.failing)
    return node.reason_user in ("slurm", "") and not drained_before


def _mark(record: RepairRecord, node: NodeInfo, state: NewState) -> Mark:
    author = record.requester if record.origin is Origin.ADMIN else ""
    text = record.why
    reading = reasons.read(node.reason)
    if reading.owner is Owner.FOREIGN:
        text += f" (was: {node.reason})"
    reason = reasons.write(record.action.value, text, now=record.now, author=author)
    if reading.owner is Owner.ORDER:
        reason = next(word for word, action in reasons.EXACT.items() if action is record.action)
    return Mark(node.name, state, reason, node.reason, record.number)


def _isolate(record: RepairRecord, node: NodeInfo) -> Step:
    reading = reasons.read(node.reason)
    # DOWN alone ends when the node registers again (ReturnToService=2), and the order with it.
    held = node.state.failing or node.state.draining
    if held and reading.order is not None and reading.order.action is record.action:
        return Advance(record, Phase.DRAIN)
    return _mark(record, node, NewState.FAIL)


def _drain(record: RepairRecord, node: NodeInfo, seen: Observation) -> Step:
    if record.now and not node.state.down:
        return _mark(record, node, NewState.DOWN)
    if empty(record, node, seen):
        return Advance(record, Phase.READY)
    return None


def empty(record: RepairRecord, node: NodeInfo, seen: Observation) -> bool:
    """Nothing runs on the node: by its state, and by the queue.

    On a node that is dead, Slurm may wait for ever for the end of what is completing there. The state of one that it
    has not heard yet tells nothing of jobs (`_sync_nodes_to_active_job`, src/slurmctld/read_config.c), the queue does.
    """
    if record.origin is Origin.DEAD and node.state.down:
        return True
    if node.state.unheard:
        return node.state.kept_out and not node.state.allocated and not seen.jobs_on.get(node.name)
    return node.state.drained and not seen.jobs_on.get(node.name)


def _ready(record: RepairRecord, node: NodeInfo, seen: Observation, policy: Policy) -> Step:
    if not empty(record, node, seen):
        return Advance(record, Phase.DRAIN)
    if node.name in seen.protected:
        return Advance(record, Phase.CANCELLED, "controllers and protected nodes are never touched")
    if not seen.node_recovery and record.origin is not Origin.ADMIN:
        return _waits(record, "it is marked only, because the cluster's NodeRecovery is None")
    if not policy.automatic and record.origin.automatic:
        return _waits(record, "it is marked only, because automatic repair is off")
    if seen.instances is None:
        return None
    if record.origin is Origin.DEAD and not record.attempts and came_back(node, seen):
        return _resume(record, node)
    instance = seen.instances.get(node.name)
    if instance is None:
        return _waits(record, "the provider knows no instance for it")
    if seen.at < record.not_before:
        return _waits(record, record.result)
    report = HealthReport.read(node.extra)
    # slurmctld forgets both when it is started: what is asked for now begins later than now.
    unknown = seen.at if node.state.unheard else 0.0
    return Target(
        record,
        instance.instance_id,
        instance.booted,
        node.boot_time or unknown,
        node.slurmd_start_time or unknown,
        report.boot if report is not None else "",
    )


def _waits(record: RepairRecord, why: str) -> Notice:
    return Notice(
        f"waits:{record.node}",
        f"{record.node} wants {record.action.value} ({record.why}), but {why}",
        record.node,
    )


def _heard(record: RepairRecord, instance: ProviderInstance | None) -> bool:
    """The provider's state of the instance shows that the lost request was heard."""
    if instance is None:
        return True
    if instance.instance_id != record.instance_before:
        return True
    if record.booted_before and instance.booted:
        # Nothing else counts where boots are told: an instance may be starting, or take in a change, by itself.
        return record.action is Repair.REBOOT and instance.booted > record.booted_before
    return instance.condition in (Condition.STARTING, Condition.STOPPING)


def _asking(record: RepairRecord, node: NodeInfo, seen: Observation, policy: Policy) -> Step:
    """The answer to a request was lost: look for its traces, then ask again, by the same instance id."""
    if seen.instances is None:
        return None
    if _heard(record, seen.instances.get(node.name)) or node.boot_time > record.boot_before > 0:
        return Advance(record, Phase.AWAIT, "the provider had heard the request")
    if seen.at - record.asked < policy.settle:
        return None
    if record.attempts >= policy.max_attempts:
        return _give_up(record, node, f"no answer to {record.attempts} requests")
    return Advance(record, Phase.READY, "no trace of the request")


def _came_back(record: RepairRecord, node: NodeInfo, instance: ProviderInstance | None) -> bool:
    """A new slurmd registered, on what must be the new instance or the new boot of the old one."""
    if not node.state.responding or node.slurmd_start_time <= record.slurmd_before:
        return False
    if instance is None or instance.condition is not Condition.RUNNING:
        return False
    if record.action is Repair.REPLACE and instance.instance_id != node.name:
        return instance.instance_id != record.instance_before
    # A provider that knows machines by their nodes' names only leaves the boot time as evidence.
    if instance.booted:
        return instance.booted > record.booted_before
    return node.boot_time > record.boot_before


def _await(record: RepairRecord, node: NodeInfo, seen: Observation, policy: Policy) -> Step:
    if seen.instances is None:
        return None
    if _came_back(record, node, seen.instances.get(node.name)):
        return Advance(record, Phase.VERIFY)
    within = policy.reboot_within if record.action is Repair.REBOOT else policy.replace_within
    if seen.at - record.asked > within:
        return _give_up(record, node, f"not back {within:g} s after the request")
    return None


def _verify(record: RepairRecord, node: NodeInfo, seen: Observation, policy: Policy) -> Step:
    reading = reasons.read(node.reason)
    if not node.state.kept_out:
        if record.phase is Phase.RETURN or reasons.is_returned(node.reason):
            return Advance(record, Phase.REPAIRED, "back in service")
        return Advance(record, Phase.CANCELLED, "somebody brought the node back")
    if reading.owner is Owner.FOREIGN and not _slurms(node):
        return Advance(record, Phase.CANCELLED, f"left to {node.reason_user or 'somebody'}: {node.reason}")
    if (more := _asks_for_more(record, node)) is not None:
        return more
    # A new machine may register before slurmctld knows its address: until then nobody else reaches it.
    if not node.state.responding or node.name in seen.unreachable or seen.jobs_on.get(node.name):
        gone = _overdue(record, seen, policy) and not seen.cut_off
        return _give_up(record, node, "went away again") if gone else None
    report = HealthReport.read(node.extra)
    if report is not None and not report.follows(record.report_before, node.slurmd_start_time):
        report = None
    if report is not None and report.verdict is Verdict.PASSED:
        return _resume(record, node)
    if report is not None and report.verdict is Verdict.FAILED:
        return _give_up(record, node, f"unhealthy after {record.action.value}: {report.fault}: {report.text}")
    if not _overdue(record, seen, policy):
        return None
    if policy.require_report:
        return _give_up(record, node, f"back, but without a health report for {policy.verify_within:g} s")
    return _resume(record, node)


def _overdue(record: RepairRecord, seen: Observation, policy: Policy) -> bool:
    return seen.at - record.changed > policy.verify_within


def _resume(record: RepairRecord, node: NodeInfo) -> Resume:
    done = {Repair.REBOOT: "rebooted", Repair.REPLACE: "replaced"}[record.action]
    text = f"{done} because of {record.why}" if record.attempts else f"came back by itself, was {record.why}"
    return Resume(record, reasons.write(reasons.RETURNED, text), node.reason)


def _give_up(record: RepairRecord, node: NodeInfo, why: str) -> GiveUp | Advance:
    if node.state.kept_out and reasons.read(node.reason).owner is Owner.FOREIGN and not _slurms(node):
        # Somebody keeps the node out meanwhile: that it did not come back is told, and his words stay.
        return Advance(
            record, Phase.FAILED, f"{why}; left to {node.reason_user or 'somebody'}: {node.reason}"
        )
    if (more := _asks_for_more(record, node)) is not None:
        return more
    reason = reasons.write(reasons.HOLD, f"{record.action.value} failed: {why}")
    return GiveUp(record, why, reason, node.reason)
