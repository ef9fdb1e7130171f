"""Steps that fail on a real Slurm: started again in place, on a spare, through the queue, or not, and told why."""

from __future__ import annotations

import re

import pytest

from tests.slurm.resume.cluster import Cluster, until

pytestmark = pytest.mark.slurm

STEP = """\
srun bash -c 'echo start $HPADMIN_RESUME_COUNT of $SLURM_NNODES on $SLURMD_NODENAME \\
    of $SLURM_JOB_NODELIST ${CUDA_VISIBLE_DEVICES:-none}
[ $HPADMIN_RESUME_COUNT = 0 ] && long=%d || long=8
for i in $(seq $long); do sleep 0.5; done'
echo exit $?"""
"""A step whose first attempt takes so many half seconds, later ones four seconds."""


def test_a_program_that_fails_on_healthy_nodes_keeps_its_exit_code(slurm: Cluster) -> None:
    job = slurm.submit("bug", "srun bash -c 'exit 3'\necho exit $?", "--auto-resume=1", "-N2")
    text = slurm.wait_output("bug", "exit 3\n")
    assert (
        f"[Auto Resume] Info: JobID: {job} StepID: 0 Response from cluster agent: JobId={job}, ResumeAction=NONE"
        in text
    )
    assert "Retrying" not in text
    assert slurm.jobs()[job]["last_action"] == "NONE"


def test_without_gres_the_job_gets_another_node_and_goes_on(slurm: Cluster) -> None:
    job = slurm.submit("grow", STEP % 600, "--auto-resume=1", "-N3")
    slurm.wait_output("grow", "start 0", times=3)
    before = slurm.nodes_of(job)
    slurm.kill_node(before[1])
    text = slurm.wait_output("grow", "exit 0\n", 240)
    after = set(re.findall(r"start 1 of 3 on (\S+)", text))
    assert len(after) == 3
    assert before[1] not in after
    assert after > {before[0], before[2]}
    assert "Retrying step. Attempt number: 1" in text
    lists = set(re.findall(r"start 1 of 3 on \S+ of (\S+)", text))
    assert lists == {
        slurm.root.run(["scontrol", "show", "hostlistsorted", ",".join(after)], timeout=120).stdout.strip()
    }
    record = slurm.jobs()[job]
    assert (record["attempts"], record["last_action"]) == (1, "RETRYSTEP")
    assert "hpadmin: replace" in slurm.sh("scontrol show node $1", before[1]).stdout
    assert slurm.root.run(["squeue", "-h", "-n", f"auto-resume-{job}"], timeout=120).stdout == ""


def test_a_node_that_joins_is_never_taken_for_the_batch_host(slurm: Cluster) -> None:
    """A slurmctld that is reconfigured takes the first node of a job for that with the script, and no other's end."""
    job = slurm.submit("first", STEP % 600, "--auto-resume=1", "-w", "n[2-4]")
    slurm.wait_output("first", "start 0", times=3)
    slurm.kill_node("n3")
    text = slurm.wait_output("first", "start 1", 240, times=3)
    assert "n1" not in re.findall(r"start 1 of 3 on (\S+)", text)
    slurm.sh("scontrol reconfigure")
    slurm.wait_output("first", "exit 0\n", 240)
    slurm.wait_state(job, "COMPLETED", seconds=120)


@pytest.mark.parametrize("dead", [True, False])
def test_a_batch_host_that_is_back_without_the_script_before_the_agent_has_looked(
    slurm: Cluster, dead: bool
) -> None:
    body = "srun bash -c '[ ${SLURM_RESTART_COUNT:-0} -gt 0 ] || sleep 3600'\necho ended in run $SLURM_RESTART_COUNT"
    job = slurm.submit("back", body, "--auto-resume=1", "-N3")
    until(lambda: job in slurm.jobs(), 120, lambda: f"the agent to hear of job {job}:\n{slurm.agent_log()}")
    host = slurm.nodes_of(job)[0]
    slurm.stop_agent()
    if dead:  # with --no-kill the job goes on without it, for ever; else it fails
        slurm.kill_node(host)
    slurm.sh(f"scontrol update NodeName={host} State=DOWN Reason=power").check()
    until(lambda: host not in slurm.nodes_of(job), 120, lambda: f"{host} to be taken from job {job}")
    slurm.reboot_node(host)
    state = ["sinfo", "-h", "-n", host, "-o", "%T"]
    until(lambda: "idle\n" in slurm.root.run(state, timeout=120).stdout, 120, lambda: f"{host} to be back")
    slurm.start_agent()
    text = slurm.wait_output("back", "ended in run ")
    # Where its slurmd died, its script was left behind: should Slurm choose that node again, it cannot launch there.
    assert re.findall(r"ended in run (\d)", text) in ([["1"], ["2"]] if dead else [["1"]])
    [incident] = slurm.story(job)["incidents"]
    assert (incident["cause"], incident["action"]) == ("batch_host", "REQUEUE")


def test_with_gres_a_spare_takes_over_inside_the_allocation(slurm: Cluster) -> None:
    options = ("--auto-resume=1", "--auto-resume-spares=1", "-N3", "-p", "gpu", "--gres=gpu:4")
    job = slurm.submit("spare", STEP % 600, *options)
    text = slurm.wait_output("spare", "start 0", times=3)
    assert len(slurm.nodes_of(job)) == 4
    used = re.findall(r"start 0 of 3 on (\S+)", text)
    victim = next(node for node in used if node != slurm.nodes_of(job)[0])
    slurm.kill_node(victim)
    text = slurm.wait_output("spare", "exit 0\n", 240)
    after = re.findall(r"start 1 of 3 on (\S+) of \S+ 0,1,2,3", text)
    assert len(after) == 3
    assert victim not in after
    assert slurm.jobs()[job]["last_action"] == "RETRYSTEP"


