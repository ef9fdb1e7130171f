"""topology/default and topology/flat: Slurm's best fit over runs of neighbours (``_eval_nodes_consec``,
eval_nodes.c).

Free nodes that follow each other in the node table and weigh the same make a run. Runs are used up one after
the other: one with required nodes first, then the lightest, then the tightest one that suffices, else the
largest."""

from __future__ import annotations

from dataclasses import dataclass

from hpadmin.topology.placement.bits import members, outside
from hpadmin.topology.placement.demand import Action, Answer, Code, Demand, Pool

_NOT_YET = 0
"""The weight of a run that another weight began, until it has a node of its own: no node's, and not None."""


@dataclass(slots=True)
class _Run:
    nodes: list[int]
    weight: int | None = None
    """Set by the first node that is not required; Slurm lets any weight follow required nodes after a gap."""
    cpus: int = 0
    required: int = -1
    """The first required node in it; -1 without one."""


def evaluate(demand: Demand, pool: Pool) -> Answer:
    """Pick nodes for `demand` out of `pool`."""
    required = demand.required
    if outside(required, pool.available):
        return Answer(Code.ERROR, 0, Action.BREAK, why="a required node is not free")
    rem = demand.nodes - required.bit_count()
    # A node takes one CPU of the job's total of one a node, or all its own when they are taken whole.
    rem_cpus = demand.nodes - sum(pool.cpus[i] if demand.whole else 1 for i in members(required))
    taken = required
    if rem <= 0:
        return Answer(Code.SUCCESS, taken, touched=taken)
    runs = _runs(demand, pool)
    while runs:
        run = _best_run(runs, rem, rem_cpus)
        if run is None:
            break
        for node in _order(run, rem, rem_cpus, pool):
            if rem <= 0:
                break
            taken |= 1 << node
            run.nodes.remove(node)
            rem -= 1
            rem_cpus -= pool.cpus[node] if demand.whole else 1
        if rem <= 0:
            return Answer(Code.SUCCESS, taken, touched=taken)
        runs.remove(run)
    return Answer(Code.ERROR, taken, Action.DEFAULT, taken, why="too few nodes are free")


def _runs(demand: Demand, pool: Pool) -> list[_Run]:
    weight_of: dict[int, int] = {}
    for weight, group in pool.weights:
        for node in members(group & pool.available):
            weight_of[node] = weight
    runs: list[_Run] = []
    current = _Run([])
    previous = -1
    for node in sorted(weight_of):
        if node != previous + 1:
            if current.nodes:
                runs.append(current)
            current = _Run([])
        previous = node
        if current.weight not in (None, weight_of[node]):
            if current.nodes:
                runs.append(current)
                current = _Run([], _NOT_YET)
            else:
                # Required nodes that began a run are forgotten where another node follows.
                current.required = -1
        if demand.required >> node & 1:
            if current.required < 0:
                current.required = node
            continue
        current.weight = weight_of[node]
        current.nodes.append(node)
        current.cpus += pool.cpus[node]
    if current.nodes:
        runs.append(current)
    return runs


def _best_run(runs: list[_Run], rem: int, rem_cpus: int) -> _Run | None:
    best: _Run | None = None
    best_sufficient = False
    for run in runs:
        sufficient = run.cpus >= rem_cpus and len(run.nodes) >= rem
        assert run.weight is not None, "a run without nodes of its own is never kept"
        new = (
            best is None
            or best.weight is None
            or (best.required < 0 <= run.required)
            or run.weight < best.weight
        )
        if (
            not new
            and best is not None
            and run.weight == best.weight
            and (
                (sufficient and not best_sufficient)
                or (sufficient and run.cpus < best.cpus)
                or (not sufficient and run.cpus > best.cpus)
            )
        ):
            new = True
        if new:
            best, best_sufficient = run, sufficient
    return best


def _order(run: _Run, rem: int, rem_cpus: int, pool: Pool) -> list[int]:
    """The nodes of a run in the order in which they are taken."""
    if run.required >= 0:
        upwards = [node for node in run.nodes if node > run.required]
        return upwards + [node for node in reversed(run.nodes) if node < run.required]
    if rem <= 1:
        fitting = [node for node in run.nodes if pool.cpus[node] >= rem_cpus]
        if fitting:
            exact = next((node for node in fitting if pool.cpus[node] == rem_cpus), None)
            return [exact if exact is not None else min(fitting, key=lambda node: pool.cpus[node])]
    return list(run.nodes)
