"""Base blocks as masks, and the sizes of the aggregates that Slurm plans with (block_record.c)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """The blocks as masks, with the sizes that Slurm plans with."""

    masks: tuple[int, ...]
    base: int
    levels: tuple[int, ...]
    """Configured levels k (aggregates of 2^k base blocks), ascending, 0 among them."""
    all_nodes: int
    """Every node in some block."""
    windows: tuple[tuple[int, int, int], ...]
    """For counting: the bytes of a node mask that a block spans, and its nodes within them."""

    @classmethod
    def of(cls, masks: Sequence[int], base: int, levels: tuple[int, ...]) -> BlockLayout:
        """Lay out blocks given as masks, in file order."""
        windows = []
        everything = 0
        for mask in masks:
            everything |= mask
            start = ((mask & -mask).bit_length() - 1) // 8 if mask else 0
            windows.append((start, (mask.bit_length() + 7) // 8, mask >> 8 * start))
        return cls(tuple(masks), base, levels, everything, tuple(windows))

    def count(self, nodes: int) -> list[int]:
        """How many of `nodes` are in each block."""
        packed = nodes.to_bytes((max(nodes, self.all_nodes).bit_length() + 7) // 8, "little")
        read = int.from_bytes
        return [(read(packed[start:end], "little") & mask).bit_count() for start, end, mask in self.windows]

    def level_for(self, nodes: int) -> int | None:
        """The smallest configured level that can hold `nodes`; None means the whole system."""
        needed = (-(-nodes // self.base) - 1).bit_length()
        return next((level for level in self.levels if level >= needed), None)

    def lower_level_for(self, nodes: int) -> int:
        """The largest configured level that is too small for `nodes`; 0 when one base block does."""
        needed = (-(-nodes // self.base) - 1).bit_length()
        return max((level for level in self.levels if level < needed), default=0)
