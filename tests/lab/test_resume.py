"""Jobs resume when whole machines die: the recovery agent, real slurmds, a container a node."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.lab.cluster import Lab
from hpadmin.nodes.providers.docker import Docker
from hpadmin.recovery.observe import observe
from hpadmin.recovery.resume.part import over_commands
from hpadmin.recovery.resume.store import Store, path_in
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.control import CommandControl
from tests.support import labs

pytestmark = [pytest.mark.lab, pytest.mark.unsettled]

STEP = """#!/bin/bash
srun bash -c 'echo start $HPADMIN_RESUME_COUNT of $SLURM_NNODES on $SLURMD_NODENAME; sleep %d'
echo exit $?
"""


class Watch(threading.Thread):
    """The agent's part that resumes jobs, looking every second from outside the lab; nodes are not repaired."""

    def __init__(self, lab: Lab, state_dir: Path) -> None:
        super().__init__(daemon=True)
        self._runner = lab.runner(lab.controller().instance.name)
        self._provider, self._state_dir = Docker(lab.name), state_dir
        self.stop = threading.Event()
        self.failure: Exception | None = None
        self.start()

    def run(self) -> None:
        reader = CommandReader(self._runner)
        part = over_commands(reader, CommandControl(self._runner), self._runner, self._state_dir)
        while not self.stop.wait(1.0):
            try:
                part.cycle(observe(reader, self._provider, at=time.time()))
            except OperationFailed as error:  # told by the test; the next look may succeed, as the agent's
                self.failure = error


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    source = labs.request(
        ("controller", "ml.c5.xlarge", 1, "Controller", None),
        ("cpu", "ml.c5.xlarge", 3, "Compute", "cpu"),
        ("gpu", "ml.g5.12xlarge", 3, "Compute", "gpu"),
    )
    with labs.running_lab(source) as running:
        yield running


@pytest.fixture(scope="module")
def store_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


class Job:
    """A job of the lab, its output on its batch host."""

    def __init__(self, lab: Lab, seconds: int, *options: str) -> None:
        self.lab = lab
        runner = lab.runner(lab.controller().instance.name)
        runner.run(["tee", "/tmp/step.sh"], timeout=30, stdin=STEP % seconds).check()
        words = ["sbatch", "--parsable", "-D", "/tmp", "-o", "/tmp/%j.out", "--open-mode=append", *options]
        self.id = int(runner.run([*words, "/tmp/step.sh"], timeout=60).check().stdout)

    def output(self) -> str:
        host = labs.job_field(self.lab, self.id, "BatchHost")
        return self.lab.runner(host).run(["cat", f"/tmp/{self.id}.out"], timeout=30).stdout

    def wait(self, words: str, times: int, seconds: float) -> str:
        def found() -> str | None:
            text = self.output()
            return text if text.count(words) >= times else None

        return labs.wait_until(found, seconds, f"{times} times {words!r} in the output of job {self.id}")


def test_a_machine_dies_under_a_job_without_gres_and_under_one_with_a_spare(
    lab: Lab, store_dir: Path
) -> None:
    watch = Watch(lab, store_dir)
    try:
        grow = Job(lab, 25, "--auto-resume=1", "-N2", "--exclusive", "-p", "cpu")
        spare = Job(
            lab,
            25,
            "--auto-resume=1",
            "--auto-resume-spares=1",
            "-N2",
            "--exclusive",
            "-p",
            "gpu",
            "--gres=gpu:4",
        )
        victims = []
        for job in (grow, spare):
            job.wait("start 0", 2, 120)
            victims.append(labs.nodes_of(lab, job.id)[1])
        for victim in victims:
            lab.fault(lab.node(victim).instance.name, "kill")
        for job, victim in zip((grow, spare), victims, strict=True):
            text = job.wait("exit 0", 1, 240)
            again = re.findall(r"start 1 of 2 on (\S+)", text)
            assert len(again) == 2
            assert victim not in again
            assert "the host does not answer" in text
            assert text.count("Retrying step") == 1
        assert watch.failure is None
        records = {record.job_id: record for record in Store(path_in(store_dir)).jobs(ended=True)}
        for job in (grow, spare):
            assert (records[job.id].resumes, records[job.id].last_action) == (1, "RETRYSTEP")
    finally:
        watch.stop.set()
        watch.join(60)


def test_the_batch_host_dies_and_the_job_starts_again_elsewhere(lab: Lab, store_dir: Path) -> None:
    for node in lab.nodes():
        if node.role == "compute":
            lab.fault(node.instance.name, "heal")
    labs.wait_until(lambda: _back_in_service(lab), 240, "every node in service")
    watch = Watch(lab, store_dir)
    try:
        job = Job(lab, 15, "--auto-resume=1", "-N2", "--exclusive", "-p", "gpu", "--gres=gpu:4")
        job.wait("start 0", 2, 120)
        victim = labs.job_field(lab, job.id, "BatchHost")
        lab.fault(lab.node(victim).instance.name, "kill")
        labs.wait_until(
            lambda: (
                labs.job_field(lab, job.id, "Restarts") == "1"
                and labs.job_field(lab, job.id, "JobState") == "RUNNING"
            ),
            240,
            "the job runs again",
        )
        text = job.wait("start 1 of 2", 2, 120)
        assert victim not in re.findall(r"start 1 of 2 on (\S+)", text)
        assert watch.failure is None
    finally:
        watch.stop.set()
        watch.join(60)


def _back_in_service(lab: Lab) -> bool:
    runner = lab.runner(lab.controller().instance.name)
    lines = runner.run(["sinfo", "-h", "-N", "-o", "%N %T"], timeout=60).check().stdout.splitlines()
    away = {line.split()[0] for line in lines if line.split()[1] != "idle"}
    for name in away:
        runner.run(["scontrol", "update", f"nodename={name}", "state=resume"], timeout=60)
    return not away
