"""The topology with its nodes by state and job: as lines for a terminal, and as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpadmin.slurm.hostlist import fold
from hpadmin.topology.graph import BlockTopology
from hpadmin.topology.placement.state import Snapshot
from hpadmin.topology.units import Cell, Condition, Overview, Unit, overviews, visible

_ORDER = (
    Condition.IDLE,
    Condition.BLOCKED,
    Condition.SHARED,
    Condition.BUSY,
    Condition.DRAINING,
    Condition.DRAINED,
    Condition.DOWN,
    Condition.HELD,
)


def as_lines(snapshot: Snapshot) -> Iterator[str]:
    """The tree of units, one line a group of nodes in the same state and of the same job."""
    return map(visible, _lines(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[str]:
    for overview in overviews(snapshot):
        yield f"{overview.name}: {overview.title}"
        yield f"{sum(len(unit.cells) for unit in overview.units)} nodes: {_counts(overview)}"
        shown: tuple[str, ...] = ()
        for number, unit in enumerate(overview.units):
            for depth, name in enumerate(unit.above):
                if unit.above[: depth + 1] != shown[: depth + 1]:
                    yield "│  " * depth + f"├─ {name}"
            shown = unit.above
            last = number + 1 == len(overview.units)
            yield from _unit(unit, "│  " * len(unit.above), last)


def _unit(unit: Unit, indent: str, last: bool) -> Iterator[str]:
    free = unit.count(Condition.IDLE)
    yield f"{indent}{'└─' if last else '├─'} {unit.name}  {free} of {len(unit.cells)} free"
    groups: dict[tuple[int, str, str, str], list[str]] = {}
    for cell in unit.cells:
        jobs = " ".join(f"{job.job_id}{f' ({job.user})' if job.user else ''}" for job in cell.jobs)
        key = (_ORDER.index(cell.condition), cell.condition.value, jobs, cell.node.reason)
        groups.setdefault(key, []).append(cell.node.name)
    below = indent + ("   " if last else "│  ")
    for number, (_, condition, jobs, reason) in enumerate(sorted(groups)):
        names = fold(groups[(_ORDER.index(Condition(condition)), condition, jobs, reason)])
        branch = "└─" if number + 1 == len(groups) else "├─"
        detail = f"  job {jobs}" if jobs else ""
        yield f"{below}{branch} {condition:<11} {names}{detail}{f'  {reason}' if reason else ''}"


def _counts(overview: Overview) -> str:
    return ", ".join(f"{overview.count(one)} {one}" for one in _ORDER if overview.count(one)) or "none"


def as_data(snapshot: Snapshot) -> dict[str, Any]:
    """The same as JSON-ready data."""
    return {
        "slurm_release": str(snapshot.release),
        "partition_topology": dict(snapshot.topologies.partition_topology),
        "topologies": [
            {
                "name": overview.name,
                "kind": overview.kind,
                "cluster_default": overview.name == snapshot.topologies.default.name,
                "block_sizes": _sizes(snapshot, overview.name),
                "units": [_unit_data(unit) for unit in overview.units],
            }
            for overview in overviews(snapshot)
        ],
        "jobs": [
            {
                "job_id": job.job_id,
                "user": job.user,
                "partition": job.partition,
                "nodes": sorted(job.nodes),
                "exclusive": job.whole,
                "exclusive_topo": job.exclusive_topo,
            }
            for job in snapshot.jobs
        ],
    }


def _sizes(snapshot: Snapshot, name: str) -> list[int]:
    for named in snapshot.topologies:
        if named.name == name and isinstance(named.topology, BlockTopology):
            return list(named.topology.sizes)
    return []


def _unit_data(unit: Unit) -> dict[str, Any]:
    return {
        "name": unit.name,
        "above": list(unit.above),
        "free": unit.count(Condition.IDLE),
        "nodes": [_cell_data(cell) for cell in unit.cells],
    }


def _cell_data(cell: Cell) -> dict[str, Any]:
    return {
        "name": cell.node.name,
        "state": cell.node.state,
        "condition": cell.condition.value,
        "jobs": [job.job_id for job in cell.jobs],
        "reason": cell.node.reason,
    }
