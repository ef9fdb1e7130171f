"""The agent's part that resumes jobs: in each cycle it looks for questions, answers them, and requeues.

    agent = Agent(…, parts=[over_commands(reader, node_control, runner, state_dir)])

Level-triggered: everything is found again in Slurm, so this process may be killed between any two lines. What
Slurm would forget is written into the store before it is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpadmin.errors import OperationFailed
from hpadmin.recovery import reasons
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.resume import messages
from hpadmin.recovery.resume.control import CommandJobControl, Hints, JobControl
from hpadmin.recovery.resume.decide import decide
from hpadmin.recovery.resume.facts import (
    Health,
    History,
    JobView,
    Limits,
    NodeView,
    Reach,
    has_gres,
    judge,
)
from hpadmin.recovery.resume.messages import Action, Answer, Cause, Phase, Request
from hpadmin.recovery.resume.reach import reach
from hpadmin.recovery.resume.store import Incident, JobRecord, State, Store, path_in
from hpadmin.slurm.command import Runner
from hpadmin.slurm.control import NewState, SlurmControl
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.reader import JobDetail, JobInfo, SlurmReader
from hpadmin.slurm.states import JobState

log = logging.getLogger(__name__)

Reacher = Callable[[Mapping[str, tuple[str, int]]], dict[str, Reach]]

SLURMD_PORT = 6818
ORPHAN_SECONDS = 30.0
"""A helper allocation whose job has had no open question for so long is left over."""
UNASKED = "agent"
"""The request id of incidents that no supervisor asked about."""


def over_commands(reader: SlurmReader, nodes: SlurmControl, runner: Runner, state_dir: Path) -> ResumePart:
    """Return the part as the agent runs it: over Slurm's commands, its store in the state directory."""
    return ResumePart(reader, nodes, CommandJobControl(runner), Store(path_in(state_dir)))


