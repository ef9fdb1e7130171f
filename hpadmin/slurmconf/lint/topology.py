"""Rules about topology.conf (``src/plugins/topology/{block,tree}``)."""

from __future__ import annotations

from collections.abc import Iterator

from hpadmin.slurm.hostlist import HostlistError, expand, fold
from hpadmin.slurmconf.lint.facts import Speller
from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, error, info, reason, warning
from hpadmin.slurmconf.records import Origin, Record
from hpadmin.slurmconf.view import View

NEED_FILE = ("tree", "block")
"""The plugins that read topology.conf."""
_MOST_LEVELS = 15
"""A block size is at most 2 to this power times the first one."""


def files(subject: Subject) -> Iterator[Finding]:
    """The plugin without its file, the file without its plugin."""
    view = subject.slurm
    if view is None or not subject.whole:
        return
    setting = view.setting("TopologyPlugin")
    plugin = subject.topology_plugin
    if subject.topology_yaml:
        if subject.topology is not None:
            message = "topology.yaml stands above topology.conf, which nobody reads: remove one of them"
            yield warning(Origin("topology.conf", 0, 0), "topology-ignored", message)
        if setting is not None:
            message = "topology.yaml stands above TopologyPlugin, which has no effect"
            yield info(setting.origin, "topology-ignored", message)
        return
    if "topology.yaml" in subject.others:
        message = f"Slurm {subject.release} does not read topology.yaml (25.05 does): write topology.conf"
        yield warning(Origin("topology.yaml", 0, 0), "topology-ignored", message)
    if plugin in NEED_FILE and subject.topology is None:
        origin = setting.origin if setting is not None else Origin(view.name, 0, 0)
        message = (
            f"topology/{plugin} needs topology.conf, and every start waits a minute for it: write it first"
        )
        yield error(origin, "topology-file-missing", message)
    elif plugin not in NEED_FILE and (kind := _kind(subject.topology)):
        message = f"nothing reads topology.conf: set TopologyPlugin=topology/{kind}"
        yield warning(Origin("topology.conf", 0, 0), "topology-ignored", message)


def _kind(view: View | None) -> str:
    """The plugin that a topology.conf is written for; empty for one that says nothing."""
    if view is None:
        return ""
    return "block" if view.of("BlockName") else "tree" if view.of("SwitchName") else ""


def _active(subject: Subject, plugin: str, opener: str) -> View | None:
    """topology.conf, when this plugin reads it, or when it is looked at alone and has such lines."""
    view = subject.topology
    if view is None or subject.topology_yaml:
        return None
    if subject.slurm is None:
        return view if view.of(opener) else None
    return view if subject.topology_plugin == plugin else None


def _members(
    record: Record, listed: str, slurm: View | None, speller: Speller
) -> tuple[list[str], list[Finding]]:
    """Return the known nodes of a list and what is wrong with it."""
    try:
        names = list(dict.fromkeys(expand(listed)))
    except HostlistError as problem:
        return [], [
            error(record.origin, "bad-hostlist", f"Nodes={listed} is no host list: {reason(problem)}")
        ]
    if slurm is None:
        return names, []
    unknown = [name for name in names if name not in slurm.nodes]
    if not unknown or slurm.value("MaxNodeCount"):
        return names, []
    hint = speller.did_you_mean(unknown[0], list(slurm.nodes)[:4096])
    message = f"slurm.conf has no node {fold(unknown)}; Slurm leaves it out{hint}"
    known = [name for name in names if name in slurm.nodes]
    return known, [warning(record.origin, "unknown-node", message)]


