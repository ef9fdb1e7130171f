"""The agent's part over a made-up Slurm: every question is answered once, also when it is killed in between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.recovery.observe import Observation, jobs_by_node
from hpadmin.recovery.resume import messages
from hpadmin.recovery.resume.control import Hints, read_hints
from hpadmin.recovery.resume.facts import Reach
from hpadmin.recovery.resume.messages import Action, Cause, Phase, Request
from hpadmin.recovery.resume.part import ORPHAN_SECONDS, ResumePart
from hpadmin.recovery.resume.place import Place, deserved
from hpadmin.recovery.resume.store import State, Store, path_in
from hpadmin.slurm.control import NewState
from hpadmin.slurm.hostlist import expand
from hpadmin.slurm.reader import JobDetail, JobInfo, NodeInfo, PartitionInfo, ReservationInfo
from hpadmin.slurm.states import JobState, NodeState


class Killed(BaseException):
    """kill -9, as far as Python can have it."""


@dataclass
class World:
    """A Slurm of a few jobs. `die_at` counts down with every change that is asked of it."""

    known: dict[str, NodeInfo] = field(default_factory=dict)
    details: dict[int, JobDetail] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    deeds: list[str] = field(default_factory=list)
    reads: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    die_at: int = -1
    die_before: bool = False
    now: float = 1000.0
    full: bool = False
    """No node is free: what is requeued waits."""

    def deed(self, text: str) -> None:
        self.deeds.append(text)

    def _dies(self, before: bool) -> None:
        if before is self.die_before:
            self.die_at -= 1
            if self.die_at == 0:
                raise Killed

    def add(self, job_id: int, nodes: str, **about: object) -> None:
        names = expand(nodes)
        for name in names:
            self.known.setdefault(name, NodeInfo(name, NodeState.parse("ALLOCATED"), address="10.0.0.1"))
        info = JobInfo(
            job_id, JobState.RUNNING, "", "alice", "", "dev", "", len(names), nodes, names[0], "", 10, 10, 0
        )
        detail = JobDetail(
            info, 1000, "train", "", "", "", True, 0, True, 0, 0, None, "", "", "", "", "", "", True, "cpu=4"
        )
        self.details[job_id] = replace(detail, **about)  # type: ignore[arg-type]

    def ask(self, job_id: int, request: Request) -> None:
        detail = self.details[job_id]
        self.details[job_id] = replace(detail, extra=messages.put(detail.extra, request.record()))

    def answer_of(self, job_id: int) -> messages.Answer:
        return messages.answers(self.details[job_id].admin_comment)[0]

    def start(self, job_id: int) -> None:
        """Let a job that waits run, elsewhere."""
        detail = self.details[job_id]
        info = replace(detail.info, state=JobState.RUNNING, reason="", nodes="n[5-8]", batch_host="n5")
        self.details[job_id] = replace(detail, info=info)
        for name in expand("n[5-8]"):
            self.known.setdefault(name, NodeInfo(name, NodeState.parse("ALLOCATED"), address="10.0.0.1"))
        self.deed(f"start {job_id}")

    def look(self) -> Observation:
        jobs = self.jobs()
        return Observation(self.now, dict(self.known), jobs, jobs_by_node(jobs))

    # SlurmReader
    def jobs(self, *, ended: bool = False) -> tuple[JobInfo, ...]:
        every = (detail.info for detail in self.details.values())
        return tuple(info for info in every if ended or not info.state.ended)

    def job(self, job_id: int) -> JobDetail | None:
        self.reads += 1
        return self.details.get(job_id)

    def configuration(self) -> dict[str, str]:
        return {"SchedulerParameters": "permit_job_expansion", **self.settings}

    def nodes(self) -> tuple[NodeInfo, ...]:
        return tuple(self.known.values())

    def node(self, name: str) -> NodeInfo | None:
        return self.known.get(name)

    def partitions(self) -> tuple[PartitionInfo, ...]:
        return ()

    def reservations(self) -> tuple[ReservationInfo, ...]:
        return ()

    def release(self) -> tuple[int, int]:
        return (24, 11)

    # SlurmControl
    def set_state(self, nodes: Sequence[str], state: NewState, reason: str) -> None:
        self._dies(True)
        for name in nodes:
            word = "DOWN+FAIL" if state is NewState.DOWN else "ALLOCATED+FAIL"
            self.known[name] = replace(self.known[name], state=NodeState.parse(word), reason=reason)
            self.deed(f"{state.value} {name}")
        self._dies(False)

    def set_extra(self, node: str, extra: str) -> None:
        raise NotImplementedError

    def reserve(self, name: str, nodes: Sequence[str], *, minutes: int, flags: Sequence[str]) -> None:
        raise NotImplementedError

    def release_reservation(self, name: str) -> None:
        raise NotImplementedError


@dataclass
class Jobs:
    """`JobControl` over the world."""

    world: World

    def hints(self) -> Hints:
        lines = (
            f"JobId={job} JobName={detail.name} Extra={detail.extra}  StdErr=x"
            for job, detail in self.world.details.items()
            if not detail.info.state.ended
        )
        return read_hints("\n".join(lines))

    def answer(self, job_id: int, admin_comment: str) -> None:
        self.world._dies(True)
        self.world.details[job_id] = replace(self.world.details[job_id], admin_comment=admin_comment)
        self.world.deed(f"answer {job_id}")
        self.world._dies(False)

    def requeue(self, job_id: int) -> None:
        self.world._dies(True)
        detail = self.world.details[job_id]
        assert detail.info.state in (JobState.RUNNING, JobState.NODE_FAIL), "only what runs is requeued"
        info = replace(detail.info, state=JobState.PENDING, reason="BeginTime", nodes="")
        raw = {**detail.raw, "priority": 100} if detail.raw else {}
        self.world.details[job_id] = replace(detail, info=info, restarts=detail.restarts + 1, raw=raw)
        self.world.deed(f"requeue {job_id}")
        self.world._dies(False)

    def start_now(self, job_id: int, priority: int = 0) -> None:
        self.world._dies(True)
        if priority:
            self._rank(job_id, priority)
        detail = self.world.details[job_id]
        if self.world.full:
            self.world.details[job_id] = replace(detail, info=replace(detail.info, reason="Resources"))
            return
        self.world.start(job_id)
        self.world._dies(False)

    def set_priority(self, job_id: int, priority: int) -> None:
        self._rank(job_id, priority)
        self.world.deed(f"priority {job_id} {priority}")

    def release_priority(self, job_id: int, nice: int) -> None:
        self.world.deed(f"release {job_id} {nice}")

    def _rank(self, job_id: int, priority: int) -> None:
        detail = self.world.details[job_id]
        self.world.details[job_id] = replace(detail, raw={**detail.raw, "priority": priority})

    def cancel(self, job_id: int) -> None:
        detail = self.world.details[job_id]
        info = replace(detail.info, state=JobState.CANCELLED)
        self.world.details[job_id] = replace(detail, info=info)
        self.world.deed(f"cancel {job_id}")


def part(world: World, folder: Path) -> ResumePart:
    def reacher(targets: Mapping[str, tuple[str, int]], *, timeout: float) -> dict[str, Reach]:
        return {name: Reach.LOST if name in world.dead else Reach.ANSWERS for name in targets}

    return ResumePart(world, world, Jobs(world), Store(path_in(folder)), reacher=reacher)


def turn(agent: ResumePart, world: World, times: int = 4) -> None:
    for _ in range(times):
        agent.cycle(world.look())
        world.now += 2


ASK = Request("aaaaaaaa", 0, Phase.ASK, cause=Cause.EXIT, exit_code=1, want=4)


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
    world = World()
    world.add(82, "n[1-4]")
    agent = part(world, tmp_path)
    world.ask(82, replace(ASK, phase=Phase.WATCH))
    turn(agent, world, 1)
    # Marked down by somebody, and back in service already: the job has shrunk, its step ended.
    detail = world.details[82]
    world.details[82] = replace(detail, info=replace(detail.info, nodes="n[1,3-4]", node_count=3))
    world.ask(82, ASK)
    turn(agent, world)
    assert (world.answer_of(82).action, world.answer_of(82).bad) == (Action.RETRYSTEP, ("n2",))
    assert world.deeds == ["answer 82"], "the node is healthy: nothing to be kept out for"


def test_the_nodes_of_a_run_before_a_requeue_are_not_missed(tmp_path: Path) -> None:
    world = World()
    world.add(82, "n[1-4]")
    agent = part(world, tmp_path)
    world.ask(82, replace(ASK, phase=Phase.WATCH))
    turn(agent, world, 1)
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
    """An examination that finds a fault of one node."""

    world: World
    looked: list[str]
    sick: str

    def examine(self, nodes: Iterable[str], configuration: Mapping[str, str]) -> bool:
        self.looked.append(" ".join(nodes))
        report = HealthReport(Verdict.FAILED, 1000, "gpu-count", "reboot", "3 of 4").merged_into("") or ""
        self.world.known[self.sick] = replace(self.world.known[self.sick], extra=report)
        return True


def test_a_lost_batch_host_needs_no_question(tmp_path: Path) -> None:
    world = World()
    world.add(82, "n[1-4]")
    agent = part(world, tmp_path)
    world.ask(82, replace(ASK, phase=Phase.WATCH))
    turn(agent, world, 1)
    world.dead = {"n1"}
    turn(agent, world)
    assert world.deeds == ["fail n1", "requeue 82", "down n1", "start 82"]
    job = agent.store.job(82)
    assert job is not None
    assert (job.state, job.resumes, job.last_action) == (State.WATCHED, 1, "REQUEUE")


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


def test_slurms_own_requeue_after_a_node_failure_is_hurried_once(tmp_path: Path) -> None:
    world = World()
    world.add(82, "n[1-4]")
    agent = part(world, tmp_path)
    world.ask(82, replace(ASK, phase=Phase.WATCH))
    turn(agent, world, 1)
    world.known["n3"] = replace(world.known["n3"], state=NodeState.parse("DOWN"), reason="Not responding")
    detail = world.details[82]
    info = replace(detail.info, state=JobState.PENDING, reason="BeginTime", nodes="", batch_host="")
    world.details[82] = replace(detail, info=info, restarts=1)
    turn(agent, world)
    assert world.deeds == ["start 82"]


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


def test_a_requeue_by_hand_is_left_alone(tmp_path: Path) -> None:
    world = World()
    world.add(82, "n[1-4]")
    agent = part(world, tmp_path)
    world.ask(82, replace(ASK, phase=Phase.WATCH))
    turn(agent, world, 1)
    detail = world.details[82]
    info = replace(detail.info, state=JobState.PENDING, reason="BeginTime", nodes="", batch_host="")
    world.details[82] = replace(detail, info=info, restarts=1)
    turn(agent, world)
    assert world.deeds == []


def test_a_requeued_job_gets_its_place_back_and_keeps_it_while_it_waits(tmp_path: Path) -> None:
    world = World(dead={"n2"}, full=True)
    world.settings = {"PriorityWeightAge": "10000", "PriorityMaxAge": "1-00:00:00"}
    raw: dict[str, object] = {"priority": 1500, "accrue_time": 1000, "nice": 7}
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
    assert world.deeds[-1] == "release 82 7"
    assert world.deeds.count("release 82 7") == 1


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
