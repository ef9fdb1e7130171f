"""Topologies as the arrays that the plugins work on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hpadmin.topology.graph import BlockTopology, Topology, TreeTopology
from hpadmin.topology.placement.block_layout import BlockLayout
from hpadmin.topology.placement.tree import NO_PARENT, TreeLayout

MaskOf = Callable[[Iterable[str]], int]


class Layouts:
    """The layouts of a cluster's topologies by name, each worked out when it is first asked for."""

    def __init__(self, mask_of: MaskOf) -> None:
        self._mask_of = mask_of
        self._known: dict[str, BlockLayout | TreeLayout | None] = {}

    def of(self, name: str, topology: Topology) -> BlockLayout | TreeLayout | None:
        """The layout of a topology; None for a flat one, which has none."""
        if name not in self._known:
            if isinstance(topology, BlockTopology):
                self._known[name] = block_layout(topology, self._mask_of)
            elif isinstance(topology, TreeTopology):
                self._known[name] = tree_layout(topology, self._mask_of)
            else:
                self._known[name] = None
        return self._known[name]


def block_layout(topology: BlockTopology, mask_of: MaskOf) -> BlockLayout:
    """Blocks as masks, in file order."""
    return BlockLayout.of([mask_of(block.nodes) for block in topology.blocks], topology.base, topology.levels)


def tree_layout(topology: TreeTopology, mask_of: MaskOf) -> TreeLayout:
    """Switches as arrays, in file order. The topology must have passed `hpadmin.topology.check`."""
    position = {switch.name: index for index, switch in enumerate(topology.switches)}
    parents = [NO_PARENT] * len(topology.switches)
    for index, switch in enumerate(topology.switches):
        for child in switch.children:
            parents[position[child]] = index
    masks = [mask_of(switch.nodes) for switch in topology.switches]
    levels = [0 if switch.nodes else -1 for switch in topology.switches]
    # Children first: a switch is resolved once all below it are.
    waiting = [index for index, switch in enumerate(topology.switches) if not switch.nodes]
    while waiting:
        ready = [
            index
            for index in waiting
            if all(levels[position[child]] >= 0 for child in topology.switches[index].children)
        ]
        if not ready:
            break
        for index in ready:
            below = [position[child] for child in topology.switches[index].children]
            levels[index] = 1 + max((levels[lower] for lower in below), default=-1)
            for lower in below:
                masks[index] |= masks[lower]
        waiting = [index for index in waiting if index not in ready]
    return TreeLayout(tuple(masks), tuple(levels), tuple(parents))