def test_with_gres_and_no_spare_the_job_is_requeued_and_starts_at_once(slurm: Cluster) -> None:
    job = slurm.submit("queue", STEP % 600, "--auto-resume=1", "-N2", "-p", "gpu", "--gres=gpu:4")
    slurm.wait_output("queue", "start 0", times=2)
    victim = slurm.nodes_of(job)[1]
    slurm.kill_node(victim)
    slurm.wait_output("queue", "start 1", 240, times=2)
    # The last word of an srun of the first run, as it comes when its host hung meanwhile: by job and step alone.
    slurm.as_user("timeout", "2", "scancel", "--signal=KILL", f"{job}.0")
    text = slurm.wait_output("queue", "exit 0\n", 240)
    assert text.count("start 1 of 2") == 2
    assert victim not in re.findall(r"start 1 of 2 on (\S+)", text)
    until(lambda: slurm.jobs()[job]["last_action"] == "REQUEUE", 20, lambda: str(slurm.jobs()[job]))
    assert "Restarts=1" in slurm.sh(f"scontrol show job {job}").stdout


def test_with_gres_a_node_that_is_back_soon_keeps_the_job_in_place(slurm: Cluster) -> None:
    job = slurm.submit("back", STEP % 600, "--auto-resume=1", "-N2", "-p", "gpu", "--gres=gpu:4")
    slurm.wait_output("back", "start 0", times=2)
    nodes = slurm.nodes_of(job)
    slurm.reboot_node(nodes[1])
    text = slurm.wait_output("back", "exit 0\n", 240)
    assert "started again while the step ran" in text
    assert sorted(re.findall(r"start 1 of 2 on (\S+) of \S+ 0,1,2,3", text)) == nodes
    assert "Restarts=0" in slurm.sh(f"scontrol show job {job}").stdout
    assert slurm.jobs()[job]["attempts"] == 1


def test_a_killed_slurmstepd_starts_the_step_again_on_its_own_nodes(slurm: Cluster) -> None:
    job = slurm.submit("stepd", STEP % 600, "--auto-resume=1", "-N3")
    slurm.wait_output("stepd", "start 0", times=3)
    nodes = slurm.nodes_of(job)
    slurm.kill_stepds(nodes[2])
    text = slurm.wait_output("stepd", "exit 0\n", 240)
    assert sorted(re.findall(r"start 1 of 3 on (\S+)", text)) == nodes
    assert slurm.jobs()[job]["attempts"] == 1
    left = slurm.sh(f"grep -lz 'SLURM_JOB_ID={job}' /proc/[0-9]*/environ 2>/dev/null | wc -l").stdout
    assert left.strip() == "0"


def test_a_step_lives_on_when_only_a_slurmd_dies(slurm: Cluster) -> None:
    job = slurm.submit("slurmd", STEP % 24, "--auto-resume=1", "-N3")
    slurm.wait_output("slurmd", "start 0", times=3)
    slurm.kill_slurmd(slurm.nodes_of(job)[1])
    text = slurm.wait_output("slurmd", "exit 0\n", 240)
    assert "start 1" not in text
    assert slurm.jobs()[job]["attempts"] == 0


def test_an_uneven_end_is_no_fault(slurm: Cluster) -> None:
    body = "srun bash -c 'echo here; [ $SLURM_PROCID = 1 ] || for i in $(seq 24); do sleep 0.5; done'\necho exit $?"
    job = slurm.submit("uneven", body, "--auto-resume=1", "-N3")
    text = slurm.wait_output("uneven", "exit 0\n", 240)
    assert text.count("here") == 3
    assert slurm.jobs()[job]["attempts"] == 0


def test_what_users_write_is_never_believed_for_another_job(slurm: Cluster) -> None:
    victim = slurm.submit("victim", STEP % 16, "--auto-resume=1", "-N1")
    slurm.wait_output("victim", "start 0")
    record = "<auto-resume/1 step=0 id=00000000 phase=ask cause=lost exit=1 want=1>"
    forged = f"x\nJobId={victim} JobName=auto-resume-1 Extra={record}"
    attacker = slurm.submit(
        "attacker", "sleep 6", "-N1", f"--comment={forged}", f"--job-name=auto-resume-{victim}"
    )
    verdict = "admincomment=<auto-resume/1 step=0 id=00000000 action=RETRYSTEP>"
    refused = slurm.as_user("scontrol", "update", f"jobid={attacker}", verdict)
    assert refused.returncode != 0
    text = slurm.wait_output("victim", "exit 0\n", 240)
    assert "start 1" not in text
    assert slurm.jobs()[victim]["attempts"] == 0


def test_an_allocation_left_over_by_a_dead_supervisor_is_cancelled(slurm: Cluster) -> None:
    job = slurm.submit("orphan", STEP % 120, "--auto-resume=1", "-N1")
    slurm.wait_output("orphan", "start 0")
    made = slurm.as_user(
        "salloc", "--no-shell", "-N1", "-J", f"auto-resume-{job}", f"--dependency=expand:{job}"
    )
    helper = int(re.findall(r"job allocation (\d+)", made.stderr)[0])
    assert slurm.state(helper) == "RUNNING"
    slurm.wait_state(helper, "CANCELLED", "COMPLETED", seconds=240)
    assert slurm.state(job) == "RUNNING"
