"""Train over four nodes of a lab, break it in every way there is, and measure what becomes of the training.

    python benchmarks/bench_resume.py                     # with auto-resume: seconds to know and to run again
    python benchmarks/bench_resume.py --stock             # the same faults on stock Slurm, SlurmdTimeout=300
    python benchmarks/bench_resume.py --only "network cut" --mode gres

Prints JSON; the tables of docs/auto-resume.md were made from it. The agent is the real command, watching the lab
from outside, and it repairs the nodes meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from hpadmin.lab.cluster import Lab
from hpadmin.request import Source
from tests.support import labs, training
from tests.support.trainingfaults import MODES, STOCK, TRAINING_FAULTS, StockOutcome, record, stock

NODES = 8
"""Of each of the two groups: a training has 4, and what was broken before may still be under repair."""


WATCHED = 600.0
"""Seconds that stock Slurm is watched for: SlurmdTimeout, the delay of a requeue, and some."""
CONTROLLER = ("controller", "ml.c5.xlarge", 1, "Controller", None)


def request() -> Source:
    return training.with_shared_home(
        labs.request(
            CONTROLLER,
            ("cpu", "ml.c5.xlarge", NODES, "Compute", "cpu"),
            ("gpu", "ml.g5.12xlarge", NODES, "Compute", "gpu"),
        )
    )


def without_agent() -> list[StockOutcome]:
    source = labs.request(CONTROLLER, ("cpu", "ml.c5.xlarge", 4 * len(STOCK) + 4, "Compute", "cpu"))
    with labs.running_lab(training.with_shared_home(source), bundle=training.BUNDLE) as lab:
        return stock(lab, MODES[0], WATCHED)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", action="append", default=[], help="this fault alone")
    arguments.add_argument("--mode", action="append", default=[], help="these trainings alone")
    arguments.add_argument("--lab", help="a lab that is up already and stays up")
    arguments.add_argument("--stock", action="store_true", help="Slurm alone")
    given = arguments.parse_args()
    if given.stock:
        tell([asdict(one) for one in without_agent()])
        return
    chosen = [
        (mode, fault)
        for mode in MODES
        for fault in TRAINING_FAULTS
        if mode.name in fault.modes
        and (not given.only or fault.name in given.only)
        and (not given.mode or mode.name in given.mode)
    ]
    with contextlib.ExitStack() as stack:
        lab = (
            Lab.open(given.lab)
            if given.lab
            else stack.enter_context(
                labs.running_lab(request(), lifecycle=training.LIFECYCLE, bundle=training.BUNDLE)
            )
        )
        agent = training.Agent(lab, Path(tempfile.mkdtemp(prefix="hpadmin-resume-")))
        sys.stderr.write(f"{agent.folder}\n")
        stack.enter_context(agent.running())
        outcomes = record(agent, chosen, tell=lambda one: sys.stderr.write(f"{json.dumps(one.as_json())}\n"))
    tell([one.as_json() for one in outcomes])


def tell(results: list[dict[str, object]]) -> None:
    condition = {"load_average": os.getloadavg(), "cores": os.cpu_count()}
    print(json.dumps({**condition, "results": results}, indent=2))


if __name__ == "__main__":
    main()
