"""Which topology a cluster gets, and why: by instance type and Slurm release.

UltraServers are blocks, instance types whose network place EC2 tells are a tree, everything else is flat.
Before 25.05 Slurm knows one topology for the whole cluster; later every partition can have its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import Cluster, Node
from hpadmin.topology.blocks import plan_blocks
from hpadmin.topology.check import check
from hpadmin.topology.graph import (
    BlockTopology,
    FlatTopology,
    NamedTopology,
    NetworkGraph,
    Topology,
    TopologySet,
    TreeTopology,
)
from hpadmin.topology.imex import ImexDomain, imex_domains
from hpadmin.topology.release import Release
from hpadmin.topology.sources import from_cluster
from hpadmin.topology.tree import plan_tree
from hpadmin.topology.write import conf_text, yaml_text

TREE_FAMILIES = frozenset(
    {"g6e", "g7e", "p4d", "p4de", "p5", "p5e", "p5en", "trn1", "trn1n", "trn2"},
)
"""Instance families with a network place that HyperPod tells (HyperPod guide, topology-aware scheduling)."""

ULTRASERVER_FAMILIES = frozenset({"p6e-gb200"})
"""Instance families that come as UltraServers."""

MIXED_WAYS_OUT = (
    "give the UltraServers a partition of their own and leave topology/block out, as written here, or "
    "make a separate cluster of UltraServers only, in the same VPC, and join both with Slurm's "
    "multi-cluster setup"
)
"""The guide's two alternatives to topology/block on a cluster of several instance types."""

BLOCK, TREE, FLAT = "ultraservers", "network", "flat"
"""Names of the topologies in topology.yaml."""


@dataclass(frozen=True, slots=True)
class TopologyChoice:
    """What to configure for the network, and why."""

    plugin: str
    """``topology/block``, ``topology/tree``, and without one ``topology/flat`` (``topology/default`` before
    25.05)."""
    files: Mapping[str, str]
    """``topology.conf`` or ``topology.yaml`` with its text; empty when flat. A topology.yaml hides
    topology.conf and TopologyPlugin, so whichever of both names is not here must not be on disk."""
    settings: Mapping[str, str]
    """slurm.conf parameters that belong to it, ``TopologyPlugin`` among them."""
    partition_topology: Mapping[str, str]
    """Partition name to its ``Topology=``; partitions not listed have none."""
    placeholders: tuple[str, ...]
    """Node names that slurm.conf must define with ``State=FUTURE``: they pad short blocks and never run
    anything."""
    imex_domains: tuple[ImexDomain, ...]
    """The NVLink domains whose nodes share an IMEX node list."""
    topologies: TopologySet
    """What the files say, for showing and planning."""
    reasons: tuple[str, ...]
    """Why this was chosen, in sentences."""
    warnings: tuple[str, ...]
    """What the administrator has to know or to decide."""


def choose(
    cluster: Cluster,
    release: str,
    *,
    block_sizes: Sequence[int] | None = None,
    spares: int = 0,
) -> TopologyChoice:
    """Choose and render the topology of `cluster` for the Slurm `release` (``24.11``, ``25.11.2``).

    `block_sizes` replaces the inferred BlockSizes; `spares` nodes of a full UltraServer are kept out of the
    planning block (17 instead of 18 with one spare).

    Raises InvalidInput when network facts contradict each other, a name cannot be written, or the sizes are
    none."""
    slurm = Release.parse(release)
    graph = from_cluster(cluster)
    _check_unique(graph)
    kinds = {node.name: kind_of(node) for node in cluster.computes}
    imex = imex_domains(cluster)
    builder = _Builder(graph, slurm, block_sizes, spares, ultraserver_nodes(cluster))
    if slurm.reads_yaml:
        return builder.several(cluster, kinds, imex)
    return builder.single(kinds, imex)


def kind_of(node: Node) -> str:
    """The topology that fits `node`: BLOCK, TREE or FLAT."""
    family = instance_family(node.instance.instance_type)
    if node.instance.ultraserver is not None or family in ULTRASERVER_FAMILIES:
        return BLOCK
    return TREE if family in TREE_FAMILIES else FLAT


