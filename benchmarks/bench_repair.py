"""Break nodes of a lab in every way there is, one after the other, and measure what becomes of each.

    python benchmarks/bench_repair.py          # with the agent: seconds to notice, to act, to return
    python benchmarks/bench_repair.py --stock  # the same faults, and nobody but Slurm to notice

Prints JSON; the tables of docs/node-repair.md were made from it. The agent is the real command, watching the lab
from outside; SlurmdTimeout is 300 s, as the lab has it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpadmin.lab.cluster import Lab
from hpadmin.recovery.journal import Event, Journal
from hpadmin.recovery.site import JOURNAL
from hpadmin.slurm.commands import CommandReader
from tests.lab.test_repair import LIFECYCLE, SETTINGS
from tests.support import labs
from tests.support.faults import FAULTS

WORKERS = 4
PATIENCE = 420.0


def reader(lab: Lab) -> CommandReader:
    return CommandReader(lab.runner(lab.controller().instance.name))


def events(folder: Path, node: str, since: float) -> list[Event]:
    with contextlib.closing(Journal(folder / JOURNAL)) as journal:
        return [event for event in journal.events(node, last=1000) if event.at >= since]


def first(found: list[Event], kind: str, since: float) -> float | None:
    return next((round(event.at - since, 1) for event in found if event.kind == kind), None)


def in_service(lab: Lab, node: str) -> bool:
    found = reader(lab).node(node)
    return found is not None and found.state.schedulable


def with_agent(lab: Lab) -> list[dict[str, object]]:
    """Each fault on the next node; a job runs on the last one all the time."""
    folder = Path(tempfile.mkdtemp(prefix="hpadmin-bench-"))
    (folder / "agent.toml").write_text(SETTINGS)
    options = ["--lab", lab.name, "--state-dir", str(folder), "--config", str(folder / "agent.toml")]
    hpadmin = str(Path(sys.executable).with_name("hpadmin"))
    hosts = sorted(node.name for node in reader(lab).nodes())
    bystander = labs.submit(lab, "-p", "gpu", "-w", hosts[-1], "--wrap", "sleep 36000")
    results: list[dict[str, object]] = []
    with (folder / "agent.log").open("wb") as log:
        agent = subprocess.Popen([hpadmin, "agent", "run", *options], stdout=log, stderr=log)
    try:
        for index, name in enumerate([*(fault.name for fault in FAULTS), "hpadmin node reboot"]):
            node = hosts[index % (len(hosts) - 1)]
            since = time.time()
            for fault in FAULTS:
                if fault.name == name:
                    fault.inject(lab, node)
            if name == "hpadmin node reboot":
                subprocess.run([hpadmin, "node", "reboot", node, "--yes", "--no-wait", *options], check=True)
            labs.wait_until(lambda: events(folder, node, since), PATIENCE, f"{name} noticed")  # noqa: B023
            labs.wait_until(
                lambda: events(folder, node, since)[-1].kind == "repaired" and in_service(lab, node),  # noqa: B023
                PATIENCE,
                f"{node} back after {name}",
            )
            found = events(folder, node, since)
            results.append(
                {
                    "fault": name,
                    "noticed": first(found, "opened", since),
                    "acted": first(found, "asking", since),
                    "returned": round(found[-1].at - since, 1),
                    "requests": [
                        event.text.partition(" of ")[0] for event in found if event.kind == "asking"
                    ],
                    "bystander": labs.job_field(lab, bystander, "JobState"),
                    "bystander_restarts": labs.job_field(lab, bystander, "Restarts"),
                }
            )
            sys.stderr.write(json.dumps(results[-1]) + "\n")
    finally:
        agent.terminate()
        agent.wait(60)
    return results


def stock(lab: Lab) -> list[dict[str, object]]:
    """All faults at once, each on a node of its own; what Slurm says of the nodes until it gave them up."""
    controller = lab.runner(lab.controller().instance.name)
    hosts = sorted(node.name for node in reader(lab).nodes())
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
    given = arguments.parse_args()
    workers = WORKERS + given.stock
    source = labs.request(
        ("controller", "ml.c5.xlarge", 1, "Controller", None),
        ("workers", "ml.g5.12xlarge", workers, "Compute", "gpu"),
    )
    lifecycle = "profile: container\n" if given.stock else LIFECYCLE
    with labs.running_lab(source, lifecycle=lifecycle) as lab:
        results = stock(lab) if given.stock else with_agent(lab)
    print(
        json.dumps({"load_average": os.getloadavg(), "cores": os.cpu_count(), "results": results}, indent=2)
    )


if __name__ == "__main__":
    main()
