"""How long a configuration takes to render, and how much memory: ``python benchmarks/bench_render.py``.

Prints one line a size: seconds to validate request and inventory, seconds to render, peak memory, and seconds a
thousand nodes. Each size runs in a process of its own. Exit code 1 when the growth is not linear: when the largest
takes more than twice the time a node of the size before it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

SIZES = (100, 1_000, 16_000)
LARGEST_GROUP = 6_758
"""InstanceCount's limit."""


def request(nodes: int) -> dict[str, Any]:
    """A request of `nodes` compute nodes in as few groups as the limit allows."""
    groups = [_group("controller", 1, {"NodeType": "Controller"})]
    groups += [
        _group(f"workers-{n}", size, {"NodeType": "Compute", "PartitionNames": [f"part-{n}"]})
        for n, size in enumerate(sizes(nodes))
    ]
    return {"ClusterName": "bench", "InstanceGroups": groups}


def inventory(nodes: int) -> dict[str, Any]:
    """Their instances, in UltraServers of 18."""
    groups = [
        {"Name": "controller", "InstanceType": "ml.c5.xlarge", "Instances": [_instance("controller", 0, 0)]}
    ]
    place = 0
    for n, size in enumerate(sizes(nodes)):
        instances = []
        for index in range(size):
            place += 1
            entry = _instance(f"workers-{n}", index, place)
            instances.append(entry | {"UltraServerInfo": {"Id": f"us-{place // 18:04}"}})
        groups.append(
            {"Name": f"workers-{n}", "InstanceType": "ml.p6e-gb200.36xlarge", "Instances": instances}
        )
    return {"ClusterConfig": {"ClusterName": "bench"}, "InstanceGroups": groups}


def sizes(nodes: int) -> list[int]:
    """Group sizes that add up to `nodes`."""
    whole, rest = divmod(nodes, LARGEST_GROUP)
    return [LARGEST_GROUP] * whole + ([rest] if rest else [])


def measure(nodes: int) -> dict[str, float]:
    """Validate and render once; seconds and peak memory in MiB."""
    from hpadmin import request as requests
    from hpadmin.configure import desired

    body, instances = json.dumps(request(nodes)), json.dumps(inventory(nodes))
    start = time.perf_counter()
    wanted = requests.read(requests.Source(body, "request.json"))
    cluster = requests.build(wanted, requests.read_inventory(requests.Source(instances, "inventory.json")))
    built = time.perf_counter()
    files = desired.render(cluster)
    rendered = time.perf_counter()
    assert len(cluster.computes) == nodes
    return {
        "nodes": nodes,
        "read": built - start,
        "render": rendered - built,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "lines": files["slurm.conf"].count("\n"),
    }


def main() -> int:
    print(
        f"{'nodes':>7} {'read s':>8} {'render s':>9} {'ms/node':>8} {'peak MiB':>9} {'slurm.conf lines':>17}"
    )
    results = []
    for nodes in SIZES:
        done = subprocess.run(
            [sys.executable, __file__, str(nodes)], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        results.append(found)
        a_node = found["render"] / nodes * 1000
        print(
            f"{nodes:>7} {found['read']:>8.2f} {found['render']:>9.2f} {a_node:>8.3f} "
            f"{found['peak_mib']:>9.1f} {found['lines']:>17}"
        )
    before, last = ((each["read"] + each["render"]) / each["nodes"] for each in results[-2:])
    if last > 2 * before:
        print("growth is not linear", file=sys.stderr)
        return 1
    return 0


def _group(name: str, count: int, slurm: dict[str, Any]) -> dict[str, Any]:
    return {
        "InstanceGroupName": name,
        "InstanceType": "ml.c5.xlarge" if name == "controller" else "ml.p6e-gb200.36xlarge",
        "InstanceCount": count,
        "SlurmConfig": slurm,
        "ExecutionRole": "arn:aws:iam::111122223333:role/bench",
    }


def _instance(group: str, index: int, place: int) -> dict[str, Any]:
    return {
        "InstanceName": f"{group}-{index + 1}",
        "CustomerIpAddress": f"10.{place // 62500}.{place // 250 % 250}.{place % 250 + 1}",
        "InstanceId": f"i-{place:017x}",
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        raise SystemExit(main())
