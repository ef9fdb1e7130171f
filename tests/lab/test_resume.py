"""Trainings that resume when machines die under them: real slurmds, a container a node, the real agent.

A sample of the table in docs/auto-resume.md, all of which `benchmarks/bench_resume.py` makes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpadmin.lab.cluster import Lab
from tests.support import labs, training
from tests.support.training import Agent, Training
from tests.support.trainingfaults import MODES, PATIENCE, TRAINING_FAULTS, record, undisturbed

pytestmark = pytest.mark.lab

PATIENT = "[resume]\nsilent_after = 6\n"
"""More nodes than cores: a slurmd may have to wait for seconds until it can say a word."""
SAMPLE = {
    "no GRES": ("slurmd hangs", "network cut", "batch host killed"),
    "GRES": ("GPU lost",),
    "GRES, one spare": ("container killed",),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    source = labs.request(
        ("controller", "ml.c5.xlarge", 1, "Controller", None),
        ("cpu", "ml.c5.xlarge", 6, "Compute", "cpu"),
        ("gpu", "ml.g5.12xlarge", 7, "Compute", "gpu"),
    )
    source = training.with_shared_home(source)
    with labs.running_lab(source, lifecycle=training.LIFECYCLE, bundle=training.BUNDLE) as running:
        yield running


def test_a_machine_that_wakes_up_later_spoils_nothing(lab: Lab, tmp_path: Path) -> None:
    """The leader's host hangs; the training goes on elsewhere; then the host wakes up with the old leader on it."""
    mode = MODES[0]
    with Agent(lab, tmp_path).running(training.SETTINGS + "automatic = false\n" + PATIENT) as agent:
        expected = undisturbed(lab, mode)
        job = Training.submit(lab, *mode.options)
        job.wait_for_step(10)
        host = job.batch_host()
        lab.fault(host, "pause")
        labs.wait_until(lambda: len(job.starts(job.output())) == 2, PATIENCE, "the training runs elsewhere")
        lab.fault(host, "heal")
        assert job.wait_for_end(PATIENCE) in ("COMPLETED", "COMPLETING")
        assert job.result() == expected
        assert host not in job.nodes()
        assert [each.action for each in agent.incidents(job.job)] == ["REQUEUE"]
        # What was frozen meets a job that is not there any more, and ends.
        labs.wait_until(lambda: not _left(lab, host, job), 60, f"nothing of job {job.job} left on {host}")


def _left(lab: Lab, host: str, job: Training) -> str:
    return lab.runner(host).run(["pgrep", "-a", "-f", job.pattern], timeout=30).stdout


def test_one_recovery_a_fault_and_the_same_result(lab: Lab, tmp_path: Path) -> None:
    chosen = [(mode, fault) for mode in MODES for fault in TRAINING_FAULTS if fault.name in SAMPLE[mode.name]]
    with Agent(lab, tmp_path).running(training.SETTINGS + PATIENT) as agent:
        outcomes = record(agent, chosen, tell=lambda one: sys.stdout.write(f"{json.dumps(one.as_json())}\n"))
    for (_, fault), outcome in zip(chosen, outcomes, strict=True):
        assert outcome.state in ("COMPLETED", "COMPLETING"), outcome
        assert outcome.same_result, outcome
        assert outcome.recoveries == fault.recoveries, outcome
        assert outcome.left_behind == "", outcome
