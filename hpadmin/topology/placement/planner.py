"""Where would this job run? Slurm's own decision on a snapshot of the cluster.

>>> from hpadmin.topology.graph import Block, BlockTopology, NamedTopology, TopologySet
>>> blocks = (Block("b1", ("n1", "n2")), Block("b2", ("n3", "n4")))
>>> topologies = TopologySet((NamedTopology("default", BlockTopology(blocks, (2,)), True),))
>>> from hpadmin.topology.placement.state import NodeView
>>> nodes = tuple(NodeView(name) for name in ("n1", "n2", "n3", "n4"))
>>> Planner(Snapshot(nodes, topologies, Release(24, 11))).place(Request(2)).nodes
('n3', 'n4')
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from hpadmin.errors import InvalidInput, Problem
from hpadmin.topology.graph import BlockTopology, NamedTopology, Topology, TreeTopology
from hpadmin.topology.placement import block, flat, tree
from hpadmin.topology.placement.bits import first, members, outside
from hpadmin.topology.placement.block_layout import BlockLayout
from hpadmin.topology.placement.demand import Answer, Code, Demand, Pool
from hpadmin.topology.placement.features import matches, names_in
from hpadmin.topology.placement.layouts import block_layout, tree_layout
from hpadmin.topology.placement.masks import NodeMasks, sched_weight
from hpadmin.topology.placement.retry import choose_nodes
from hpadmin.topology.placement.room import Room
from hpadmin.topology.placement.state import (
    JobView,
    PartitionView,
    Placement,
    Request,
    Snapshot,
)
from hpadmin.topology.placement.tree import TreeLayout
from hpadmin.topology.release import Release

ONE_NODE_SHORTCUT = Release(26, 5)
"""From here on a job of one node takes the first node that serves, past any topology (``_get_one_res``)."""

NODE_CONFIG = "Requested node configuration is not available"
"""ESLURM_REQUESTED_NODE_CONFIG_UNAVAILABLE: the refusal of a job that could never run."""


class Planner:
    """Answers placement questions on one snapshot; what does not depend on the question is kept."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.masks = NodeMasks(snapshot)
        self._layouts: dict[str, BlockLayout | TreeLayout | None] = {}

    # What is asked -----------------------------------------------------------------------------------------

    def place(self, request: Request) -> Placement:
        """Tell what Slurm would do with `request` now. Raises InvalidInput for names that do not exist."""
        partition = self._partition(request.partition)
        request = self._completed(request, partition)
        named = self.snapshot.topologies.of_partition(partition.name if partition else None)
        kind = _kind(named.topology)
        eligible = self._eligible(request, partition)
        refused = self._before_topology(request, partition, eligible)
        if refused is not None:
            return replace(refused, topology=kind)
        usable = eligible & self.masks.up
        free = self._free(request, usable, partition)
        now = self._decide(request, named.name, named.topology, free, True)
        if now.ok and now.met_switches:
            return self._start(named, now)
        ever = self._decide(request, named.name, named.topology, usable, False)
        # Slurm asks of the nodes that are up only where enough of them are free, else of all (``_pick_best_nodes``).
        everything = ever
        if not ever.ok or free.bit_count() < request.nodes:
            everything = self._decide(request, named.name, named.topology, eligible, False)
        if everything.ok and ever.ok:
            why = self._explained(now, request, partition, free, now=True)
            return Placement("pending", slurm_says=self._pending_reason(now), why=why, topology=kind)
        if not everything.ok:
            why = self._explained(everything, request, partition, eligible, now=False)
            return Placement("rejected", slurm_says=_refusal(everything), why=why, topology=kind)
        busy = usable & (self.masks.occupied if request.whole else self.masks.taken_whole)
        down = outside(eligible, usable).bit_count()
        return Placement(
            "pending",
            slurm_says=self._pending_reason(now) if busy else "ReqNodeNotAvail",
            why=f"{ever.why}; {down} nodes that it could use are down or drained",
            topology=kind,
        )

    def start(self, request: Request) -> Placement | None:
        """The placement of a request that starts now, None for every other: a third of the work of `place`.

        Raises InvalidInput for names that do not exist.
        """
        partition = self._partition(request.partition)
        request = self._completed(request, partition)
        eligible = self._eligible(request, partition)
        if self._before_topology(request, partition, eligible) is not None:
            return None
        named = self.snapshot.topologies.of_partition(partition.name if partition else None)
        free = self._free(request, eligible & self.masks.up, partition)
        now = self._decide(request, named.name, named.topology, free, True)
        return self._start(named, now) if now.ok and now.met_switches else None

    def _start(self, named: NamedTopology, now: Answer) -> Placement:
        names = tuple(self.snapshot.nodes[node].name for node in members(now.nodes))
        blocks = self.units(named.name, named.topology, now.nodes)
        return Placement("starts", names, blocks, topology=_kind(named.topology))

    def sizes(self, request: Request) -> range:
        """The numbers of nodes that a job like `request` could have now, by its partition's limits and the number of
        free nodes."""
        partition = self._partition(request.partition)
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
        partition = self._partition(request.partition)
        named = self.snapshot.topologies.of_partition(partition.name if partition else None)
        layout = self._layout(named.name, named.topology)
        free = self.free_mask(request)
        release = self.snapshot.release
        if isinstance(layout, TreeLayout) and request.switches:
            leaves = sorted(((layout.masks[leaf] & free).bit_count() for leaf in layout.leaves), reverse=True)
            most = sum(leaves[: request.switches])
            return lambda other: other.nodes <= most
        if not isinstance(layout, BlockLayout) or request.nodelist or not layout.all_nodes & free:
            return lambda other: True
        room = Room(layout, free, release)
        anywhere = release >= ONE_NODE_SHORTCUT
        return lambda other: (
            (anywhere and other.nodes == 1)
            or room.holds(other.nodes, other.segment, spread=other.spread_segments)
        )

    def _before_topology(
        self, request: Request, partition: PartitionView | None, eligible: int
    ) -> Placement | None:
        """What decides before any topology is asked (``select_nodes``, node_scheduler.c)."""
        release = self.snapshot.release
        segment = request.segment
        if release >= ONE_NODE_SHORTCUT and 0 < segment < request.nodes and request.nodes % segment:
            return Placement(
                "rejected",
                slurm_says=f"--segment={segment} does not fit the job size ({request.nodes}): "
                "node count must be evenly divisible by segment size",
                why=f"{request.nodes} nodes are no multiple of the segment of {segment}",
            )
        if partition is None and self.snapshot.partitions:
            return Placement(
                "rejected",
                slurm_says="No partition specified or system default partition",
                why="no partition is asked for, and none is the default (Default=YES)",
            )
        if partition is not None and partition.state in ("DRAIN", "INACTIVE"):
            return Placement(
                "rejected",
                slurm_says="Required partition not available (inactive or drain)",
                why=f"partition {partition.name} is in state {partition.state} and takes no jobs",
            )
        if set(request.nodelist) & set(request.exclude):
            return Placement(
                "rejected",
                slurm_says="Invalid node name specified",
                why="a node is both in the node list and excluded",
            )
        if request.constraint and names_in(request.constraint) - self.masks.features:
            unknown = ", ".join(sorted(names_in(request.constraint) - self.masks.features))
            return Placement(
                "rejected", slurm_says="Invalid feature specification", why=f"no node has feature {unknown}"
            )
        limit = _beyond(request, partition) if partition is not None else ""
        if partition is not None and self.snapshot.enforce_part_limits:
            if set(request.nodelist) - partition.nodes:
                return Placement(
                    "rejected",
                    slurm_says="Requested nodes not in this partition",
                    why=f"a node of the node list is not in partition {partition.name}",
                )
            if limit:
                return Placement("rejected", slurm_says="Node count specification invalid", why=limit)
        if partition is not None and partition.state == "DOWN":
            return Placement(
                "pending", slurm_says="PartitionDown", why=f"partition {partition.name} is in state DOWN"
            )
        if limit and release.segments_span_blocks:
            return Placement("pending", slurm_says="PartitionConfig", why=limit)
        required = self.mask(request.nodelist)
        # GRES are looked at last, by the select plugin.
        configured = self._eligible(replace(request, gres={}), partition) if request.gres else eligible
        if outside(required, configured):
            return Placement(
                "rejected",
                slurm_says=NODE_CONFIG,
                why="a node of the node list is not in the partition, or lacks the features",
            )
        if limit and configured and partition is not None and not _within(request, partition):
            # Before 25.11 nodes are looked for first, and more than the partition has are none.
            return Placement("pending", slurm_says="PartitionConfig", why=limit)
        if outside(required, self.masks.up):
            return Placement(
                "pending", slurm_says="ReqNodeNotAvail", why="a node of the node list is down or drained"
            )
        if outside(required, eligible):
            return Placement(
                "rejected", slurm_says=NODE_CONFIG, why="a node of the node list does not have the GRES"
            )
        return None

    def units(self, name: str, topology: Topology, nodes: int) -> tuple[str, ...]:
        """Names of the base blocks or leaf switches of a topology that hold some of `nodes`."""
        layout = self._layout(name, topology)
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
        partition = self._partition(request.partition)
        request = self._completed(request, partition)
        return self._free(request, self._eligible(request, partition) & self.masks.up, partition)

    # Which nodes -------------------------------------------------------------------------------------------

    def _partition(self, name: str | None) -> PartitionView | None:
        if name is None:
            return next((one for one in self.snapshot.partitions if one.default), None)
        for one in self.snapshot.partitions:
            if one.name == name:
                return one
        if "," in name:
            raise InvalidInput(
                f"several partitions at once ({name}) cannot be planned with",
                [Problem("--partition", "expected one partition; ask for each of them by itself")],
            )
        known = ", ".join(one.name for one in self.snapshot.partitions) or "none"
        raise InvalidInput(f"there is no partition {name!r}", [Problem("--partition", f"known are: {known}")])

    def _completed(self, request: Request, partition: PartitionView | None) -> Request:
        """The request with what the partition adds; a node list longer than the job is cut, as sbatch
        does."""
        unknown = [
            Problem(option, f"{name} is not a node of this cluster")
            for option, names in (("--nodelist", request.nodelist), ("--exclude", request.exclude))
            for name in names
            if name not in self.masks.index
        ]
        if unknown:
            raise InvalidInput("the request names nodes that do not exist", unknown)
        release = self.snapshot.release
        missing = [
            Problem(option, f"is no option of Slurm {release}: it is there from 25.11 on")
            for option, given in (
                ("--spread-segments", request.spread_segments),
                ("--consolidate-segments", request.consolidate_segments),
            )
            if given and not release.segments_span_blocks
        ]
        if missing:
            raise InvalidInput("the request uses options that this release does not have", missing)
        if partition is not None:
            request = replace(
                request,
                whole=request.whole or partition.whole,
                exclusive_topo=request.exclusive_topo or partition.exclusive_topo,
            )
        if len(set(request.nodelist)) > request.nodes:
            # A longer list than the job has nodes means: only these (job_mgr.c, _job_create).
            others = set(self.masks.index) - set(request.nodelist)
            request = replace(request, nodelist=(), exclude=tuple({*request.exclude, *others}))
        return request

    def _eligible(self, request: Request, partition: PartitionView | None) -> int:
        """Nodes that could serve the request if they were up and empty."""
        mask = self.masks.everything if partition is None else self.masks.partitions[partition.name]
        if request.constraint:
            mask &= self._with_features(request.constraint)
        if request.gres:
            mask &= self._with_gres(request.gres, mask, used=False)
        return outside(mask, self.mask(request.exclude))

    def _free(self, request: Request, usable: int, partition: PartitionView | None) -> int:
        mask = outside(usable, self.masks.taken_whole)
        if request.whole:
            mask = outside(mask, self.masks.occupied)
        else:
            mask = outside(mask, self.masks.no_cpus)
            if request.gres:
                mask &= self._with_gres(request.gres, mask, used=True)
        return outside(mask, self._blocked(request, partition))

    def _with_features(self, constraint: str) -> int:
        allowed = 0
        for kinds, nodes in self.masks.by_features.items():
            if matches(constraint, kinds):
                allowed |= nodes
        return allowed

    def _explained(
        self, answer: Answer, request: Request, partition: PartitionView | None, pool: int, *, now: bool
    ) -> str:
        """Why `pool` does not serve; where it has too few nodes, what takes the others (`now`: at this moment)."""
        if pool.bit_count() >= request.nodes:
            return answer.why
        lost = []
        left = self.masks.everything

        def keep(kept: int, words: str) -> None:
            nonlocal left
            if gone := outside(left, kept).bit_count():
                lost.append(f"{gone} {words}")
            left &= kept

        if partition is not None:
            keep(self.masks.partitions[partition.name], f"not in partition {partition.name}")
        if request.constraint:
            keep(self._with_features(request.constraint), "without the features")
        if request.gres:
            keep(self._with_gres(request.gres, left, used=False), "without the GRES")
        keep(outside(left, self.mask(request.exclude)), "excluded")
        if now:
            keep(self.masks.up, "down or drained")
            taken = self.masks.taken_whole | (self.masks.occupied if request.whole else self.masks.no_cpus)
            keep(outside(left, taken), "in use")
            if request.gres and not request.whole:
                keep(self._with_gres(request.gres, left, used=True), "with their GRES in use")
            keep(outside(left, self._blocked(request, partition)), "kept apart by exclusive use of blocks")
        return answer.why + (f"; not usable are {', '.join(lost)}" if lost else "")

    def _with_gres(self, gres: Mapping[str, int], mask: int, *, used: bool) -> int:
        found = 0
        for position in members(mask):
            node = self.snapshot.nodes[position]
            if all(
                node.gres.get(kind, 0) - (node.gres_used.get(kind, 0) if used else 0) >= count
                for kind, count in gres.items()
            ):
                found |= 1 << position
        return found

    def _blocked(self, request: Request, partition: PartitionView | None) -> int:
        """Nodes of base blocks that exclusive use of blocks keeps the request from
        (``_block_by_topology``)."""
        here = self.snapshot.topologies.of_partition(partition.name if partition else None)
        if not any(isinstance(named.topology, BlockTopology) for named in self.snapshot.topologies):
            return 0
        old = not self.snapshot.release.reads_yaml
        mine = request.exclusive_topo and isinstance(here.topology, BlockTopology)
        blocked = 0
        for job in self.snapshot.jobs:
            if job.exclusive_topo or self._in_exclusive_partition(job):
                theirs = self.snapshot.topologies.of_partition(job.partition or None)
                blocked |= self._whole_units(theirs, self.mask(job.nodes))
            elif mine and not old:
                blocked |= self.mask(job.nodes)
            elif mine:
                blocked |= self._whole_units(here, self.mask(job.nodes))
        return self._whole_units(here, blocked) if mine else blocked

    def _in_exclusive_partition(self, job: JobView) -> bool:
        return any(one.exclusive_topo and one.name == job.partition for one in self.snapshot.partitions)

    def _whole_units(self, named: NamedTopology, nodes: int) -> int:
        layout = self._layout(named.name, named.topology)
        if isinstance(layout, BlockLayout):
            for mask in layout.masks:
                if mask & nodes:
                    nodes |= mask
        return nodes

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
        if release >= ONE_NODE_SHORTCUT and request.nodes == 1:
            # Nodes are sorted before their GPUs are looked at (``_get_one_res``).
            return _one_node(
                demand, Pool(available, self.masks.weights, self._cpus(now), len(self.snapshot.nodes))
            )
        pool = Pool(available, self._weights(request, available), self._cpus(now), len(self.snapshot.nodes))
        layout = self._layout(name, topology)
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

    def _layout(self, name: str, topology: Topology) -> BlockLayout | TreeLayout | None:
        if name not in self._layouts:
            if isinstance(topology, BlockTopology):
                self._layouts[name] = block_layout(topology, self.mask)
            elif isinstance(topology, TreeTopology):
                self._layouts[name] = tree_layout(topology, self.mask)
            else:
                self._layouts[name] = None
        return self._layouts[name]

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

    def _pending_reason(self, answer: Answer) -> str:
        if self.snapshot.release >= ONE_NODE_SHORTCUT and answer.code not in (Code.SUCCESS, Code.ERROR):
            return answer.code.value
        return "Resources"


