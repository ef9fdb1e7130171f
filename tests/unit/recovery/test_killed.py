"""The agent killed before and after every single thing it does: nothing is done twice, nothing is forgotten."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpadmin.nodes.provider import Repair
from hpadmin.recovery.agent import Agent
from hpadmin.recovery.book import Phase
from hpadmin.recovery.journal import Journal
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.control import NewState
from tests.unit.recovery.world import Killed, World

POLICY = Policy(confirm_after=3, settle=60)


class Fuse:
    """Raises Killed at the n-th thing that is done; counts them all."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.count = 0

    def __call__(self, _what: str) -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed


class MortalJournal(Journal):
    """A journal whose owner may die before a write, and right after it."""

    fuse: Callable[[str], None]

    @contextmanager
    def _write(self) -> Iterator[None]:
        self.fuse("before write")
        with super()._write():
            yield
        self.fuse("after write")


def _order(world: World) -> None:
    world.admin("n0", NewState.FAIL, "Action:Replace")
    world.admin("n1", NewState.FAIL, "Action:Reboot")


def _dead(world: World) -> None:
    world.submit("n2", "n3")
    world.die("n2")


def _now(world: World) -> None:
    world.submit("n0")
    world.admin("n0", NewState.FAIL, "hpadmin: replace(now) by alice: bad NIC")


def _sick(world: World) -> None:
    world.break_gpu("n1")


EXPECTED: dict[str, tuple[Callable[[World], None], list[tuple[str, Repair]]]] = {
    "orders": (_order, [("n0", Repair.REPLACE), ("n1", Repair.REBOOT)]),
    "dead": (_dead, [("n2", Repair.REBOOT)]),
    "now": (_now, [("n0", Repair.REPLACE)]),
    "sick": (_sick, [("n1", Repair.REBOOT), ("n1", Repair.REPLACE)]),
}


def live(path: Path, scenario: str, killed_at: int | None, *, forgets: bool) -> tuple[World, int, bool]:
    """Play a scenario to its end, the agent killed once on the way and started again."""
    world = World(4)
    world.forgets = forgets
    EXPECTED[scenario][0](world)
    fuse = Fuse(killed_at)
    world.step_hook = fuse

    def start() -> Agent:
        journal = MortalJournal(path)
        journal.fuse = fuse
        return Agent(world, world, world, journal, POLICY, clock=world.clock)

    agent, killed = start(), False
    for _ in range(160):
        world.advance(10)
        try:
            agent.cycle()
        except Killed:
            killed = True
            agent.journal.close()
            agent = start()
    book = agent.journal.book(since=0)
    agent.journal.close()
    assert not any(record.phase is Phase.CANCELLED for record in book.closed)
    assert not book.open
    assert not book.notices
    return world, fuse.count, killed


@pytest.mark.parametrize(
    ("scenario", "forgets"),
    [("orders", False), ("orders", True), ("dead", False), ("now", False), ("sick", False)],
)
def test_killed_at_every_step(tmp_path: Path, scenario: str, forgets: bool) -> None:
    _, expected = EXPECTED[scenario]
    _, steps, _ = live(tmp_path / "whole.sqlite", scenario, None, forgets=forgets)
    assert steps >= 12
    for killed_at in itertools.count(1):
        world, _, killed = live(tmp_path / f"{killed_at}.sqlite", scenario, killed_at, forgets=forgets)
        if not killed:
            assert killed_at > steps / 2
            break
        assert sorted((call.node, call.action) for call in world.calls) == expected, killed_at
        assert all(node.info().state.schedulable for node in world.nodes_.values()), killed_at
