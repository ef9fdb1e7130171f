"""A rack is lost: 200 jobs of 40 nodes fail within a second on a real slurmctld. Who is handled when, at what price?

    python -m benchmarks.bench_rack [--jobs 200] [--markdown FILE]

One container with a network namespace for each rack and light nodes in them (tests/slurm/resume/rack.py): the jobs
run, their nodes are real slurmds, and the loss is a cut cable and kill -9 of everything behind it. The agent looks
every second. The second rack takes half of the jobs, so that the order in which they start again is seen: it is
fair when no job starts before one that was submitted earlier, apart from those that start together.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

from tests.slurm.resume import rack
from tests.slurm.resume.cluster import until

DEADLINE = 1800.0


def measure(jobs: int) -> list[tuple[str, str]]:
    """Lose a rack with so many jobs; return what was seen, as rows of a table. AssertionError past the deadline."""
    nodes = jobs // rack.PER_NODE
    with rack.racks(nodes, nodes // 2) as cluster:
        ids = rack.submit(cluster, jobs, f"b[1-{nodes // 2}]")
        cluster.start_agent()
        until(lambda: len(cluster.jobs()) == jobs, 1200, lambda: cluster.sh("tail /var/log/agent.log").stdout)
        quiet = [rack.latency(cluster) for _ in range(10)]
        before = {job: len(times) for job, times in rack.starts(cluster, ids).items()}
        cluster.root.run(["sdiag", "-r"], timeout=60).check()
        lost = time.time()
        cluster.lose_rack(1)
        gone = time.time()
        busy, handled = list[float](), 0.0
        while True:
            busy.append(rack.latency(cluster))
            known = cluster.jobs()
            if not handled and all(known[job]["last_action"] == "REQUEUE" for job in ids):
                handled = time.time()
            times = rack.starts(cluster, ids)
            again = {job: times[job][-1] for job in ids if len(times[job]) > before[job]}
            if handled and len(again) >= jobs // 2:
                break
            assert time.time() - lost < DEADLINE, cluster.sh("squeue | tail; tail /var/log/agent.log").stdout
            time.sleep(1)
        counts = cluster.rpcs()
        cycles = cluster.sh("grep -o 'cycle of [0-9.]*' /var/log/agent.log").stdout.split()[2::3]
    first = sorted(again, key=lambda job: again[job])
    late = [job for job in ids[: jobs // 2] if job not in again]
    rpcs = sum(counts.values())
    top = ", ".join(
        f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:6]
    )
    return [
        ("jobs, nodes lost", f"{jobs}, {nodes}, within {gone - lost:.1f} s"),
        ("load of the machine (2 cores)", f"{os.getloadavg()[0]:.0f}"),
        ("all decided, and requeued under their ids", f"{handled - lost:.0f} s after the loss"),
        (
            "first, last of the half that fits runs again",
            f"{again[first[0]] - lost:.0f} s, {again[first[-1]] - lost:.0f} s",
        ),
        (
            "of the first half in the order of submission, started again",
            f"{jobs // 2 - len(late)} of {jobs // 2}",
        ),
        ("jobs lost or doubled", f"{jobs - len(known)}"),
        ("longest cycle of the agent", f"{max(map(float, cycles)):.1f} s"),
        ("squeue before: median, longest", f"{statistics.median(quiet):.2f} s, {max(quiet):.2f} s"),
        ("squeue meanwhile: median, longest", f"{statistics.median(busy):.2f} s, {max(busy):.2f} s"),
        ("RPCs to slurmctld until then, a job", f"{rpcs}, {rpcs / jobs:.1f}"),
        ("most of them", top),
    ]


def main() -> int:
    """Measure, print and perhaps write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    table = measure(given.jobs)
    text = "| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in table)
    print(text)
    if given.markdown:
        given.markdown.write_text(
            "# A rack is lost\n\nRecorded by `python -m benchmarks.bench_rack` (its first lines tell how).\n\n"
            + text
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
