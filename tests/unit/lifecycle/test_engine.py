"""The engine: what is done is done once, what fails names itself, what was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from lifecycle.engine import STATE_FILE, Stage, StageFailed, pending, run
from lifecycle.machine import Machine
from lifecycle.retry import Retry
from lifecycle.situation import Situation
from lifecycle.step import File, Step, Transient
from tests.unit.lifecycle.support import Hands, machine, situation


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@dataclass
class Doing:
    """A step that does what a test says."""

    act: Callable[[], None]
    done: list[bool] = field(default_factory=list)

    def lacking(self, machine: Machine) -> str | None:
        return None if self.done else "do it"

    def make(self, machine: Machine) -> None:
        self.act()
        self.done.append(True)


def stage(name: str, *steps: Step, retry: Retry | None = None) -> Stage:
    def give(_: Situation) -> Iterator[Step]:
        yield from steps

    return Stage(name, name, give, retry=retry or Retry())


def state(root: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / STATE_FILE.lstrip("/")).read_text())
    return found


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    here = situation(tmp_path)
    stages = [stage("one", File("/a", "1")), stage("two", File("/b", "2"))]
    first = run(host, here, stages, Hands().clock())
    assert [outcome.changes for outcome in first.stages] == [("write /a",), ("write /b",)]
    inodes = [(tmp_path / name).stat().st_ino for name in ("a", "b")]
    second = run(host, here, stages, Hands().clock())
    assert [outcome.changes for outcome in second.stages] == [(), ()]
    assert [(tmp_path / name).stat().st_ino for name in ("a", "b")] == inodes


def test_the_record_tells_node_role_stage_and_time(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    hands = Hands()

    def slow() -> None:
        hands.time += 2.5

    run(host, situation(tmp_path), [stage("one", Doing(slow))], hands.clock())
    found = state(tmp_path)
    assert (found["node"], found["role"], found["status"], found["stage"]) == (
        "ip-10-0-0-3",
        "Compute",
        "done",
        "",
    )
    assert found["stages"] == [
        {
            "stage": "one",
            "status": "done",
            "seconds": 2.5,
            "attempts": 1,
            "changes": ["do it"],
            "message": "",
        }
    ]


def test_a_failure_names_stage_and_cause_and_stops(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)

    def fail() -> None:
        raise OperationFailed("the server said no", hint="ask it nicely")

    later = stage("later", File("/never", ""))
    with pytest.raises(StageFailed, match=r"stage bad failed: the server said no \(ask it nicely\)"):
        run(host, situation(tmp_path), [stage("bad", Doing(fail)), later], Hands().clock())
    found = state(tmp_path)
    assert (found["status"], found["stage"]) == ("failed", "bad")
    assert found["message"] == "bad: the server said no (ask it nicely)"
    assert not (tmp_path / "never").exists()


def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    (tmp_path / "etc").write_text("a file where a folder belongs")
    with pytest.raises(StageFailed, match=r"stage s failed: .*etc"):
        run(host, situation(tmp_path), [stage("s", File("/etc/x", ""))], Hands().clock())


def test_a_run_after_a_failure_goes_on_where_it_stopped(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    broken = [True]

    def maybe() -> None:
        if broken:
            raise OperationFailed("not yet")

    stages = [stage("one", File("/a", "1")), stage("two", Doing(maybe)), stage("three", File("/c", "3"))]
    with pytest.raises(StageFailed):
        run(host, situation(tmp_path), stages, Hands().clock())
    broken.clear()
    record = run(host, situation(tmp_path), stages, Hands().clock())
    assert [outcome.changes for outcome in record.stages] == [(), ("do it",), ("write /c",)]


@pytest.mark.parametrize("at", range(6))
def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(tmp_path: Path, at: int) -> None:
    host, _ = machine(tmp_path)
    steps = [File(f"/f{number}", str(number)) for number in range(6)]

    def die() -> None:
        raise Killed

    bomb = Doing(die)
    deadly: list[Step] = [*steps[:at], bomb, *steps[at:]]
    with pytest.raises(Killed):
        run(host, situation(tmp_path), [stage("s", *deadly)], Hands().clock())
    assert state(tmp_path)["status"] == "running"
    record = run(host, situation(tmp_path), [stage("s", *steps)], Hands().clock())
    assert len(record.stages[0].changes) == 6 - at
    assert all((tmp_path / f"f{number}").read_text() == str(number) for number in range(6))


def test_what_may_pass_is_tried_again_with_growing_bounds_until_the_deadline(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    hands = Hands()

    def late() -> None:
        raise Transient("not yet")

    retry = Retry(deadline=60, base=1, cap=8)
    with pytest.raises(StageFailed, match="not yet"):
        run(host, situation(tmp_path), [stage("net", Doing(late), retry=retry)], hands.clock())
    assert hands.slept == [1, 2, 4, 8, 8, 8, 8, 8, 8]
    assert state(tmp_path)["stages"][0]["attempts"] == 10  # type: ignore[index]  # a list of objects


def test_what_comes_back_in_time_succeeds(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    tries: list[int] = []

    def third_time() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise Transient("away")

    stages = [stage("net", Doing(third_time), retry=Retry(deadline=60))]
    record = run(host, situation(tmp_path), stages, Hands().clock())
    assert (record.status, record.stages[0].attempts) == ("done", 3)


def test_what_cannot_pass_is_not_tried_again(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    tries: list[int] = []

    def wrong() -> None:
        tries.append(1)
        raise OperationFailed("wrong key")

    with pytest.raises(StageFailed):
        run(host, situation(tmp_path), [stage("s", Doing(wrong), retry=Retry(deadline=60))], Hands().clock())
    assert tries == [1]


def test_jitter_spreads_the_whole_interval() -> None:
    bounds: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        bounds.append((low, high))
        return low

    delays = Retry(base=1, cap=5).delays(draw)
    assert [next(delays) for _ in range(4)] == [0, 0, 0, 0]
    assert bounds == [(0, 1), (0, 2), (0, 4), (0, 5)]


def test_a_step_that_does_not_hold_is_a_failure(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)

    class Stubborn:
        def lacking(self, machine: Machine) -> str | None:
            return "start slurmd"

        def make(self, machine: Machine) -> None:
            pass

    with pytest.raises(StageFailed, match="was done and did not hold: start slurmd"):
        run(host, situation(tmp_path), [stage("s", Stubborn())], Hands().clock())


def test_a_dry_run_tells_and_touches_nothing(tmp_path: Path) -> None:
    host, recorder = machine(tmp_path)
    stages = [stage("one", File("/a", "1"), File("/b", "2")), stage("none")]
    assert pending(host, situation(tmp_path), stages) == {"one": ["write /a", "write /b"], "none": []}
    assert [path.name for path in tmp_path.rglob("*")] == ["proc"]
    assert recorder.calls == []


def test_a_dry_run_goes_on_where_it_cannot_be_seen_yet_what_is_lacking(tmp_path: Path) -> None:
    class Unseen:
        def lacking(self, machine: Machine) -> str | None:
            raise Transient("the database\ndoes not answer")

        def make(self, machine: Machine) -> None:
            raise AssertionError

    def late(_: Situation) -> Iterator[Step]:
        yield File("/c", "")
        raise Transient("the secret cannot be fetched")

    host, _ = machine(tmp_path)
    stages = [stage("one", Unseen(), Unseen(), File("/a", "1")), Stage("two", "two", late)]
    assert pending(host, situation(tmp_path), stages) == {
        "one": ["more, which cannot be told yet: the database does not answer", "write /a"],
        "two": ["write /c", "more, which cannot be told yet: the secret cannot be fetched"],
    }


def test_a_stage_that_a_node_does_not_need_is_skipped(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    never = Stage("never", "never", lambda _: [File("/a", "")], applies=lambda _: False)
    record = run(host, situation(tmp_path), [never], Hands().clock())
    assert record.stages[0].status == "skipped"
    assert not (tmp_path / "a").exists()
