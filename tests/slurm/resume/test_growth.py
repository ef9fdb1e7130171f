"""What Slurm makes of a job that took over another's nodes: it holds no cores of the last of them."""

from __future__ import annotations

import re

import pytest

from hpadmin.slurm.hostlist import expand
from tests.slurm.resume.cluster import Cluster

pytestmark = pytest.mark.slurm

STEP = """\
srun {options} bash -c 'echo start $HPADMIN_RESUME_COUNT on $SLURMD_NODENAME
[ $HPADMIN_RESUME_COUNT = 0 ] && exec sleep 600 || exec sleep {again}'
echo exit $?"""

CHECK = """
import sys
from hpadmin.recovery.resume.ownjob import OwnJob
from hpadmin.slurm.command import Local
print(*sorted(OwnJob(Local(), int(sys.argv[1])).check_step(0, sys.argv[2:], sweep=False)))
"""


def test_small_steps_run_on_every_node_of_a_job_that_grew(slurm: Cluster) -> None:
    job = slurm.submit("grown", STEP.format(options="", again=600), "--auto-resume=1", "-N3")
    slurm.wait_output("grown", "start 0", times=3)
    slurm.kill_node(slurm.nodes_of(job)[1])
    slurm.wait_output("grown", "start 1", 240, times=3)
    nodes = slurm.nodes_of(job)
    shown = slurm.root.run(["scontrol", "-d", "show", "job", str(job)], timeout=60).check().stdout
    held = [name for found in re.findall(r" Nodes=(\S+) CPU_IDs=", shown) for name in expand(found)]
    assert held == nodes[:-1], "otherwise Slurm has been mended, and `growth.binds_cores` is needed no more"
    checked = slurm.as_user("/opt/hpadmin/bin/python3", "-I", "-c", CHECK, str(job), *nodes).check()
    assert checked.stdout.split() == nodes


def test_a_step_that_wants_cores_of_its_own_is_requeued_where_the_job_grew(slurm: Cluster) -> None:
    step = STEP.format(options="-n3 --ntasks-per-node=1 --exact --cpus-per-task=1", again=2)
    job = slurm.submit("exact", step, "--auto-resume=1", "-N3")
    slurm.wait_output("exact", "start 0", times=3)
    slurm.kill_node(slurm.nodes_of(job)[1])
    text = slurm.wait_output("exact", "exit 0\n", 400)
    assert "Slurm creates no step in the job as it is now" in text
    assert text.count("start 1 on") == 3
    assert slurm.jobs()[job]["last_action"] == "REQUEUE"
