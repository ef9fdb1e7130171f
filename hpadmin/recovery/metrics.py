"""What Prometheus is told: the HyperPod cluster metrics and the agent's own, in the text exposition format.

Not among them is HyperPod's count of preempted tasks: a preempted job is requeued, which no state tells, or has ended,
and the queue is read without those.

Written to a file that node_exporter's textfile collector reads, so that the agent opens no port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.recovery.book import Book, Phase
from hpadmin.recovery.limits import breaker_notice
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import JobState, NodeBase

_GPUS = re.compile(r"(?:^|,)gpu(?::(?:[^:,()]+|\(null\)))?:(\d+)")


def gpus(gres: str) -> int:
    """Count the GPUs in a Gres or GresUsed text.

    >>> gpus("gpu:h100:8(S:0-1),nic:2")
    8
    >>> gpus("gpu:a:2,gpu:b:2(IDX:0-1),gpu:(null):1(IDX:3)")
    5
    """
    return sum(int(number) for number in _GPUS.findall(gres))


def render(seen: Observation, book: Book, policy: Policy) -> str:
    """Return all metrics of this moment."""
    lines: list[str] = []
    for name, text, samples in _metrics(seen, book, policy):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        lines += [f"{name}{labels} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    """A number with all its digits: times of the epoch have ten before the point.

    >>> _number(1795354763.25), _number(8.0)
    ('1795354763.25', '8')
    """
    return str(int(value)) if value == int(value) else repr(value)


def write(path: Path, text: str) -> None:
    """Replace the file at `path` at once, as the collector may read at any moment. Raises OSError."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _metrics(
    seen: Observation, book: Book, policy: Policy
) -> Iterator[tuple[str, str, Iterable[tuple[str, float]]]]:
    nodes = list(seen.nodes.values())
    failed = [node for node in nodes if node.state.down or node.state.failing]
    idle = [node for node in nodes if node.state.base is NodeBase.IDLE and node.state.schedulable]
    total_gpus, used_gpus = sum(gpus(node.gres) for node in nodes), _used_gpus(seen)
    idle_gpus = sum(
        max(0, gpus(node.gres) - used_gpus.get(node.name, 0)) for node in nodes if node.state.schedulable
    )
    yield "hyperpod_cluster_node_count", "Nodes of the cluster", [("", len(nodes))]
    yield "hyperpod_cluster_idle_node_count", "Nodes without work that could have some", [("", len(idle))]
    yield "hyperpod_cluster_failed_node_count", "Nodes that are down or failing", [("", len(failed))]
    yield "hyperpod_cluster_cpu_count", "CPUs of all nodes", [("", sum(node.cpus for node in nodes))]
    yield (
        "hyperpod_cluster_idle_cpu_count",
        "CPUs without work on nodes that could have some",
        [("", sum(node.cpus - node.cpus_allocated for node in nodes if node.state.schedulable))],
    )
    yield "hyperpod_cluster_gpu_count", "GPUs of all nodes", [("", total_gpus)]
    yield (
        "hyperpod_cluster_idle_gpu_count",
        "GPUs without work on nodes that could have some",
        [("", idle_gpus)],
    )
    yield from _tasks(seen)
    health = [HealthReport.read(node.extra) for node in nodes]
    yield (
        "hpadmin_node_health",
        "Nodes by the verdict of their last health check",
        [
            *(
                (
                    f'{{health="{verdict}"}}',
                    sum(each is not None and each.verdict is verdict for each in health),
                )
                for verdict in Verdict
            ),
            ('{health="unknown"}', sum(each is None for each in health)),
        ],
    )
    yield (
        "hpadmin_repairs_open",
        "Repairs under way by phase",
        [
            (f'{{phase="{phase}"}}', sum(record.phase is phase for record in book.open.values()))
            for phase in Phase
            if not phase.closed
        ],
    )
    yield (
        "hpadmin_repairs_closed",
        "Repairs of the last seven days by action and result",
        [
            (
                f'{{action="{action}",result="{phase}"}}',
                sum(record.phase is phase and record.action == action for record in book.closed),
            )
            for action in ("reboot", "replace")
            for phase in Phase
            if phase.closed
        ],
    )
    breaker = breaker_notice(book, policy, seen.at)
    yield (
        "hpadmin_breaker_open",
        "1 while automatic repair has stopped itself",
        [("", float(breaker is not None))],
    )
    yield "hpadmin_provider_up", "1 while the provider answers", [("", float(seen.instances is not None))]
    yield "hpadmin_notices", "Things that an administrator should look at", [("", len(book.notices))]
    yield "hpadmin_last_look_seconds", "When the agent last looked, epoch seconds", [("", seen.at)]


def _tasks(seen: Observation) -> Iterator[tuple[str, str, Iterable[tuple[str, float]]]]:
    pending = [job for job in seen.jobs if job.state is JobState.PENDING]
    running = [job for job in seen.jobs if job.state is JobState.RUNNING]
    waits = [seen.at - job.submit_time for job in pending if job.submit_time] or [0.0]
    yield "hyperpod_cluster_running_task_count", "Jobs that run", [("", len(running))]
    yield "hyperpod_cluster_pending_task_count", "Jobs that wait", [("", len(pending))]
    yield (
        "hyperpod_cluster_avg_task_wait_time",
        "Seconds that waiting jobs have waited on average",
        [("", sum(waits) / len(waits))],
    )
    yield (
        "hyperpod_cluster_max_task_wait_time",
        "Seconds that the longest waiting job has waited",
        [("", max(waits))],
    )


def _used_gpus(seen: Observation) -> dict[str, int]:
    return {node.name: _used(node) for node in seen.nodes.values()}


def _used(node: NodeInfo) -> int:
    """GPUs in use: by GresUsed where Slurm tells it (scontrol with -d), else all of an allocated node's."""
    if node.gres_used:
        return gpus(node.gres_used)
    return gpus(node.gres) if node.state.base is NodeBase.ALLOCATED else 0
