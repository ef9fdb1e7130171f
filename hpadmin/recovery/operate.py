"""What people do to nodes: order repairs, see what is known of a node, follow a repair to its end.

An order goes through Slurm, as a Reason that names who wants it and why: so it needs the same rights as any change
to a node, and the agent, wherever it runs, finds it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpadmin.errors import InvalidInput, OperationFailed, Problem
from hpadmin.nodes import reasons
from hpadmin.nodes.provider import Condition, ProviderInstance, Repair
from hpadmin.nodes.reasons import Owner
from hpadmin.nodes.report import HealthReport
from hpadmin.recovery.book import Book, Phase, RepairRecord
from hpadmin.recovery.faulty import judgeable
from hpadmin.recovery.observe import Observation
from hpadmin.slurm.control import NewState, SlurmControl
from hpadmin.slurm.hostlist import HostlistError, expand, fold
from hpadmin.slurm.reader import JobInfo, NodeInfo, SlurmReader

_INSTANCE_ID = re.compile(r"i-[a-f0-9]{8}(?:[a-f0-9]{9})?")


def resolve(words: Sequence[str], seen: Observation) -> tuple[str, ...]:
    """Return the nodes that hostlists and instance ids in `words` name, without duplicates, in order.

    Raises InvalidInput with every word that names no node of this cluster.
    """
    instances = {each.instance_id: name for name, each in (seen.instances or {}).items()}
    instances |= {node.instance_id: node.name for node in seen.nodes.values() if node.instance_id}
    hostnames = {node.hostname: node.name for node in seen.nodes.values() if node.hostname}
    found: dict[str, None] = {}
    problems = []
    for word in words:
        if _INSTANCE_ID.fullmatch(word) and word not in seen.nodes:
            if word in instances:
                found[instances[word]] = None
            elif seen.instances is None:
                problems.append(Problem(word, "cannot be looked up: the provider does not answer"))
            else:
                problems.append(Problem(word, "is no instance of this cluster"))
            continue
        try:
            names = expand(word)
        except HostlistError as error:
            problems.append(Problem(word, error.message))
            continue
        if not names:
            problems.append(Problem(word or "''", "names no node"))
        for name in names:
            if name in seen.nodes or name in hostnames:
                found[name if name in seen.nodes else hostnames[name]] = None
            else:
                problems.append(Problem(name, "is no node of this cluster"))
    if not problems and not found:
        problems.append(Problem("", "no node was named"))
    if problems:
        raise InvalidInput("these are not nodes that can be worked on; nothing was done", problems)
    return tuple(found)


def check_orderable(names: Iterable[str], action: Repair, seen: Observation) -> None:
    """Raise InvalidInput unless every node may be ordered to be repaired."""
    problems = []
    for name in names:
        node = seen.nodes[name]
        if name in seen.protected:
            problems.append(
                Problem(
                    name, f"is a controller, protected or this very host: hpadmin does not {action.value} it"
                )
            )
        elif node.state.kept_out and reasons.read(node.reason).owner is Owner.FOREIGN:
            who = f"{node.reason_user} keeps" if node.reason_user else "somebody keeps"
            problems.append(Problem(name, f"{who} it out: {node.reason!r}; have that settled first"))
        elif not judgeable(node, seen):
            problems.append(Problem(name, f"its state {node.state} cannot be judged now"))
        elif seen.instances is not None and seen.instances and name not in seen.instances:
            problems.append(Problem(name, "the provider knows no instance for it"))
    if problems:
        raise InvalidInput("nothing was done", problems)


def jobs_hit(names: Iterable[str], seen: Observation) -> tuple[JobInfo, ...]:
    """Return the jobs that hold any of the nodes."""
    ids = {job for name in names for job in seen.jobs_on.get(name, ())}
    return tuple(job for job in seen.jobs if job.job_id in ids)


def order(
    names: Sequence[str],
    action: Repair,
    *,
    author: str,
    why: str,
    now: bool,
    reader: SlurmReader,
    control: SlurmControl,
) -> None:
    """Put the order into Slurm, for all nodes in one request.

    May be called again when the answer was lost: what Slurm has heard is not said twice. Raises OperationFailed
    when Slurm refuses, or when a node was taken by somebody since it was looked at.
    """
    text = reasons.write(action.value, why, now=now, author=author)
    current = {node.name: node for node in reader.nodes()}
    taken = [
        name
        for name in names
        if name not in current
        or (current[name].state.kept_out and reasons.read(current[name].reason).owner is Owner.FOREIGN)
    ]
    if taken:
        raise OperationFailed(f"somebody took {fold(taken)} meanwhile; nothing was done")
    unheard = [name for name in names if not (current[name].state.kept_out and current[name].reason == text)]
    if not unheard:
        return
    try:
        control.set_state(unheard, NewState.FAIL, text)
    except OperationFailed as error:
        if any(words in error.message for words in ("Invalid user id", "Access/permission denied")):
            raise OperationFailed(
                f"you may not change nodes of this cluster: {error.message}",
                hint="this takes root, SlurmUser, or a Slurm account with AdminLevel=Administrator",
            ) from error
        raise


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the repair of one node is."""

    node: str
    text: str
    done: bool = False
    failed: bool = False


