"""Sets of nodes as whole numbers: bit i is the node with index i of Slurm's node table.

>>> list(members(mask_of([0, 2])))
[0, 2]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


def mask_of(indices: Iterable[int]) -> int:
    """The set of these indices."""
    mask = 0
    for index in indices:
        mask |= 1 << index
    return mask


def members(mask: int) -> Iterator[int]:
    """The indices in `mask`, ascending: Slurm's node table order."""
    for position, byte in enumerate(mask.to_bytes((mask.bit_length() + 7) // 8, "little")):
        if byte:
            for bit in _BITS[byte]:
                yield position * 8 + bit


def first(mask: int, count: int) -> int:
    """The `count` lowest members of `mask`, or all of them."""
    taken = 0
    while mask and count > 0:
        low = mask & -mask
        taken |= low
        mask ^= low
        count -= 1
    return taken


def outside(mask: int, other: int) -> int:
    """Members of `mask` that are not in `other`."""
    return mask & ~other
