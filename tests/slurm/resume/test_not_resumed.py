"""Jobs under auto-resume that are not resumed, and the words that tell their users why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.slurm.resume.cluster import Cluster, until

pytestmark = pytest.mark.slurm

FOR_EVER = "srun bash -c 'echo start $HPADMIN_RESUME_COUNT; sleep 600'\necho exit $?"
GRES = ("-N2", "-p", "gpu", "--gres=gpu:4")


@dataclass(frozen=True)
class Told:
    """What the user reads."""

    output: str
    answer: str
    """What stands behind ``ResumeAction=`` in the output; empty when nothing was asked."""
    shown: dict[str, Any]
    """``hpadmin job show``."""

    def check(self, action: str, words: str, attempts: int = 0) -> None:
        assert (self.shown["last_action"], self.shown["attempts"]) == (action, attempts)
        assert words in self.shown["reason"]
        assert not action or (self.answer.startswith(action) and words in self.answer)
        assert f"start {attempts + 1}" not in self.output


@pytest.fixture(scope="module")
def calm(shared_cluster: Cluster) -> Cluster:
    shared_cluster.heal()
    return shared_cluster


@pytest.fixture(scope="module")
def late(calm: Cluster) -> int:
    """A job that runs out of time while the other tests run."""
    return calm.submit("late", FOR_EVER, "--auto-resume=1", "-N1", "--time=1")


def told(slurm: Cluster, name: str, job: int, *states: str, seconds: float = 240) -> Told:
    """Wait until the job has one of `states` and the agent knows its end, and return what was said."""
    slurm.wait_state(job, *states, seconds=seconds)
    until(lambda: slurm.story(job)["state"] == "ended", 240, lambda: str(slurm.story(job)))
    return _told(slurm, name, job)


def _told(slurm: Cluster, name: str, job: int) -> Told:
    text = slurm.output(name)
    answers = re.findall(r"ResumeAction=(.*)", text)
    return Told(text, answers[-1] if answers else "", slurm.story(job))


def watched(slurm: Cluster, name: str, job: int, tasks: int = 1) -> None:
    """Wait until the step runs and the agent knows of it."""
    slurm.wait_output(name, "start 0", times=tasks)
    until(lambda: job in slurm.jobs(), 240, slurm.agent_log)


def test_a_cancelled_job_and_a_program_that_fails_on_a_drained_node(calm: Cluster, late: int) -> None:
    cancelled = calm.submit("cancelled", FOR_EVER, "--auto-resume=1", "-N1")
    drained = calm.submit(
        "drained",
        "srun bash -c 'echo start 0; until [ -e drained.now ]; do sleep 0.2; done; exit 5'\nexit $?",
        "--auto-resume=1",
        "-N1",
    )
    watched(calm, "drained", drained)
    calm.sh("scontrol update nodename=$1 state=drain reason='bad PSU'", calm.nodes_of(drained)[0]).check()
    calm.as_user("touch", "drained.now").check()
    watched(calm, "cancelled", cancelled)
    calm.as_user("scancel", str(cancelled)).check()

    was_cancelled = told(calm, "cancelled", cancelled, "CANCELLED")
    was_cancelled.check("", "the job is CANCELLED")
    assert f"JOB {cancelled}" in was_cancelled.output
    assert "CANCELLED AT" in was_cancelled.output

    was_drained = told(calm, "drained", drained, "FAILED")
    was_drained.check("NONE", "no fault of the nodes was found")
    assert "kept out by an administrator: bad PSU" in was_drained.answer


def test_a_budget_that_is_used_up(calm: Cluster) -> None:
    job = calm.submit("budget", FOR_EVER, "--auto-resume=2", "-N1")
    for attempt in range(3):
        calm.wait_output("budget", f"start {attempt}", 240)
        until(lambda: "phase=watch" in calm.sh(f"scontrol show job {job}").stdout, 240, calm.agent_log)
        calm.kill_stepds(calm.nodes_of(job)[0], job)
    told(calm, "budget", job, "COMPLETED", "FAILED", seconds=240).check("FAIL", "the budget of 2 resumes", 2)


def test_a_requeue_that_is_forbidden(calm: Cluster) -> None:
    with calm.configured("JobRequeue=0\n"):
        default = calm.submit("default", FOR_EVER, "--auto-resume=1", *GRES)
    forbidden = calm.submit("forbidden", FOR_EVER, "--auto-resume=1", "--no-requeue", *GRES)
    jobs = {"default": default, "forbidden": forbidden}
    for name, job in jobs.items():
        watched(calm, name, job, 2)
        calm.kill_node(calm.nodes_of(job)[1])
    for name, job in jobs.items():
        was = told(calm, name, job, "COMPLETED", "FAILED", seconds=240)
        was.check("FAIL", "the job forbids a requeue (--no-requeue or JobRequeue=0)")
        assert "exit 0" not in was.output


def test_preemption(calm: Cluster) -> None:
    more = "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n"
    more += "PartitionName=urgent Nodes=n6 MaxTime=INFINITE OverSubscribe=EXCLUSIVE PriorityTier=10\n"
    with calm.configured(more):
        job = calm.submit("preempted", FOR_EVER, "--auto-resume=1", "-N1", "-w", "n6")
        watched(calm, "preempted", job)
        urgent = calm.submit("urgent", "sleep 600", "-N1", "-p", "urgent")
        calm.wait_state(urgent, "RUNNING")
        until(lambda: calm.story(job)["reason"], 240, lambda: str(calm.story(job)))
        was = _told(calm, "preempted", job)
        was.check("", "requeued, and not because a node failed")
        assert "DUE TO PREEMPTION" in was.output
        assert calm.state(job) == "PENDING"
        calm.sh(f"scancel {job} {urgent}").check()
        calm.wait_state(urgent, "CANCELLED")


def test_a_job_that_runs_out_of_time(calm: Cluster, late: int) -> None:
    was = told(calm, "late", late, "TIMEOUT", seconds=300)
    was.check("", "the job is TIMEOUT")
    assert "DUE TO TIME LIMIT" in was.output
