"""How Slurm tries again when a topology plugin finds nothing (``common_topo_choose_nodes``, common_topo.c).

Until 25.05 it takes away the nodes with the fewest CPUs and GPUs, one after the other; later the plugin says
what to leave out. Most of these tries cannot help when all nodes are alike, but where a greedy choice failed
they can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hpadmin.topology.placement.bits import members, outside
from hpadmin.topology.placement.demand import Action, Answer, Code, Demand, Pool
from hpadmin.topology.release import Release

Evaluate = Callable[[Pool], Answer]


def choose_nodes(
    evaluate: Evaluate, demand: Demand, pool: Pool, resources: Sequence[int], release: Release
) -> Answer:
    """Evaluate, and again with fewer nodes after a failure.

    `resources` are CPUs plus GPUs (from 25.11: CPUs times GPUs) of each node by index.
    """
    guarded = _guard(evaluate, demand)
    answer = guarded(pool)
    if answer.ok or (answer.code is Code.TOPOLOGY and release.segments_span_blocks):
        return answer
    retry = _as_told if release.segments_span_blocks else _smallest_first
    last = retry(guarded, demand, pool, resources, answer)
    # What stands in the way is told of all nodes, not of those that the last try was left with.
    return last if last.ok else replace(last, why=answer.why)


def _guard(evaluate: Evaluate, demand: Demand) -> Evaluate:
    """What ``eval_nodes`` checks before it calls the plugin (eval_nodes.c)."""

    def guarded(pool: Pool) -> Answer:
        if pool.available.bit_count() < demand.nodes:
            free = pool.available.bit_count()
            return Answer(
                Code.ERROR, 0, Action.BREAK, why=f"{demand.nodes} nodes are needed and {free} are usable"
            )
        if outside(demand.required, pool.available):
            return Answer(Code.ERROR, 0, Action.BREAK, why="a required node is not usable")
        return evaluate(pool)

    return guarded


def _smallest_first(
    evaluate: Evaluate, demand: Demand, pool: Pool, resources: Sequence[int], failed: Answer
) -> Answer:
    """The loop of 24.11: only nodes below the largest resource count are ever taken away."""
    rest = pool.available
    if rest.bit_count() <= demand.nodes:
        return failed
    if (demand.whole or not failed.touched) and len(set(resources)) == 1:
        return failed
    left = {node: resources[node] for node in members(rest)}
    # A failed evaluation leaves the nodes that it had picked with the one CPU that it wanted of them, and their GPUs
    # (``eval_nodes_cpus_to_use``, which does not look at jobs of whole nodes).
    reduced = {} if demand.whole else {node: count - pool.cpus[node] + 1 for node, count in left.items()}
    answer = failed
    _reduce(left, answer, reduced)
    largest = max(left.values(), default=0)
    removable = {node: value for node, value in left.items() if not demand.required >> node & 1}
    count = 1
    while removable:
        # Tries without a change only repeat the failure, so the count goes straight to the next node's.
        count = max(count, min(removable.values()))
        if count >= largest:
            break
        limit = count
        for node in sorted(removable):
            if removable[node] > limit:
                continue
            if limit == count:
                # Slurm lowers the limit after the first one, so that each try loses one node of that size.
                limit = count - 1
            rest &= ~(1 << node)
            del removable[node]
            if rest.bit_count() <= demand.nodes:
                break
        answer = evaluate(replace(pool, available=rest))
        if answer.ok or rest.bit_count() <= demand.nodes:
            return answer
        _reduce(removable, answer, reduced)
    return answer


def _reduce(left: dict[int, int], answer: Answer, reduced: Mapping[int, int]) -> None:
    """Give the nodes of `left` that an evaluation has picked what it has left of them."""
    for node in members(answer.touched):
        if node in left and node in reduced:
            left[node] = reduced[node]


def _as_told(
    evaluate: Evaluate, demand: Demand, pool: Pool, resources: Sequence[int], failed: Answer
) -> Answer:
    """The loop of 25.11 and later: the failed evaluation says which nodes to leave out.

    Returns the first failure when nothing helps, as Slurm does for the reason it shows.
    """
    rest = pool.available
    order: list[int] | None = None
    position = 0
    answer = failed
    while True:
        if answer.action is Action.BREAK or rest.bit_count() <= demand.nodes:
            return failed
        if answer.action is Action.RETRY:
            if not rest & answer.nodes:
                return failed
            rest = outside(rest, answer.nodes)
        else:
            if order is None:
                candidates = [node for node in members(rest) if not demand.required >> node & 1]
                order = sorted(candidates, key=lambda node: resources[node])
            pick = position
            while pick < len(order) and not (
                rest >> order[pick] & 1
                and (answer.action is not Action.HINT or not answer.nodes or answer.nodes >> order[pick] & 1)
            ):
                pick += 1
            if pick >= len(order):
                return failed
            rest &= ~(1 << order[pick])
            if pick == position:
                position += 1
            if position >= len(order):
                return failed
        answer = evaluate(replace(pool, available=rest))
        if answer.ok or answer.code is Code.TOPOLOGY:
            return answer
