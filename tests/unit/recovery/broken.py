"""Does the model find what it is there for? Decisions with one safety rule taken out, each of which it must catch.

    python -m tests.unit.recovery.broken [RULE…]

A minute of CPU for all of them, more where one is missed: not among the tests, but to be run when the model or the
decisions change; the last run is docs/evidence/node-repair-rules.md.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from hpadmin.nodes.report import HealthReport
from hpadmin.recovery import limits, steps
from hpadmin.recovery.act import Actor
from hpadmin.recovery.observe import observe_slurm
from tests.unit.recovery.test_model import Cluster

Break = Callable[[pytest.MonkeyPatch], None]

# Nobody reads the example, so that none is made small.
HUNT = settings(
    max_examples=800,
    stateful_step_count=40,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def busy_nodes_count_as_empty(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(steps, "empty", lambda *_: True)


def foreign_reasons_are_ours(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(steps, "_taken_over", lambda *_: None)


def any_number_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(limits, "ask", lambda targets, *_: (targets, []))


def every_node_is_back_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(steps, "_came_back", lambda *_: True)


def every_report_is_new(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HealthReport, "follows", lambda *_: True)
    patch.setattr(steps, "_came_back", lambda record, node, _: node.state.responding)


def ill_nodes_return(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(steps, "_verify", lambda record, node, *_: steps._resume(record, node))


def protected_nodes_are_like_others(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "hpadmin.recovery.agent.observe_slurm", lambda reader, *, at, protected: observe_slurm(reader, at=at)
    )


def failures_are_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Actor, "_give_up", lambda self, action: None)


def the_dead_are_not_seen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(steps, "came_back", lambda *_: True)


BROKEN: tuple[Break, ...] = (
    busy_nodes_count_as_empty,
    foreign_reasons_are_ours,
    any_number_at_once,
    every_node_is_back_at_once,
    every_report_is_new,
    ill_nodes_return,
    protected_nodes_are_like_others,
    failures_are_not_told,
    the_dead_are_not_seen,
)


def found(broken: Break) -> bool:
    """Let the model search decisions with one rule taken out; tell whether an invariant caught it."""
    with pytest.MonkeyPatch.context() as patch:
        broken(patch)
        try:
            run_state_machine_as_test(Cluster, settings=HUNT)
        except BaseExceptionGroup as group:
            return group.subgroup(AssertionError) is not None
        except AssertionError:
            return True
    return False


def main(names: list[str]) -> int:
    """Search the named rules, or all; return 1 where one is not found."""
    logging.disable(logging.CRITICAL)  # thousands of repairs, which nobody reads
    missed = []
    for broken in BROKEN:
        if names and broken.__name__ not in names:
            continue
        started = time.process_time()
        caught = found(broken)
        seconds = time.process_time() - started
        sys.stdout.write(f"{broken.__name__}: {'found' if caught else 'NOT FOUND'}, {seconds:.0f} s of CPU\n")
        sys.stdout.flush()
        if not caught:
            missed.append(broken.__name__)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
