"""Run every benchmark of this folder, one process each: ``python -m benchmarks [NAME…]``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Run the named benchmarks (``render``), or all; return 1 when one of them failed."""
    here = Path(__file__).resolve().parent
    found = {path.stem.removeprefix("bench_"): path.stem for path in sorted(here.glob("bench_*.py"))}
    failed = []
    for name in names or found:
        print(f"\n=== {name} ===", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{found[name]}"], cwd=here.parent, check=False
        )
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
