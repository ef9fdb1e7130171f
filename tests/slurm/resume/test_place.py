"""A requeued job keeps its place in the queue."""

from __future__ import annotations

import pytest

from tests.slurm.resume.cluster import Cluster, until

pytestmark = pytest.mark.slurm

GRES = ("-p", "gpu", "--gres=gpu:4")
TRAINING = "srun bash -c 'echo start $HPADMIN_RESUME_COUNT; sleep 600'"


def test_a_requeued_job_starts_before_those_that_came_after_it(slurm: Cluster) -> None:
    with slurm.configured("PriorityType=priority/basic\n"):
        training = slurm.submit("training", TRAINING, "--auto-resume=1", "-N3", *GRES)
        other = slurm.submit("other", "sleep 600", "-N2", *GRES)
        later = slurm.submit("later", "sleep 600", "-N3", *GRES)
        slurm.wait_output("training", "start 0", times=3)
        slurm.wait_state(other, "RUNNING")
        assert slurm.state(later) == "PENDING"
        # Of five nodes one is lost and two are taken: neither can start before `other` ends, then one of them.
        slurm.kill_node(slurm.nodes_of(training)[2])
        slurm.wait_output("training", "DUE TO JOB REQUEUE", 240)
        slurm.wait_state(training, "PENDING", seconds=240)
        until(lambda: slurm.queued(training)[0] in ("Resources", "Priority"), 240, slurm.agent_log)
        assert slurm.queued(training)[1] > slurm.queued(later)[1]
        slurm.as_user("scancel", str(other)).check()
        slurm.wait_state(training, "RUNNING")
        assert slurm.state(later) == "PENDING"
        until(lambda: slurm.story(training)["state"] == "watched", 240, slurm.agent_log)
        slurm.as_user("scancel", str(training), str(later)).check()
