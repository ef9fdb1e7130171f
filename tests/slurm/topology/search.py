"""Searches fresh random scenarios for answers of a real slurmctld that differ from our model's.

    python -m tests.slurm.topology.search 26.05 varied 4000000 4000800 differing.jsonl

The arguments are a release, a kind of scenario (record.py), the first seed, the one after the last, and the file to
which each scenario with a difference is added, to be replayed until the model has its rule. Some twenty cases a
second."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hpadmin.topology.release import Release
from tests.slurm.topology.record import KINDS, play
from tests.slurm.topology.scenarios import scenario
from tests.support.box import box
from tests.unit.topology.replay import Tally, replay


def main(release: str, kind: str, first: int, last: int, file: Path) -> None:
    """Play the scenarios of these seeds; tell of each answer that differs, and how many agreed."""
    total = Tally()
    with box(release) as machine, file.open("a") as found:
        wanted = (scenario(seed, Release.parse(release), **KINDS[kind]) for seed in range(first, last))
        for played in play(machine, wanted):
            before = len(total.disagreements)
            replay([played], total)
            for told in total.disagreements[before:]:
                sys.stdout.write(f"{told}\n")
            if len(total.disagreements) > before:
                found.write(json.dumps(played, separators=(",", ":")) + "\n")
                found.flush()
            sys.stderr.write(f"\r{total.cases} cases, {len(total.disagreements)} differ ")
    sys.stdout.write(f"\n{total.report(f'{kind}, slurmctld {release}')}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
