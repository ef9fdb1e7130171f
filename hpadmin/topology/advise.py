"""What else would start now, and how much a placement leaves usable for the next job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hpadmin.topology.graph import BlockTopology
from hpadmin.topology.placement.planner import Planner
from hpadmin.topology.placement.state import Placement, Request

MAX_TRIES = 64
"""Placements that a search for alternatives may cost."""

MAX_NODES = 200_000
"""Nodes that these placements may look at together: on large clusters fewer are tried, so that the answer comes."""

MIN_TRIES = 8


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another size of the same job that would start now."""

    nodes: int
    segment: int
    blocks: int
    """Blocks or leaf switches it would be spread over."""

    @property
    def options(self) -> str:
        """The options to give to sbatch."""
        return f"-N{self.nodes}" + (f" --segment={self.segment}" if self.segment else "")


@dataclass(frozen=True, slots=True)
class Alternatives:
    """What a search for other sizes found."""

    found: tuple[Alternative, ...]
    cut_off: bool
    """Whether it ended before all sizes were looked at: there may be others."""


@dataclass(frozen=True, slots=True)
class Fragmentation:
    """How the free nodes lie over the base blocks, before and after a placement."""

    free_nodes: tuple[int, int]
    whole_blocks: tuple[int, int]
    """Blocks with at least the planning block's nodes free: what a job of a full block needs."""
    largest: tuple[int, int]
    """Most free nodes in one block."""
    slurm: tuple[int, int]
    """Slurm's own measure: sizes of all blocks and aggregates that are not free as a whole, plus busy nodes
    (``topology_p_get_fragmentation``, 26.05)."""


def alternatives(planner: Planner, request: Request, limit: int = 4) -> Alternatives:
    """Other ``-N`` and ``--segment`` that would start now: the same nodes in other segments first, then
    fewer.

    The largest segments come first, since a user asked for segments to keep nodes together."""
    found: list[Alternative] = []
    tries = max(MIN_TRIES, min(MAX_TRIES, MAX_NODES // max(1, len(planner.snapshot.nodes))))
    for candidate in _candidates(planner, request):
        if len(found) >= limit or (found and found[-1].nodes < request.nodes):
            break
        if not tries:
            return Alternatives(tuple(found), cut_off=True)
        tries -= 1
        placed = planner.start(candidate)
        if placed is not None:
            found.append(Alternative(candidate.nodes, candidate.segment, len(placed.blocks)))
    return Alternatives(tuple(found), cut_off=False)


def _candidates(planner: Planner, request: Request) -> Iterator[Request]:
    """Requests of other sizes that the number of free nodes does not rule out."""
    topology = planner.snapshot.topologies.of_partition(request.partition).topology
    sizes = planner.sizes(request)
    possible = planner.screen(request)
    if isinstance(topology, BlockTopology) and not request.nodelist and request.nodes in sizes:
        for size in range(request.nodes, 0, -1):
            segment = size if size < request.nodes else 0
            candidate = replace(request, segment=segment)
            if not request.nodes % size and segment != request.segment and possible(candidate):
                yield candidate
    step = request.segment or 1
    top = min(request.nodes, sizes.stop) - 1
    for nodes in range(top - top % step, max(len(request.nodelist), sizes.start) - 1, -step):
        candidate = replace(request, nodes=nodes)
        if possible(candidate):
            yield candidate


def fragmentation(planner: Planner, placement: Placement, request: Request) -> Fragmentation | None:
    """How the placement changes the free blocks; None without blocks."""
    topology = planner.snapshot.topologies.of_partition(request.partition).topology
    if not isinstance(topology, BlockTopology):
        return None
    before = planner.free_mask(Request(1, whole=True, partition=request.partition))
    after = before & ~planner.mask(placement.nodes)
    counts = [
        [(planner.mask(block.nodes) & mask).bit_count() for block in topology.blocks]
        for mask in (before, after)
    ]
    return Fragmentation(
        (sum(counts[0]), sum(counts[1])),
        (_whole(counts[0], topology.base), _whole(counts[1], topology.base)),
        (max(counts[0], default=0), max(counts[1], default=0)),
        (slurm_fragmentation(topology, counts[0]), slurm_fragmentation(topology, counts[1])),
    )


def _whole(counts: list[int], base: int) -> int:
    return sum(1 for count in counts if count >= base)


def slurm_fragmentation(topology: BlockTopology, free: list[int]) -> int:
    """Slurm's measure of fragmentation, from the free nodes in each base block.

    >>> from hpadmin.topology.graph import Block
    >>> slurm_fragmentation(BlockTopology((Block("b", ("n1", "n2")),), (2,)), [1])
    3
    """
    total = len(topology.blocks)
    sizes: list[int] = []
    for level in topology.levels:
        sizes.append(1 << level)
        if sizes[-1] >= total:
            break
    pending = [False] * len(sizes)
    sum_of_sizes = 0
    for index, count in enumerate(free):
        starts = [not index % size and size <= total - index for size in sizes]
        if count >= topology.base:
            for rank in range(1, len(sizes)):
                pending[rank] = pending[rank] or starts[rank]
            continue
        for rank, size in enumerate(sizes):
            if pending[rank] or starts[rank]:
                sum_of_sizes += size
                pending[rank] = False
    return sum_of_sizes * topology.base + len(topology.nodes) - sum(free)