def progress(
    name: str, action: Repair, since: float, node: NodeInfo | None, book: Book | None, jobs: Sequence[int]
) -> Progress:
    """Say how far an order given at `since` is: by the agent's journal where it can be read, else by Slurm. Pure."""
    if node is None:
        return Progress(name, "Slurm no longer has this node", failed=True)
    record = _record(name, action, since, book)
    if record is not None:
        return _by_record(record, jobs)
    # Slurm up to 25.11 keeps the Reason that we leave, 26.05 drops it.
    returned = not node.reason or (reasons.is_returned(node.reason) and node.reason_time >= since)
    if returned and not node.state.kept_out:
        return Progress(name, "back in service", done=True)
    reading = reasons.read(node.reason)
    if (
        reading.owner is Owner.OURS
        and reading.order is None
        and node.state.kept_out
        and node.reason_time >= since
    ):
        return Progress(name, node.reason, failed=True)
    if not node.state.kept_out and reading.order is None and book is None:
        return Progress(name, f"in service, its Reason is {node.reason!r}", failed=True)
    if jobs:
        return Progress(name, _waits(jobs))
    return Progress(
        name, f"{node.state}: the agent has not begun yet" if book is not None else str(node.state)
    )


def _record(name: str, action: Repair, since: float, book: Book | None) -> RepairRecord | None:
    if book is None:
        return None
    if name in book.open:
        return book.open[name]
    closed = (each for each in book.closed if each.node == name and each.action is action)
    return next((each for each in closed if each.changed >= since), None)


def _by_record(record: RepairRecord, jobs: Sequence[int]) -> Progress:
    texts = {
        Phase.ISOLATE: "being kept out of scheduling",
        Phase.DRAIN: _waits(jobs),
        Phase.READY: record.result or "ready, waiting for its turn",
        Phase.ASKING: f"asking the provider to {record.action.value} {record.instance_before}",
        Phase.AWAIT: "at the provider; waiting for the node to come back",
        Phase.VERIFY: "back; waiting for its health check",
        Phase.RETURN: "healthy; being brought back into service",
        Phase.REPAIRED: "back in service",
        Phase.FAILED: f"failed: {record.result}",
        Phase.CANCELLED: f"given up: {record.result}",
    }
    failed = record.phase in (Phase.FAILED, Phase.CANCELLED)
    return Progress(record.node, texts[record.phase], done=record.phase is Phase.REPAIRED, failed=failed)


def _waits(jobs: Sequence[int]) -> str:
    if not jobs:
        return "kept out; waiting for it to be empty"
    return f"waiting for {'job' if len(jobs) == 1 else 'jobs'} {', '.join(map(str, sorted(jobs)))}"


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """One node as `hpadmin node list` shows it."""

    name: str
    state: str
    reason: str
    owner: str
    group: str
    instance_id: str
    block: str
    health: str
    jobs: tuple[int, ...]
    since: float
    """When its Reason was set, else when it was last busy; 0 where neither is known."""


def summarise(seen: Observation, blocks: Mapping[str, str]) -> tuple[NodeSummary, ...]:
    """Return every node with what is known of it. Pure."""
    return tuple(
        _summary(node, (seen.instances or {}).get(node.name), seen.jobs_on.get(node.name, ()), blocks)
        for node in seen.nodes.values()
    )


def _summary(
    node: NodeInfo, instance: ProviderInstance | None, jobs: tuple[int, ...], blocks: Mapping[str, str]
) -> NodeSummary:
    owner = ""
    if node.reason:
        owner = "hpadmin" if node.reason.startswith(reasons.PREFIX) else node.reason_user
    return NodeSummary(
        name=node.name,
        state=str(node.state),
        reason=node.reason,
        owner=owner,
        group=instance.group if instance is not None else "",
        instance_id=instance.instance_id if instance is not None else node.instance_id,
        block=blocks.get(node.name, ""),
        health=health_word(node, instance),
        jobs=jobs,
        since=node.reason_time if node.state.kept_out and node.reason else node.last_busy,
    )


def health_word(node: NodeInfo, instance: ProviderInstance | None) -> str:
    """Return the health of a node in a word: its own report, else what the provider says, else ``unknown``."""
    if instance is not None and instance.condition is Condition.FAILED:
        return f"failed ({instance.message})" if instance.message else "failed"
    report = HealthReport.read(node.extra)
    if report is None or not report.is_current(node.boot_time, node.slurmd_start_time):
        return "unknown"
    return f"{report.verdict.value} ({report.fault})" if report.fault else report.verdict.value


_UNIT = re.compile(
    r"(?:BlockName=(?P<block>\S+)|SwitchName=(?P<switch>\S+) Level=0\b).*?Nodes=(?P<nodes>\S+)"
)


def blocks_of(topology: str) -> dict[str, str]:
    """Return node to block, or to leaf switch, from ``scontrol show topology``.

    >>> blocks_of("BlockName=b1 BlockIndex=0 Nodes=n[1-2] BlockSize=2")
    {'n1': 'b1', 'n2': 'b1'}
    """
    found: dict[str, str] = {}
    for line in topology.splitlines():
        unit = _UNIT.search(line)
        if unit is not None and unit["nodes"] != "(null)":
            found |= dict.fromkeys(expand(unit["nodes"]), unit["block"] or unit["switch"])
    return found
