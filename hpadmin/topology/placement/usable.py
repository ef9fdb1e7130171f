"""Which nodes of a snapshot a request could use: for ever, when they are up, and right now; what takes the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hpadmin.topology.graph import BlockTopology, NamedTopology
from hpadmin.topology.placement.bits import members, outside
from hpadmin.topology.placement.block_layout import BlockLayout
from hpadmin.topology.placement.demand import Answer
from hpadmin.topology.placement.features import matches
from hpadmin.topology.placement.layouts import Layouts
from hpadmin.topology.placement.masks import NodeMasks
from hpadmin.topology.placement.state import JobView, PartitionView, Request, Snapshot


class Usable:
    """Sets of nodes of one snapshot, by what a job asks for and who holds them."""

    def __init__(self, snapshot: Snapshot, masks: NodeMasks, layouts: Layouts) -> None:
        self.snapshot = snapshot
        self.masks = masks
        self.layouts = layouts

    def eligible(self, request: Request, partition: PartitionView | None) -> int:
        """Nodes that could serve the request if they were up and empty."""
        mask = self.masks.everything if partition is None else self.masks.partitions[partition.name]
        if request.constraint:
            mask &= self._with_features(request.constraint)
        if request.gres:
            mask &= self._with_gres(request.gres, mask, used=False)
        return outside(mask, self.masks.of(request.exclude))

    def free(self, request: Request, usable: int, partition: PartitionView | None) -> int:
        """Those of `usable` that nobody else holds or is kept apart for."""
        mask = self._shareable(request, usable)
        if not request.whole:
            mask = outside(mask, self.masks.no_cpus)
            if request.gres:
                mask &= self._with_gres(request.gres, mask, used=True)
        return outside(mask, self._blocked(request, partition))

    def before_select(self, request: Request, partition: PartitionView | None) -> tuple[int, int]:
        """The nodes that are up for the request and open to it, and those that are up and taken, as the scheduler sees
        them before it asks the select plugin (``avail_bitmap`` and ``nodes_busy`` in ``_pick_best_nodes``,
        node_scheduler.c): of GRES, of CPUs in use and of blocks that are kept apart nothing is known there."""
        up = self.eligible(replace(request, gres={}), partition) & self.masks.up
        shareable = self._shareable(request, up)
        return shareable, outside(up, shareable)

    def _shareable(self, request: Request, usable: int) -> int:
        """Those of `usable` that no job has whole, for a request of whole nodes those without a job."""
        mask = outside(usable, self.masks.taken_whole)
        return outside(mask, self.masks.occupied) if request.whole else mask

    def _with_features(self, constraint: str) -> int:
        allowed = 0
        for kinds, nodes in self.masks.by_features.items():
            if matches(constraint, kinds):
                allowed |= nodes
        return allowed

    def explained(
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
        keep(outside(left, self.masks.of(request.exclude)), "excluded")
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
                blocked |= self._whole_units(theirs, self.masks.of(job.nodes))
            elif mine and not old:
                blocked |= self.masks.of(job.nodes)
            elif mine:
                blocked |= self._whole_units(here, self.masks.of(job.nodes))
        return self._whole_units(here, blocked) if mine else blocked

    def _in_exclusive_partition(self, job: JobView) -> bool:
        return any(one.exclusive_topo and one.name == job.partition for one in self.snapshot.partitions)

    def _whole_units(self, named: NamedTopology, nodes: int) -> int:
        layout = self.layouts.of(named.name, named.topology)
        if isinstance(layout, BlockLayout):
            for mask in layout.masks:
                if mask & nodes:
                    nodes |= mask
        return nodes