def _one_node(demand: Demand, pool: Pool) -> Answer:
    candidates = pool.available & demand.required if demand.required else pool.available
    for _, group in pool.weights:
        if group & candidates:
            return Answer(Code.SUCCESS, first(group & candidates, 1))
    return Answer(Code.ERROR, why="no node is free")


def _within(request: Request, partition: PartitionView) -> bool:
    """Whether the job's size is one that the partition's MinNodes and MaxNodes allow."""
    most = request.nodes if partition.max_nodes is None else partition.max_nodes
    return partition.min_nodes <= request.nodes <= most


def _beyond(request: Request, partition: PartitionView) -> str:
    """Which limit of a partition the job's size breaks (``_part_access_check`` and ``_valid_job_part``, job_mgr.c);
    empty for none. How many nodes a partition in state DOWN has is not asked."""
    if not _within(request, partition):
        if request.nodes < partition.min_nodes:
            return f"partition {partition.name} takes no job of fewer than {partition.min_nodes} nodes (MinNodes)"
        return f"partition {partition.name} takes no job of more than {partition.max_nodes} nodes (MaxNodes)"
    if request.nodes > len(partition.nodes) and partition.state != "DOWN":
        return f"partition {partition.name} has {len(partition.nodes)} nodes and never {request.nodes}"
    return ""


def _kind(topology: Topology) -> str:
    if isinstance(topology, BlockTopology):
        return "block"
    return "tree" if isinstance(topology, TreeTopology) else "flat"


def _refusal(answer: Answer) -> str:
    return answer.code.value if answer.code is Code.TOPOLOGY else NODE_CONFIG


def _wants_gpus(request: Request) -> bool:
    return any(kind.split(":")[0] == "gpu" for kind in request.gres)
