"""Steps that hang: no sign of life within the limit ends them, and what cannot be kept of a step is said."""

from __future__ import annotations

import pytest

from tests.slurm.resume.cluster import Cluster

pytestmark = pytest.mark.slurm

FILE = "srun --auto-resume-heartbeat=beat-%j:10 -N1 -n1"
LOG = "srun --auto-resume-heartbeat=log:10 -N1 -n1"


def test_a_file_that_is_not_touched_any_more_is_a_hang(slurm: Cluster) -> None:
    body = (
        f"{FILE} bash -c 'for i in $(seq 6); do touch beat-$SLURM_JOB_ID; sleep 3; done; echo quiet; sleep 600'"
        "\necho exit $? after $SECONDS"
    )
    job = slurm.submit("beat", body, "--auto-resume=1", "-N1")
    text = slurm.wait_output("beat", "exit ", 240)
    assert "No sign of progress within the limit: the step was ended." in text
    assert "ResumeAction=NONE" in text
    assert "exit 0" not in text
    seconds = int(text.rpartition("after ")[2])
    assert 25 <= seconds < 600
    assert slurm.jobs()[job]["attempts"] == 0


def test_a_log_that_falls_silent_is_a_hang(slurm: Cluster) -> None:
    body = f"{LOG} bash -c 'for i in $(seq 6); do echo $i; sleep 3; done; sleep 600'\necho exit $? after $SECONDS"
    slurm.submit("silent", body, "--auto-resume=1", "-N1")
    text = slurm.wait_output("silent", "exit ", 240)
    assert "\n6\n" in text
    assert "No sign of progress within the limit: the step was ended." in text
    assert "ResumeAction=NONE" in text
    assert "exit 0" not in text


def test_a_hang_on_a_node_that_is_bad_is_resumed_elsewhere(slurm: Cluster) -> None:
    body = (
        f"{FILE} -N2 bash -c 'echo start $HPADMIN_RESUME_COUNT on $SLURMD_NODENAME; "
        "for i in $(seq 8); do touch beat-$SLURM_JOB_ID; sleep 1; done; [ $HPADMIN_RESUME_COUNT = 1 ] || sleep 600'"
        "\necho exit $?"
    )
    job = slurm.submit("bad", body.replace("-N1 -n1 -N2", "-N2"), "--auto-resume=1", "-N2")
    slurm.wait_output("bad", "start 0", 240, times=2)
    victim = slurm.nodes_of(job)[1]
    # What an administrator says of a node whose fault nobody but the program notices.
    slurm.sh(f"scontrol update nodename={victim} state=fail reason='Action:Replace'").check()
    text = slurm.wait_output("bad", "exit 0\n", 240)
    assert "No sign of progress within the limit: the step was ended." in text
    assert text.count("start 1") == 2
    assert f"start 1 on {victim}" not in text
    assert slurm.jobs()[job]["attempts"] == 1


def test_an_input_that_is_consumed_is_said_to_be(slurm: Cluster) -> None:
    program = "echo start $HPADMIN_RESUME_COUNT; cat; [ $HPADMIN_RESUME_COUNT = 1 ] || sleep 600; echo end"
    body = f"seq 3 | srun -N1 -n1 bash -c '{program}'\necho exit $?"
    job = slurm.submit("pipe", body, "--auto-resume=1", "-N1")
    slurm.wait_output("pipe", "start 0\n1\n2\n3\n", 240)
    slurm.kill_stepds(slurm.nodes_of(job)[0], job)
    text = slurm.wait_output("pipe", "exit 0\n", 240)
    assert "Standard input is a pipe: what the step has read of it does not come again." in text
    assert "start 1\nend\n" in text


def test_a_job_that_is_suspended_does_not_hang(slurm: Cluster) -> None:
    program = "echo start; for i in $(seq 9); do touch beat-$SLURM_JOB_ID; sleep 1; done; echo end"
    job = slurm.submit("suspended", f"{FILE} bash -c '{program}'\necho exit $?", "--auto-resume=1", "-N1")
    slurm.wait_output("suspended", "start", 240)
    slurm.sh(f"scontrol suspend {job}; sleep 20; scontrol resume {job}").check()
    text = slurm.wait_output("suspended", "exit ", 240)
    assert text.endswith("end\nexit 0\n")
    assert text.count("start\n") == 1


def test_a_log_that_cannot_be_seen_is_not_missed(slurm: Cluster) -> None:
    body = f"{LOG} bash -c 'sleep 18; echo end' | cat\necho exit ${{PIPESTATUS[0]}}"
    slurm.submit("unseen", body, "--auto-resume=1", "-N1")
    text = slurm.wait_output("unseen", "exit ", 240)
    assert "No heartbeat is watched: srun's standard output is no file" in text
    assert text.endswith("end\nexit 0\n")
