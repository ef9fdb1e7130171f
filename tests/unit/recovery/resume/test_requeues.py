"""Jobs that go through the queue: requeued once whoever is killed, hurried, and put back into their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpadmin.recovery.resume.messages import Action
from hpadmin.recovery.resume.part import ResumePart
from hpadmin.recovery.resume.place import Place, deserved
from hpadmin.recovery.resume.runs import FORGOTTEN
from hpadmin.recovery.resume.store import State, Store, path_in
from hpadmin.slurm.states import JobState, NodeState
from tests.unit.recovery.resume.world import ASK, Killed, World, part, turn, watched


def test_a_lost_batch_host_needs_no_question(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    world.dead = {"n1"}
    turn(agent, world)
    assert world.deeds == ["fail n1", "requeue 82", "down n1", "start 82"]
    job = agent.store.job(82)
    assert job is not None
    assert (job.state, job.resumes, job.last_action) == (State.WATCHED, 1, "REQUEUE")


def without_its_script(tmp_path: Path, state: JobState, *, requeue: bool = True) -> tuple[World, ResumePart]:
    """Job 82 after its batch host was marked down and came back: Slurm took it away, and calls another one that."""
    world, agent = watched(tmp_path)
    detail = world.details[82]
    info = replace(detail.info, state=state, nodes="n[2-4]", batch_host="n2", node_count=3)
    world.details[82] = replace(detail, info=info, requeue=requeue)
    return world, agent


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.FAILED])
def test_a_batch_host_that_came_back_without_the_script_is_a_lost_one(
    tmp_path: Path, state: JobState
) -> None:
    world, agent = without_its_script(tmp_path, state)
    turn(agent, world)
    assert world.deeds == ["requeue 82", "start 82"]
    job = agent.store.job(82)
    assert job is not None
    assert (job.state, job.resumes, job.batch_host) == (State.WATCHED, 1, "n5")
    assert "n1: Slurm took it from the job" in job.reason


@pytest.mark.parametrize(
    ("state", "deeds"), [(JobState.RUNNING, ["cancel 82"]), (JobState.FAILED, list[str]())]
)
def test_a_job_that_lost_its_script_and_forbids_a_requeue_is_ended(
    tmp_path: Path, state: JobState, deeds: list[str]
) -> None:
    world, agent = without_its_script(tmp_path, state, requeue=False)
    turn(agent, world)
    assert world.deeds == deeds
    job = agent.store.job(82)
    assert job is not None
    assert job.state is State.ENDED
    assert "forbids a requeue" in job.reason


def test_a_requeue_that_nobody_saw_is_no_lost_batch_host(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    detail = world.details[82]
    info = replace(detail.info, nodes="n[5-8]", batch_host="n5")
    world.details[82] = replace(detail, info=info, restarts=1)
    turn(agent, world)
    assert world.deeds == []


def killed_at_a_requeue(folder: Path, deed: int) -> World:
    """A job with GRES that lost a node; its agent was killed at one of its deeds: 2 is the answer, 3 the requeue."""
    world = World(dead={"n2"}, die_at=deed)
    world.add(82, "n[1-4]", tres_allocated="cpu=4,gres/gpu=16")
    world.ask(82, ASK)
    with pytest.raises(Killed):
        turn(part(world, folder), world)
    world.die_at = -1
    return world


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(1, 6))
def test_killed_anywhere_the_job_is_requeued_once(tmp_path: Path, at: int, before: bool) -> None:
    world = World(die_at=at, die_before=before, dead={"n2"})
    world.add(82, "n[1-4]", tres_allocated="cpu=4,gres/gpu=16")
    world.ask(82, ASK)
    agent = part(world, tmp_path)
    try:
        turn(agent, world, 6)
    except Killed:
        world.die_at = -1
        turn(part(world, tmp_path), world, 6)
    assert world.deeds.count("requeue 82") == 1
    assert world.deeds.count("start 82") == 1
    assert world.deeds.index("fail n2") < world.deeds.index("requeue 82")
    assert world.details[82].info.state is JobState.RUNNING
    job = Store(path_in(tmp_path)).job(82)
    assert job is not None
    assert job.resumes == 1
    assert job.state is State.WATCHED


@pytest.mark.parametrize("end", [JobState.COMPLETED, JobState.FAILED, JobState.NODE_FAIL])
def test_a_job_that_ends_before_its_requeue_is_requeued_all_the_same(tmp_path: Path, end: JobState) -> None:
    # slurmctld is killed as well, and forgets the requeue.
    world = killed_at_a_requeue(tmp_path, 3)
    assert world.deeds[-1] == "requeue 82"
    detail = world.details[82]
    info = replace(detail.info, state=end, reason="", nodes="n[1-4]")
    world.details[82] = replace(detail, info=info, restarts=0)
    turn(part(world, tmp_path), world)
    assert world.deeds.count("requeue 82") == 2
    job = Store(path_in(tmp_path)).job(82)
    assert job is not None
    assert (job.state, job.resumes) == (State.WATCHED, 1)


@pytest.mark.parametrize("end", [JobState.CANCELLED, JobState.TIMEOUT])
def test_a_job_that_was_ended_is_not_requeued(tmp_path: Path, end: JobState) -> None:
    world = killed_at_a_requeue(tmp_path, 2)
    detail = world.details[82]
    world.details[82] = replace(detail, info=replace(detail.info, state=end))
    turn(part(world, tmp_path), world)
    assert "requeue 82" not in world.deeds
    job = Store(path_in(tmp_path)).job(82)
    assert job is not None
    assert job.state is State.ENDED
    assert end.value in job.reason


def test_a_requeued_job_that_ends_between_two_looks_was_resumed(tmp_path: Path) -> None:
    world = killed_at_a_requeue(tmp_path, 3)
    world.start(82)
    detail = world.details[82]
    world.details[82] = replace(detail, info=replace(detail.info, state=JobState.COMPLETED))
    turn(part(world, tmp_path), world)
    assert world.deeds.count("requeue 82") == 1
    job = Store(path_in(tmp_path)).job(82)
    assert job is not None
    assert (job.state, job.resumes) == (State.ENDED, 1)
    assert "before its step ran again" not in job.reason


def test_slurms_own_requeue_after_a_node_failure_is_hurried_once(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    world.known["n3"] = replace(world.known["n3"], state=NodeState.parse("DOWN"), reason="Not responding")
    detail = world.details[82]
    info = replace(detail.info, state=JobState.PENDING, reason="BeginTime", nodes="", batch_host="")
    world.details[82] = replace(detail, info=info, restarts=1)
    turn(agent, world)
    assert world.deeds == ["start 82"]


def test_a_requeued_job_that_is_held_by_a_failed_launch_goes_elsewhere_once(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    world.dead, world.full = {"n1"}, True
    turn(agent, world)

    def held() -> None:
        detail = world.details[82]
        info = replace(detail.info, state=JobState.PENDING, reason="JobHeldUser")
        raw = {**detail.raw, "state_description": "launch failed requeued held"}
        world.details[82] = replace(detail, info=info, raw=raw)

    held()
    world.details[82] = replace(world.details[82], excluded_nodes="n[8-9]")
    before = list(world.deeds)
    turn(agent, world, 1)
    assert world.deeds == [*before, "release 82 n[8-9,1]"]
    held()
    turn(agent, world)
    assert world.deeds == [*before, "release 82 n[8-9,1]"]


def test_a_requeue_by_hand_is_left_alone(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    detail = world.details[82]
    info = replace(detail.info, state=JobState.PENDING, reason="BeginTime", nodes="", batch_host="")
    world.details[82] = replace(detail, info=info, restarts=1)
    turn(agent, world)
    assert world.deeds == []
    world.start(82)
    turn(agent, world)
    assert world.deeds == ["start 82"], "that it runs elsewhere now is no loss of a batch host"
    job = agent.store.job(82)
    assert job is not None
    assert (job.nodes, job.batch_host, job.resumes) == ("n[5-8]", "n5", 0)
    assert job.reason.startswith("requeued, and not because a node failed")


@pytest.mark.parametrize("resuming", [False, True])
def test_a_job_that_slurmctld_forgot_is_started_by_slurm_and_not_requeued(
    tmp_path: Path, resuming: bool
) -> None:
    world, agent = watched(tmp_path)
    if resuming:
        world.dead = {"n2"}
        world.ask(82, ASK)
        turn(agent, world)
        assert world.answer_of(82).action is Action.RETRYSTEP
    before = list(world.deeds)
    world.forget(82)
    turn(agent, world)
    world.start(82)
    turn(agent, world)
    assert world.deeds == [*before, "start 82"]
    job = agent.store.job(82)
    assert job is not None
    assert (job.state, job.nodes, job.batch_host) == (State.WATCHED, "n[5-8]", "n5")
    assert (job.resumes, job.reason) == (int(resuming), FORGOTTEN)
    assert [incident.gained for incident in agent.store.incidents(job)] == ["n[5-8]"] * resuming
    world.dead.add("n6")
    world.ask(82, replace(ASK, id="bbbbbbbb"))
    turn(agent, world)
    assert world.answer_of(82).bad == ("n6",), "the nodes of the run that is over are no matter any more"


@pytest.mark.parametrize("ended", [False, True])
def test_a_requeue_that_slurmctld_made_needless_by_forgetting_the_run_is_not_made(
    tmp_path: Path, ended: bool
) -> None:
    world = killed_at_a_requeue(tmp_path, 2)
    world.forget(82)
    agent = part(world, tmp_path)
    turn(agent, world)
    world.start(82)
    if ended:
        detail = world.details[82]
        world.details[82] = replace(detail, info=replace(detail.info, state=JobState.COMPLETED))
    turn(agent, world)
    assert "requeue 82" not in world.deeds
    job = agent.store.job(82)
    assert job is not None
    assert (job.state, job.nodes) == (State.ENDED if ended else State.WATCHED, "n[5-8]")


def test_a_forgotten_job_whose_script_still_lies_where_it_ran_goes_elsewhere(tmp_path: Path) -> None:
    world, agent = watched(tmp_path)
    world.forget(82)
    turn(agent, world)
    detail = world.details[82]
    info = replace(detail.info, reason="JobHeldUser")
    raw = {**detail.raw, "state_description": "launch failed requeued held"}
    world.details[82] = replace(detail, info=info, raw=raw, restarts=1)
    turn(agent, world)
    assert world.deeds == ["release 82 n1", "start 82"]
    job = agent.store.job(82)
    assert job is not None
    assert (job.state, job.resumes) == (State.WATCHED, 1)
    assert job.reason == "Slurm could not launch it where it had run"


def test_a_requeued_job_gets_its_place_back_and_keeps_it_while_it_waits(tmp_path: Path) -> None:
    world = World(dead={"n2"}, full=True)
    world.settings = {"PriorityWeightAge": "10000", "PriorityMaxAge": "1-00:00:00"}
    raw: dict[str, object] = {"priority": 1500, "accrue_time": 1000}
    world.add(82, "n[1-4]", tres_allocated="cpu=4,gres/gpu=16", raw=raw)
    world.now = 1000 + 43200
    world.ask(82, ASK)
    agent = part(world, tmp_path)
    turn(agent, world)
    assert world.details[82].raw["priority"] == 100 + 5000, "as if it had waited all the time"
    turn(agent, world)
    assert "priority" not in " ".join(world.deeds), "it is not set again for a few seconds more"
    world.now += 8640
    turn(agent, world, 1)
    assert world.deeds[-1] == "priority 82 6101"
    world.start(82)
    turn(agent, world)
    assert world.deeds[-1] == "start 82"


@pytest.mark.parametrize(
    ("place", "base", "now", "settings", "wanted"),
    [
        (Place(5000, 0), 4990, 10, {"PriorityType": "priority/basic"}, 5000),
        (Place(5000, 0), 6000, 10, {"PriorityType": "priority/basic"}, 0),
        (Place(5000, 0), 0, 10, {"PriorityType": "priority/basic"}, 0),
        (Place(1, 0), 1, 10**6, {"PriorityWeightAge": "0", "PriorityMaxAge": "7-00:00:00"}, 0),
        (Place(1, 0), 1, 10**9, {"PriorityWeightAge": "1000", "PriorityMaxAge": "7-00:00:00"}, 1001),
        (Place(5000, 990), 1, 1000, {"PriorityWeightAge": "1000", "PriorityMaxAge": "7-00:00:00"}, 5000),
        (Place(1, 0), 1, 10, {"PriorityWeightAge": "x", "PriorityMaxAge": "soon"}, 0),
    ],
)
def test_the_priority_that_a_requeued_job_deserves(
    place: Place, base: int, now: float, settings: dict[str, str], wanted: int
) -> None:
    assert deserved(place, base, now, settings) == wanted


def completing(folder: Path) -> tuple[World, ResumePart]:
    """A job that is being requeued, with a node that will never say that it has completed there."""
    world, agent = watched(folder)
    record = agent.store.job(82)
    assert record is not None
    agent.store.save(replace(record, state=State.REQUEUING), world.now)
    detail = world.details[82]
    world.details[82] = replace(detail, info=replace(detail.info, state=JobState.COMPLETING))
    world.dead = {"n3"}
    return world, agent


def test_a_dead_node_that_a_job_completes_on_is_down_and_stays_out_when_it_comes_back(tmp_path: Path) -> None:
    world, agent = completing(tmp_path)
    turn(agent, world)
    assert world.deeds == ["fail n3", "down n3"]


def test_a_slurmd_that_hangs_is_given_up_when_slurm_has_noticed_too(tmp_path: Path) -> None:
    world, agent = completing(tmp_path)
    world.dead, world.mute = set(), {"n3"}
    turn(agent, world)
    assert world.deeds == [], "it may have to wait for a name service"
    world.known["n3"] = replace(world.known["n3"], state=NodeState.parse("COMPLETING+NOT_RESPONDING"))
    turn(agent, world)
    assert world.deeds == ["fail n3", "down n3"]


def test_a_node_is_not_taken_down_for_a_job_that_has_long_left_it(tmp_path: Path) -> None:
    """Hosts were waited for; meanwhile the job has completed, and another may run there: down would end it."""
    world, agent = completing(tmp_path)
    seen = world.look()
    detail = world.details[82]
    world.details[82] = replace(
        detail, info=replace(detail.info, state=JobState.RUNNING, nodes="n[5-8]"), restarts=1
    )
    agent.cycle(seen)
    assert world.deeds == []