def ultraserver_nodes(cluster: Cluster) -> int | None:
    """Nodes of a whole UltraServer of `cluster`, however many are missing of it just now; None where nothing tells.

    It is what the instance type says, unless the wanted count of a group is shared out evenly over the group's
    UltraServers: then each has that many (17 where the provider keeps one back, 4 in a cluster made small for tests).
    Nodes that come and go change neither.
    """
    wanted = {group.name: group.count for group in cluster.groups}
    present = Counter(node.instance.ultraserver for node in cluster.computes)
    servers: dict[str, set[str]] = {}
    most: dict[str, int] = {}
    for node in cluster.computes:
        group, server = node.instance.group, node.instance.ultraserver
        if server is not None and node.hardware.ultraserver_nodes and group in wanted:
            servers.setdefault(group, set()).add(server)
            most[group] = node.hardware.ultraserver_nodes
    found = []
    for group, names in servers.items():
        each, rest = divmod(wanted[group], len(names))
        even = not rest and max(present[name] for name in names) <= each
        found.append(min(each, most[group]) if even else most[group])
    return max(found, default=None)


def instance_family(instance_type: str) -> str:
    """``p5`` of ``ml.p5.48xlarge``."""
    return re.sub(r"^ml\.", "", instance_type).split(".")[0]


