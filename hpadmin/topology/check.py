"""The mistakes in a topology that Slurm dies of, or that lose nodes: found before Slurm sees them.

Each rule stands for one ``fatal`` or ``warning`` in block_record.c or switch_record.c; `Findings.errors` are
refused, `Findings.warnings` are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from hpadmin.errors import Problem
from hpadmin.topology.blocks import size_problems
from hpadmin.topology.graph import BlockTopology, Topology, TreeTopology
from hpadmin.topology.names import is_plain, why_not
from hpadmin.topology.release import Release


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong, and what merely is not good. `Problem.path` is the name of the block or switch."""

    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def check(topology: Topology, release: Release, known_nodes: Collection[str] | None = None) -> Findings:
    """Check one topology for `release`; `known_nodes` are the nodes of slurm.conf, None when nobody knows
    them."""
    if isinstance(topology, BlockTopology):
        return _blocks(topology, release, known_nodes)
    if isinstance(topology, TreeTopology):
        return _switches(topology, known_nodes)
    return Findings((), ())


def _blocks(topology: BlockTopology, release: Release, known: Collection[str] | None) -> Findings:
    errors: list[Problem] = []
    if not topology.blocks:
        errors.append(Problem("", "No blocks configured"))
    if topology.sizes:
        errors.extend(Problem("BlockSizes", text) for text in size_problems(topology.sizes))
    errors.extend(_names("block", [block.name for block in topology.blocks]))
    member: dict[str, str] = {}
    sizes_hold = not errors
    for block in topology.blocks:
        for node in block.nodes:
            if node in member:
                errors.append(Problem(block.name, f"node {node} is already in block {member[node]}"))
            member.setdefault(node, block.name)
        if release.permits_gaps:
            continue
        if not block.nodes:
            errors.append(Problem(block.name, f"lacks nodes, which kills slurmctld before 25.05 ({release})"))
        elif sizes_hold and len(block.nodes) < topology.base:
            errors.append(
                Problem(
                    block.name,
                    f"has {len(block.nodes)} nodes, fewer than the base block size {topology.base}, "
                    f"which kills slurmctld before 25.05 ({release})",
                )
            )
    if topology.blocks and not member:
        errors.append(Problem("", "no block has a node"))
    elif topology.blocks and not topology.sizes and not topology.blocks[0].nodes:
        errors.append(
            Problem(topology.blocks[0].name, "is empty, and without BlockSizes it sets the block size")
        )
    warnings = _coverage(set(member), known, errors, "blocks")
    return Findings(tuple(errors), tuple(warnings))


def _switches(topology: TreeTopology, known: Collection[str] | None) -> Findings:
    errors: list[Problem] = []
    warnings: list[Problem] = []
    if not topology.switches:
        errors.append(Problem("", "No switches configured"))
    names = [switch.name for switch in topology.switches]
    errors.extend(_names("switch", names))
    parent: dict[str, str] = {}
    leaf: dict[str, str] = {}
    for switch in topology.switches:
        if switch.nodes and switch.children:
            errors.append(Problem(switch.name, "has both child switches and nodes"))
        if not switch.nodes and not switch.children:
            errors.append(Problem(switch.name, "has neither child switches nor nodes"))
        for child in switch.children:
            if child not in names or child == switch.name:
                errors.append(Problem(switch.name, f"has invalid child ({child})"))
            elif child in parent:
                errors.append(Problem(switch.name, f"switch {child} is already below {parent[child]}"))
            parent.setdefault(child, switch.name)
        for node in switch.nodes:
            if node in leaf:
                errors.append(Problem(switch.name, f"node {node} is already on switch {leaf[node]}"))
            leaf.setdefault(node, switch.name)
    if not errors:
        errors.extend(_cycles(parent))
    if not errors and len(topology.roots()) > 1:
        tops = ", ".join(switch.name for switch in topology.roots())
        warnings.append(Problem("", f"no switch connects {tops}: jobs never span them"))
    warnings += _coverage(set(leaf), known, errors, "switches")
    return Findings(tuple(errors), tuple(warnings))


def _names(kind: str, names: list[str]) -> list[Problem]:
    found = [
        Problem(name, f"{kind} {name} is defined {count} times")
        for name, count in Counter(names).items()
        if count > 1
    ]
    return found + [Problem(name, why_not(kind, name)) for name in names if not is_plain(name)]


def _cycles(parent: dict[str, str]) -> list[Problem]:
    found = []
    for name in parent:
        seen = {name}
        above = parent.get(name)
        while above is not None and above not in seen:
            seen.add(above)
            above = parent.get(above)
        if above == name:
            found.append(Problem(name, "Switch configuration is not a tree: it is below itself"))
    return found


def _coverage(
    covered: set[str], known: Collection[str] | None, errors: list[Problem], what: str
) -> list[Problem]:
    if known is None:
        return []
    nodes = set(known)
    errors.extend(
        Problem("", f"{name} is no node of this cluster; Slurm skips it in silence")
        for name in sorted(covered - nodes)
    )
    missing = sorted(nodes - covered)
    if not missing:
        return []
    return [Problem("", f"{what} lack access to {len(missing)} nodes: {', '.join(missing[:10])}")]
