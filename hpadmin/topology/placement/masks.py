"""What a snapshot says of its nodes, as sets: worked out when first asked for, then kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

from hpadmin.topology.placement.bits import mask_of
from hpadmin.topology.placement.state import NodeView, Snapshot

_Test = Callable[[NodeView], bool]


def sched_weight(node: NodeView) -> int:
    """Slurm's scheduling weight, by which nodes are preferred: Weight is 32 bits of it."""
    return node.boot << 32 | node.weight


class NodeMasks:
    """Sets of nodes of one snapshot, by what does not depend on the job."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.index = {node.name: position for position, node in enumerate(snapshot.nodes)}

    def of(self, names: Iterable[str]) -> int:
        """The set of these nodes; names that are no nodes count for nothing, as in Slurm's topology files."""
        return mask_of(self.index[name] for name in names if name in self.index)

    @cached_property
    def everything(self) -> int:
        """All nodes."""
        return (1 << len(self.snapshot.nodes)) - 1

    @cached_property
    def up(self) -> int:
        """Nodes open to jobs."""
        return self._where(lambda node: node.usable)

    @cached_property
    def no_cpus(self) -> int:
        """Nodes without a free CPU."""
        return self._where(lambda node: node.cpus_used >= node.cpus)

    @cached_property
    def occupied(self) -> int:
        """Nodes with a job on them."""
        mask = self._where(lambda node: node.cpus_used > 0)
        for job in self.snapshot.jobs:
            mask |= self.of(job.nodes)
        return mask

    @cached_property
    def taken_whole(self) -> int:
        """Nodes that a job has to itself."""
        mask = 0
        for job in self.snapshot.jobs:
            if job.whole:
                mask |= self.of(job.nodes)
        return mask

    @cached_property
    def partitions(self) -> dict[str, int]:
        """Nodes of each partition."""
        return {one.name: self.of(one.nodes) for one in self.snapshot.partitions}

    @cached_property
    def by_features(self) -> dict[frozenset[str], int]:
        """Nodes by exactly the features that they have."""
        found: dict[frozenset[str], list[int]] = {}
        for position, node in enumerate(self.snapshot.nodes):
            found.setdefault(node.features, []).append(position)
        return {features: mask_of(positions) for features, positions in found.items()}

    @cached_property
    def features(self) -> frozenset[str]:
        """Every feature that some node has."""
        return frozenset().union(*self.by_features)

    @cached_property
    def weights(self) -> list[tuple[int, int]]:
        """Scheduling weights, lightest first, with the nodes that have them."""
        found: dict[int, list[int]] = {}
        for position, node in enumerate(self.snapshot.nodes):
            found.setdefault(sched_weight(node), []).append(position)
        return [(weight, mask_of(positions)) for weight, positions in sorted(found.items())]

    @cached_property
    def all_cpus(self) -> list[int]:
        """CPUs of each node by index."""
        return [node.cpus for node in self.snapshot.nodes]

    @cached_property
    def free_cpus(self) -> list[int]:
        """CPUs of each node that no job holds, by index."""
        return [node.cpus - node.cpus_used for node in self.snapshot.nodes]

    def _where(self, test: _Test) -> int:
        text = "".join("1" if test(node) else "0" for node in reversed(self.snapshot.nodes))
        return int(text, 2) if text else 0
