"""Records what real slurmctlds decide, for the replay in tests/unit/topology.

    python -m tests.slurm.topology.record 24.11 1 120 > tests/unit/topology/data/placements-24.11.jsonl

The numbers are the first seed and the one after the last; a scenario has about twenty cases and takes some
seconds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hpadmin.topology.release import Release
from tests.slurm.topology.scenarios import scenario
from tests.support.box import Box, box

ORACLE = Path(__file__).with_name("oracle.py")
BATCH = 5


def play(machine: Box, scenarios: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Let the real slurmctld in `machine` answer `scenarios`; yields them with their outcomes."""
    machine.put("/tmp/oracle.py", ORACLE.read_text())
    waiting = list(scenarios)
    while waiting:
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        text = "".join(json.dumps(one) + "\n" for one in batch)
        done = machine.run(["nice", "python3", "/tmp/oracle.py"], stdin=text, timeout=1800).check()
        yield from (json.loads(line) for line in done.stdout.splitlines())


def main(release: str, first: int, last: int) -> None:
    """Print the scenarios of these seeds with their outcomes, one a line."""
    with box(release) as machine:
        wanted = (scenario(seed, Release.parse(release)) for seed in range(first, last))
        for played in play(machine, wanted):
            sys.stdout.write(json.dumps(played, separators=(",", ":")) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
