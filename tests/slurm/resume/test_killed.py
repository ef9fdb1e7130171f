"""Processes killed with -9 in the middle of a recovery: a sample of the cases of `docs/evidence/resume-killed.md`."""

from __future__ import annotations

import pytest

from tests.slurm.resume.cluster import Cluster
from tests.slurm.resume.killed import Case, play

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize(
    ("way", "point", "victim", "resumed"),
    [
        ("requeue", "decided", "agent", True),
        ("in place", "dropped", "slurmctld", True),
        ("in place", "granted", "supervisor", False),
    ],
)
def test_whoever_is_killed_the_job_is_resumed_or_its_user_is_told_why(
    shared_cluster: Cluster, way: str, point: str, victim: str, resumed: bool
) -> None:
    outcome = play(shared_cluster, Case(way, point, victim))
    assert outcome.good, outcome
    assert outcome.resumed is resumed
