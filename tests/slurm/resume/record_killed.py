"""Record `docs/evidence/resume-killed.json`: every case of `killed`, one after the other (about an hour).

    python -m tests.slurm.resume.record_killed [WAY/POINT/VICTIM…]

Cases that are named are played again, and take the place of what was recorded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.slurm.resume.cluster import cluster
from tests.slurm.resume.killed import CASES, play

FILE = Path(__file__).parents[3] / "docs/evidence/resume-killed.json"


def main(names: list[str]) -> int:
    rows = {_name(row["way"], row["point"], row["killed"]): row for row in _recorded()}
    wanted = {_name(case.way, case.point, case.victim): case for case in CASES}
    with cluster() as slurm:
        for name in names or wanted:
            row = play(slurm, wanted[name]).row()
            rows[name] = row
            kept = [rows[each] for each in wanted if each in rows]
            FILE.write_text(json.dumps({"cases": kept}, indent=1) + "\n")
            sys.stdout.write(f"{name}: {row['outcome']} {row['seconds']} s {row['reason']}\n")
            sys.stdout.flush()
    return 0 if all(row["outcome"] != "WRONG" for row in rows.values()) else 1


def _name(way: str, point: str, victim: str) -> str:
    return f"{way}/{point}/{victim}"


def _recorded() -> list[dict[str, str]]:
    return list(json.loads(FILE.read_text())["cases"]) if FILE.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