@dataclass
class ResumePart:
    """See the module. `clock` is that of the picture (`Observation.at`)."""

    reader: SlurmReader
    nodes: SlurmControl
    jobs: JobControl
    store: Store
    limits: Limits = field(default_factory=Limits)
    reacher: Reacher | None = None
    _seen_records: dict[int, str] = field(default_factory=dict, init=False)
    """Records that were looked at already and ask for nothing: a cache, nothing is lost with it."""
    _orphans: dict[int, float] = field(default_factory=dict, init=False)

    def cycle(self, seen: Observation) -> None:
        """Do whatever there is to do now. Raises OperationFailed when Slurm cannot be read."""
        hints = self.jobs.hints()
        known = {job.job_id: job for job in self.store.jobs()}
        running = {job.job_id: job for job in seen.jobs}
        asking = []
        for job_id, record in hints.records.items():
            if job_id in running and self._seen_records.get(job_id) != record:
                detail = self.reader.job(job_id)
                if detail is not None and not self._hear(detail, known.get(job_id), seen):
                    self._seen_records[job_id] = record
                elif detail is not None:
                    asking.append(detail)
        self._answer_all(asking, seen)
        self._follow(seen, running)
        self._orphaned(hints, seen, running)
        for gone in self._seen_records.keys() - running.keys():
            del self._seen_records[gone]

    # Questions ----------------------------------------------------------------------------------------

    def _hear(self, detail: JobDetail, known: JobRecord | None, seen: Observation) -> bool:
        """Take a job's records in; True where it waits for an answer."""
        record = self._record(detail, known, seen.at)
        asked = messages.requests(detail.extra)
        answered = messages.answers(detail.admin_comment)
        incident = self.store.open_incident(record)
        if incident is not None and incident.request != UNASKED:
            about = asked.get(incident.step)
            if about is None:
                self.store.finish(incident, "", seen.at)
                self._save(record, State.WATCHED, seen.at)
            elif about.phase is Phase.WATCH and incident.action in (Action.RETRYSTEP, Action.NONE, ""):
                self._runs_again(record, incident, detail, seen.at)
        if detail.info.state is not JobState.RUNNING:
            return False
        return any(_open(request, answered) for request in asked.values() if request.phase is Phase.ASK)

    def _record(self, detail: JobDetail, known: JobRecord | None, now: float) -> JobRecord:
        info = detail.info
        if known is not None:  # a requeue changes the time of submission, so the id alone counts
            fresh = replace(
                known,
                nodes=info.nodes or known.nodes,
                batch_host=info.batch_host or known.batch_host,
                restarts=detail.restarts if known.state is not State.REQUEUING else known.restarts,
            )
            return fresh if fresh == known else self.store.save(fresh, now)
        record = JobRecord(
            info.job_id,
            info.submit_time,
            info.user,
            info.partition,
            State.WATCHED,
            nodes=info.nodes,
            batch_host=info.batch_host if detail.batch else "",
            restarts=detail.restarts,
        )
        return self.store.save(record, now)

    def _save(self, record: JobRecord, state: State, now: float, **about: object) -> JobRecord:
        return self.store.save(replace(record, state=state, **about), now)  # type: ignore[arg-type]

    def _runs_again(self, record: JobRecord, incident: Incident, detail: JobDetail, now: float) -> None:
        if incident.action != Action.RETRYSTEP:
            self.store.discard(incident)
            self._save(record, State.WATCHED, now)
            return
        before = set(expand(incident.nodes)) if incident.nodes else set()
        gained = sorted(set(expand(detail.info.nodes)) - before)
        self.store.finish(incident, fold(gained), now)
        self._save(record, State.WATCHED, now, nodes=detail.info.nodes)
        log.warning("step runs again", extra={"job": record.job_id, "gained": fold(gained)})

    def _answer_all(self, asking: Sequence[JobDetail], seen: Observation) -> None:
        """Diagnose the nodes of all questions together, then answer one after the other."""
        wanted = {name for detail in asking for name in expand(detail.info.nodes)}
        reached = self._reach(wanted, seen)
        configuration = self.reader.configuration() if asking else {}
        for detail in asking:
            try:
                self._answer_job(detail, seen, reached, configuration)
            except OperationFailed as error:
                log.error(
                    "a question is left to the next cycle",
                    extra={"job": detail.info.job_id, "error": error.message},
                )

    def _answer_job(
        self,
        detail: JobDetail,
        seen: Observation,
        reached: Mapping[str, Reach],
        configuration: Mapping[str, str],
    ) -> None:
        record = self.store.job(detail.info.job_id)
        assert record is not None
        views = [
            judge(seen.nodes[name], seen, reached.get(name))
            for name in expand(detail.info.nodes)
            if name in seen.nodes
        ]
        job = _view(detail, seen, configuration)
        answered = messages.answers(detail.admin_comment)
        comment = detail.admin_comment
        for request in messages.requests(detail.extra).values():
            if request.phase is not Phase.ASK or not _open(request, answered):
                continue
            incident = self.store.begin(record, request.id, request.step, request.cause, seen.at)
            quick = record.quick + 1 if record.resumes and 0 < request.ran < self.limits.quick else 0
            history = History(record.resumes, quick)
            answer = _decided(incident, request) or decide(
                request, job, views, history, self.limits, age=seen.at - incident.at
            )
            if answered.get(request.step) == answer:
                continue
            if answer.action is not Action.WAIT and not incident.action:
                record = self._prepare(record, incident, request, answer, views, quick, seen)
            comment = messages.put(comment, answer.record())
            self.jobs.answer(detail.info.job_id, comment)
            if answer.action is Action.REQUEUE:
                self.jobs.requeue(detail.info.job_id)

    def _prepare(
        self,
        record: JobRecord,
        incident: Incident,
        request: Request,
        answer: Answer,
        views: Sequence[NodeView],
        quick: int,
        seen: Observation,
    ) -> JobRecord:
        """Keep the bad nodes away from everybody, then write the decision down; only then it is told and done."""
        refusing = [replace(view, why="slurmd does not run") for view in views if view.refuses]
        self._mark([*(view for view in views if view.health is Health.BAD), *refusing], seen, record.job_id)
        with self.store.together():
            record = self._write_down(record, incident, request, answer, quick, seen)
        log.warning(
            "answered a failed step",
            extra={
                "job": record.job_id,
                "step": request.step,
                "action": answer.action.value,
                "why": answer.text,
            },
        )
        return record

    def _write_down(
        self,
        record: JobRecord,
        incident: Incident,
        request: Request,
        answer: Answer,
        quick: int,
        seen: Observation,
    ) -> JobRecord:
        self.store.decide(incident, answer.action, answer.text, fold(answer.bad), seen.at)
        resumed = answer.action in (Action.RETRYSTEP, Action.REQUEUE)
        goes_on = request.cause.still_runs and answer.action is Action.NONE
        state = {
            Action.RETRYSTEP: State.RESUMING,
            Action.REQUEUE: State.REQUEUING,
            Action.FAIL: State.FAILED,
        }.get(answer.action, record.state)
        record = self._save(
            record,
            state,
            seen.at,
            resumes=record.resumes + (resumed and request.cause is not Cause.STUCK),
            quick=quick,
            last_action=record.last_action if goes_on else answer.action.value,
            reason=record.reason if goes_on else answer.text,
        )
        if goes_on:
            self.store.discard(incident)
        elif answer.action in (Action.NONE, Action.FAIL):
            self.store.finish(incident, "", seen.at)
        return record

    def _mark(self, bad: Iterable[NodeView], seen: Observation, job_id: int) -> None:
        for view in bad:
            node = seen.nodes[view.name]
            foreign = reasons.read(node.reason).owner is reasons.Owner.FOREIGN and node.state.kept_out
            if view.marked or foreign or view.name in seen.protected:
                continue
            reason = reasons.write("replace", f"{view.why} (found for job {job_id})")
            self.nodes.set_state([view.name], NewState.FAIL, reason)

    # Requeues and jobs that Slurm ended -----------------------------------------------------------------

    def _follow(self, seen: Observation, running: Mapping[int, JobInfo]) -> None:
        """See what became of every job that is remembered."""
        known = self.store.jobs()
        lost = self._lost_batch_hosts(known, running, seen)
        missing = [job for job in known if job.job_id not in running]
        ended = {job.job_id: job for job in self.reader.jobs(ended=True)} if missing else {}
        for record in known:
            info = running.get(record.job_id) or ended.get(record.job_id)
            try:
                self._follow_one(record, info, lost, seen)
            except OperationFailed as error:
                log.error(
                    "a job is left to the next cycle", extra={"job": record.job_id, "error": error.message}
                )

    def _follow_one(
        self,
        record: JobRecord,
        info: JobInfo | None,
        lost: Mapping[str, Reach],
        seen: Observation,
    ) -> None:
        if info is None:
            self._end(record, "Slurm no longer knows the job", seen.at)
        elif info.state is JobState.RUNNING:
            if record.state is State.REQUEUING:
                self._requeued_or_not(record, info, seen)
            elif record.batch_host in lost:
                self._lost_batch_host(record, info, lost[record.batch_host], seen)
        elif info.state is JobState.PENDING:
            self._pending(record, info, seen)
        elif info.state is JobState.COMPLETING:
            self._let_go(record, seen)
        elif info.state is JobState.NODE_FAIL:
            self._node_fail(record, info, seen)
        elif info.state.ended:
            self._end(record, f"the job is {info.state.value}", seen.at)

    def _requeued_or_not(self, record: JobRecord, info: JobInfo, seen: Observation) -> None:
        """A job that was to be requeued runs: again already, or still."""
        detail = self.reader.job(record.job_id)
        if detail is None or detail.info.state is not JobState.RUNNING:
            return  # the picture is older than the requeue
        info = detail.info
        if detail.restarts > record.restarts:
            incident = self.store.open_incident(record)
            if incident is not None:
                before = set(expand(incident.nodes)) if incident.nodes else set()
                self.store.finish(incident, fold(sorted(set(expand(info.nodes)) - before)), seen.at)
            self._save(
                record,
                State.WATCHED,
                seen.at,
                restarts=detail.restarts,
                nodes=info.nodes,
                batch_host=info.batch_host,
            )
            log.warning("requeued job runs again", extra={"job": record.job_id, "nodes": info.nodes})
        else:
            self.jobs.requeue(record.job_id)

    def _pending(self, record: JobRecord, info: JobInfo, seen: Observation) -> None:
        """A requeued job waits: for its BeginTime, which is taken away, or for nodes."""
        if record.state is not State.REQUEUING:
            detail = self.reader.job(record.job_id)
            if detail is None or detail.restarts <= record.restarts:
                return
            nodes = expand(record.nodes) if record.nodes else []
            bad = [name for name in nodes if name in seen.nodes and seen.nodes[name].state.down]
            if not bad:  # requeued by somebody, not by a failure: that is no business of ours
                self._save(record, State.WATCHED, seen.at, restarts=detail.restarts)
                return
            incident = self.store.begin(record, f"{UNASKED}-{detail.restarts}", 0, "node_fail", seen.at)
            why = "Slurm requeued it after a node failure"
            self.store.decide(incident, Action.REQUEUE, why, fold(bad), seen.at)
            record = self._save(
                record,
                State.REQUEUING,
                seen.at,
                restarts=detail.restarts - 1,
                resumes=record.resumes + 1,
                last_action=Action.REQUEUE.value,
                reason=why,
            )
        if info.reason == "BeginTime":
            self.jobs.start_now(record.job_id)

    def _let_go(self, record: JobRecord, seen: Observation) -> None:
        """A requeued job cannot start while it completes, and a dead node never says that it has: mark it down."""
        if record.state is not State.REQUEUING or not record.nodes:
            return
        names = [name for name in expand(record.nodes) if name in seen.nodes]
        stuck = {name for name in names if record.job_id in seen.jobs_on.get(name, ())}
        stuck = {name for name in stuck if not seen.nodes[name].state.down and name not in seen.protected}
        for name, how in self._reach(stuck, seen).items():
            alone = seen.jobs_on.get(name) == (record.job_id,)
            if how in (Reach.LOST, Reach.SILENT) or (how is Reach.REFUSES and alone):
                node = seen.nodes[name]
                owner = reasons.read(node.reason).owner
                ours = owner in (reasons.Owner.OURS, reasons.Owner.ORDER)
                reason = (
                    node.reason if ours else reasons.write("replace", f"dead (found for job {record.job_id})")
                )
                self.nodes.set_state([name], NewState.DOWN, reason.partition(" : ")[0])

    def _node_fail(self, record: JobRecord, info: JobInfo, seen: Observation) -> None:
        """Slurm ended the job because of a node and did not requeue it."""
        detail = self.reader.job(record.job_id)
        if detail is None:
            return
        if detail.batch and detail.requeue and record.state is not State.REQUEUING:
            incident = self.store.begin(record, f"{UNASKED}-{detail.restarts + 1}", 0, "node_fail", seen.at)
            why = "Slurm ended it with NODE_FAIL"
            self.store.decide(incident, Action.REQUEUE, why, "", seen.at)
            self._save(
                record,
                State.REQUEUING,
                seen.at,
                restarts=detail.restarts,
                resumes=record.resumes + 1,
                last_action=Action.REQUEUE.value,
                reason=why,
            )
            self.jobs.requeue(record.job_id)
        else:
            how = "is no batch job" if not detail.batch else "forbids a requeue"
            self._end(record, f"a node failed and Slurm ended the job, which {how}", seen.at)

    def _lost_batch_hosts(
        self, known: Iterable[JobRecord], running: Mapping[int, JobInfo], seen: Observation
    ) -> dict[str, Reach]:
        """Speak to the batch hosts of the jobs that are watched: a supervisor there cannot ask when they die."""
        hosts = {
            record.batch_host
            for record in known
            if record.batch_host and record.job_id in running and record.state is not State.REQUEUING
        }
        found = self._reach(hosts, seen)
        return {name: how for name, how in found.items() if how in (Reach.LOST, Reach.SILENT)}

    def _lost_batch_host(self, record: JobRecord, info: JobInfo, how: Reach, seen: Observation) -> None:
        detail = self.reader.job(record.job_id)
        if detail is None or detail.info.state is not JobState.RUNNING or not detail.batch:
            return
        name = f"{UNASKED}-{detail.restarts + 1}"
        incident = self.store.begin(record, name, 0, "batch_host", seen.at)
        request = Request("0" * 8, 0, Phase.ASK, cause=Cause.LOST)
        views = [
            judge(seen.nodes[node], seen, how if node == record.batch_host else None)
            for node in expand(info.nodes)
            if node in seen.nodes
        ]
        job = _view(detail, seen, self.reader.configuration())
        history = History(record.resumes, 0)
        answer = decide(request, job, views, history, self.limits, age=self.limits.diagnosis)
        record = self._prepare(record, incident, request, answer, views, 0, seen)
        if answer.action is Action.REQUEUE:
            self.jobs.requeue(record.job_id)

    def _end(self, record: JobRecord, why: str, now: float) -> None:
        incident = self.store.open_incident(record)
        if incident is not None:
            self.store.finish(incident, "", now)
        self._save(record, State.ENDED, now, reason=record.reason or why)

    # Helpers --------------------------------------------------------------------------------------------

    def _orphaned(self, hints: Hints, seen: Observation, running: Mapping[int, JobInfo]) -> None:
        """Cancel allocations that a supervisor made for a job and left behind."""
        open_jobs = {record.job_id for record in self.store.jobs() if record.state is State.RESUMING}
        current = set()
        for helper, job_id in hints.helpers.items():
            if helper not in running or (job_id in open_jobs and job_id in running):
                continue
            current.add(helper)
            since = self._orphans.setdefault(helper, seen.at)
            if seen.at - since < ORPHAN_SECONDS and job_id in running:
                continue
            detail, owner = self.reader.job(helper), self.store.job(job_id)
            if detail is None or detail.name != f"auto-resume-{job_id}" or owner is None:
                continue
            if detail.info.user == owner.user and not detail.batch:
                log.warning("cancelling a left-over allocation", extra={"job": helper, "of": job_id})
                self.jobs.cancel(helper)
        for gone in self._orphans.keys() - current:
            del self._orphans[gone]

    def _reach(self, names: Iterable[str], seen: Observation) -> dict[str, Reach]:
        """Speak to the slurmds of `names`; those that hang get a second chance at once."""
        targets = {
            name: (node.address, node.port or SLURMD_PORT)
            for name in names
            if (node := seen.nodes.get(name)) is not None and node.address and not node.state.powered_away
        }
        if not targets:
            return {}
        ask = self.reacher or (lambda wanted: reach(wanted, timeout=self.limits.silent_after))
        found = ask(targets)
        again = {name: targets[name] for name, how in found.items() if how in (Reach.SILENT, Reach.LOST)}
        return {**found, **ask(again)} if again else found


