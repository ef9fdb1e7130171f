"""A made-up Slurm of a few jobs, and the agent's part over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpadmin.recovery.observe import Observation, jobs_by_node
from hpadmin.recovery.resume import messages
from hpadmin.recovery.resume.control import Hints, read_hints
from hpadmin.recovery.resume.facts import Reach
from hpadmin.recovery.resume.messages import Cause, Phase, Request
from hpadmin.recovery.resume.part import ResumePart
from hpadmin.recovery.resume.store import Store, path_in
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
    mute: set[str] = field(default_factory=set)
    """Their slurmds say nothing, though something else there speaks."""
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
        self.details[job_id] = replace(detail, extra=messages.put(detail.extra, request))

    def answer_of(self, job_id: int) -> messages.Answer:
        return messages.answers(self.details[job_id].admin_comment)[0]

    def start(self, job_id: int) -> None:
        """Let a job that waits run, elsewhere."""
        detail = self.details[job_id]
        info = replace(
            detail.info,
            state=JobState.RUNNING,
            reason="",
            nodes="n[5-8]",
            batch_host="n5",
            start_time=self.now,
        )
        self.details[job_id] = replace(detail, info=info)
        for name in expand("n[5-8]"):
            self.known.setdefault(name, NodeInfo(name, NodeState.parse("ALLOCATED"), address="10.0.0.1"))
        self.deed(f"start {job_id}")

    def forget(self, job_id: int) -> None:
        """Let a job wait as if it had never run: slurmctld was killed before it wrote down that it had started it."""
        detail = self.details[job_id]
        info = replace(
            detail.info, state=JobState.PENDING, reason="None", nodes="", batch_host="", start_time=0
        )
        self.details[job_id] = replace(detail, info=info, restarts=0, extra="", admin_comment="")

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
        assert detail.info.state not in (JobState.PENDING, JobState.COMPLETING), (
            "only what runs or ran is requeued"
        )
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

    def _rank(self, job_id: int, priority: int) -> None:
        detail = self.world.details[job_id]
        self.world.details[job_id] = replace(detail, raw={**detail.raw, "priority": priority})

    def release(self, job_id: int, excluded: str) -> None:
        detail = self.world.details[job_id]
        info = replace(detail.info, reason="BeginTime")
        self.world.details[job_id] = replace(detail, info=info, excluded_nodes=excluded)
        self.world.deed(f"release {job_id} {excluded}")

    def cancel(self, job_id: int) -> None:
        detail = self.world.details[job_id]
        info = replace(detail.info, state=JobState.CANCELLED)
        self.world.details[job_id] = replace(detail, info=info)
        self.world.deed(f"cancel {job_id}")


def part(world: World, folder: Path) -> ResumePart:
    def reacher(
        targets: Mapping[str, tuple[str, int]], *, timeout: float, greeter: int | None = None
    ) -> dict[str, Reach]:
        mute = Reach.SILENT if greeter is None else Reach.MUTE
        return {
            name: Reach.LOST if name in world.dead else mute if name in world.mute else Reach.ANSWERS
            for name in targets
        }

    return ResumePart(world, world, Jobs(world), Store(path_in(folder)), reacher=reacher)


def turn(agent: ResumePart, world: World, times: int = 4) -> None:
    for _ in range(times):
        agent.cycle(world.look())
        world.now += 2


ASK = Request("aaaaaaaa", 0, Phase.ASK, cause=Cause.EXIT, exit_code=1, want=4)


def watched(folder: Path) -> tuple[World, ResumePart]:
    """Job 82 on four nodes, whose step runs, and the agent that has seen it run."""
    world = World()
    world.add(82, "n[1-4]")
    agent = part(world, folder)
    world.ask(82, replace(ASK, phase=Phase.WATCH))
    turn(agent, world, 1)
    return world, agent
