"""How long ``hpadmin lab up`` takes from a warm image until Slurm has all compute nodes idle, and what a node costs.

python -m benchmarks.bench_lab [COUNT…]

Containers of one host share its cores, where instances of a cloud have their own: the seconds grow with the work of
all nodes together, divided by the cores. So the processor time of one node is told as well, read from the engine:
as long as that stays the same, nothing that a node does depends on how many there are.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import uuid

from hpadmin.lab import image
from hpadmin.lab.cluster import Lab
from hpadmin.lab.engine import connect
from hpadmin.request import Source

COUNTS = (4, 16, 32)


def request(count: int) -> Source:
    """A controller and `count` compute nodes."""
    groups: list[tuple[str, int, dict[str, object]]] = [("controller", 1, {"NodeType": "Controller"})]
    groups.append(("compute", count, {"NodeType": "Compute", "PartitionNames": ["batch"]}))
    body = {
        "ClusterName": "bench",
        "InstanceGroups": [
            {
                "InstanceGroupName": name,
                "InstanceType": "ml.c5.xlarge",
                "InstanceCount": number,
                "ExecutionRole": "arn:aws:iam::111122223333:role/bench",
                "SlurmConfig": role,
            }
            for name, number, role in groups
        ],
    }
    return Source(json.dumps(body), "bench.json")


def cpu_seconds(lab: Lab) -> dict[str, float]:
    """Return the processor time that each node used, by instance name."""
    api = connect().api
    found = {}
    for node in lab.nodes():
        told = api.stats(node.container, stream=False, one_shot=True)
        found[node.instance.name] = told["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    return found


def measure(count: int) -> tuple[float, dict[str, float]]:
    """Bring a cluster up and take it down; return the seconds until all nodes were idle, and what each used."""
    lab = Lab.open(f"bench-{uuid.uuid4().hex[:8]}")
    started = time.monotonic()
    try:
        lab.up(request(count), say=lambda _: None)
        return time.monotonic() - started, cpu_seconds(lab)
    finally:
        lab.down(say=lambda _: None)


def main(counts: list[int]) -> int:
    """Measure each count and print a line for it."""
    image.ensure_node(connect())
    print(f"{os.cpu_count()} cores")
    columns = ("nodes", "load before", "seconds", "s a node", "CPU s a node", "CPU s controller")
    print("  ".join(f"{name:>16}" for name in columns))
    for count in counts or COUNTS:
        load = os.getloadavg()[0]
        seconds, used = measure(count)
        controller = used.pop("controller-1")
        told = (count, load, seconds, seconds / count, statistics.median(used.values()), controller)
        print(
            "  ".join(f"{value:16.2f}" if isinstance(value, float) else f"{value:16}" for value in told),
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main([int(argument) for argument in sys.argv[1:]]))
