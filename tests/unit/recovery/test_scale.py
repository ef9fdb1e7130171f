"""One look and one decision over 10,000 nodes and 5,000 jobs, in a process of its own: its memory, and what it asks.

How long it takes is the benchmark's to say (``python -m benchmarks agent``).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hpadmin.recovery.policy import Settings

PROJECT = Path(__file__).resolve().parents[3]


def test_ten_thousand_nodes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_agent", "10000", "5000"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    result = json.loads(done.stdout)
    assert (result["nodes"], result["jobs"]) == (10_000, 5_000)
    assert result["actions"] >= 100
    assert result["peak_mib"] < 300, result
    assert result["rpcs_a_minute"] <= 60 / Settings().interval * 3
