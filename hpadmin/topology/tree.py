"""From the network graph to topology/tree: a switch for every network node, one root above all.

>>> graph = NetworkGraph((Location("a", ("top", "x")), Location("b", ("top", "y"))))
>>> for switch in plan_tree(graph).topology.switches: print(switch.name, switch.children or switch.nodes)
top ('x', 'y')
x ('a',)
y ('b',)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpadmin.errors import InvalidInput, Problem
from hpadmin.topology.graph import Location, NetworkGraph, Switch, TreeTopology
from hpadmin.topology.names import natural

ROOT = "network-root"
"""Joins several top network nodes; without a switch above all nodes, jobs never span them
(switch_record.c)."""

UNPLACED = "network-unplaced"
"""The leaf of nodes whose place is unknown: a node on no switch gets no jobs."""

DIRECT = "-direct"
"""Suffix of the leaf for nodes right below a switch that has switches too: Slurm allows one or the other."""


@dataclass(frozen=True, slots=True)
class TreePlan:
    """The tree to write, and what an administrator should know of it."""

    topology: TreeTopology
    notes: tuple[str, ...]


def plan_tree(graph: NetworkGraph) -> TreePlan:
    """Make a switch of every network node, parents first, siblings by name.

    An UltraServer whose layers are unknown is a leaf of its own. Raises InvalidInput when a network node has
    two different parents: that is no tree, and Slurm dies of it."""
    parent: dict[str, str | None] = {}
    leaves: dict[str, list[str]] = {}
    unplaced: list[str] = []
    problems = []
    for location in graph.locations:
        path = _path(location)
        if not path:
            unplaced.append(location.node)
            continue
        above: str | None = None
        for name in path:
            if parent.setdefault(name, above) != above or path.count(name) > 1:
                problems.append(
                    Problem(
                        location.node, f"network node {name} is below {above or 'none'} and {parent[name]}"
                    )
                )
            above = name
        leaves.setdefault(path[-1], []).append(location.node)
    if problems:
        raise InvalidInput("the network layers of the nodes are no tree", problems)

    notes = []
    if unplaced:
        # A tree that was made here and is read again has that leaf already, and those of DIRECT below.
        leaves[UNPLACED] = [*leaves.get(UNPLACED, ()), *unplaced]
        parent.setdefault(UNPLACED, None)
        notes.append(
            f"{len(unplaced)} nodes have no network layers and hang on {UNPLACED}: {', '.join(unplaced)}"
        )
    inner = {above for above in parent.values() if above is not None}
    for name in sorted(inner & leaves.keys()):
        leaves[name + DIRECT] = [*leaves.get(name + DIRECT, ()), *leaves.pop(name)]
        parent[name + DIRECT] = name
    tops = sorted(name for name, above in parent.items() if above is None)
    if len(tops) > 1:
        for name in tops:
            parent[name] = ROOT
        parent[ROOT] = None
        notes.append(f"{len(tops)} top network nodes are joined by {ROOT}")
    return TreePlan(TreeTopology(_switches(parent, leaves)), tuple(notes))


def _switches(parent: Mapping[str, str | None], leaves: Mapping[str, list[str]]) -> tuple[Switch, ...]:
    children: dict[str | None, list[str]] = {}
    for name in sorted(parent):
        children.setdefault(parent[name], []).append(name)
    switches: list[Switch] = []
    rest = list(reversed(children.get(None, [])))
    while rest:
        name = rest.pop()
        below = children.get(name, [])
        nodes = tuple(sorted(leaves.get(name, ()), key=natural))
        switches.append(Switch(name, nodes=nodes, children=tuple(below)))
        rest.extend(reversed(below))
    return tuple(switches)


def _path(location: Location) -> tuple[str, ...]:
    if location.layers:
        return location.layers
    return (location.domain,) if location.domain else ()
