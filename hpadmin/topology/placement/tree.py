"""topology/tree: which nodes Slurm's tree plugin picks (``_eval_nodes_topo``, eval_nodes_tree.c).

The top switch is the highest one over enough of the lightest nodes; below it leaf after leaf is added:
nearest to the switches in use, then the tightest that fits the rest, else the one with most nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpadmin.topology.placement.bits import first, outside
from hpadmin.topology.placement.demand import Action, Answer, Code, Demand, Pool
from hpadmin.topology.release import Release

INFINITE = 1 << 32
NO_PARENT = -1


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """Switches in file order, as arrays over the same index."""

    masks: tuple[int, ...]
    """Nodes below each switch."""
    levels: tuple[int, ...]
    """0 for a leaf, else one more than the highest child."""
    parents: tuple[int, ...]
    """Index of the switch above; NO_PARENT at the top."""

    @property
    def leaves(self) -> tuple[int, ...]:
        """Indices of the leaf switches."""
        return tuple(index for index, level in enumerate(self.levels) if level == 0)

    def ancestors(self, index: int) -> list[int]:
        """`index`, its parent and so on to the top."""
        path = [index]
        while self.parents[path[-1]] != NO_PARENT:
            path.append(self.parents[path[-1]])
        return path

    def distance(self, one: int, other: int) -> int:
        """Hops between two switches; INFINITE when no switch connects them."""
        above = {switch: hops for hops, switch in enumerate(self.ancestors(one))}
        for hops, switch in enumerate(self.ancestors(other)):
            if switch in above:
                return hops + above[switch]
        return INFINITE


def evaluate(layout: TreeLayout, demand: Demand, pool: Pool, release: Release) -> Answer:
    """Pick nodes for `demand` out of `pool`, as one call of ``_eval_nodes_topo`` does."""
    required = demand.required
    modern = release.segments_span_blocks
    if required and outside(required, pool.available):
        return Answer(
            Code.REQUIRED_BUSY if modern else Code.ERROR, 0, Action.BREAK, why="a required node is not free"
        )
    if required.bit_count() > demand.nodes:
        return Answer(
            Code.NODE_LIMIT if modern else Code.ERROR,
            0,
            Action.BREAK,
            why="more nodes are required than the job has",
        )
    if not pool.available:
        return Answer(Code.EMPTY if modern else Code.ERROR, 0, Action.BREAK, why="no node is free")
    rem = demand.nodes - required.bit_count()
    groups = pool.groups(pool.available)
    free = [mask & pool.available for mask in layout.masks]
    top = _top_switch(layout, free, required, groups, rem)
    if top is None or outside(required, free[top]):
        shared = bool(required)
        code = Code.TOPOLOGY if shared or not modern else Code.INSUFFICIENT
        return Answer(
            code,
            0,
            Action.BREAK,
            why="the required nodes have no switch in common"
            if shared
            else "no switch has enough free nodes below it",
        )
    chosen = required
    touched = required
    if rem > 0:
        free = [mask & free[top] for mask in free]
        filled = _fill(layout, free, groups, free[top], required, rem)
        if filled is None:
            return Answer(
                Code.INSUFFICIENT if modern else Code.ERROR,
                free[top],
                Action.RETRY,
                why="no switch has enough free nodes below it",
            )
        chosen, complete = filled
        touched = chosen
        if not complete:
            return Answer(
                Code.INSUFFICIENT if modern else Code.ERROR,
                chosen,
                Action.HINT,
                touched,
                why="the switches with free nodes are not connected",
            )
    used = sum(1 for leaf in layout.leaves if layout.masks[leaf] & chosen)
    met = not demand.switches or used <= demand.switches
    why = "" if met else f"the nodes are below {used} leaf switches, {demand.switches} are allowed"
    return Answer(Code.SUCCESS, chosen, touched=touched, met_switches=met, why=why)


def _top_switch(
    layout: TreeLayout,
    free: Sequence[int],
    required: int,
    groups: Sequence[tuple[int, int]],
    rem: int,
) -> int | None:
    top: int | None = None
    lowest = 0
    for index, mask in enumerate(free):
        if required:
            if required & mask and (top is None or layout.levels[index] > layout.levels[top]):
                top = index
            continue
        if mask.bit_count() < rem:
            continue
        weight = next((value for value, group in groups if group & mask), None)
        if weight is None:
            continue
        if top is None or (layout.levels[index] >= layout.levels[top] and weight <= lowest):
            top, lowest = index, weight
    return top


def _fill(
    layout: TreeLayout,
    free: Sequence[int],
    groups: Sequence[tuple[int, int]],
    below_top: int,
    required: int,
    rem: int,
) -> tuple[int, bool] | None:
    """Nodes below the top switch and whether they are enough; None when there never are enough."""
    best = lighter = 0
    for _, group in groups:
        if best:
            lighter = best
        best |= group & below_top & ~required
        if best.bit_count() >= rem:
            break
    else:
        return None
    taken = required | lighter
    rem -= lighter.bit_count()
    in_use = {index for index, mask in enumerate(free) if mask & taken}
    usable = [mask & (best | taken) for mask in free]
    counts = [mask.bit_count() for mask in usable]
    if taken:
        so_far = 0
        for leaf in layout.leaves:
            if leaf not in in_use:
                continue
            more = first(usable[leaf] & ~taken, rem)
            taken |= more
            rem -= more.bit_count()
            so_far += more.bit_count()
            if rem <= 0:
                return taken, True
            # Slurm's count of nodes taken runs on from leaf to leaf (num_nodes_taken is never reset).
            _take_from(layout, counts, leaf, so_far)

    distances = [0] * len(layout.masks)
    for index in in_use:
        _add_distances(layout, distances, index)
    candidates = [leaf for leaf in layout.leaves if leaf not in in_use]
    while True:
        leaf_found = _best_leaf(layout, candidates, distances, counts, rem)
        if leaf_found is None:
            return taken, False
        _add_distances(layout, distances, leaf_found)
        more = first(usable[leaf_found] & ~taken, rem)
        taken |= more
        rem -= more.bit_count()
        if rem <= 0:
            return taken, True
        if not more:
            return taken, False
        _take_from(layout, counts, leaf_found, counts[leaf_found])
        counts[leaf_found] = 0


def _take_from(layout: TreeLayout, counts: list[int], leaf: int, taken: int) -> None:
    for switch in layout.ancestors(leaf):
        counts[switch] = max(0, counts[switch] - taken)


def _add_distances(layout: TreeLayout, distances: list[int], index: int) -> None:
    for other, so_far in enumerate(distances):
        hops = layout.distance(index, other)
        distances[other] = INFINITE if INFINITE in (hops, so_far) else so_far + hops


def _best_leaf(
    layout: TreeLayout, candidates: Sequence[int], distances: Sequence[int], counts: Sequence[int], rem: int
) -> int | None:
    best: int | None = None
    for leaf in candidates:
        if not counts[leaf] or distances[leaf] >= INFINITE:
            continue
        if best is None:
            best = leaf
            continue
        better, fits = _compare(layout, leaf, best, counts, rem)
        if (distances[leaf] < distances[best] and fits) or (
            distances[leaf] == distances[best] and better > 0
        ):
            best = leaf
    return best


def _compare(layout: TreeLayout, one: int, other: int, counts: Sequence[int], rem: int) -> tuple[int, bool]:
    """1 when `one` is the better switch, -1 when `other` is, 0 when neither; and whether `one` fits
    (``_topo_compare_switches``, which climbs to the parents while neither fits)."""
    while True:
        one_fits, other_fits = counts[one] >= rem, counts[other] >= rem
        if one_fits and other_fits:
            if counts[one] != counts[other]:
                return (1 if counts[one] < counts[other] else -1), one_fits
            break
        if one_fits or other_fits:
            return (1 if one_fits else -1), one_fits
        above_one, above_other = layout.parents[one], layout.parents[other]
        if above_one == above_other or NO_PARENT in (above_one, above_other):
            break
        one, other = above_one, above_other
    if counts[one] != counts[other]:
        return (1 if counts[one] > counts[other] else -1), one_fits
    if layout.levels[one] != layout.levels[other]:
        return (1 if layout.levels[one] < layout.levels[other] else -1), one_fits
    return 0, one_fits
