"""Records what real slurmctlds decide, for the replay in tests/unit/topology.

    python -m tests.slurm.topology.record 24.11 1 125 tests/unit/topology/data/placements-24.11.jsonl.gz

The numbers are the first seed and the one after the last. ``varied`` behind the file records nodes that differ and
limits of partitions, ``topologies`` (26.05) a topology a partition. A scenario has about twenty cases and takes some
two seconds; the whole file is written at the end."""

from __future__ import annotations

import gzip
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
KINDS: dict[str, dict[str, bool]] = {
    "plain": {},
    "varied": {"varied": True},
    "topologies": {"two_topologies": True},
}


def play(machine: Box, scenarios: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Let a real slurmctld in `machine` answer `scenarios`, or load files; yields the answers."""
    machine.put("/tmp/oracle.py", ORACLE.read_text())
    waiting = list(scenarios)
    while waiting:
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        text = "".join(json.dumps(one) + "\n" for one in batch)
        done = machine.run(["nice", "python3", "/tmp/oracle.py"], stdin=text, timeout=1800).check()
        yield from (json.loads(line) for line in done.stdout.splitlines())


def main(release: str, first: int, last: int, file: Path, kind: str = "plain") -> None:
    """Write the scenarios of these seeds with their outcomes to `file`, one a line, compressed."""
    lines = []
    with box(release) as machine:
        wanted = (scenario(seed, Release.parse(release), **KINDS[kind]) for seed in range(first, last))
        for played in play(machine, wanted):
            lines.append(json.dumps(played, separators=(",", ":")) + "\n")
            sys.stderr.write(f"{len(lines)} of {last - first}\n")
    with file.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write("".join(lines).encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), *sys.argv[5:])
