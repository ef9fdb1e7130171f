"""Tasks of an attempt that Slurm never ended: the next attempt does not start beside them."""

from __future__ import annotations

import pytest

from tests.slurm.resume.cluster import Cluster, until

pytestmark = pytest.mark.slurm

STEP = """\
srun bash -c 'echo start $HPADMIN_RESUME_COUNT beside $(pgrep -fxc "sleep 6543")
[ $HPADMIN_RESUME_COUNT = 0 ] && exec env -i sleep 6543
sleep 2'
echo exit $?"""
"""Nothing tells by its environment that the tasks of the first attempt belong to it."""
_SHEPHERD = r"""
for pid in $(pgrep -u alice -x srun); do
    grep -qz "^SLURM_JOB_ID=$1$" /proc/$pid/environ && pgrep -P $pid -x srun
done
true
"""
"""The child by which an srun that is killed has slurmctld end its step."""


def test_an_order_to_end_the_step_that_is_lost(slurm: Cluster) -> None:
    with slurm.with_points():
        job = slurm.submit("lost", STEP, "--auto-resume=1", "-N3")
        slurm.wait_output("lost", "start 0", times=3)
        slurm.sh("touch /run/points/dropped").check()
        slurm.kill_node(slurm.nodes_of(job)[1])
        until(
            lambda: slurm.sh("test -e /run/points/dropped.reached").returncode == 0,
            150,
            lambda: f"the job to shrink; it said:\n{slurm.output('lost')}\n{slurm.agent_log()}",
        )
        shepherds = slurm.sh(_SHEPHERD, str(job)).check().stdout.split()
        assert len(shepherds) == 1
        slurm.sh(f"kill -9 {shepherds[0]}; rm /run/points/dropped.reached").check()
        text = slurm.wait_output("lost", "exit ", 240)
    assert [line for line in text.splitlines() if line.startswith("start 1")] == ["start 1 beside 0"] * 3
    assert "Ended what was left of the step on" in text
    assert text.splitlines()[-1] == "exit 0"
