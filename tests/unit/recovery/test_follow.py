"""A person waits for nodes: what slurmctld or the journal do not say for a while does not end that."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.nodes.provider import Repair
from hpadmin.recovery import operate
from hpadmin.recovery.agent import Agent
from hpadmin.recovery.follow import Patience
from hpadmin.recovery.journal import Journal, LostLeadership
from hpadmin.recovery.operate import Progress
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.control import NewState
from tests.unit.recovery.world import World

AWAY = OperationFailed("scontrol exited 1 and said: Unable to contact slurm controller (connect failure)")


@dataclass
class Terminal:
    """What a person was told, and a clock that only sleeping moves."""

    said: list[str] = field(default_factory=list)
    now: float = 0.0
    slept: Callable[[float], None] = lambda _: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept(seconds)

    def patience(self, limit: float = 60) -> Patience:
        return Patience(limit, self.said.append, clock=lambda: self.now, sleep=self.sleep)


def answers(*outcomes: object) -> Callable[[], object]:
    given = iter(outcomes)

    def ask() -> object:
        outcome = next(given)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return ask


def test_an_interval_without_answers_is_told_once_and_waited_out() -> None:
    terminal = Terminal()
    assert terminal.patience().ask(answers(AWAY, AWAY, AWAY, "here")) == "here"
    assert terminal.said == [f"no answer, waiting for one: {AWAY.message}", "answers come again"]


def test_after_the_limit_the_last_failure_is_the_answer() -> None:
    terminal = Terminal()
    with pytest.raises(OperationFailed) as caught:
        terminal.patience(10).ask(answers(*[AWAY] * 9))
    assert caught.value.message == f"no answer for 10 s: {AWAY.message}"
    assert "run the same command again" in caught.value.hint
    assert terminal.now == 10


@pytest.mark.parametrize("error", [OperationFailed("Invalid user id"), LostLeadership("another agent")])
def test_what_waiting_cannot_mend_is_said_at_once(error: OperationFailed) -> None:
    terminal = Terminal()
    with pytest.raises(type(error)):
        terminal.patience().ask(answers(error, "here"))
    assert terminal.said == []


def test_a_repair_is_followed_through_a_restart_of_slurmctld(tmp_path: Path) -> None:
    world = World(2)
    agent = Agent(world, world, world, Journal(tmp_path / "agent.sqlite"), Policy(), clock=world.clock)
    operate.order(["n0"], Repair.REBOOT, author="a", why="x", now=False, reader=world, control=world)
    since = world.now

    def pass_time(_: float) -> None:
        world.advance(10)
        world.slurm_down = 20 <= world.now - since < 60
        agent.cycle()

    def look() -> list[Progress]:
        book = agent.journal.book(since=since)
        nodes = {node.name: node for node in world.nodes()}
        return [operate.progress("n0", Repair.REBOOT, since, nodes["n0"], book, ())]

    terminal = Terminal(slept=pass_time)
    told: list[str] = []
    assert terminal.patience().follow(look, lambda state: told.append(state.text))
    assert told[-1] == "back in service"
    assert len(told) == len(set(told)), "each step is told once"
    assert [words.partition(":")[0] for words in terminal.said] == [
        "no answer, waiting for one",
        "answers come again",
    ]


def test_following_ends_when_a_node_failed() -> None:
    terminal = Terminal()
    states = [Progress("n0", "back in service", done=True), Progress("n1", "failed: x", failed=True)]
    assert not terminal.patience().follow(lambda: states, lambda state: None)


def test_an_order_whose_answer_was_lost_is_not_given_twice() -> None:
    world = World(2)

    def order() -> None:
        operate.order(
            ["n0", "n1"], Repair.REBOOT, author="a", why="x", now=False, reader=world, control=world
        )

    def lose(what: str) -> None:
        if what == "after set_state" and not terminal.said:
            raise AWAY

    terminal = Terminal()
    world.step_hook = lose
    terminal.patience().ask(order)
    heard = world.nodes_["n0"].reason_time
    world.now += 5
    order()
    assert world.nodes_["n0"].reason_time == heard
    assert world.overwritten == []
    world.set_state(["n1"], NewState.RESUME, "x")
    order()
    assert world.nodes_["n1"].reason == "hpadmin: reboot by a: x"


def test_a_journal_that_is_locked_stops_nothing_for_good(tmp_path: Path) -> None:
    world = World(2)
    path = tmp_path / "agent.sqlite"
    journal = Journal(path)
    agent = Agent(world, world, world, journal, Policy(), clock=world.clock)
    journal._db.execute("PRAGMA busy_timeout = 1")
    operate.order(["n0"], Repair.REBOOT, author="a", why="x", now=False, reader=world, control=world)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        agent.cycle()
        with pytest.raises(OperationFailed, match="journal cannot be written: database is locked"):
            journal.note(1, "n0", "x", "y")
        assert world.calls == []
        other.execute("ROLLBACK")
    agent.cycle()
    assert [call.node for call in world.calls] == ["n0"]
