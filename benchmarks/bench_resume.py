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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hpadmin.lab.cluster import Lab
from hpadmin.request import Source
from tests.support import labs, training
from tests.support.trainingfaults import (
    MODES,
    TRAINING_FAULTS,
    Mode,
    Outcome,
    TrainingFault,
    under,
    undisturbed,
)

NODES = 8
"""Of each of the two groups: a training has 4, and what was broken before may still be under repair."""
FREE = {"no GRES": 6, "GRES": 6, "GRES, one spare": 7}
"""Idle nodes that a training begins with: its own, and those that take the place of the ones it loses."""


def request() -> Source:
    return training.with_shared_home(
        labs.request(
            ("controller", "ml.c5.xlarge", 1, "Controller", None),
            ("cpu", "ml.c5.xlarge", NODES, "Compute", "cpu"),
            ("gpu", "ml.g5.12xlarge", NODES, "Compute", "gpu"),
        )
    )


def record(agent: training.Agent, modes: Sequence[Mode], faults: Sequence[TrainingFault]) -> list[Outcome]:
    """Each fault in turn, one training at a time."""
    outcomes = []
    for mode in modes:
        training.wait_for_idle(agent.lab, mode.group, FREE[mode.name], patience=240)
        expected = undisturbed(agent.lab, mode)
        for fault in faults:
            if mode.name in fault.modes:
                training.wait_for_idle(agent.lab, mode.group, FREE[mode.name], patience=240)
                outcomes.append(under(agent.lab, agent, mode, fault, expected))
                sys.stderr.write(json.dumps(outcomes[-1].as_json()) + "\n")
    return outcomes


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", action="append", default=[], help="this fault alone")
    arguments.add_argument("--mode", action="append", default=[], help="these trainings alone")
    arguments.add_argument("--lab", help="a lab that is up already and stays up")
    given = arguments.parse_args()
    faults = [fault for fault in TRAINING_FAULTS if not given.only or fault.name in given.only]
    modes = [mode for mode in MODES if not given.mode or mode.name in given.mode]
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
        # Trainings without and with GRES at the same time, on nodes of their own.
        halves = [[mode for mode in modes if mode.group == group] for group in ("cpu", "gpu")]
        with ThreadPoolExecutor(len(halves)) as pool:
            outcomes = [
                one for half in pool.map(lambda half: record(agent, half, faults), halves) for one in half
            ]
    condition = {"load_average": os.getloadavg(), "cores": os.cpu_count()}
    print(json.dumps({**condition, "results": [one.as_json() for one in outcomes]}, indent=2))


if __name__ == "__main__":
    main()
