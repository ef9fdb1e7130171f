"""What becomes of jobs besides their questions: requeues, Slurm's own ends of jobs, batch hosts that die."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from hpadmin.errors import OperationFailed
from hpadmin.nodes import reasons
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.resume.decide import decide
from hpadmin.recovery.resume.desk import UNASKED, Desk, job_view
from hpadmin.recovery.resume.facts import (
    History,
    Reach,
    judge,
    lost,
)
from hpadmin.recovery.resume.messages import Action, Cause, Phase, Request
from hpadmin.recovery.resume.place import deserved, due
from hpadmin.recovery.resume.runs import later_run
from hpadmin.recovery.resume.store import NEXT_RUN, JobRecord, State
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.jobjson import number
from hpadmin.slurm.reader import JobDetail, JobInfo, NodeInfo
from hpadmin.slurm.states import JobState

_BY_ITSELF = (JobState.COMPLETED, JobState.FAILED, JobState.NODE_FAIL)
"""Ends of a job that are nobody's wish."""
_NOT_LAUNCHED = "launch failed requeued held"
"""Why Slurm holds a job whose script could not be launched (`_job_requeue_op`, src/slurmctld/job_mgr.c)."""
_COMPLETED = f"the job is {JobState.COMPLETED.value}"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Requeues:
    """Follows every job that is remembered, until it ended."""

    _desk: Desk

    def follow(self, seen: Observation, running: Mapping[int, JobInfo]) -> None:
        """See what became of every job that is remembered."""
        # First submitted, first served: where many jobs lost their nodes at once, so they go back into the queue.
        known = sorted(self._desk.store.jobs(), key=lambda record: record.job_id)
        lost = self._lost_batch_hosts(known, running, seen)
        missing = [job for job in known if job.job_id not in running]
        ended = {job.job_id: job for job in self._desk.reader.jobs(ended=True)} if missing else {}
        for record in known:
            info = running.get(record.job_id) or ended.get(record.job_id)
            try:
                self._follow_one(record, info, lost, seen)
            except OperationFailed as error:
                log.error(
                    "a job is left to the next cycle", extra={"job": record.job_id, "error": error.message}
                )

    def hasten(self, now: float) -> None:
        """Let requeued jobs that have become ready start: hosts of other jobs may be waited for, for seconds."""
        waiting = {job.job_id: job for job in self._desk.store.jobs() if job.state is State.REQUEUING}
        if not waiting:
            return
        try:
            for info in sorted(self._desk.reader.jobs(), key=lambda info: info.job_id):
                if info.job_id in waiting and info.state is JobState.PENDING and info.reason == "BeginTime":
                    self._start_in_place(waiting[info.job_id], True, now)
        except OperationFailed as error:
            log.error("requeued jobs are left to the next cycle", extra={"error": error.message})

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
            elif record.batch_host in lost or _left_its_script(record, info):
                self._lost_batch_host(record, lost.get(record.batch_host), seen)
        elif info.state is JobState.PENDING:
            self._pending(record, info, seen)
        elif info.state is JobState.COMPLETING:
            self._let_go(record, seen)
        elif record.state is State.REQUEUING and info.state in _BY_ITSELF:
            self._ended_meanwhile(record, info, seen)
        elif info.state is JobState.NODE_FAIL:
            self._node_fail(record, info, seen)
        elif info.state is JobState.FAILED and _left_its_script(record, info):
            self._lost_batch_host(record, None, seen)
        elif info.state.ended:
            self._end(record, f"the job is {info.state.value}", seen.at)

    def _requeued_or_not(self, record: JobRecord, info: JobInfo, seen: Observation) -> None:
        """A job that was to be requeued runs: again already, or still."""
        detail = self._desk.reader.job(record.job_id)
        if detail is None or detail.info.state is not JobState.RUNNING:
            return  # the picture is older than the requeue
        if later_run(record, detail):
            self._ran_again(record, detail, seen)
        else:
            self._desk.jobs.requeue(record.job_id)

    def _ran_again(self, record: JobRecord, detail: JobDetail, seen: Observation) -> None:
        info, incident = detail.info, self._desk.store.open_incident(record)
        if incident is not None:
            before = set(expand(incident.nodes)) if incident.nodes else set()
            self._desk.store.finish(incident, fold(sorted(set(expand(info.nodes)) - before)), seen.at)
        place = self._desk.store.place(record)
        if place is not None and not place.raised:  # the next time Slurm may give it another number
            self._desk.store.keep_place(record, replace(place, base=0))
        about = {
            "restarts": detail.restarts,
            "nodes": info.nodes,
            "batch_host": info.batch_host,
            "started": info.start_time,
        }
        self._desk.save(record, State.WATCHED, seen.at, **about)
        log.warning("requeued job runs again", extra={"job": record.job_id, "nodes": info.nodes})

    def _ended_meanwhile(self, record: JobRecord, info: JobInfo, seen: Observation) -> None:
        """A job that was to be requeued has ended: after it ran again, or before, with its script or its node.

        Slurm requeues a job that has ended, too, for as long as it remembers it (MinJobAge).
        """
        detail = self._desk.reader.job(record.job_id)
        if detail is not None and later_run(record, detail):
            self._ran_again(record, detail, seen)
        elif detail is not None and detail.batch and detail.requeue:
            self._desk.jobs.requeue(record.job_id)
        else:
            self._end(record, f"the job is {info.state.value}", seen.at)

    def _pending(self, record: JobRecord, info: JobInfo, seen: Observation) -> None:
        """A requeued job waits: for its BeginTime, which is taken away, or for nodes."""
        if record.state is not State.REQUEUING:
            detail = self._desk.reader.job(record.job_id)
            if detail is None or detail.restarts <= record.restarts:
                return
            nodes = expand(record.nodes) if record.nodes else []
            bad = [name for name in nodes if name in seen.nodes and seen.nodes[name].state.down]
            not_launched = detail.raw.get("state_description") == _NOT_LAUNCHED
            if not bad and not not_launched:  # that is no business of ours: neither counted nor hurried
                about = {"restarts": detail.restarts, "started": NEXT_RUN}
                why = "requeued, and not because a node failed: by preemption or by hand"
                self._desk.save(record, State.WATCHED, seen.at, reason=why, **about)
                return
            incident = self._desk.store.begin(record, f"{UNASKED}-{detail.restarts}", 0, "node_fail", seen.at)
            why = (
                "Slurm requeued it after a node failure"
                if bad
                else "Slurm could not launch it where it had run"
            )
            self._desk.store.decide(incident, Action.REQUEUE, why, fold(bad), seen.at)
            record = self._desk.save(
                record,
                State.REQUEUING,
                seen.at,
                restarts=detail.restarts - 1,
                resumes=record.resumes + 1,
                last_action=Action.REQUEUE.value,
                reason=why,
            )
        if info.reason in (
            _NOT_LAUNCHED,
            "JobHeldUser",
            "JobHeldAdmin",
        ):  # commands and JSON tell it differently
            self._elsewhere(record)
        else:
            self._start_in_place(record, info.reason == "BeginTime", seen.at)

    def _elsewhere(self, record: JobRecord) -> None:
        """Let a job that could not be launched on its former batch host, and is held for that, run on other nodes.

        A slurmd that died with its host has not removed the script, and slurmd refuses to write over what is there
        (`_make_batch_script`, src/slurmd/slurmstepd/mgr.c). For the second time it is somebody else's to look at.
        """
        detail = self._desk.reader.job(record.job_id)
        if detail is None or not record.batch_host or detail.raw.get("state_description") != _NOT_LAUNCHED:
            return
        excluded = expand(detail.excluded_nodes) if detail.excluded_nodes else []
        if record.batch_host in excluded:
            return
        log.warning(
            "a job could not be launched where it ran before",
            extra={"job": record.job_id, "excluded": record.batch_host},
        )
        self._desk.jobs.release(record.job_id, fold([*excluded, record.batch_host]))

    def _start_in_place(self, record: JobRecord, delayed: bool, now: float) -> None:
        """Let a requeued job wait no longer than its place in the queue makes it (`place`)."""
        place, raised = self._desk.store.place(record), 0
        if place is not None:
            if not place.base:  # before Slurm's own number is gone
                place = replace(place, base=self._base(record.job_id))
                self._desk.store.keep_place(record, place)
            raised = deserved(place, place.base, now, self._configuration)
            raised = raised if due(place, raised) else 0
        if delayed:
            self._desk.jobs.start_now(record.job_id, raised)
        elif raised:
            self._desk.jobs.set_priority(record.job_id, raised)
        if place is not None and raised:
            self._desk.store.keep_place(record, replace(place, raised=raised))

    @cached_property
    def _configuration(self) -> Mapping[str, str]:
        return self._desk.reader.configuration()

    def _base(self, job_id: int) -> int:
        detail = self._desk.reader.job(job_id)
        return 0 if detail is None else number(detail.raw.get("priority"))

    def _let_go(self, record: JobRecord, seen: Observation) -> None:
        """A dead node never says that a job has completed there: mark it down.

        A requeued job cannot start before; for one that just ended, only nodes that were found bad are looked at.
        """
        if not record.nodes:
            return
        names = [name for name in expand(record.nodes) if name in seen.nodes]
        if record.state is not State.REQUEUING:
            names = [name for name in names if _is_ours(seen.nodes[name])]
        stuck = {name for name in names if record.job_id in seen.jobs_on.get(name, ())}
        stuck = {name for name in stuck if not seen.nodes[name].state.down and name not in seen.protected}
        dead = []
        for name, how in self._desk.reach(stuck, seen).items():
            alone = seen.jobs_on.get(name) == (record.job_id,)
            deaf = how is Reach.REFUSES or (how is Reach.MUTE and not seen.nodes[name].state.responding)
            if how in (Reach.LOST, Reach.SILENT) or (deaf and alone):
                dead.append(name)
        detail = self._desk.reader.job(record.job_id) if dead else None
        if detail is None or detail.info.state is not JobState.COMPLETING:
            return  # the picture is older than that: other jobs may be there by now, and down ends them
        for name in dead:
            self._desk.give_up(name, "dead", seen, record.job_id)

    def _node_fail(self, record: JobRecord, info: JobInfo, seen: Observation) -> None:
        """Slurm ended the job because of a node and did not requeue it."""
        detail = self._desk.reader.job(record.job_id)
        if detail is None:
            return
        if detail.batch and detail.requeue:
            incident = self._desk.store.begin(
                record, f"{UNASKED}-{detail.restarts + 1}", 0, "node_fail", seen.at
            )
            why = "Slurm ended it with NODE_FAIL"
            self._desk.store.decide(incident, Action.REQUEUE, why, "", seen.at)
            self._desk.save(
                record,
                State.REQUEUING,
                seen.at,
                restarts=detail.restarts,
                resumes=record.resumes + 1,
                last_action=Action.REQUEUE.value,
                reason=why,
            )
            self._desk.jobs.requeue(record.job_id)
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
        found = self._desk.reach(hosts, seen)
        return {name: how for name, how in found.items() if how in (Reach.LOST, Reach.SILENT)}

    def _lost_batch_host(self, record: JobRecord, how: Reach | None, seen: Observation) -> None:
        detail = self._desk.reader.job(record.job_id)
        if detail is None or not detail.batch or detail.info.state not in (JobState.RUNNING, JobState.FAILED):
            return
        if detail.restarts != record.restarts:
            return  # the picture is older than a requeue: that run's batch host is another
        name = f"{UNASKED}-{detail.restarts + 1}"
        incident = self._desk.store.begin(record, name, 0, "batch_host", seen.at)
        request = Request("0" * 8, 0, Phase.ASK, cause=Cause.LOST)
        held = expand(detail.info.nodes)
        views = [
            judge(seen.nodes[node], seen, how if node == record.batch_host else None)
            for node in held
            if node in seen.nodes
        ]
        if record.batch_host not in held and record.batch_host in seen.nodes:
            views.append(lost(judge(seen.nodes[record.batch_host], seen, how)))
        # Slurm's own word for it is the first of the nodes that are left, once slurmctld was reconfigured.
        job = replace(job_view(detail, seen, self._configuration), batch_host=record.batch_host)
        history = History(record.resumes, 0)
        answer = decide(request, job, views, history, self._desk.limits, age=self._desk.limits.diagnosis)
        if incident.action != Action.FAIL:
            record = self._desk.settle(record, incident, request, answer, views, 0, seen)
        if answer.action is Action.REQUEUE:
            self._desk.requeue(record.job_id, views, seen)
        elif detail.info.state is JobState.FAILED:
            self._end(record, "the job is FAILED", seen.at)
        elif record.batch_host not in held:
            # Nothing of it is left but nodes that it would hold for ever. Without --no-kill Slurm had ended it.
            log.warning("ending a job that lost its script", extra={"job": record.job_id, "why": answer.text})
            self._desk.jobs.cancel(record.job_id)

    def _end(self, record: JobRecord, why: str, now: float) -> None:
        """Close the books. Why the job was not resumed stays its reason; its end is one where it had been."""
        incident = self._desk.store.open_incident(record)
        if incident is not None:
            self._desk.store.finish(incident, "", now)
            why = f"{incident.reason or incident.cause}; {why} before its step ran again"
        elif record.last_action in (Action.NONE, Action.FAIL) or (record.reason and why == _COMPLETED):
            why = record.reason
        self._desk.save(record, State.ENDED, now, reason=why)


def _left_its_script(record: JobRecord, info: JobInfo) -> bool:
    """Tell whether Slurm took the batch script's node from a job with ``--no-kill``, as when that is marked down.

    Where the node was dead, the job goes on without its script, also when the node is back and answers. Where it was
    not, its script was killed, and the job is one that failed (`excise_node_from_job`, src/slurmctld/job_mgr.c).
    """
    return bool(record.batch_host and info.nodes) and record.batch_host not in expand(info.nodes)


def _is_ours(node: NodeInfo) -> bool:
    """Tell whether a node is out of service by hpadmin's word or an order."""
    owner = reasons.read(node.reason).owner
    return node.state.kept_out and owner in (reasons.Owner.OURS, reasons.Owner.ORDER)
