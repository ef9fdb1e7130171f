"""Which nodes may take the place of those that a running job has lost, where the topology has blocks; pure.

topology/block places a job, or each segment of it, in as few blocks as hold it, and looks no more when nodes join a
job later. So a node that joins comes from the block of the one that is gone: whatever the request was, the job keeps
the shape that Slurm gave it.

>>> from hpadmin.topology.graph import Block, BlockTopology
>>> blocks = BlockTopology((Block("b1", ("n1", "n2", "n3")), Block("b2", ("n4", "n5", "n6"))), (3,))
>>> shares(blocks, held=["n1"], lost=["n2"], need=1, among=["n1", "n2", "n3", "n4", "n5", "n6"])
(Share(need=1, block='b1', excluded=('n4', 'n5', 'n6')),)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpadmin.topology.graph import Block, BlockTopology


@dataclass(frozen=True, slots=True)
class Share:
    """Nodes that are to join a job together."""

    need: int
    block: str = ""
    """Where they come from; empty where that does not matter, and for nodes that are in no block."""
    excluded: tuple[str, ...] = ()
    """Nodes that must not be among them."""


def shares(
    topology: BlockTopology, *, held: Collection[str], lost: Sequence[str], need: int, among: Sequence[str]
) -> tuple[Share, ...]:
    """Return what is to join a job that holds `held` after it lost `lost`, out of `among` (its partition's nodes).

    Where fewer are needed than were lost (there were spares), blocks in which the job still has most nodes come
    first; where more are needed, they come from any block that the job is in.
    """
    home = {node: block for block in topology.blocks for node in block.nodes}
    stays = Counter(home[node].name if node in home else "" for node in held)
    gone = [home.get(node) for node in lost]
    gone.sort(key=lambda block: -stays[block.name if block else ""])
    wanted = Counter(gone[:need])
    found = [
        Share(count, block.name if block else "", _outside(block, home, among))
        for block, count in wanted.items()
    ]
    if need > len(gone):
        mine = {home[node] for node in (*held, *lost) if node in home}
        outside = tuple(node for node in among if mine and home.get(node) not in mine)
        found.append(Share(need - len(gone), "", outside))
    return tuple(found)


def _outside(block: Block | None, home: dict[str, Block], among: Sequence[str]) -> tuple[str, ...]:
    """All nodes but those of a block; for nodes in no block, all that are in one: Slurm mixes them in no job."""
    return tuple(node for node in among if home.get(node) != block)
