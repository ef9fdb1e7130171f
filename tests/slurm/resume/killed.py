"""One process killed with -9 at one point of a recovery, and what becomes of the job: played on a real Slurm."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from tests.slurm.resume import points
from tests.slurm.resume.cluster import Cluster, until

VICTIMS = ("agent", "slurmctld", "supervisor")
IN_PLACE = (*points.SUPERVISOR, *(point for point in points.AGENT if point not in ("requeued", "hurried")))
THROUGH_THE_QUEUE = ("asked", "decided", "answered", "requeued", "hurried")

# The first attempt runs until its node dies, every other one ends by itself.
BODY = """\
srun bash -c 'echo start $HPADMIN_RESUME_COUNT on $SLURMD_NODENAME
[ $HPADMIN_RESUME_COUNT = 0 ] && sleep 600
sleep 3'
echo exit $?"""
OPTIONS = {"in place": ("-N2",), "requeue": ("-N2", "-p", "gpu", "--gres=gpu:4")}


@dataclass(frozen=True)
class Case:
    """`way` is how the job goes on when nobody is killed."""

    way: str
    point: str
    victim: str


CASES = tuple(
    Case(way, point, victim)
    for way, some in (("in place", IN_PLACE), ("requeue", THROUGH_THE_QUEUE))
    for point in some
    for victim in VICTIMS
)


@dataclass(frozen=True)
class Outcome:
    """What became of the job."""

    case: Case
    state: str
    """Slurm's word for its end."""
    starts: int
    """Tasks of the second attempt that started; it has two."""
    more: int
    """Tasks of any further attempt."""
    exits: tuple[str, ...]
    """Exit codes of srun that the script saw."""
    attempts: int
    reason: str
    """What `hpadmin job show` tells."""
    left: tuple[str, ...]
    """Allocations and processes that nobody needs any more."""
    seconds: float
    """From the fault to the end of the job, the second attempt's three seconds and all waits of the test included."""

    @property
    def resumed(self) -> bool:
        return self.starts == 2 and self.more == 0 and self.exits[-1:] == ("0",) and self.attempts == 1

    @property
    def told(self) -> bool:
        """It was not resumed, nothing of it ran twice, and there is a reason."""
        return self.starts == 0 and self.more == 0 and "0" not in self.exits and bool(self.reason)

    @property
    def good(self) -> bool:
        return (self.resumed or self.told) and not self.left

    def row(self) -> dict[str, Any]:
        how = "resumed" if self.resumed else "not resumed, told why" if self.told else "WRONG"
        return {
            "way": self.case.way,
            "point": self.case.point,
            "killed": self.case.victim,
            "outcome": how if self.good else "WRONG",
            "state": self.state,
            "starts": self.starts,
            "more": self.more,
            "exits": list(self.exits),
            "attempts": self.attempts,
            "reason": self.reason,
            "left": list(self.left),
            "seconds": round(self.seconds, 1),
        }


def play(slurm: Cluster, case: Case) -> Outcome:
    """Run one job into a dead node, kill the victim while somebody stands at the point, and see the job's end."""
    slurm.heal()
    with slurm.with_points():
        name = f"{case.point}-{case.victim}"
        own = f"case-{uuid.uuid4().hex}"
        job = slurm.submit(name, BODY, "--auto-resume=1", f"--extra={own}", *OPTIONS[case.way])
        slurm.wait_output(name, "start 0", times=2)
        # A slurmctld that is killed before forgets that the job ran at all: `test_forgotten`.
        slurm.wait_written(f"{own} <auto-resume/1 phase=watch")
        slurm.sh(f"touch /run/points/{case.point}").check()
        slurm.kill_node(slurm.nodes_of(job)[1])
        begun = time.monotonic()
        until(
            lambda: slurm.sh(f"test -e /run/points/{case.point}.reached").returncode == 0,
            150,
            lambda: f"point {case.point}; the job said:\n{slurm.output(name)}\n{slurm.agent_log()}",
        )
        _kill(slurm, case.victim, job)
        slurm.sh(f"rm /run/points/{case.point}.reached").check()
        state = slurm.wait_state(job, "COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT", seconds=900)
        seconds = time.monotonic() - begun
        until(lambda: slurm.jobs()[job]["state"] == "ended", 240, lambda: str(slurm.jobs()[job]))
        left = _left(slurm, job)
    text, known = slurm.output(name), slurm.jobs()[job]
    starts = [line.split()[1] for line in text.splitlines() if line.startswith("start ")]
    return Outcome(
        case,
        state,
        starts.count("1"),
        len([start for start in starts if start not in ("0", "1")]),
        tuple(line.split()[1] for line in text.splitlines() if line.startswith("exit ")),
        known["attempts"],
        known["reason"],
        left,
        seconds,
    )


def _kill(slurm: Cluster, victim: str, job: int) -> None:
    if victim == "agent":
        slurm.stop_agent()
        slurm.start_agent()
    elif victim == "slurmctld":
        slurm.kill_slurmctld()
    else:
        # None is there any more where the job's requeue has ended it.
        for pid in slurm.processes(job, "supervisor_main"):
            slurm.sh(f"kill -9 {pid} || ! kill -0 {pid}").check()


def _left(slurm: Cluster, job: int) -> tuple[str, ...]:
    """Give everybody a while to tidy up, and return what is left then."""

    def found() -> list[str]:
        helpers = slurm.sh(f"squeue -h -a -n auto-resume-{job} -o 'allocation %A'").stdout.splitlines()
        return helpers + [f"process {pid}" for pid in slurm.processes(job)]

    try:
        until(lambda: not found(), 240, str)
    except AssertionError:
        return tuple(found())
    return ()
