"""Break nodes of a lab in every way there is, one after the other, and measure what becomes of each.

    python benchmarks/bench_repair.py          # with the agent: seconds to notice, to act, to return
    python benchmarks/bench_repair.py --stock  # the same faults, and nobody but Slurm to notice
    python benchmarks/bench_repair.py --release 26.05

Prints JSON; the tables of docs/node-repair.md were made from it. The agent is the lab's own, with the lab's settings;
SlurmdTimeout is 300 s, as the lab has it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from hpadmin.lab.cluster import Lab
from hpadmin.slurm.commands import CommandReader
from tests.lab.test_repair import LIFECYCLE, Site
from tests.support import labs
from tests.support.faults import FAULTS

WORKERS = 4
PATIENCE = 420.0

Events = list[Mapping[str, Any]]


def first(found: Events, kind: str, since: float) -> float | None:
    return next((round(event["time"] - since, 1) for event in found if event["kind"] == kind), None)


def with_agent(lab: Lab) -> list[dict[str, object]]:
    """Each fault on the next node; a job runs on the last one all the time."""
    site = Site(lab)
    hosts = site.hosts()
    bystander = labs.submit(lab, "-p", "gpu", "-w", hosts[-1], "--wrap", "sleep 36000")
    results: list[dict[str, object]] = []
    for index, name in enumerate([*(fault.name for fault in FAULTS), "hpadmin node reboot"]):
        node = hosts[index % (len(hosts) - 1)]
        before = site.kinds(node).count("repaired")
        since = time.time()
        for fault in FAULTS:
            if fault.name == name:
                fault.inject(lab, node)
        if name == "hpadmin node reboot":
            site.run("hpadmin", "node", "reboot", node, "--yes", "--no-wait")
        labs.wait_until(partial(site.returned, node, before), PATIENCE, f"{node} back after {name}")
        found = [event for event in site.story(node)[node] if event["time"] >= since]
        results.append(
            {
                "fault": name,
                "noticed": first(found, "opened", since),
                "acted": first(found, "asking", since),
                "returned": first(found, "repaired", since),
                "requests": [
                    event["text"].partition(" of ")[0] for event in found if event["kind"] == "asking"
                ],
                "bystander": labs.job_field(lab, bystander, "JobState"),
                "bystander_restarts": labs.job_field(lab, bystander, "Restarts"),
            }
        )
        sys.stderr.write(json.dumps(results[-1]) + "\n")
    return results


def stock(lab: Lab) -> list[dict[str, object]]:
    """All faults at once, each on a node of its own; what Slurm says of the nodes until it gave them up."""
    controller = lab.runner(lab.controller().instance.name)
    hosts = Site(lab).hosts()
    chosen = [fault for fault in FAULTS if fault.name != "Action:Replace"]
    since: dict[str, float] = {}
    seen: dict[str, dict[str, float]] = {}
    for fault, node in zip(chosen, hosts, strict=False):
        fault.inject(lab, node)
        since[node], seen[node] = time.time(), {}
    end = time.time() + PATIENCE
    while time.time() < end:
        for found in CommandReader(controller).nodes():
            if found.name in since:
                seen[found.name].setdefault(str(found.state), round(time.time() - since[found.name], 1))
        time.sleep(2)
    return [
        {"fault": fault.name, "states": seen[node], "watched": PATIENCE}
        for fault, node in zip(chosen, hosts, strict=False)
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--stock", action="store_true")
    arguments.add_argument("--release", default="24.11")
    given = arguments.parse_args()
    workers = WORKERS + given.stock
    source = labs.request(
        ("controller", "ml.c5.xlarge", 1, "Controller", None),
        ("workers", "ml.g5.12xlarge", workers, "Compute", "gpu"),
    )
    lifecycle = labs.unattended() if given.stock else LIFECYCLE
    with labs.running_lab(source, lifecycle=lifecycle, release=given.release) as lab:
        results = stock(lab) if given.stock else with_agent(lab)
    print(
        json.dumps(
            {
                "slurm": given.release,
                "load_average": os.getloadavg(),
                "cores": os.cpu_count(),
                "results": results,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
