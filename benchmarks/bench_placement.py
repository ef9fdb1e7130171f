"""Placements a second on a large cluster, next to slurmctld's own ``--test-only`` in the same run.

    python -m benchmarks.bench_placement [ULTRASERVERS]

The cluster is 1,000 UltraServers (18,000 nodes) with three nodes in ten drained. Both answer the same questions; the
nodes that they name are compared. slurmctld 24.11 runs in a container, with CLOUD nodes and no slurmd; its time is
given as a user sees it (sbatch's start included) and as slurmctld counts it (sdiag). Then the topology of all nodes
is rendered, and its picture drawn.
"""

from __future__ import annotations

import functools
import json
import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from hpadmin.model import Cluster, Hardware, Instance, Node, Strategy
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.topology.choose import choose
from hpadmin.topology.picture import picture
from hpadmin.topology.placement import NodeView, Planner, Request, Snapshot
from hpadmin.topology.release import Release
from tests.slurm.topology.record import ORACLE
from tests.support.box import box

TYPE = "ml.p6e-gb200.36xlarge"
QUESTIONS = [
    (["-N18"], Request(18)),
    (["-N16"], Request(16)),
    (["-N9"], Request(9)),
    (["-N64", "--segment=8"], Request(64, 8)),
    (["-N256", "--segment=4"], Request(256, 4)),
    (["-N100"], Request(100)),
    (["-N1000"], Request(1000)),
    (["-N500", "--segment=10"], Request(500, 10)),
]
ROUNDS = 2


def cluster(ultraservers: int) -> Cluster:
    """So many UltraServers of 18 nodes."""
    hardware = Hardware(TYPE, 144, 144, 1, 983040, "arm64", "gb200", "gpu", 4)
    nodes = [
        Node(
            f"us{server}-{slot}",
            Instance(
                f"us{server}-{slot}", "gb200", TYPE, f"i-{server}-{slot}", "10.0.0.1", (), f"us{server}"
            ),
            hardware,
            1,
        )
        for server in range(1, ultraservers + 1)
        for slot in range(18)
    ]
    return Cluster("bench", Strategy.MANAGED, (), (), (), tuple(nodes), partitions={"all": ("gb200",)})


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def repeat(planner: Planner, request: Request) -> None:
    """Ask the same question `ROUNDS` times."""
    for _ in range(ROUNDS):
        planner.place(request)


def main(ultraservers: int) -> None:
    """Run everything and print one line a measurement."""
    model = cluster(ultraservers)
    names = [node.name for node in model.computes]
    drained = set(random.Random(1).sample(names, 3 * len(names) // 10))
    render = timed(lambda: choose(model, "24.11"))
    choice = choose(model, "24.11")
    print(f"rendering the topology of {len(names)} nodes: {render:.2f} s")

    snapshot = Snapshot(tuple(NodeView(name, cpus=144) for name in names), choice.topologies, Release(24, 11))
    snapshot = replace(
        snapshot,
        nodes=tuple(replace(node, usable=node.name not in drained) for node in snapshot.nodes),
    )
    planner = Planner(snapshot)
    first = timed(lambda: planner.place(Request(18)))
    print(f"first placement on a new snapshot: {first:.3f} s")
    ours = {}
    for args, request in QUESTIONS:
        spent = timed(functools.partial(repeat, planner, request))
        ours[" ".join(args)] = planner.place(request)
        print(f"  {' '.join(args):<22} {spent / ROUNDS * 1000:8.2f} ms")
    whole = timed(lambda: [planner.place(request) for _ in range(ROUNDS) for _, request in QUESTIONS])
    rate = ROUNDS * len(QUESTIONS) / whole
    print(f"our placements: {rate:.0f} a second")

    lines = [f"NodeName={fold(names)} CPUs=144 State=CLOUD", "PartitionName=all Nodes=ALL Default=YES"]
    files = {**choice.files, "slurm.conf": "\n".join([*lines, "TopologyPlugin=topology/block"]) + "\n"}
    question = {
        "ask": [args for args, _ in QUESTIONS],
        "rounds": ROUNDS,
        "files": files,
        "drained": sorted(drained),
    }
    with box("24.11") as machine:
        machine.put("/tmp/oracle.py", ORACLE.read_text())
        done = machine.run(["python3", "/tmp/oracle.py"], stdin=json.dumps(question) + "\n", timeout=1800)
    answer = json.loads(done.check().stdout)
    inside = answer["inside"]
    print(f"sbatch --test-only: {1 / answer['seconds']:.1f} a second")
    if inside:
        print(
            f"slurmctld's own part of it: {1 / inside:.1f} a second; we answer {rate * inside:.1f} times as many"
        )
    same = 0
    for (args, _), said in zip(QUESTIONS, answer["said"], strict=True):
        found = re.search(r" on nodes (\S+) in partition", said)
        theirs = set(expand(found[1])) if found else set()
        same += theirs == set(ours[" ".join(args)].nodes)
    print(f"same nodes as slurmctld: {same} of {len(QUESTIONS)} questions")
    print(f"drawing all of them: {timed(lambda: picture(snapshot)):.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
