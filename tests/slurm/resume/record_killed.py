"""Record `docs/evidence/resume-killed.json` and `.md`: every case of `killed` (a quarter of an hour).

    python -m tests.slurm.resume.record_killed [WAY/POINT/VICTIM…]

Cases that are named are played again, and take the place of what was recorded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from tests.slurm.resume import points
from tests.slurm.resume.cluster import cluster
from tests.slurm.resume.killed import CASES, VICTIMS, play

FILE = Path(__file__).parents[3] / "docs/evidence/resume-killed.json"
AT_ONCE = 2
"""Clusters that are played on at once: most of the time they wait."""


def main(names: list[str]) -> int:
    rows = {_name(row["way"], row["point"], row["killed"]): row for row in _recorded()}
    wanted = {_name(case.way, case.point, case.victim): case for case in CASES}
    left, writing = SimpleQueue[str](), Lock()
    # Each point with one victim first, then with the others: also a record that was broken off tells of all points.
    rounds = [list(wanted)[at :: len(VICTIMS)] for at in range(len(VICTIMS))]
    for at, some in enumerate(zip(*rounds, strict=True)):
        rounds[0][at], rounds[1][at], rounds[2][at] = (*some[at % 3 :], *some[: at % 3])
    for name in names or [each for some in rounds for each in some]:
        left.put(name)

    def work() -> None:
        with cluster() as slurm:
            while True:
                try:
                    name = left.get_nowait()
                except Empty:
                    return
                row = play(slurm, wanted[name]).row()
                with writing:
                    rows[name] = row
                    kept = [rows[each] for each in wanted if each in rows]
                    FILE.write_text(json.dumps({"cases": kept}, indent=1) + "\n")
                    FILE.with_suffix(".md").write_text(table(kept))
                    sys.stdout.write(f"{name}: {row['outcome']} {row['seconds']} s {row['reason']}\n")
                    sys.stdout.flush()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(work) for _ in range(AT_ONCE)]:
            done.result()
    return 0 if all(row["outcome"] != "WRONG" for row in rows.values()) else 1


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a page of Markdown."""
    lines = [
        "# Killed in the middle of a recovery",
        "",
        "Made by `python -m tests.slurm.resume.record_killed`: a job of two nodes loses one, somebody stands still at",
        "a point of its recovery, one process is killed with `-9` and (but for the supervisor) started again. Seconds",
        "are from the fault to the end of the job, three seconds of its second attempt included.",
        f"{len(rows)} of {len(CASES)} cases were played.",
        "",
        "*resumed*: its step ran again once, with both tasks, and ended with 0. *not resumed, told why*: nothing ran",
        "twice, and `hpadmin job show` gives the reason. Either way no allocation and no process was left behind.",
        "",
        "| resumed by | point | what had just happened | killed | outcome | seconds |",
        "|---|---|---|---|---|---|",
    ]
    told = {**points.SUPERVISOR, **points.AGENT}
    for row in rows:
        words = (row["way"], row["point"], told[row["point"]], row["killed"], row["outcome"], row["seconds"])
        lines.append(f"| {' | '.join(map(str, words))} |")
    return "\n".join(lines) + "\n"


def _name(way: str, point: str, victim: str) -> str:
    return f"{way}/{point}/{victim}"


def _recorded() -> list[dict[str, str]]:
    return list(json.loads(FILE.read_text())["cases"]) if FILE.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
