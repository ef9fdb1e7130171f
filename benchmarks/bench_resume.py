"""Train over four nodes of a lab, break it in every way there is, and measure what becomes of the training.

    python benchmarks/bench_resume.py                     # with auto-resume: seconds to know and to run again
    python benchmarks/bench_resume.py --stock             # the same faults on stock Slurm, SlurmdTimeout=300
    python benchmarks/bench_resume.py --only "network cut" --mode gres

Prints JSON; the tables of docs/auto-resume.md were made from it. The agent is the real command, watching the lab
from outside, and it repairs the nodes meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hpadmin.lab.cluster import Lab
from tests.support import training
from tests.support.trainingfaults import (
    MODES,
    TRAINING_FAULTS,
    Mode,
    Outcome,
    TrainingFault,
    under,
    undisturbed,
)


def record(lab: Lab, agent: training.Agent, mode: Mode, faults: Sequence[TrainingFault]) -> list[Outcome]:
    """Each fault in turn, on healthy nodes."""
    names = [node.instance.hostname for node in lab.nodes() if node.instance.group == mode.group]
    training.heal(lab, names, within=120)
    expected = undisturbed(lab, mode)
    outcomes = []
    for fault in faults:
        if mode.name in fault.modes:
            outcome = under(lab, agent, mode, fault, expected)
            outcomes.append(outcome)
            sys.stderr.write(json.dumps(outcome.as_json()) + "\n")
            training.heal(lab, names, within=150)
    return outcomes


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", action="append", default=[], help="this fault alone")
    arguments.add_argument("--mode", action="append", default=[], help="these nodes alone")
    arguments.add_argument("--lab", help="a lab that is up already, left up")
    given = arguments.parse_args()
    faults = [fault for fault in TRAINING_FAULTS if not given.only or fault.name in given.only]
    modes = [mode for mode in MODES if not given.mode or mode.name in given.mode]
    agent = training.Agent(Lab.open(given.lab), Path(tempfile.mkdtemp(prefix="hpadmin-resume-")))
    sys.stderr.write(f"{agent.folder}\n")
    with agent.running():
        outcomes = [one for mode in modes for one in record(agent.lab, agent, mode, faults)]
    print(
        json.dumps(
            {
                "load_average": os.getloadavg(),
                "cores": os.cpu_count(),
                "results": [one.as_json() for one in outcomes],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