def blocks(subject: Subject) -> Iterator[Finding]:
    """topology/block: its blocks, their sizes, and the nodes in them."""
    view = _active(subject, "block", "BlockName")
    if view is None:
        return
    slurm = subject.references if subject.whole else None
    records = view.of("BlockName")
    if not records:
        message = "no BlockName line: jobs cannot be placed; slurmctld from 25.11 on dies of it"
        make = error if subject.since("25.11") else warning
        yield make(Origin(view.name, 0, 0), "topology-empty", message)
        return
    sizes = view.setting("BlockSizes")
    base = 0
    if sizes is not None:
        wrong = wrong_sizes(sizes.value)
        if wrong is not None:
            message = (
                f"BlockSizes={sizes.value}: {wrong!r} is not the first size times a power of two; "
                "give ascending sizes such as 18,36,72"
            )
            yield error(sizes.origin, "block-sizes", message)
        base = _c_number(sizes.value.split(",")[0])
    where: dict[str, str] = {}
    names: dict[str, Origin] = {}
    for record in records:
        if record.name in names:
            message = f"the block {record.name} stands in {names[record.name]} already: keep one"
            yield error(record.origin, "duplicate-block", message)
        names.setdefault(record.name, record.origin)
        if not record.get("Nodes"):
            yield error(
                record.origin, "block-without-nodes", f"block {record.name} names no nodes: add Nodes="
            )
            continue
        members, findings = _members(record, record.get("Nodes"), slurm, subject.speller)
        yield from findings
        if any(finding.code == "bad-hostlist" for finding in findings):
            continue
        base = base or len(members)
        if len(members) < base and not subject.since("25.05"):
            message = (
                f"block {record.name} has {len(members)} nodes, fewer than the block size {base}: slurmctld "
                "dies of it before 25.05; add nodes (State=FUTURE ones count) or lower BlockSizes"
            )
            yield error(record.origin, "block-too-small", message)
        elif len(members) < base:
            message = f"block {record.name} has {len(members)} nodes, fewer than the block size {base}"
            yield info(record.origin, "block-too-small", message)
        shared = [name for name in members if name in where]
        if shared:
            message = f"{fold(shared)}: in block {where[shared[0]]} too; a node belongs to one block"
            yield warning(record.origin, "node-in-two-blocks", message)
        where.update((name, record.name) for name in members if name not in where)
    if slurm is not None:
        outside = [name for name in slurm.nodes if name not in where]
        if outside:
            message = f"{fold(outside)}: in no block; jobs never mix them with the nodes of blocks"
            yield warning(Origin(view.name, 0, 0), "nodes-without-block", message)


def _c_number(text: str) -> int:
    digits = ""
    for character in text.strip():
        if not character.isdecimal():
            break
        digits += character
    return int(digits or 0)


def wrong_sizes(value: str) -> str | None:
    """Return the element of BlockSizes that Slurm refuses; None when there is none.

    Each must be the first times a power of two (``block_record.c``).

    >>> wrong_sizes("18,36,72"), wrong_sizes("4,2"), wrong_sizes("two")
    (None, '2', 'two')
    """
    first = 0
    for element in value.split(","):
        if not element:
            continue
        size = _c_number(element)
        first = first or size
        if size <= 0 or size % first:
            return element
        times = size // first
        if times & (times - 1) or times > 1 << _MOST_LEVELS:
            return element
    return None if first else value


def switches(subject: Subject) -> Iterator[Finding]:
    """topology/tree: its switches and the nodes under them."""
    view = _active(subject, "tree", "SwitchName")
    if view is None:
        return
    slurm = subject.references if subject.whole else None
    records = view.of("SwitchName")
    if not records:
        message = "no SwitchName line: jobs cannot be placed by it"
        yield warning(Origin(view.name, 0, 0), "topology-empty", message)
        return
    tree = _Tree(records, subject.speller)
    yield from tree.findings(slurm)
    if not tree.sound:
        return
    leaves: dict[str, str] = {}
    for record in records:
        if not record.get("Nodes"):
            continue
        members, findings = _members(record, record.get("Nodes"), slurm, subject.speller)
        yield from findings
        tree.nodes[record.name] = set(members)
        shared = [name for name in members if name in leaves]
        if shared:
            message = f"{fold(shared)}: under switch {leaves[shared[0]]} too; a node has one leaf switch"
            yield warning(record.origin, "node-under-two-switches", message)
        leaves.update((name, record.name) for name in members if name not in leaves)
    if slurm is None:
        return
    outside = [name for name in slurm.nodes if name not in leaves]
    if outside:
        message = f"{fold(outside)}: under no switch; jobs never mix them with the others"
        yield warning(Origin(view.name, 0, 0), "nodes-without-switch", message)
    if not any(tree.below(name) >= set(slurm.nodes) for name in tree.roots()):
        message = (
            "no switch reaches all nodes: jobs cannot span the parts; add one above, unless that is meant"
        )
        yield warning(Origin(view.name, 0, 0), "no-root-switch", message)


