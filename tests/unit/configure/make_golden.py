"""Write the golden trees anew: ``python -m tests.unit.configure.make_golden``. Read the diff before it is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

from hpadmin.configure import tree
from hpadmin.configure.desired import render
from tests.unit.configure.clusters import CASES

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for name, case in CASES.items():
        tree.write(GOLDEN / name, render(case.make(), case.options))


if __name__ == "__main__":
    main()
