"""What could never be resumed is refused when it is submitted, with the reason; what could be is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.resume.cluster import HOME, Cluster

pytestmark = pytest.mark.slurm

RESUME = "--auto-resume=1"
AS_IT_IS = "SchedulerParameters=permit_job_expansion"
NO_EXPANSION = "SchedulerParameters=sched_interval=1"
NO_SHRINK = "SchedulerParameters=permit_job_expansion,disable_job_shrink"
NO_REQUEUE = "SchedulerParameters=bf_continue\nJobRequeue=0"
AT_ALLOCATION = f"{AS_IT_IS}\nPrologFlags=Contain"
BOUND = f"{AS_IT_IS}\nTaskPlugin=task/affinity"
CONSTRAINTS = "SchedulerParameters=Extra_Constraints,permit_job_expansion"
GPU = "-N2 -p gpu --gres=gpu:1"

REFUSED = [
    (
        NO_EXPANSION,
        f"sbatch {RESUME} -N2 --no-requeue",
        "lacks permit_job_expansion, and --no-requeue forbids",
    ),
    (NO_EXPANSION, f"salloc {RESUME} -N2", "lacks permit_job_expansion, and only batch jobs are requeued"),
    (NO_SHRINK, f"salloc {RESUME} -N2", "has disable_job_shrink, and only batch jobs are requeued"),
    (NO_SHRINK, f"sbatch {RESUME} --auto-resume-spares=1 -N2 --no-requeue", "has disable_job_shrink"),
    (NO_REQUEUE, f"sbatch {RESUME} -N2", "JobRequeue=0 forbids to requeue it (--requeue allows it)"),
    (
        AT_ALLOCATION,
        f"salloc {RESUME} -N2",
        "PrologFlags has Alloc or Contain, and only batch jobs are requeued",
    ),
    (BOUND, f"salloc {RESUME} -N2", "TaskPlugin binds tasks to cores, and only batch jobs are requeued"),
    (CONSTRAINTS, f"sbatch {RESUME} -N2", "extra_constraints takes the field Extra"),
    (AS_IT_IS, "sbatch --auto-resume-spares=1 -N2", "need --auto-resume=1"),
    (AS_IT_IS, "sbatch --auto-resume-heartbeat=log:60 -N2", "need --auto-resume=1"),
    (AS_IT_IS, f"sbatch {RESUME} --auto-resume-spares=1 -N1-2", "needs --nodes=N with one number"),
    (AS_IT_IS, f"sbatch {RESUME} --auto-resume-heartbeat=log:4 -N2", "of 5 seconds or more"),
    (AS_IT_IS, f"sbatch {RESUME} --auto-resume-heartbeat=:60 -N2", "FILE:SECONDS or log:SECONDS"),
    (AS_IT_IS, "sbatch --auto-resume=yes -N2", "Invalid --auto-resume argument: yes"),
]
TAKEN = [
    (AS_IT_IS, f"sbatch {RESUME} -N2 --no-requeue", ""),
    (AS_IT_IS, f"sbatch {RESUME} {GPU}", ""),
    (AS_IT_IS, f"sbatch {RESUME} {GPU} --auto-resume-spares=1 --no-requeue", ""),
    (
        AS_IT_IS,
        f"sbatch {RESUME} {GPU} --no-requeue",
        "cannot be resumed when a node fails: Slurm adds no nodes",
    ),
    (AS_IT_IS, f"sbatch {RESUME} --auto-resume-heartbeat=run.beat:5 -N2", ""),
    (NO_EXPANSION, f"sbatch {RESUME} -N2", ""),
    (NO_EXPANSION, f"sbatch {RESUME} --auto-resume-spares=1 -N1 --no-requeue", ""),
    (NO_SHRINK, f"sbatch {RESUME} -N2", ""),
    (NO_REQUEUE, f"sbatch {RESUME} --requeue -N2", ""),
    (NO_REQUEUE, "sbatch --auto-resume=0 -N2", ""),
    (CONSTRAINTS, "sbatch -N2", ""),
]
RUN = f"""
cd {HOME} && for i in */command; do
    cd {HOME}/${{i%/*}} || exit 1
    SLURM_CONF=$PWD/slurm.conf bash command >out 2>err </dev/null; echo $? >status
done
cd {HOME} && for i in $(seq 0 {len(REFUSED) + len(TAKEN) - 1}); do
    for f in status out err; do printf '\\1%s' "$(cat case-$i/$f)"; done
done
"""


@pytest.fixture(scope="module")
def seen(shared_cluster: Cluster) -> Iterator[dict[tuple[str, str], tuple[str, str, str]]]:
    """Status and outputs of every command; jobs are held, so none starts."""
    configuration = shared_cluster.sh("cat /etc/slurm/slurm.conf").check().stdout
    cases = [(settings, command) for settings, command, _ in (*REFUSED, *TAKEN)]
    for index, (settings, command) in enumerate(cases):
        folder = f"{HOME}/case-{index}"
        shared_cluster.as_user("mkdir", folder).check()
        lines = [line for line in configuration.splitlines() if not line.startswith("SchedulerParameters=")]
        shared_cluster.root.put(f"{folder}/slurm.conf", "\n".join([*lines, settings, ""]))
        program = "--hold --wrap true" if command.startswith("sbatch") else "true"
        shared_cluster.root.put(f"{folder}/command", f"{command} {program}\n")
    said = shared_cluster.script(RUN, timeout=300).check().stdout.split("\1")[1:]
    yield {case: (said[i * 3], said[i * 3 + 1], said[i * 3 + 2]) for i, case in enumerate(cases)}
    shared_cluster.as_user("scancel", "--me")


@pytest.mark.parametrize(("settings", "command", "why"), REFUSED)
def test_what_could_never_be_resumed_is_refused(
    seen: dict[tuple[str, str], tuple[str, str, str]], settings: str, command: str, why: str
) -> None:
    status, out, err = seen[settings, command]
    assert status != "0"
    assert why in err
    assert "Submitted" not in out


@pytest.mark.parametrize(("settings", "command", "warning"), TAKEN)
def test_what_could_be_is_taken(
    seen: dict[tuple[str, str], tuple[str, str, str]], settings: str, command: str, warning: str
) -> None:
    status, out, err = seen[settings, command]
    assert status == "0", err
    assert "Submitted" in out
    assert warning in err
    assert bool(err) == bool(warning), err