class _Tree:
    """The switches of a topology.conf by name."""

    def __init__(self, records: list[Record], speller: Speller) -> None:
        self.records = records
        self.speller = speller
        self.by_name: dict[str, Record] = {}
        self.children: dict[str, list[str]] = {}
        self.nodes: dict[str, set[str]] = {}
        self.sound = True
        for record in records:
            self.by_name.setdefault(record.name, record)

    def findings(self, slurm: View | None) -> Iterator[Finding]:
        """What is wrong with the switches as such; sets `sound`."""
        seen: dict[str, Origin] = {}
        for record in self.records:
            for finding in self._one(record, seen):
                self.sound = False
                yield finding
            seen.setdefault(record.name, record.origin)
        circle = self._circle() if self.sound else None
        if circle is not None:
            self.sound = False
            message = f"switch {circle.name} is below itself: the switches must form a tree"
            yield error(circle.origin, "switch-circle", message)

    def _one(self, record: Record, seen: dict[str, Origin]) -> Iterator[Finding]:
        if record.name in seen:
            message = f"the switch {record.name} stands in {seen[record.name]} already: keep one"
            yield error(record.origin, "duplicate-switch", message)
        has_nodes, below = bool(record.get("Nodes")), record.get("Switches")
        if has_nodes == bool(below):
            what = "both nodes and switches" if has_nodes else "neither nodes nor switches"
            message = f"switch {record.name} has {what}: give it Nodes= or Switches="
            yield error(record.origin, "switch-children", message)
        if not below:
            return
        try:
            names = expand(below)
        except HostlistError as problem:
            yield error(record.origin, "bad-hostlist", f"Switches={below} is no list: {reason(problem)}")
            return
        self.children[record.name] = names
        unknown = [name for name in names if name not in self.by_name or name == record.name]
        if unknown:
            hint = self.speller.did_you_mean(unknown[0], self.by_name)
            message = f"switch {record.name}: there is no other switch {fold(unknown)}{hint}"
            yield error(record.origin, "unknown-switch", message)

    def _circle(self) -> Record | None:
        """Return a switch that is part of a circle, or above one: what is left when bare ones are taken away."""
        above: dict[str, list[str]] = {}
        left = {}
        for name in self.by_name:
            below = {child for child in self.children.get(name, ()) if child in self.by_name}
            left[name] = len(below)
            for child in below:
                above.setdefault(child, []).append(name)
        bare = [name for name, count in left.items() if not count]
        while bare:
            gone = bare.pop()
            del left[gone]
            for name in above.get(gone, ()):
                left[name] -= 1
                if not left[name]:
                    bare.append(name)
        return next((record for record in self.records if record.name in left), None)

    def roots(self) -> list[str]:
        """The switches that are below no other: each reaches what those below it do."""
        children = {child for below in self.children.values() for child in below}
        return [name for name in self.by_name if name not in children]

    def below(self, name: str) -> set[str]:
        """All nodes under a switch."""
        found: set[str] = set()
        seen = {name}
        waiting = [name]
        while waiting:
            switch = waiting.pop()
            found |= self.nodes.get(switch, set())
            fresh = [child for child in self.children.get(switch, ()) if child not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        return found


RULES: tuple[Rule, ...] = (files, blocks, switches)
