"""Every placement that real slurmctlds were asked for, asked of our model again."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from tests.unit.topology.replay import Tally, replay

DATA = Path(__file__).with_name("data")


@pytest.mark.parametrize("release", ["24.11", "26.05"])
def test_agrees_with_slurmctld(release: str, capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open(DATA / f"placements-{release}.jsonl.gz", "rt") as file:
        scenarios = [json.loads(line) for line in file]
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
