"""Every placement that real slurmctlds were asked for, asked of our model again."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.topology.replay import Tally, replay

DATA = Path(__file__).with_name("data")


def recorded(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("release", ["24.11", "26.05"])
def test_agrees_with_slurmctld(release: str, capsys: pytest.CaptureFixture[str]) -> None:
    scenarios = recorded(f"placements-{release}")
    tally = Tally()
    replay(scenarios, tally)
    with capsys.disabled():
        sys.stdout.write(f"\n{tally.report(f'slurmctld {release}')}\n")
    assert tally.cases >= 2000
    assert tally.started >= 800
    assert {one["plugin"] for one in scenarios} == {"block", "tree", "flat"}
    assert tally.disagreements == []
    assert tally.can_run == tally.cases
    assert tally.same_blocks == tally.started
    assert tally.same_nodes >= 0.99 * tally.started


@pytest.mark.parametrize("name", ["varied-24.11", "varied-26.05", "topologies-26.05"])
def test_agrees_where_nodes_or_topologies_differ(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nodes of several sizes, some down from the start, and partitions with limits; a topology a partition."""
    tally = Tally()
    replay(recorded(f"placements-{name}"), tally)
    with capsys.disabled():
        sys.stdout.write(f"\n{tally.report(name)}\n")
    assert tally.cases >= 300
    assert tally.disagreements == []


def test_agrees_where_it_once_did_not() -> None:
    """Scenarios of fresh samples in which one answer differed, each of a kind that the recordings had not met: what
    slurmctld counts before its select plugin looks, when it tells the topology's own reason, partitions of exclusive
    use, what a failed try leaves of the nodes that it had picked, and required nodes that begin a run of neighbours."""
    tally = Tally()
    replay(recorded("placements-found"), tally)
    assert tally.cases >= 150
    assert tally.disagreements == []
