"""What the free nodes of blocks could hold, by their numbers alone: a quick no for sizes that cannot start now.

Only what `hpadmin.topology.placement.block` surely fails at is ruled out; weights, node lists and the retries are not
looked at, so that a yes may still be a no."""

from __future__ import annotations

from functools import cache

from hpadmin.topology.placement.block_layout import BlockLayout
from hpadmin.topology.release import Release


class Room:
    """The free nodes of every block, for questions about many sizes."""

    def __init__(self, layout: BlockLayout, free: int, release: Release) -> None:
        self.layout = layout
        self.release = release
        self.counts = layout.count(free)
        self._rooms_in = cache(self._count_rooms_in)
        self._units = cache(self._count_units)

    def holds(self, nodes: int, segment: int, *, spread: bool) -> bool:
        """Whether so many nodes in such segments (0 for none) could be free; `spread` is ``--spread-segments``."""
        if not 0 < segment < nodes:
            return max(self._rooms(nodes), default=0) >= nodes
        return nodes % segment == 0 and self._units(segment, spread) >= nodes // segment

    def _count_units(self, unit: int, spread: bool) -> int:
        if unit > self.layout.base and not self.release.segments_span_blocks:
            return 0
        if spread and unit <= self.layout.base:
            return sum(1 for count in self.counts if count >= unit)
        # The first unit of an aggregate must fit as a whole; what is left for more of them is only known in all.
        aggregates = zip(self._aggregates(self._span(unit)), self._rooms(unit), strict=True)
        return sum(sum(counts) // unit for counts, room in aggregates if room >= unit)

    def _rooms(self, unit: int) -> list[int]:
        """Most nodes that each aggregate could give to one unit of so many."""
        lower = self.layout.lower_level_for(unit)
        return self._rooms_in(self._span(unit), lower, -(-unit // (self.layout.base << lower)))

    def _span(self, unit: int) -> int:
        level = self.layout.level_for(unit)
        return len(self.counts) if level is None else 1 << level

    def _aggregates(self, span: int) -> list[list[int]]:
        return [self.counts[start : start + span] for start in range(0, len(self.counts), span)]

    def _count_rooms_in(self, span: int, lower: int, limit: int) -> list[int]:
        """The same for aggregates of `span` blocks, of which `limit` lower level blocks may be used."""
        step = 1 << lower
        rooms = []
        for counts in self._aggregates(span):
            if span == step * limit:
                rooms.append(sum(counts))
                continue
            # As Slurm does: a rest at the end of the system that is no whole lower level block is left out.
            whole = [sum(counts[i : i + step]) for i in range(0, len(counts), step)][: span // step]
            rooms.append(sum(sorted(whole, reverse=True)[:limit]))
        return rooms
