"""Clusters that grow, shrink and lose groups while jobs run: slurmctld goes on, and so does every job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.lab.cluster import Lab
from hpadmin.request import Source
from tests.support import labs

pytestmark = pytest.mark.lab

STATE = "/var/lib/hpadmin/lifecycle/state.json"


def cluster(**counts: int) -> Source:
    """A controller, and compute groups of these counts, each with a partition of its name."""
    groups = [(name, "ml.c5.xlarge", count, "Compute", name) for name, count in counts.items()]
    return labs.request(("controller", "ml.c5.xlarge", 1, "Controller", None), *groups)


@dataclass(frozen=True)
class Witness:
    """What must be the same after a change: the jobs, as Slurm began them, and the slurmctld that began them."""

    lab: Lab
    jobs: dict[int, tuple[str, str, str]]

    @staticmethod
    def of(lab: Lab, *jobs: int) -> Witness:
        """Look at running jobs."""
        return Witness(lab, {job: Witness.seen(lab, job) for job in jobs})

    @staticmethod
    def seen(lab: Lab, job: int) -> tuple[str, str, str]:
        """Start, nodes and restarts of a job."""
        start, nodes, restarts = (
            labs.job_field(lab, job, name) for name in ("StartTime", "NodeList", "Restarts")
        )
        return start, nodes, restarts

    def check(self) -> None:
        """Nobody started, stopped or restarted slurmctld, and the jobs run as they did.

        A reconfigure hands slurmctld's work over to a new process of it (scontrol(1)), so that the number of the
        process says nothing. Its log does: every start but the first must have come of a reconfigure.
        """
        for job, before in self.jobs.items():
            assert labs.job_field(self.lab, job, "JobState") == "RUNNING"
            assert self.seen(self.lab, job) == before
        runner = self.lab.runner("controller-1")
        log = runner.run(["cat", "/var/log/slurm/slurmctld.log"], timeout=120).check().stdout
        assert log.count("slurmctld version") == log.count("Attempting to reconfigure") + 1
        assert "Terminate signal" not in log
        stages = json.loads(runner.run(["cat", STATE], timeout=120).check().stdout)["stages"]
        assert next(each for each in stages if each["stage"] == "controller")["changes"] == []


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labs.running_lab(cluster(work=2, other=1)) as running:
        yield running


def hosts(lab: Lab, group: str) -> set[str]:
    return {node.instance.hostname for node in lab.nodes() if node.instance.group == group}


def up(lab: Lab, **counts: int) -> None:
    lab.up(cluster(**counts), say=lambda _: None)


def test_from_two_nodes_to_eight_and_back_while_jobs_run(lab: Lab) -> None:
    job = labs.submit(lab, "-p", "work", "-N2", "--exclusive", "--wrap", "srun sleep 3600")
    labs.wait_for_state(lab, job, "RUNNING")
    witness = Witness.of(lab, job)
    up(lab, work=8, other=1)
    assert len(hosts(lab, "work")) == 8
    wide = labs.submit(lab, "-p", "work", "-N6", "--exclusive", "--wrap", "srun hostname")
    labs.wait_for_state(lab, wide, "COMPLETED")
    witness.check()
    up(lab, work=2, other=1)
    assert set(lab.slurm_states()) == hosts(lab, "work") | hosts(lab, "other")
    witness.check()


def test_a_group_without_nodes_and_back(lab: Lab) -> None:
    job = labs.submit(lab, "-p", "work", "-N1", "--wrap", "srun sleep 3600")
    labs.wait_for_state(lab, job, "RUNNING", "PENDING")
    up(lab, work=2, other=0)
    assert set(lab.slurm_states()) == hosts(lab, "work")
    assert "PartitionName=other" in labs.login(lab, "scontrol", "-o", "show", "partition").stdout
    up(lab, work=2, other=1)
    assert labs.login(lab, "srun", "-p", "other", "hostname").stdout.split() == list(hosts(lab, "other"))


def test_a_node_is_replaced_under_a_job_elsewhere(lab: Lab) -> None:
    running = [int(job) for job in labs.login(lab, "squeue", "-h", "-t", "R", "-o", "%A").stdout.split()]
    assert running
    witness = Witness.of(lab, *running)
    lab.replace("other-1")
    lab.wait_ready(timeout=300, say=lambda _: None)
    witness.check()
    assert labs.login(lab, "srun", "-p", "other", "hostname").stdout.split() == list(hosts(lab, "other"))


def test_a_deleted_group(lab: Lab) -> None:
    running = [int(job) for job in labs.login(lab, "squeue", "-h", "-t", "R", "-o", "%A").stdout.split()]
    witness = Witness.of(lab, *running)
    up(lab, work=2)
    assert set(lab.slurm_states()) == hosts(lab, "work")
    assert "PartitionName=other" not in labs.login(lab, "scontrol", "-o", "show", "partition").stdout
    witness.check()


def test_a_node_with_a_job_is_not_given_up(lab: Lab) -> None:
    running = labs.login(lab, "squeue", "-h", "-t", "R", "-o", "%A").stdout.split()
    with pytest.raises(OperationFailed, match="job"):
        up(lab, work=1)
    assert labs.login(lab, "squeue", "-h", "-t", "R", "-o", "%A").stdout.split() == running
    assert len(hosts(lab, "work")) == 2