class _Builder:
    """Collects reasons and warnings while the topologies are planned."""

    def __init__(
        self,
        graph: NetworkGraph,
        release: Release,
        sizes: Sequence[int] | None,
        spares: int,
        full: int | None,
    ) -> None:
        self.graph = graph
        self.release = release
        self.sizes = sizes
        self.spares = spares
        self.full = full
        self.reasons: list[str] = []
        self.warnings: list[str] = []
        self.placeholders: tuple[str, ...] = ()

    def single(self, kinds: Mapping[str, str], imex: tuple[ImexDomain, ...]) -> TopologyChoice:
        """The one topology of a release before 25.05."""
        present = set(kinds.values())
        topology: Topology = FlatTopology(self.graph.nodes)
        if present == {BLOCK}:
            self.reasons.append("all compute nodes are in UltraServers: topology/block, a block each")
            topology = self.blocks(self.graph)
        elif BLOCK in present:
            others = ", ".join(sorted(name for name, kind in kinds.items() if kind != BLOCK)[:5])
            self.reasons.append(
                f"Slurm {self.release} has one topology for the whole cluster, and topology/block schedules "
                "only nodes in blocks: a cluster of UltraServers and other instance types stays flat"
            )
            self.warnings.append(
                f"topology/block is refused: nodes outside of UltraServers ({others}) would get no jobs. "
                f"Two ways out: {MIXED_WAYS_OUT}; Slurm 25.05 and later serve both at once"
            )
        elif present == {TREE}:
            topology = self.tree_or_flat(self.graph)
        else:
            self._explain_flat(kinds)
        return self._choice(TopologySet((NamedTopology("default", topology, True),)), imex)

    def several(
        self, cluster: Cluster, kinds: Mapping[str, str], imex: tuple[ImexDomain, ...]
    ) -> TopologyChoice:
        """A topology a partition, from 25.05 on."""
        present = set(kinds.values())
        of_group: dict[str, set[str]] = {}
        for node in cluster.computes:
            of_group.setdefault(node.instance.group, set()).add(kinds[node.name])
        wanted: dict[str, str] = {}
        for partition, groups in cluster.partitions.items():
            here = set().union(*(of_group.get(group, set()) for group in groups))
            if here == {BLOCK}:
                wanted[partition] = BLOCK
            elif here and FLAT not in here:
                wanted[partition] = TREE
        default = FLAT if FLAT in present or not present else (BLOCK if present == {BLOCK} else TREE)

        topologies: dict[str, Topology] = {FLAT: FlatTopology(self.graph.nodes)}
        if BLOCK in {default, *wanted.values()}:
            topologies[BLOCK] = self.blocks(_part(self.graph, kinds, {BLOCK}))
            self.reasons.append(f"UltraServers are blocks (topology {BLOCK})")
        if TREE in {default, *wanted.values()}:
            tree = self.tree_or_flat(_part(self.graph, kinds, {BLOCK, TREE}))
            if isinstance(tree, TreeTopology):
                topologies[TREE] = tree
            else:
                default = FLAT if default == TREE else default
                wanted = {partition: name for partition, name in wanted.items() if name != TREE}
        if default == FLAT:
            self._explain_flat(kinds)
        used = {default, *wanted.values()}
        named = tuple(
            NamedTopology(name, topology, name == default)
            for name, topology in topologies.items()
            if name in used
        )
        explicit = {partition: name for partition, name in wanted.items() if name != default}
        return self._choice(TopologySet(named, explicit), imex)

    def blocks(self, graph: NetworkGraph) -> BlockTopology:
        """Plan blocks, keeping what was noted."""
        plan = plan_blocks(graph, self.release, sizes=self.sizes, spares=self.spares, full=self.full)
        self.placeholders = plan.placeholders
        self.reasons.extend(plan.notes)
        self._check(plan.topology, (*graph.nodes, *plan.placeholders))
        return plan.topology

    def tree_or_flat(self, graph: NetworkGraph) -> Topology:
        """Plan the tree, unless the inventory knows no node's place."""
        if not any(location.layers or location.domain for location in graph.locations):
            self.reasons.append("the inventory has no network-node-layer labels: flat")
            self.warnings.append(
                "these instance types have a place in the network, but the inventory names none "
                "(InstanceLabel network-node-layer-1 to -3): jobs are placed without regard to it"
            )
            return FlatTopology(graph.nodes)
        plan = plan_tree(graph)
        self.reasons.append("the instance types have a place in the network: topology/tree of network nodes")
        self.warnings.extend(plan.notes)
        self._check(plan.topology, graph.nodes)
        return plan.topology

    def _check(self, topology: Topology, nodes: Collection[str]) -> None:
        """Refuse what Slurm would die of, or a node without a place, before it is written."""
        findings = check(topology, self.release, nodes)
        if findings.errors or findings.warnings:
            raise InvalidInput(
                "the facts of the inventory make a topology that Slurm would not take",
                [*findings.errors, *findings.warnings],
            )

    def _explain_flat(self, kinds: Mapping[str, str]) -> None:
        without = [name for name, kind in kinds.items() if kind == FLAT]
        if without:
            self.reasons.append(
                f"{len(without)} nodes are of instance types without a known place in the network "
                f"({', '.join(without[:5])}): flat"
            )
        elif not kinds:
            self.reasons.append("there are no compute nodes: flat")

    def _choice(self, topologies: TopologySet, imex: tuple[ImexDomain, ...]) -> TopologyChoice:
        default = topologies.default.topology
        plugin = {BlockTopology: "topology/block", TreeTopology: "topology/tree"}.get(
            type(default), self.release.flat_plugin
        )
        files: dict[str, str] = {}
        if any(not isinstance(named.topology, FlatTopology) for named in topologies):
            if self.release.reads_yaml:
                files["topology.yaml"] = yaml_text(topologies.topologies)
            else:
                files["topology.conf"] = conf_text(default)
        settings = {"TopologyPlugin": plugin}
        if imex:
            settings["SwitchType"] = "switch/nvidia_imex"
            self.reasons.append("UltraServers share memory over NVLink: SwitchType=switch/nvidia_imex")
        return TopologyChoice(
            plugin=plugin,
            files=files,
            settings=settings,
            partition_topology=dict(topologies.partition_topology),
            placeholders=self.placeholders,
            imex_domains=imex,
            topologies=topologies,
            reasons=tuple(self.reasons),
            warnings=tuple(self.warnings),
        )


def _part(graph: NetworkGraph, kinds: Mapping[str, str], wanted: Iterable[str]) -> NetworkGraph:
    keep = set(wanted)
    return NetworkGraph(tuple(location for location in graph.locations if kinds[location.node] in keep))


def _check_unique(graph: NetworkGraph) -> None:
    seen: set[str] = set()
    twice = []
    for name in graph.nodes:
        if name in seen:
            twice.append(name)
        seen.add(name)
    if twice:
        raise InvalidInput(
            "nodes appear more than once in the inventory",
            [Problem(name, "is the name of several instances") for name in twice],
        )
