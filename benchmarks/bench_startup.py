"""How long ``hpadmin --help`` takes, as a ratio to starting Python and doing nothing.

python -m benchmarks.bench_startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 41


def main() -> int:
    """Run the commands in turn, so that a busy machine is busy for all of them; print medians and ratios."""
    hpadmin = str(Path(sys.executable).with_name("hpadmin"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "hpadmin --help": [hpadmin, "--help"],
        "hpadmin config --help": [hpadmin, "config", "--help"],
        "python -c 'import click'": [sys.executable, "-c", "import click"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, argv in commands.items():
            started = time.perf_counter()
            subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - started)
    base = times["python -c pass"]
    print(f"{'command':26} {'median ms':>10} {'times python -c pass':>22}")
    for name, taken in times.items():
        ratio = statistics.median(one / zero for one, zero in zip(taken, base, strict=True))
        print(f"{name:26} {statistics.median(taken) * 1000:10.1f} {ratio:22.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
