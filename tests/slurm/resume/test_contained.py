"""Auto-resume where jobs are kept in cgroups: proctrack/cgroup, task/cgroup, task/affinity, PrologFlags=Contain."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.slurm.resume.cluster import Cluster, cluster

pytestmark = pytest.mark.slurm

STEP = """\
srun bash -c 'echo start $HPADMIN_RESUME_COUNT on $SLURMD_NODENAME \\
    in $(grep -o "slurm[^/]*/.*step_[0-9]*" /proc/self/cgroup | head -n 1)
[ $HPADMIN_RESUME_COUNT = 0 ] && sleep 600 || sleep 4'
echo exit $?"""
"""A step whose first attempt goes on until it is disturbed."""


@pytest.fixture(scope="module")
def contained() -> Iterator[Cluster]:
    with cluster(contained=True) as running:
        yield running


def test_no_node_can_join_so_the_job_is_requeued_at_once(contained: Cluster) -> None:
    job = contained.submit("requeue", STEP, "--auto-resume=1", "-N3")
    contained.wait_output("requeue", "start 0", seconds=240, times=3)
    victim = contained.nodes_of(job)[1]
    contained.kill_node(victim)
    text = contained.wait_output("requeue", "exit 0\n", 400)
    after = set(re.findall(rf"start 1 on (\S+) in \S+/job_{job}/step_\d+", text))
    assert len(after) == 3
    assert victim not in after
    record = contained.jobs()[job]
    assert record["last_action"] == "REQUEUE"
    assert "no node can join" in record["reason"]
    assert "drain" not in contained.sh("sinfo -h -o %T").stdout


def test_a_spare_takes_over(contained: Cluster) -> None:
    options = ("--auto-resume=1", "--auto-resume-spares=1", "-N2", "-p", "gpu", "--gres=gpu:4")
    job = contained.submit("spare", STEP, *options)
    contained.wait_output("spare", "start 0", seconds=240, times=2)
    used = re.findall(r"start 0 on (\S+)", contained.output("spare"))
    victim = next(node for node in used if node != contained.nodes_of(job)[0])
    contained.kill_node(victim)
    text = contained.wait_output("spare", "exit 0\n", 400)
    assert victim not in re.findall(r"start 1 on (\S+)", text)
    assert text.count("start 1") == 2
    assert contained.jobs()[job]["last_action"] == "RETRYSTEP"


def test_a_program_that_fails_on_healthy_nodes_keeps_its_exit_code(contained: Cluster) -> None:
    contained.submit("bug", "srun bash -c 'exit 3'\necho exit $?", "--auto-resume=1", "-N2")
    text = contained.wait_output("bug", "exit 3\n", 240)
    assert "ResumeAction=NONE" in text
