"""A slurmctld that is killed before it wrote down that it had started a job: Slurm starts the job anew."""

from __future__ import annotations

import pytest

from hpadmin.recovery.resume.runs import FORGOTTEN
from tests.slurm.resume.cluster import JOB_STATE, Cluster, until

pytestmark = pytest.mark.slurm

BODY = """\
srun bash -c 'echo start $HPADMIN_RESUME_COUNT on $SLURMD_NODENAME; until [ -e over ]; do sleep 0.2; done'
echo exit $?"""
EARLIER = "/root/job_state"
NOT_LAUNCHED = "Slurm could not launch it where it had run"


@pytest.mark.parametrize("point", ["", "dropped"])
def test_a_job_that_slurmctld_forgot_runs_once_more_and_no_more(slurm: Cluster, point: str) -> None:
    """`point`: where its supervisor stands then, in the middle of a recovery; or nothing had failed."""
    name = f"forgotten-{point or 'well'}"
    with slurm.with_points():
        slurm.sh("rm -f /home/alice/over; scontrol update partitionname=dev state=down").check()
        job = slurm.submit(name, BODY, "--auto-resume=1", "-N2")
        slurm.wait_written(name)
        slurm.sh(f"cp -p {JOB_STATE} {EARLIER}; scontrol update partitionname=dev state=up").check()
        slurm.wait_output(name, "start 0", times=2)
        until(lambda: job in slurm.jobs(), 240, slurm.agent_log)
        if point:
            slurm.sh(f"touch /run/points/{point}").check()
            slurm.kill_node(slurm.nodes_of(job)[1])
            until(
                lambda: slurm.sh(f"test -e /run/points/{point}.reached").returncode == 0, 240, slurm.agent_log
            )
        slurm.kill_slurmctld(f"cp -p {EARLIER} {JOB_STATE}")
        slurm.sh("rm -f /run/points/*").check()
        until(lambda: _started(slurm, name) >= 4, 240, lambda: f"a second start in:\n{slurm.output(name)}")

        def known() -> bool:
            now = slurm.jobs()[job]
            return now["state"] == "watched" and now["reason"] in (FORGOTTEN, NOT_LAUNCHED)

        until(known, 240, lambda: f"{slurm.jobs()[job]}\n{slurm.output(name)}\n{slurm.agent_log()}")
        slurm.as_user("touch", "over").check()
        slurm.wait_state(job, "COMPLETED")
        until(lambda: slurm.jobs()[job]["state"] == "ended", 240, lambda: str(slurm.jobs()[job]))
    text, told = slurm.output(name), slurm.jobs()[job]
    assert _started(slurm, name) == 4, text
    assert text.splitlines()[-1] == "exit 0"
    # A launch that failed is one more; what Slurm does by itself is none.
    assert told["attempts"] == bool(point) + (told["reason"] == NOT_LAUNCHED)


def _started(slurm: Cluster, name: str) -> int:
    """Return how many tasks said that they started."""
    return sum(line.startswith("start ") for line in slurm.output(name).splitlines())
