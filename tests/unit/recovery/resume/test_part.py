"""The agent's part over a made-up Slurm: every question is answered once, also when it is killed in between."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.recovery.resume import messages
from hpadmin.recovery.resume.examine import Examination
from hpadmin.recovery.resume.facts import Reach
from hpadmin.recovery.resume.messages import Action, Cause, Phase
from hpadmin.recovery.resume.part import ORPHAN_SECONDS, UNMERGED_SECONDS
from hpadmin.recovery.resume.store import State, path_in
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import JobState, NodeState
from tests.unit.recovery.resume.world import ASK, World, part, turn, watched


def test_a_dead_node_is_marked_before_the_answer_and_once(tmp_path: Path) -> None:
    world = World()
    world.add(82, "n[1-4]")
    agent = part(world, tmp_path)
    world.ask(82, replace(ASK, phase=Phase.WATCH))
    turn(agent, world)
    assert world.deeds == []
    world.dead = {"n2"}
    world.ask(82, ASK)
    turn(agent, world)
    assert world.deeds == ["fail n2", "answer 82"]
    assert (world.answer_of(82).action, world.answer_of(82).bad) == (Action.RETRYSTEP, ("n2",))
    # The step runs again on other nodes, and the story says so.
    detail = world.details[82]
    world.details[82] = replace(detail, info=replace(detail.info, nodes="n[1,3-5]"))
    world.ask(82, replace(ASK, id="bbbbbbbb", phase=Phase.WATCH, attempt=1))
    turn(agent, world)
    job = agent.store.job(82)
    assert job is not None
    assert (job.state, job.resumes) == (State.WATCHED, 1)
    (incident,) = agent.store.incidents(job)
    assert (incident.lost, incident.gained) == ("n2", "n5")
    assert incident.seconds is not None


def test_a_node_that_slurm_took_from_the_job_before_anybody_asked_is_its_failure(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    # Marked down by somebody, and back in service already: the job has shrunk, its step ended.
    detail = world.details[82]
    world.details[82] = replace(detail, info=replace(detail.info, nodes="n[1,3-4]", node_count=3))
    world.ask(82, ASK)
    turn(agent, world)
    assert (world.answer_of(82).action, world.answer_of(82).bad) == (Action.RETRYSTEP, ("n2",))
    assert world.deeds == ["answer 82"], "the node is healthy: nothing to be kept out for"


def test_a_step_that_asks_again_before_anybody_saw_it_run_is_not_blamed_on_the_nodes_it_left(
    tmp_path: Path,
) -> None:
    world, agent = watched(tmp_path)
    world.dead = {"n2"}
    world.ask(82, ASK)
    turn(agent, world, 1)
    assert world.answer_of(82).action is Action.RETRYSTEP
    detail = world.details[82]
    world.known["n5"] = replace(world.known["n3"], name="n5")
    world.details[82] = replace(detail, info=replace(detail.info, nodes="n[1,3-5]"))
    world.ask(82, replace(ASK, id="bbbbbbbb", cause=Cause.SILENT, attempt=1))
    turn(agent, world, 1)
    assert world.answer_of(82).id == "bbbbbbbb"
    assert world.answer_of(82).action is Action.NONE
    job = agent.store.job(82)
    assert job is not None
    assert job.resumes == 1
    assert [(each.lost, each.gained) for each in agent.store.incidents(job)] == [("n2", "n5")]


def test_the_nodes_of_a_run_before_a_requeue_are_not_missed(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    detail = world.details[82]
    world.details[82] = replace(detail, info=replace(detail.info, nodes="n[3-6]"), restarts=1)
    for name in ("n5", "n6"):
        world.known[name] = replace(world.known["n3"], name=name)
    world.ask(82, replace(ASK, restart=1))
    turn(agent, world)
    assert world.answer_of(82).action is Action.NONE


@pytest.mark.parametrize(
    ("cause", "examined"), [(Cause.EXIT, ["n1 n3 n4"]), (Cause.SILENT, []), (Cause.LOST, [])]
)
def test_the_nodes_of_a_step_that_has_just_failed_look_at_themselves_once(
    tmp_path: Path, cause: Cause, examined: list[str]
) -> None:
    world = World()
    world.add(82, "n[1-4]")
    looked: list[str] = []
    examiner = Examined(world, looked, "n3")
    agent = replace(part(world, tmp_path), examiner=examiner)
    world.dead = {"n2"} if cause is Cause.EXIT else set()
    world.ask(82, replace(ASK, phase=Phase.WATCH))
    turn(agent, world, 1)
    world.ask(82, replace(ASK, cause=cause))
    turn(agent, world)
    assert looked == examined
    if examined:
        assert world.answer_of(82).bad == ("n2", "n3")


@dataclass(frozen=True)
class Examined:
    """An examination that finds a fault of one node, at the first attempt or later."""

    world: World
    looked: list[str]
    sick: str
    fails: int = 0
    """So often the sick node cannot look at itself."""

    def examine(self, nodes: Iterable[str], configuration: Mapping[str, str]) -> Examination:
        asked = frozenset(nodes)
        self.looked.append(" ".join(sorted(asked)))
        if len(self.looked) <= self.fails:
            return Examination(asked - {self.sick}, asked & {self.sick})
        report = HealthReport(Verdict.FAILED, 1000, "gpu-count", "reboot", "3 of 4").merged_into("") or ""
        self.world.known[self.sick] = replace(self.world.known[self.sick], extra=report)
        return Examination(asked)


@pytest.mark.parametrize(("fails", "bad"), [(1, ("n3",)), (2, ("n3",)), (1000, ())])
def test_a_node_that_could_not_look_at_itself_is_asked_again(
    tmp_path: Path, fails: int, bad: tuple[str, ...]
) -> None:
    """slurmctld was not reached, or time was over: the report from before says nothing about the failure."""
    world, agent = watched(tmp_path)
    looked: list[str] = []
    agent = replace(agent, examiner=Examined(world, looked, "n3", fails))
    world.ask(82, replace(ASK, cause=Cause.EXIT))
    turn(agent, world, 1)
    assert world.answer_of(82).action is Action.WAIT
    turn(agent, world, 3)
    assert looked[:2] == ["n1 n2 n3 n4", "n3"]
    world.now += agent.limits.diagnosis
    turn(agent, world, 1)
    assert world.answer_of(82).bad == bad
    assert world.answer_of(82).action is (Action.RETRYSTEP if bad else Action.NONE)


def test_a_question_of_an_earlier_run_is_not_answered(tmp_path: Path) -> None:
    world = World(dead={"n2"})
    world.add(82, "n[1-4]", restarts=1)
    world.ask(82, ASK)
    agent = part(world, tmp_path)
    turn(agent, world)
    assert world.deeds == []
    world.ask(82, replace(ASK, id="bbbbbbbb", step=1, restart=1))
    turn(agent, world)
    assert world.deeds == ["fail n2", "answer 82"]


def test_a_helper_is_cancelled_only_when_it_is_left_over_and_of_the_same_user(tmp_path: Path) -> None:
    world = World()
    world.add(82, "n[1-4]")
    world.add(83, "n9", name="auto-resume-82", batch=False)
    world.add(84, "n10", name="auto-resume-82", batch=True)
    world.add(85, "n11", name="auto-resume-82", batch=False)
    stranger = world.details[85]
    world.details[85] = replace(stranger, info=replace(stranger.info, user="bob"))
    world.ask(82, replace(ASK, phase=Phase.WATCH))
    agent = part(world, tmp_path)
    turn(agent, world)
    assert world.deeds == []
    world.now += ORPHAN_SECONDS
    turn(agent, world)
    assert world.deeds == ["cancel 83"]


def test_two_hundred_jobs_that_fail_at_once_are_all_answered_in_one_cycle(tmp_path: Path) -> None:
    world = World()
    for job in range(200):
        world.add(1000 + job, f"r[{4 * job}-{4 * job + 3}]")
        world.dead.add(f"r{4 * job + 1}")
        world.ask(1000 + job, replace(ASK, id=f"{job:08x}"))
    agent = part(world, tmp_path)
    turn(agent, world, 1)
    assert [world.answer_of(1000 + job).action for job in range(200)] == [Action.RETRYSTEP] * 200
    answered = [int(deed.split()[1]) for deed in world.deeds if deed.startswith("answer")]
    assert answered == sorted(answered), "in the order of their submission"
    assert world.reads == 200, "one look at each job that asks"
    turn(agent, world, 1)
    assert len(world.deeds) == 400, "nothing is done twice"


def test_a_requeued_job_does_not_wait_while_hosts_of_another_are_spoken_to(tmp_path: Path) -> None:
    world = World(dead={"n2"}, settings={"SchedulerParameters": ""})
    for job, nodes in ((82, "n[1-4]"), (83, "m[1-4]")):
        world.add(job, nodes)
        world.ask(job, replace(ASK, phase=Phase.WATCH))
    agent = part(world, tmp_path)
    turn(agent, world, 1)
    world.ask(82, ASK)
    turn(agent, world, 1)
    assert world.deeds[-2:] == ["requeue 82", "down n2"]

    def reacher(
        targets: Mapping[str, tuple[str, int]], *, timeout: float, greeter: int | None = None
    ) -> dict[str, Reach]:
        """What takes as long as it takes the other job to start."""
        deadline = time.monotonic() + 20
        while "start 82" not in world.deeds and time.monotonic() < deadline:
            time.sleep(0.01)
        return dict.fromkeys(targets, Reach.LOST if "m2" in targets else Reach.ANSWERS)

    agent.reacher = reacher
    world.ask(83, replace(ASK, id="0" * 8))
    turn(agent, world, 1)
    assert world.deeds.index("start 82") < world.deeds.index("answer 83")


def test_a_question_about_hosts_that_answer_does_not_wait_for_those_that_do_not(tmp_path: Path) -> None:
    world = World(dead={"n2"})
    spoken = list[tuple[str, ...]]()
    for job, nodes in ((82, "n[1-4]"), (83, "m[1-4]")):
        world.add(job, nodes)
        world.ask(job, replace(ASK, id=f"{job:08x}"))
    agent = part(world, tmp_path)

    def reacher(
        targets: Mapping[str, tuple[str, int]], *, timeout: float, greeter: int | None = None
    ) -> dict[str, Reach]:
        spoken.append(tuple(sorted(targets)))
        world.deed(f"speak {timeout:g}")
        return {name: Reach.LOST if name in world.dead else Reach.ANSWERS for name in targets}

    agent.reacher = reacher
    turn(agent, world, 1)
    assert world.deeds == ["speak 0.5", "answer 83", "speak 3", "speak 1.5", "fail n2", "answer 82"]
    assert spoken[1:] == [("n2",), ("n2",)], "nobody is asked again who has answered"


def test_a_helper_that_nobody_merges_is_cancelled_though_its_job_is_resuming(tmp_path: Path) -> None:
    world = World(dead={"n2"})
    world.add(82, "n[1-4]")
    world.ask(82, ASK)
    agent = part(world, tmp_path)
    turn(agent, world)
    world.add(83, "n9", name="auto-resume-82", batch=False)
    detail = world.details[83]
    world.details[83] = replace(detail, info=replace(detail.info, state=JobState.PENDING, nodes=""))
    world.now += UNMERGED_SECONDS
    turn(agent, world)
    assert "cancel 83" not in world.deeds, "it waits for nodes"
    world.details[83] = detail
    turn(agent, world)
    assert "cancel 83" not in world.deeds
    world.now += UNMERGED_SECONDS
    turn(agent, world)
    assert world.deeds.count("cancel 83") == 1


def test_a_rack_with_two_hundred_jobs_is_marked_once_a_node_and_its_jobs_are_requeued_in_their_order(
    tmp_path: Path,
) -> None:
    world, asked = World(), list[str]()
    for job in range(200):
        world.add(1000 + job, f"r{job // 5}")
        world.ask(1000 + job, replace(ASK, phase=Phase.WATCH))
    agent = part(world, tmp_path)
    turn(agent, world, 1)
    world.dead = {f"r{node}" for node in range(40)}

    def reacher(
        targets: Mapping[str, tuple[str, int]], *, timeout: float, greeter: int | None = None
    ) -> dict[str, Reach]:
        asked.extend(targets)
        return dict.fromkeys(targets, Reach.LOST)

    agent.reacher = reacher
    turn(agent, world, 1)
    assert sorted(asked) == sorted(2 * [f"r{node}" for node in range(40)]), (
        "each twice, not once for each job"
    )
    for deed in ("fail", "down"):
        assert sorted(d for d in world.deeds if d.startswith(deed)) == sorted(
            f"{deed} r{n}" for n in range(40)
        )
    requeued = [int(deed.split()[1]) for deed in world.deeds if deed.startswith("requeue")]
    assert requeued == list(range(1000, 1200)), "in the order of their submission"


@pytest.mark.parametrize(
    ("silent", "fails"),
    [
        ({"n2"}, {"n2"}),
        ({"n2", "n3", "n4"}, {"n2", "n3", "n4"}),  # fewer than answer
        ({f"n{number}" for number in range(1, 10)}, set()),  # as when no name is resolved
    ],
)
def test_hosts_that_are_silent_like_most_others_are_not_blamed(
    tmp_path: Path, silent: set[str], fails: set[str]
) -> None:
    world, agent = watched(tmp_path)
    for number in range(5, 10):
        world.known[f"n{number}"] = replace(
            world.known["n1"], name=f"n{number}", state=NodeState.parse("IDLE")
        )

    def reacher(
        targets: Mapping[str, tuple[str, int]], *, timeout: float, greeter: int | None = None
    ) -> dict[str, Reach]:
        return {name: Reach.SILENT if name in silent else Reach.ANSWERS for name in targets}

    agent = replace(agent, reacher=reacher)
    turn(agent, world)
    assert world.deeds == [], "only n1 is looked at, which the batch script runs on"
    world.ask(82, ASK)
    turn(agent, world, 1)
    assert {deed.removeprefix("fail ") for deed in world.deeds if deed.startswith("fail")} == fails
    assert world.answer_of(82).action is (Action.RETRYSTEP if fails else Action.WAIT)


@pytest.mark.parametrize(("cause", "action"), [(Cause.SILENT, Action.NONE), (Cause.CUT, Action.RETRYSTEP)])
def test_a_host_that_speaks_elsewhere_is_not_dead(tmp_path: Path, cause: Cause, action: Action) -> None:
    """Its slurmd may wait for a name service. Where it does not come back, nothing new can be started there."""
    world, agent = watched(tmp_path)
    world.mute = {"n1", "n2"}
    world.ask(82, replace(ASK, cause=cause))
    turn(agent, world, 3)
    assert world.answer_of(82).action is Action.WAIT
    assert {"requeue 82", "fail n1", "fail n2"}.isdisjoint(world.deeds)
    world.mute = {"n2"}
    world.now += agent.limits.diagnosis
    turn(agent, world, 1)
    assert world.answer_of(82).action is action
    assert [deed for deed in world.deeds if deed.startswith(("fail", "down"))] == ["fail n2"]
    assert "slurmd says nothing" in world.known["n2"].reason


def test_a_store_that_fails_is_told_and_ends_nobody(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    other = sqlite3.connect(path_in(tmp_path))
    other.execute("ALTER TABLE jobs RENAME TO away")
    with pytest.raises(OperationFailed, match="record of resumed jobs cannot be read"):
        agent.cycle(world.look())
    assert not agent.hurried
    other.execute("ALTER TABLE away RENAME TO jobs")
    other.close()
    world.dead = {"n2"}
    world.ask(82, ASK)
    turn(agent, world)
    assert "fail n2" in world.deeds


def test_every_failed_step_of_a_job_gets_its_answer(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    for step in range(80):
        world.ask(82, replace(ASK, id=f"{step:08x}", step=step))
        turn(agent, world, 1)
        assert messages.answers(world.details[82].admin_comment)[step].action is Action.NONE
        world.details[82] = replace(world.details[82], extra=messages.drop(world.details[82].extra, step))
    assert len(world.details[82].admin_comment) < 200


def test_the_nodes_of_a_rack_are_told_where_the_supervisor_drops_them_and_only_there(tmp_path: Path) -> None:
    names = [f"ip-10-1-{number % 7}-{number * 3}" for number in range(64)]
    for batch_host, action, bad in ((0, Action.RETRYSTEP, names[16:]), (20, Action.REQUEUE, [])):
        world = World()
        world.add(82, fold(names))
        detail = world.details[82]
        world.details[82] = replace(detail, info=replace(detail.info, batch_host=names[batch_host]))
        agent = part(world, tmp_path / action)
        world.dead = set(names[16:])
        world.ask(82, replace(ASK, cause=Cause.SILENT, want=16))
        turn(agent, world)
        assert (world.answer_of(82).action, world.answer_of(82).bad) == (action, tuple(bad))
        record = agent.store.job(82)
        assert record is not None
        assert expand(agent.store.incidents(record)[0].lost) == names[16:]


def test_an_answer_that_slurmctld_forgot_is_given_again(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    world.ask(82, ASK)
    turn(agent, world)
    assert world.deeds == ["answer 82"]
    world.details[82] = replace(world.details[82], admin_comment="")
    turn(agent, world)
    assert world.deeds == ["answer 82"] * 2


def test_a_question_of_a_job_that_is_suspended_waits_until_it_runs(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    world.ask(82, ASK)
    detail = world.details[82]
    world.details[82] = replace(detail, info=replace(detail.info, state=JobState.SUSPENDED))
    turn(agent, world)
    assert world.deeds == []
    world.details[82] = detail
    turn(agent, world)
    assert world.deeds == ["answer 82"]


@pytest.mark.parametrize(("ran", "last"), [(1, Action.FAIL), (20, Action.FAIL), (600, Action.RETRYSTEP)])
def test_a_program_that_makes_no_progress_is_found_out_also_while_it_runs(
    tmp_path: Path, ran: int, last: Action
) -> None:
    world, agent = watched(tmp_path)
    for attempt in range(5):
        lost = expand(world.details[82].info.nodes)[1]
        world.dead = {lost}
        asked = replace(ASK, id=f"{attempt:08x}", cause=Cause.SILENT, ran=ran, attempt=attempt)
        world.ask(82, asked)
        turn(agent, world, 1)
        answer = world.answer_of(82)
        if attempt < 4:
            assert answer.action is (Action.RETRYSTEP if attempt < 3 else last)
        # Another node joins, the step starts again; it is asked about once in vain.
        fresh = f"n{10 + attempt}"
        world.known[fresh] = NodeInfo(fresh, NodeState.parse("ALLOCATED"), address="10.0.0.1")
        detail = world.details[82]
        nodes = ",".join([name for name in expand(detail.info.nodes) if name != lost] + [fresh])
        world.details[82] = replace(detail, info=replace(detail.info, nodes=nodes))
        for phase in (Phase.WATCH, Phase.ASK, Phase.WATCH):
            world.ask(82, replace(asked, phase=phase, id=f"b{attempt:07x}"))
            turn(agent, world, 1)
        if answer.action is Action.FAIL:
            break


def test_a_resume_that_got_stuck_is_one_failure(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    for name, cause in (("n2", Cause.SILENT), ("n3", Cause.SILENT)):
        world.dead = {name}
        world.ask(82, replace(ASK, id=f"{name}".ljust(8, "0").replace("n", "a"), cause=cause, ran=5))
        turn(agent, world, 1)
        world.ask(82, replace(ASK, phase=Phase.WATCH))
        turn(agent, world, 1)
    world.ask(82, replace(ASK, id="cccccccc", cause=Cause.STUCK, ran=5))
    turn(agent, world, 1)
    record = agent.store.job(82)
    assert record is not None
    assert record.quick == 1
