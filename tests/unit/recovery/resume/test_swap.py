"""Which nodes a job is left with, when nodes go and join."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.recovery.resume import swap as swapping
from hpadmin.recovery.resume.messages import Action, Answer, Cause
from hpadmin.recovery.resume.ownjob import OwnJob, Share
from hpadmin.recovery.resume.swap import Swap
from hpadmin.recovery.resume.watch import Ended, Launch
from hpadmin.slurm.command import Local
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.reader import JobDetail
from tests.unit.recovery.resume.world import World

LAUNCH = Launch("/usr/bin/srun", ["srun", "true"], {}, "/")
ENDED = Ended(1, Cause.LOST, 5.0, None, ended_by_user=False)


@dataclass(frozen=True)
class Shrinking(OwnJob):
    """A job without a slurmctld: what it holds, and what each expansion would bring."""

    held: list[str] = field(default_factory=list)
    coming: list[str] = field(default_factory=list)

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


def swapped(monkeypatch: pytest.MonkeyPatch, job: Shrinking, *bad: str) -> list[str]:
    monkeypatch.setattr(swapping, "allocate", lambda *_: 99)
    swap = Swap(job, 4, lambda *_: None, lambda _: None)
    swap.swap(Answer("a", 0, Action.RETRYSTEP, bad), ENDED, LAUNCH)
    return sorted(job.held)


def test_another_node_takes_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Shrinking(Local(), 1, None, expand("n[1-4]"), ["n5"])
    assert swapped(monkeypatch, job, "n2") == expand("n[1,3-5]")


def test_a_lost_node_that_comes_back_under_its_name_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Shrinking(Local(), 1, None, expand("n[1-4]"), ["n2"])
    assert swapped(monkeypatch, job, "n2") == expand("n[1-4]")
    assert job.coming == []


def test_a_job_that_does_not_grow_is_not_started_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Shrinking(Local(), 1, None, expand("n[1-4]"), [""] * swapping.SWAPS)
    with pytest.raises(OperationFailed, match="3 of 4 nodes"):
        swapped(monkeypatch, job, "n2")
