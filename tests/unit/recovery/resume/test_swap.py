"""Which nodes a job is left with, when nodes go and join."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.recovery.resume import swap as swapping
from hpadmin.recovery.resume.joining import Share
from hpadmin.recovery.resume.messages import Action, Answer, Cause
from hpadmin.recovery.resume.ownjob import OwnJob
from hpadmin.recovery.resume.stepcheck import Found, Stepd
from hpadmin.recovery.resume.swap import Swap
from hpadmin.recovery.resume.watch import Ended, Launch, Step
from hpadmin.slurm.command import Local
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.reader import JobDetail
from tests.unit.recovery.resume.world import World

LAUNCH = Launch("/usr/bin/srun", ["srun", "true"], {}, "/")
ENDED = Ended(1, Cause.LOST, 5.0, None, ended_by_user=False)
LOST = replace(ENDED, step=Step(1, 0, 4))


@dataclass(frozen=True)
class Shrinking(OwnJob):
    """A job without a slurmctld: what it holds, and what each expansion would bring."""

    held: list[str] = field(default_factory=list)
    coming: list[str] = field(default_factory=list)
    found: dict[str, Found] = field(default_factory=dict)
    """What a look at each node would find of the earlier attempt."""
    failing: list[str] = field(default_factory=list)
    """Errors of the next looks."""
    swept: list[str] = field(default_factory=list)
    recorded: bool = False
    """slurmctld does not let go of the earlier step."""

    def read(self) -> JobDetail | None:
        world = World()
        world.add(self.job_id, fold(self.held))
        return world.details[self.job_id]

    def keep_only(self, nodes: Collection[str]) -> None:
        self.held[:] = nodes

    def shares(self, detail: JobDetail, need: int, lost: Sequence[str]) -> tuple[Share, ...]:
        return (Share(need),)

    def helper_command(self, detail: JobDetail, share: Share) -> list[str]:
        return ["salloc"]

    def merge(self, helper: int) -> tuple[str, ...]:
        names = self.coming.pop(0)
        joined = tuple(expand(names)) if names else ()
        self.held.extend(joined)
        return joined

    def check_step(self, step: int, nodes: Sequence[str], *, sweep: bool) -> dict[str, Found]:
        if self.failing:
            raise OperationFailed(self.failing.pop(0))
        assert sweep
        self.swept.extend(nodes)
        return {node: self.found.get(node, Found(Stepd.ENDED)) for node in nodes}

    def step_nodes(self, step: int) -> tuple[str, ...]:
        return ("n1",) if self.recorded else ()


def swapped(monkeypatch: pytest.MonkeyPatch, job: Shrinking, *bad: str) -> list[str]:
    monkeypatch.setattr(swapping, "allocate", lambda *_: 99)
    swap = Swap(job, 4, lambda *_: None, lambda _: None)
    swap.swap(Answer("a", 0, Action.RETRYSTEP, bad), ENDED, LAUNCH)
    return sorted(job.held)


def test_another_node_takes_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Shrinking(Local(), 1, held=expand("n[1-4]"), coming=["n5"])
    assert swapped(monkeypatch, job, "n2") == expand("n[1,3-5]")


def test_a_lost_node_that_comes_back_under_its_name_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Shrinking(Local(), 1, held=expand("n[1-4]"), coming=["n2"])
    assert swapped(monkeypatch, job, "n2") == expand("n[1-4]")
    assert job.coming == []


def test_a_job_that_does_not_grow_is_not_started_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Shrinking(Local(), 1, held=expand("n[1-4]"), coming=[""] * swapping.SWAPS)
    with pytest.raises(OperationFailed, match="3 of 4 nodes"):
        swapped(monkeypatch, job, "n2")


def prepared(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Found], *bad: str, **about: Any
) -> tuple[Shrinking, list[str], bool]:
    """Swap for a step that ran; return its job, what was said, and whether the next attempt overlaps the old one."""
    monkeypatch.setattr(swapping, "allocate", lambda *_: 99)
    monkeypatch.setattr(swapping, "OLD_STEP_SECONDS", 0.0)
    job = Shrinking(Local(), 1, held=expand("n[1-4]"), coming=["n5"], found=found, **about)
    said = list[str]()
    swap = Swap(job, 4, lambda kind, text: said.append(f"{kind}: {text}"), lambda _: None)
    launch = swap.swap(Answer("a", 0, Action.RETRYSTEP, bad), LOST, LAUNCH)
    return job, said, "SLURM_OVERLAP" in launch.environment


def test_nothing_of_the_earlier_attempt_is_left_on_nodes_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    job, said, overlaps = prepared(monkeypatch, {"n3": Found(Stepd.ALIVE, 2)}, "n2")
    assert sorted(job.swept) == ["n1", "n3", "n4"]
    assert "Info: Ended what was left of the step on n3" in said
    assert not overlaps


def test_a_killed_slurmstepd_never_ends_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    _, said, overlaps = prepared(monkeypatch, {"n3": Found(Stepd.KILLED, 1)})
    assert "Info: Ended what a killed slurmstepd had left on n3" in said
    assert overlaps


def test_a_record_that_stays_is_overlapped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared(monkeypatch, {}, "n2", recorded=True)[2]


def test_a_step_does_not_start_beside_what_cannot_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperationFailed, match="on n4 cannot be ended"):
        prepared(monkeypatch, {"n4": Found(Stepd.ALIVE, 1, 2)}, "n2")


def test_a_look_that_fails_is_tried_again_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    job, said, _ = prepared(monkeypatch, {}, "n2", failing=["Socket timed out"])
    assert len(job.swept) == 3
    assert not [line for line in said if line.startswith("Error")]
    job, said, _ = prepared(monkeypatch, {}, "n2", failing=["Socket timed out"] * 2)
    assert job.swept == []
    assert [line for line in said if line.startswith("Error")] == [
        "Error: It was not seen whether anything is left of the step: Socket timed out"
    ]


@pytest.mark.parametrize(
    ("held", "recorded", "overlaps", "expected"),
    [
        ("n[1-4]", False, False, False),
        ("n[1,3-4]", False, False, True),  # the node that joined is not the job's any more
        ("n[1-4]", True, False, True),  # the earlier attempt is the job's again
        ("n[1-4]", True, True, False),
    ],
)
def test_a_slurmctld_that_was_killed_may_have_forgotten_a_swap(
    held: str, recorded: bool, overlaps: bool, expected: bool
) -> None:
    job = Shrinking(Local(), 1, held=expand(held), recorded=recorded)
    swap = Swap(job, 4, lambda *_: None, lambda _: None)
    launch = replace(LAUNCH, environment={"SLURM_OVERLAP": "1"} if overlaps else {})
    assert swap.forgotten(LOST.step, launch) is expected


def test_a_slurmctld_that_creates_no_steps_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "srun: error: Unable to create step for job 1: Requested nodes are busy"
    job, said, _ = prepared(monkeypatch, {}, "n2", failing=[busy] * 20)
    assert len(job.swept) == 3
    assert not [line for line in said if line.startswith("Error")]
    monkeypatch.setattr(swapping, "CREATED_SECONDS", 0.0)
    job, said, _ = prepared(monkeypatch, {}, "n2", failing=[busy] * 20)
    assert job.swept == []
    assert len([line for line in said if line.startswith("Error")]) == 1
