"""Questions of supervisors: heard, diagnosed together, answered one after the other."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from hpadmin.errors import OperationFailed
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.resume import messages
from hpadmin.recovery.resume.decide import decide
from hpadmin.recovery.resume.desk import Desk, job_view
from hpadmin.recovery.resume.facts import (
    Health,
    History,
    NodeView,
    Reach,
    judge,
    lost,
)
from hpadmin.recovery.resume.limits import Limits
from hpadmin.recovery.resume.messages import Action, Answer, Cause, Phase, Request
from hpadmin.recovery.resume.place import place_of
from hpadmin.recovery.resume.runs import same_run
from hpadmin.recovery.resume.store import NEXT_RUN, Incident, JobRecord, State
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.reader import JobDetail
from hpadmin.slurm.states import JobState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Questions:
    """What is asked in the Extra of jobs, and what is answered."""

    _desk: Desk

    def hear(self, detail: JobDetail, known: JobRecord | None, seen: Observation) -> bool:
        """Take a job's records in; True where it waits for an answer."""
        asked = messages.requests(detail.extra, detail.restarts)
        asks = any(request.phase is Phase.ASK for request in asked.values())
        if known is not None and asks:
            known = self._missed(known, asked, detail, seen.at)
        record = self._record(detail, known, seen.at, asks=asks)
        answered = messages.answers(detail.admin_comment)
        incident = self._desk.store.open_incident(record)
        if incident is not None and incident.action != Action.REQUEUE:  # those are followed by `Requeues`
            about = asked.get(incident.step)
            if about is None:
                self._desk.store.finish(incident, "", seen.at)
                self._desk.save(record, State.WATCHED, seen.at)
            elif about.phase is Phase.WATCH and incident.action in (Action.RETRYSTEP, Action.NONE, ""):
                self._runs_again(record, incident, detail, seen.at)
        if detail.info.state is not JobState.RUNNING:
            return False
        return any(_open(request, answered) for request in asked.values() if request.phase is Phase.ASK)

    def _record(self, detail: JobDetail, known: JobRecord | None, now: float, *, asks: bool) -> JobRecord:
        """Remember the job. What it holds while nothing is asked is what a later question is compared with."""
        info, runs = detail.info, detail.info.state is JobState.RUNNING
        if known is not None:  # a requeue changes the time of submission, so the id alone counts
            same, requeuing = same_run(known, detail), known.state is State.REQUEUING
            fresh = replace(
                known,
                nodes=known.nodes if asks and same else info.nodes or known.nodes,
                # Without the first of its nodes a job has another BatchHost, and its script still where it was.
                batch_host=known.batch_host if same else info.batch_host or known.batch_host,
                restarts=known.restarts if requeuing else detail.restarts,
                started=known.started if requeuing or not runs else info.start_time,
            )
            return fresh if fresh == known else self._desk.store.save(fresh, now)
        record = JobRecord(
            info.job_id,
            info.submit_time,
            info.user,
            info.partition,
            State.WATCHED,
            nodes=info.nodes,
            batch_host=info.batch_host if detail.batch else "",
            restarts=detail.restarts,
            started=info.start_time if runs else NEXT_RUN,
        )
        record = self._desk.store.save(record, now)
        self._desk.store.keep_place(record, place_of(detail))
        return record

    def _missed(
        self, known: JobRecord, asked: Mapping[int, Request], detail: JobDetail, now: float
    ) -> JobRecord:
        """Catch up where a step ran again and asks anew before a look saw it run.

        Nodes that the step was to leave are gone from the job because of that, not of what is asked about now.
        """
        incident = self._desk.store.open_incident(known)
        if incident is None or incident.action != Action.RETRYSTEP:
            return known
        about = asked.get(incident.step)
        if about is None or about.phase is not Phase.ASK or about.id == incident.request:
            return known
        if about.cause is Cause.STUCK:  # it did not run again: it is that same resume
            return known
        self._runs_again(known, incident, detail, now)
        return self._desk.store.job(known.job_id) or known

    def _runs_again(self, record: JobRecord, incident: Incident, detail: JobDetail, now: float) -> None:
        if incident.action != Action.RETRYSTEP:
            self._desk.store.discard(incident)
            self._desk.save(record, State.WATCHED, now)
            return
        before = set(expand(incident.nodes)) if incident.nodes else set()
        gained = sorted(set(expand(detail.info.nodes)) - before)
        self._desk.store.finish(incident, fold(gained), now)
        self._desk.save(record, State.WATCHED, now, nodes=detail.info.nodes)
        log.warning("step runs again", extra={"job": record.job_id, "gained": fold(gained)})

    def answer_all(self, asking: Sequence[JobDetail], seen: Observation) -> None:
        """Diagnose the nodes of all questions together, then answer one after the other.

        Jobs all of whose hosts answer do not wait while hosts of others are waited for.
        """
        fresh = {name for detail in asking for name in self._just_failed(detail)}
        for gone in self._desk.examined.keys() - fresh:
            del self._desk.examined[gone]
        concerned = {detail.info.job_id: self._concerned(detail) for detail in asking}
        awaited = set[str]()
        if len(asking) > 1:
            awaited = self._desk.glimpse((name for names in concerned.values() for name in names), seen)
        later = {job_id for job_id, names in concerned.items() if not awaited.isdisjoint(names)}
        self._answer_together([detail for detail in asking if detail.info.job_id not in later], seen)
        self._answer_together([detail for detail in asking if detail.info.job_id in later], seen)

    def _answer_together(self, asking: Sequence[JobDetail], seen: Observation) -> None:
        if not asking:
            return
        wanted = {name for detail in asking for name in self._concerned(detail)}
        reached = self._desk.reach(wanted, seen)
        configuration = self._desk.reader.configuration()
        seen, blind = self._examined(asking, reached, configuration, seen)
        for detail in asking:
            try:
                self._answer_job(detail, seen, reached, configuration, blind)
            except OperationFailed as error:
                log.error(
                    "a question is left to the next cycle",
                    extra={"job": detail.info.job_id, "error": error.message},
                )

    def _concerned(self, detail: JobDetail) -> list[str]:
        """Return the nodes that a job holds, and those that Slurm has taken from it since its step began."""
        held = expand(detail.info.nodes)
        record = self._desk.store.job(detail.info.job_id)
        before = expand(record.nodes) if record is not None and same_run(record, detail) else []
        return [*held, *(name for name in before if name not in held)]

    def _examined(
        self,
        asking: Sequence[JobDetail],
        reached: Mapping[str, Reach],
        configuration: Mapping[str, str],
        seen: Observation,
    ) -> tuple[Observation, frozenset[str]]:
        """Let the nodes of steps that have just failed look at themselves.

        Return the picture with what they found, and those of them that could not look now.
        """
        wanted: dict[str, set[str]] = {}
        for detail in asking:
            concerned = {name for name in self._concerned(detail) if reached.get(name) is Reach.ANSWERS}
            for question in self._just_failed(detail):
                wanted[question] = concerned - self._desk.examined.get(question, set())
        suspects = {name for names in wanted.values() for name in names}
        examiner = self._desk.examiner
        if examiner is None or not suspects:
            return seen, frozenset()
        found = self._desk.aside(lambda: examiner.examine(sorted(suspects), configuration))
        for question, names in wanted.items():
            self._desk.examined.setdefault(question, set()).update(names - found.failed)
        if found.done:
            seen = replace(seen, nodes={node.name: node for node in self._desk.reader.nodes()})
        return seen, found.failed

    def _just_failed(self, detail: JobDetail) -> list[str]:
        """Return the questions of this job that are open, and about a program that ended or hangs by itself."""
        record = self._desk.store.job(detail.info.job_id)
        incidents = self._desk.store.incidents(record) if record is not None else ()
        decided = {each.request for each in incidents if each.action}
        answered = messages.answers(detail.admin_comment)
        return [
            request.id
            for request in messages.requests(detail.extra, detail.restarts).values()
            if request.phase is Phase.ASK
            and request.cause in (Cause.EXIT, Cause.HANG)
            and request.id not in decided
            and _open(request, answered)
        ]

    def _answer_job(
        self,
        detail: JobDetail,
        seen: Observation,
        reached: Mapping[str, Reach],
        configuration: Mapping[str, str],
        blind: Container[str],
    ) -> None:
        record = self._desk.store.job(detail.info.job_id)
        assert record is not None
        held = set(expand(detail.info.nodes))
        over = [incident.over for incident in self._desk.store.incidents(record)]
        since = max([detail.info.start_time, *over])
        views = [
            view if name in held else lost(view)
            for name in self._concerned(detail)
            if name in seen.nodes
            for view in [_unsure_if(name in blind, judge(seen.nodes[name], seen, reached.get(name), since))]
        ]
        job = job_view(detail, seen, configuration)
        answered = messages.answers(detail.admin_comment)
        comment = detail.admin_comment
        asked = messages.requests(detail.extra, detail.restarts)
        for request in asked.values():
            if request.phase is not Phase.ASK or not _open(request, answered):
                continue
            incident = self._desk.store.begin(record, request.id, request.step, request.cause, seen.at)
            quick = _quick(record, request, self._desk.limits)
            history = History(record.resumes, quick)
            answer = _decided(incident, request, self._desk.limits) or decide(
                request, job, views, history, self._desk.limits, age=seen.at - incident.at
            )
            if answered.get(request.step) == answer:
                continue
            if answer.action is not Action.WAIT and not incident.action:
                record = self._desk.settle(record, incident, request, answer, views, quick, seen)
            # Only the supervisor that retries drops nodes; those of a rack would fill the field for nothing.
            told = answer if answer.action is Action.RETRYSTEP else replace(answer, bad=())
            comment = messages.reply(comment, told, asked)
            self._desk.jobs.answer(detail.info.job_id, comment)
            if answer.action is Action.REQUEUE:
                self._desk.requeue(detail.info.job_id, [view for view in views if view.name in held], seen)


def _quick(record: JobRecord, request: Request, limits: Limits) -> int:
    """Return how many failures in a row, this one included, came soon after a resume."""
    if request.cause is Cause.STUCK:  # the resume of a failure that was counted already
        return record.quick
    return record.quick + 1 if record.resumes and 0 < request.ran < limits.quick else 0


def _unsure_if(blind: bool, view: NodeView) -> NodeView:
    """Return a view that is not good where the node could not look at itself: what it said last is older."""
    if not blind or view.health is not Health.GOOD:
        return view
    return replace(view, health=Health.UNSURE, why="it could not look at itself")


def _decided(incident: Incident, request: Request, limits: Limits) -> Answer | None:
    """Return what was decided about this question already: the agent was killed before it was told."""
    if not incident.action:
        return None
    bad = tuple(expand(incident.lost)) if incident.lost else ()
    action = Action(incident.action)
    within = limits.within if action is Action.RETRYSTEP else 0
    return Answer(request.id, request.step, action, bad, within, incident.reason)


def _open(request: Request, answered: Mapping[int, Answer]) -> bool:
    """The question has no answer yet but perhaps WAIT."""
    answer = answered.get(request.step)
    return answer is None or answer.id != request.id or answer.action is Action.WAIT
