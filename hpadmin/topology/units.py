"""A snapshot as what people look at: units (blocks, leaf switches) of nodes, each node with its state and
jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from hpadmin.topology.graph import BlockTopology, NamedTopology, Topology, TreeTopology
from hpadmin.topology.placement.state import JobView, NodeView, Snapshot

FLAT_ROW = 18
"""Nodes in one unit where there is no topology."""


def visible(text: str) -> str:
    r"""`text` with everything spelt out that is no mark or blank: neither XML nor a terminal takes it as it is.

    >>> print(visible("broken fan\n\x1b[2J"))
    broken fan\n\x1b[2J
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


class Condition(StrEnum):
    """What an administrator wants to see of a node at a glance."""

    IDLE = "idle"
    SHARED = "partly used"
    BUSY = "in use"
    DRAINING = "draining"
    DRAINED = "drained"
    DOWN = "down"
    BLOCKED = "blocked"
    """Empty, but a job in its block has the block to itself (``--exclusive=topo``)."""
    HELD = "held back"
    """Up, empty and yet closed to jobs: rebooting, reserved for maintenance, powered down."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One node in the picture."""

    node: NodeView
    condition: Condition
    jobs: tuple[JobView, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """One block, one leaf switch, or a row of nodes that have neither."""

    name: str
    above: tuple[str, ...]
    """Switches above it, the top first; empty for blocks."""
    cells: tuple[Cell, ...]
    capacity: int
    """Slots to draw: at least the planning block's size."""

    def count(self, *conditions: Condition) -> int:
        """How many of its nodes are in one of these conditions."""
        return sum(1 for cell in self.cells if cell.condition in conditions)


@dataclass(frozen=True, slots=True)
class Overview:
    """One topology with its units; the last unit may be named ``(no place)``: nodes that are in none."""

    name: str
    kind: str
    title: str
    units: tuple[Unit, ...]

    def count(self, *conditions: Condition) -> int:
        """How many of all nodes are in one of these conditions."""
        return sum(unit.count(*conditions) for unit in self.units)

    @property
    def jobs(self) -> tuple[JobView, ...]:
        """All jobs that hold some of the nodes, by their id."""
        found = {job.job_id: job for unit in self.units for cell in unit.cells for job in cell.jobs}
        return tuple(found[name] for name in sorted(found, key=lambda name: (len(name), name)))


NO_PLACE = "(no place)"


def overviews(snapshot: Snapshot) -> tuple[Overview, ...]:
    """One overview for every topology; a flat one only when there is no other."""
    shaped = [
        named for named in snapshot.topologies if isinstance(named.topology, BlockTopology | TreeTopology)
    ]
    return tuple(_overview(named, snapshot) for named in shaped or [snapshot.topologies.default])


def condition(node: NodeView, jobs: Sequence[JobView]) -> Condition:
    """Sum up Slurm's state words and the jobs on the node."""
    words = set(node.state.upper().replace("*", "").split("+"))
    busy = bool(jobs) or bool(words & {"ALLOCATED", "MIXED", "COMPLETING"}) or node.cpus_used > 0
    if words & {"DOWN", "ERROR", "NOT_RESPONDING", "UNKNOWN", "FAIL"} and "DRAIN" not in words:
        return Condition.DOWN
    if words & {"DRAIN", "DRAINED", "DRAINING"}:
        if busy:
            return Condition.DRAINING
        return Condition.DOWN if "DOWN" in words else Condition.DRAINED
    if busy:
        whole = any(job.whole for job in jobs) or node.cpus_used >= node.cpus
        return Condition.BUSY if whole or "ALLOCATED" in words else Condition.SHARED
    if "BLOCKED" in words:
        return Condition.BLOCKED
    return Condition.IDLE if node.usable else Condition.HELD


def _overview(named: NamedTopology, snapshot: Snapshot) -> Overview:
    nodes = {node.name: node for node in snapshot.nodes}
    jobs: dict[str, list[JobView]] = {}
    for job in snapshot.jobs:
        for name in job.nodes:
            jobs.setdefault(name, []).append(job)

    def unit(name: str, above: tuple[str, ...], members: Sequence[str], capacity: int) -> Unit:
        cells = tuple(
            Cell(nodes[node], condition(nodes[node], jobs.get(node, [])), tuple(jobs.get(node, [])))
            for node in members
            if node in nodes
        )
        if any(job.exclusive_topo for cell in cells for job in cell.jobs):
            cells = tuple(
                replace(cell, condition=Condition.BLOCKED) if cell.condition is Condition.IDLE else cell
                for cell in cells
            )
        return Unit(name, above, cells, max(capacity, len(cells)))

    topology = named.topology
    units: list[Unit] = []
    if isinstance(topology, BlockTopology):
        slots = max([topology.base, *(len(block.nodes) for block in topology.blocks)])
        units = [unit(block.name, (), block.nodes, slots) for block in topology.blocks]
    elif isinstance(topology, TreeTopology):
        parent = {child: switch.name for switch in topology.switches for child in switch.children}
        for switch in topology.switches:
            if switch.nodes:
                units.append(unit(switch.name, _above(switch.name, parent), switch.nodes, 0))
    placed = {cell.node.name for one in units for cell in one.cells}
    rest = [node.name for node in snapshot.nodes if node.name not in placed]
    if not units:
        rows = [rest[start : start + FLAT_ROW] for start in range(0, len(rest), FLAT_ROW)]
        units = [unit(row[0], (), row, FLAT_ROW) for row in rows]
    elif rest and len(snapshot.topologies.topologies) == 1:
        units.append(unit(NO_PLACE, (), rest, 0))
    return Overview(named.name, _kind(topology), _title(topology, snapshot), tuple(units))


def _above(name: str, parent: dict[str, str]) -> tuple[str, ...]:
    path: list[str] = []
    while name in parent and parent[name] not in path:
        name = parent[name]
        path.insert(0, name)
    return tuple(path)


def _kind(topology: Topology) -> str:
    if isinstance(topology, BlockTopology):
        return "block"
    return "tree" if isinstance(topology, TreeTopology) else "flat"


def _title(topology: Topology, snapshot: Snapshot) -> str:
    release = f"Slurm {snapshot.release}"
    if isinstance(topology, BlockTopology):
        sizes = ",".join(map(str, topology.sizes)) or f"{topology.base} (of the first block)"
        return f"topology/block, BlockSizes={sizes}, {release}"
    if isinstance(topology, TreeTopology):
        leaves = sum(1 for switch in topology.switches if switch.nodes)
        return f"topology/tree, {len(topology.switches)} switches, {leaves} of them leaves, {release}"
    return f"no topology ({snapshot.release.flat_plugin}), {release}"
