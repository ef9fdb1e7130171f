"""Node and job states, over every word that Slurm's own tables hold."""

from __future__ import annotations

from itertools import combinations

import pytest

from hpadmin.slurm.states import JobState, NodeBase, NodeFlag, NodeState


def test_every_base_and_flag_survives_a_round_trip() -> None:
    for base in NodeBase:
        for pair in combinations(NodeFlag, 2):
            state = NodeState(base, frozenset(pair))
            assert NodeState.parse(str(state)) == state


@pytest.mark.parametrize(
    ("text", "drained"),
    [
        ("IDLE", False),
        ("IDLE+DRAIN", True),
        ("IDLE+FAIL", True),
        ("DOWN", True),
        ("DOWN+DRAIN+NOT_RESPONDING", True),
        ("ALLOCATED+DRAIN", False),
        ("MIXED+FAIL", False),
        ("IDLE+DRAIN+COMPLETING", False),
        ("DOWN+COMPLETING", False),
        ("UNKNOWN+DRAIN", False),
        ("IDLE+DRAIN+SOMETHING_NEW", False),
        ("WHATEVER+DRAIN", False),
    ],
)
def test_the_drain_flag_alone_is_not_drained(text: str, drained: bool) -> None:
    assert NodeState.parse(text).drained is drained


@pytest.mark.parametrize(
    ("text", "schedulable"),
    [
        ("IDLE", True),
        ("MIXED+PLANNED", True),
        ("ALLOCATED+CLOUD", True),
        ("IDLE+NOT_RESPONDING", False),
        ("IDLE+DRAIN", False),
        ("IDLE+FAIL", False),
        ("IDLE+REBOOT_ISSUED", False),
        ("IDLE+CLOUD+POWERED_DOWN", False),
        ("IDLE+INVALID_REG", False),
        ("IDLE+MAINTENANCE+RESERVED", False),
        ("UNKNOWN", False),
        ("IDLE+SOMETHING_NEW", False),
        ("", False),
    ],
)
def test_schedulable(text: str, schedulable: bool) -> None:
    assert NodeState.parse(text).schedulable is schedulable


def test_unknown_words_are_kept_and_make_the_state_unreadable() -> None:
    state = NodeState.parse("idle+drain+Frobnicating")
    assert state.strange == {"FROBNICATING"}
    assert state.unreadable


def test_flags_of_a_job_win_over_its_base() -> None:
    assert JobState.parse(["RUNNING", "COMPLETING"]) is JobState.COMPLETING
    assert JobState.parse(["PENDING", "REQUEUE_HOLD"]) is JobState.REQUEUE_HOLD
    assert JobState.parse(["NODE_FAIL"]) is JobState.NODE_FAIL
    assert JobState.parse("OF_A_LATER_RELEASE") is JobState.UNREADABLE
    assert JobState.parse([]) is JobState.UNREADABLE


def test_an_unreadable_job_is_taken_to_hold_its_nodes() -> None:
    assert JobState.UNREADABLE.holds_nodes
    assert not JobState.UNREADABLE.ended
    assert not any(state.holds_nodes and state.ended for state in JobState)
