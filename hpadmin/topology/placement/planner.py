"""Where would this job run? Slurm's own decision on a snapshot of the cluster.

>>> from hpadmin.topology.graph import Block, BlockTopology, NamedTopology, TopologySet
>>> blocks = (Block("b1", ("n1", "n2")), Block("b2", ("n3", "n4")))
>>> topologies = TopologySet((NamedTopology("default", BlockTopology(blocks, (2,)), True),))
>>> from hpadmin.topology.placement.state import NodeView
>>> from hpadmin.topology.release import Release
>>> nodes = tuple(NodeView(name) for name in ("n1", "n2", "n3", "n4"))
>>> Planner(Snapshot(nodes, topologies, Release(24, 11))).place(Request(2)).nodes
('n3', 'n4')
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from hpadmin.topology.graph import BlockTopology, NamedTopology, Topology, TreeTopology
from hpadmin.topology.placement import block, flat, tree
from hpadmin.topology.placement.admission import NODE_CONFIG, before_topology, completed, partition_of
from hpadmin.topology.placement.bits import first, members, outside
from hpadmin.topology.placement.block_layout import BlockLayout
from hpadmin.topology.placement.demand import Answer, Code, Demand, Pool
from hpadmin.topology.placement.layouts import Layouts
from hpadmin.topology.placement.masks import NodeMasks, sched_weight
from hpadmin.topology.placement.retry import choose_nodes
from hpadmin.topology.placement.room import Room
from hpadmin.topology.placement.state import Placement, Request, Snapshot
from hpadmin.topology.placement.tree import TreeLayout
from hpadmin.topology.placement.usable import Usable


class Planner:
    """Answers placement questions on one snapshot; what does not depend on the question is kept."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.masks = NodeMasks(snapshot)
        self._layouts = Layouts(self.masks.of)
        self._usable = Usable(snapshot, self.masks, self._layouts)

    # What is asked -----------------------------------------------------------------------------------------

    def place(self, request: Request) -> Placement:
        """Tell what Slurm would do with `request` now. Raises InvalidInput for names that do not exist."""
        partition = partition_of(self.snapshot, request.partition)
        request = completed(self._usable, request, partition)
        named = self.snapshot.topologies.of_partition(partition.name if partition else None)
        kind = _kind(named.topology)
        eligible = self._usable.eligible(request, partition)
        refused = before_topology(self._usable, request, partition, eligible)
        if refused is not None:
            return replace(refused, topology=kind)
        usable = eligible & self.masks.up
        free = self._usable.free(request, usable, partition)
        now = self._decide(request, named.name, named.topology, free, True)
        if now.ok and now.met_switches:
            return self._start(named, now)
        ever = self._decide(request, named.name, named.topology, usable, False)
        # Slurm asks of the nodes that are up only where it counts enough of them, else of all (``_pick_best_nodes``).
        everything = ever
        open_nodes, busy = self._usable.before_select(request, partition)
        if not ever.ok or (open_nodes | self.mask(request.nodelist)).bit_count() < request.nodes:
            everything = self._decide(request, named.name, named.topology, eligible, False)
        if everything.ok and ever.ok:
            why = self._usable.explained(now, request, partition, free, now=True)
            return Placement("pending", slurm_says=self._pending_reason(request, now), why=why, topology=kind)
        if not everything.ok:
            why = self._usable.explained(everything, request, partition, eligible, now=False)
            return Placement("rejected", slurm_says=_refusal(everything), why=why, topology=kind)
        down = outside(eligible, usable).bit_count()
        return Placement(
            "pending",
            slurm_says=self._pending_reason(request, now) if busy else "ReqNodeNotAvail",
            why=f"{ever.why}; {down} nodes that it could use are down or drained",
            topology=kind,
        )

    def start(self, request: Request) -> Placement | None:
        """The placement of a request that starts now, None for every other: a third of the work of `place`.

        Raises InvalidInput for names that do not exist.
        """
        partition = partition_of(self.snapshot, request.partition)
        request = completed(self._usable, request, partition)
        eligible = self._usable.eligible(request, partition)
        if before_topology(self._usable, request, partition, eligible) is not None:
            return None
        named = self.snapshot.topologies.of_partition(partition.name if partition else None)
        free = self._usable.free(request, eligible & self.masks.up, partition)
        now = self._decide(request, named.name, named.topology, free, True)
        return self._start(named, now) if now.ok and now.met_switches else None

    def _start(self, named: NamedTopology, now: Answer) -> Placement:
        names = tuple(self.snapshot.nodes[node].name for node in members(now.nodes))
        blocks = self.units(named.name, named.topology, now.nodes)
        return Placement("starts", names, blocks, topology=_kind(named.topology))

    def sizes(self, request: Request) -> range:
        """The numbers of nodes that a job like `request` could have now, by its partition's limits and the number of
        free nodes."""
        partition = partition_of(self.snapshot, request.partition)
        if partition is None:
            low, high = 1, 0 if self.snapshot.partitions else len(self.snapshot.nodes)
        else:
            low = max(1, partition.min_nodes)
            high = len(partition.nodes) if partition.max_nodes is None else partition.max_nodes
            if partition.state != "UP":
                high = 0
        return range(low, min(high, self.free_mask(request).bit_count()) + 1)

    def screen(self, request: Request) -> Callable[[Request], bool]:
        """A quick test of requests that differ from `request` in nodes and segments only: False for such as can surely
        not start now."""
        partition = partition_of(self.snapshot, request.partition)
        named = self.snapshot.topologies.of_partition(partition.name if partition else None)
        layout = self._layouts.of(named.name, named.topology)
        free = self.free_mask(request)
        release = self.snapshot.release
        if isinstance(layout, TreeLayout) and request.switches:
            leaves = sorted(((layout.masks[leaf] & free).bit_count() for leaf in layout.leaves), reverse=True)
            most = sum(leaves[: request.switches])
            return lambda other: other.nodes <= most
        if not isinstance(layout, BlockLayout) or request.nodelist or not layout.all_nodes & free:
            return lambda other: True
        room = Room(layout, free, release)
        anywhere = release.places_one_node_alone
        return lambda other: (
            (anywhere and other.nodes == 1)
            or room.holds(other.nodes, other.segment, spread=other.spread_segments)
        )

    def units(self, name: str, topology: Topology, nodes: int) -> tuple[str, ...]:
        """Names of the base blocks or leaf switches of a topology that hold some of `nodes`."""
        layout = self._layouts.of(name, topology)
        if isinstance(topology, BlockTopology) and isinstance(layout, BlockLayout):
            counts = layout.count(nodes)
            return tuple(unit.name for unit, count in zip(topology.blocks, counts, strict=True) if count)
        if isinstance(topology, TreeTopology) and isinstance(layout, TreeLayout):
            return tuple(
                switch.name
                for switch, mask in zip(topology.switches, layout.masks, strict=True)
                if switch.nodes and mask & nodes
            )
        return ()

    def mask(self, names: Iterable[str]) -> int:
        """The set of these nodes; names that are no nodes count for nothing, as in Slurm's topology files."""
        return self.masks.of(names)

    def free_mask(self, request: Request) -> int:
        """The nodes that `request` could use right now, before the topology has a say."""
        partition = partition_of(self.snapshot, request.partition)
        request = completed(self._usable, request, partition)
        return self._usable.free(
            request, self._usable.eligible(request, partition) & self.masks.up, partition
        )

    # The decision ------------------------------------------------------------------------------------------

    def _decide(self, request: Request, name: str, topology: Topology, available: int, now: bool) -> Answer:
        """One test of the select plugin: with what is free (`now`), or as if nothing ran."""
        demand = Demand(
            request.nodes,
            request.segment,
            self.mask(request.nodelist),
            request.whole,
            request.switches,
            request.spread_segments,
            request.consolidate_segments,
        )
        release = self.snapshot.release
        if release.places_one_node_alone and request.nodes == 1:
            # Nodes are sorted before their GPUs are looked at (``_get_one_res``).
            return _one_node(
                demand, Pool(available, self.masks.weights, self._cpus(now), len(self.snapshot.nodes))
            )
        pool = Pool(available, self._weights(request, available), self._cpus(now), len(self.snapshot.nodes))
        layout = self._layouts.of(name, topology)
        if isinstance(layout, BlockLayout) and layout.all_nodes & available:
            return choose_nodes(
                lambda part: block.evaluate(layout, demand, part, release),
                demand,
                pool,
                self._resources(request, now),
                release,
            )
        if isinstance(layout, TreeLayout):
            return choose_nodes(
                lambda part: tree.evaluate(layout, demand, part, release),
                demand,
                pool,
                self._resources(request, now),
                release,
            )
        return choose_nodes(
            lambda part: flat.evaluate(demand, part), demand, pool, self._resources(request, now), release
        )

    def _weights(self, request: Request, available: int) -> Sequence[tuple[int, int]]:
        if not (request.whole and _wants_gpus(request)):
            return self.masks.weights
        # Among nodes of one weight those with more GPUs come first; a job that shares its nodes is content with
        # what it asks for (near_gpu_cnt in job_test.c, capped in gres_select_filter.c).
        found: dict[int, int] = {}
        for position in members(available):
            node = self.snapshot.nodes[position]
            key = (sched_weight(node) << 8) + 255 - min(node.gres.get("gpu", 0), 255)
            found[key] = found.get(key, 0) | 1 << position
        return sorted(found.items())

    def _cpus(self, now: bool) -> Sequence[int]:
        return self.masks.free_cpus if now else self.masks.all_cpus

    def _resources(self, request: Request, now: bool) -> Sequence[int]:
        cpus = self._cpus(now)
        if not _wants_gpus(request):
            return cpus
        gpus = [
            node.gres.get("gpu", 0) - (node.gres_used.get("gpu", 0) if now else 0)
            for node in self.snapshot.nodes
        ]
        if self.snapshot.release.segments_span_blocks:
            return [one * max(1, other) for one, other in zip(cpus, gpus, strict=True)]
        return [one + other for one, other in zip(cpus, gpus, strict=True)]

    def _pending_reason(self, request: Request, answer: Answer) -> str:
        """The reason at the end of ``_pick_best_nodes``: of a job with a node list the topology's own is told only
        where it wants whole nodes and all of those named are idle."""
        if not self.snapshot.release.tells_what_is_missing or answer.code in (Code.SUCCESS, Code.ERROR):
            return "Resources"
        named = self.mask(request.nodelist)
        if named and (not request.whole or named & self.masks.occupied):
            return "Resources"
        return answer.code.value


def _one_node(demand: Demand, pool: Pool) -> Answer:
    candidates = pool.available & demand.required if demand.required else pool.available
    for _, group in pool.weights:
        if group & candidates:
            return Answer(Code.SUCCESS, first(group & candidates, 1))
    return Answer(Code.ERROR, why="no node is free")


def _kind(topology: Topology) -> str:
    if isinstance(topology, BlockTopology):
        return "block"
    return "tree" if isinstance(topology, TreeTopology) else "flat"


def _refusal(answer: Answer) -> str:
    return answer.code.value if answer.code is Code.TOPOLOGY else NODE_CONFIG


def _wants_gpus(request: Request) -> bool:
    return any(kind.split(":")[0] == "gpu" for kind in request.gres)
