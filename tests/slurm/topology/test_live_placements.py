"""A fresh sample of random clusters and jobs, put to a real slurmctld and to our model."""

from __future__ import annotations

import sys

import pytest

from hpadmin.topology.release import Release
from tests.slurm.topology.record import play
from tests.slurm.topology.scenarios import scenario
from tests.support.box import Box
from tests.support.seeds import seed
from tests.unit.topology.replay import Tally, replay

pytestmark = pytest.mark.slurm


def test_agrees_with_slurmctld_now(slurm: Box, release: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = seed(1_000_000)
    wanted = (scenario(first + number, Release.parse(release)) for number in range(3))
    tally = Tally()
    replay(play(slurm, wanted), tally)
    with capsys.disabled():
        sys.stdout.write(f"\n{tally.report(f'live slurmctld {release}, seeds from {first}')}\n")
    assert tally.cases >= 25
    assert tally.disagreements == [], f"seeds from {first}"


def test_agrees_where_nodes_differ_and_some_are_down(
    slurm: Box, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = seed(3_000_000)
    wanted = (scenario(first + number, Release.parse(release), varied=True) for number in range(3))
    tally = Tally()
    replay(play(slurm, wanted), tally)
    with capsys.disabled():
        sys.stdout.write(f"\n{tally.report(f'nodes that differ, slurmctld {release}, seeds from {first}')}\n")
    assert tally.disagreements == [], f"seeds from {first}"


def test_agrees_where_partitions_have_topologies_of_their_own(
    slurm26: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    first = seed(2_000_000)
    wanted = (scenario(first + number, Release(26, 5), two_topologies=True) for number in range(2))
    tally = Tally()
    replay(play(slurm26, wanted), tally)
    with capsys.disabled():
        sys.stdout.write(f"\n{tally.report(f'two topologies, seeds from {first}')}\n")
    assert tally.disagreements == [], f"seeds from {first}"
