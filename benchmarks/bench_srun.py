"""What the SPANK plugin costs an srun that does not use it: with it and without, in turn, in one allocation.

    python -m benchmarks.bench_srun [RUNS]

Wall time is what a user waits for; CPU time (srun's own and its threads') is what the plugin can add to, and is
quieter on a busy machine. Fails where the median pair differs by more than 5 ms of CPU time.
"""

from __future__ import annotations

import json
import statistics
import sys

from tests.slurm.resume.cluster import HOME, cluster

LIMIT = 0.005
PLAIN = """
mkdir -p /etc/plain && cp /etc/slurm/gres.conf /etc/slurm/cgroup.conf /etc/plain && : >/etc/plain/plugstack.conf
sed 's|^PlugStackConfig=.*|PlugStackConfig=/etc/plain/plugstack.conf|' /etc/slurm/slurm.conf >/etc/plain/slurm.conf
chmod -R a+rX /etc/plain
"""
MEASURE = """
import json, os, resource, subprocess, sys, time

def run(conf):
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(["srun", "-N1", "-n1", "true"], env={**os.environ, "SLURM_CONF": conf}, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, cpu

confs = ["/etc/slurm/slurm.conf", "/etc/plain/slurm.conf"]
for conf in confs:
    run(conf)
pairs = []
for index in range(int(sys.argv[1])):
    order = confs if index % 2 else confs[::-1]
    taken = {conf: run(conf) for conf in order}
    pairs.append([taken[conf] for conf in confs])
print(json.dumps(pairs))
"""


def main(runs: int) -> int:
    """Measure `runs` pairs; print medians, differences and ratios."""
    with cluster() as slurm:
        slurm.sh(PLAIN).check()
        slurm.root.put(f"{HOME}/measure.py", MEASURE)
        command = ["salloc", "-Q", "-N1", "python3", "measure.py", str(runs)]
        pairs = json.loads(slurm.as_user(*command, timeout=3600).check().stdout)
    print(f"{runs} pairs of 'srun -N1 -n1 true'")
    print(f"{'':10} {'with ms':>9} {'without ms':>11} {'median difference ms':>21} {'median ratio':>13}")
    extra = 0.0
    for index, kind in enumerate(("wall", "CPU")):
        one = [pair[0][index] for pair in pairs]
        zero = [pair[1][index] for pair in pairs]
        extra = statistics.median(a - b for a, b in zip(one, zero, strict=True))
        ratio = statistics.median(a / b for a, b in zip(one, zero, strict=True))
        print(
            f"{kind:10} {statistics.median(one) * 1000:9.2f} {statistics.median(zero) * 1000:11.2f}"
            f" {extra * 1000:21.2f} {ratio:13.3f}"
        )
    return 0 if extra < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 60))