def _decided(incident: Incident, request: Request) -> Answer | None:
    """Return what was decided about this question already: the agent was killed before it was told."""
    if not incident.action:
        return None
    lost = tuple(expand(incident.lost)) if incident.lost else ()
    return Answer(request.id, request.step, Action(incident.action), lost, incident.reason)


def _open(request: Request, answered: Mapping[int, Answer]) -> bool:
    """The question has no answer yet but perhaps WAIT."""
    answer = answered.get(request.step)
    return answer is None or answer.id != request.id or answer.action is Action.WAIT


def _view(detail: JobDetail, seen: Observation, configuration: Mapping[str, str]) -> JobView:
    held = tuple(expand(detail.info.nodes)) if detail.info.nodes else ()
    parameters = configuration.get("SchedulerParameters", "").split(",")
    return JobView(
        job_id=detail.info.job_id,
        nodes=held,
        batch_host=detail.info.batch_host if detail.batch else "",
        batch=detail.batch,
        requeue=detail.requeue,
        gres=has_gres(_gres_words(detail), seen.nodes, held, detail.exclusive),
        can_grow="permit_job_expansion" in parameters and "disable_job_shrink" not in parameters,
    )


def _gres_words(detail: JobDetail) -> str:
    """All that tells of GRES in a job: what it holds is in its TRES only where those are accounted for."""
    words = [detail.tres_allocated, detail.info.gres]
    words += [str(detail.raw.get(f"tres_per_{what}", "")) for what in ("job", "node", "socket", "task")]
    held = detail.raw.get("gres_detail")
    return " ".join([*words, *(f"gres/{each}" for each in held if each)] if isinstance(held, list) else words)
