"""The agent's part that resumes jobs: in each cycle it looks for questions, answers them, and requeues.

    agent = Agent(…, parts=[over_commands(reader, node_control, runner, state_dir)])

Level-triggered: everything is found again in Slurm, so this process may be killed between any two lines. What
Slurm would forget is written into the store before it is done.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpadmin.errors import OperationFailed
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.resume import messages
from hpadmin.recovery.resume.control import CommandJobControl, Hints, JobControl
from hpadmin.recovery.resume.desk import Desk, Reacher
from hpadmin.recovery.resume.examine import Examiner
from hpadmin.recovery.resume.limits import Limits
from hpadmin.recovery.resume.questions import Questions
from hpadmin.recovery.resume.requeues import Requeues
from hpadmin.recovery.resume.runs import Runs
from hpadmin.recovery.resume.store import State, Store, path_in, store_errors
from hpadmin.slurm.command import Runner
from hpadmin.slurm.control import SlurmControl
from hpadmin.slurm.reader import JobInfo, SlurmReader
from hpadmin.slurm.states import JobState

log = logging.getLogger(__name__)

ORPHAN_SECONDS = 30.0
"""A helper allocation whose job has had no open question for so long is left over."""
UNMERGED_SECONDS = 120.0
"""So is one that got its nodes so long ago: its supervisor would have merged it within a few seconds."""


def over_commands(
    reader: SlurmReader,
    nodes: SlurmControl,
    runner: Runner,
    state_dir: Path,
    examiner: Examiner | None = None,
    limits: Limits | None = None,
) -> ResumePart:
    """Return the part as the agent runs it: over Slurm's commands, its store in the state directory."""
    control, store = CommandJobControl(runner), Store(path_in(state_dir))
    return ResumePart(reader, nodes, control, store, limits or Limits(), examiner=examiner)


@dataclass
class ResumePart:
    """See the module. `clock` is that of the picture (`Observation.at`)."""

    reader: SlurmReader
    nodes: SlurmControl
    jobs: JobControl
    store: Store
    limits: Limits = field(default_factory=Limits)
    reacher: Reacher | None = None
    examiner: Examiner | None = None
    _seen_records: dict[int, str] = field(default_factory=dict, init=False)
    """Records that were looked at already and ask for nothing: a cache, nothing is lost with it.

    What asks is looked at again also after it was answered: slurmctld may be killed and forget the answer."""
    _orphans: dict[int, float] = field(default_factory=dict, init=False)
    _examined: dict[str, set[str]] = field(default_factory=dict, init=False)
    """`Desk.examined`. Where it is lost, nodes look at themselves once more."""
    _asked: bool = field(default=False, init=False)

    def cycle(self, seen: Observation) -> None:
        """Do whatever there is to do now. Raises OperationFailed when Slurm or the store cannot be read."""
        with store_errors():
            self._work(seen)

    def _work(self, seen: Observation) -> None:
        desk = Desk(
            self.reader,
            self.nodes,
            self.jobs,
            self.store,
            self.limits,
            self.reacher,
            self.examiner,
            self._examined,
            meanwhile=lambda: requeues.hasten(seen.at),
        )
        questions, requeues = Questions(desk), Requeues(desk)
        hints = self.jobs.hints()
        running = {job.job_id: job for job in seen.jobs}
        Runs(desk).follow(seen, running)
        known = {job.job_id: job for job in self.store.jobs()}
        asking = []
        for job_id, record in hints.records.items():
            if job_id in running and self._seen_records.get(job_id) != record:
                detail = self.reader.job(job_id)
                if detail is None:
                    continue
                if questions.hear(detail, known.get(job_id), seen):
                    asking.append(detail)
                if messages.asks(detail.extra, detail.restarts):
                    self._seen_records.pop(
                        job_id, None
                    )  # what stood there before may come again, and means more then
                else:
                    self._seen_records[job_id] = record
        self._asked = bool(asking)
        questions.answer_all(asking, seen)
        requeues.follow(seen, running)
        self._orphaned(hints, seen, running)
        for gone in self._seen_records.keys() - running.keys():
            del self._seen_records[gone]

    @property
    def hurried(self) -> bool:
        """A job stands still until the next look: it asks, changes its nodes, or waits in the queue."""
        try:
            with store_errors():
                jobs = self.store.jobs()
        except OperationFailed as error:
            log.error("it is not known who waits", extra={"error": error.message})
            return self._asked
        return self._asked or any(job.state in (State.RESUMING, State.REQUEUING) for job in jobs)

    def _orphaned(self, hints: Hints, seen: Observation, running: Mapping[int, JobInfo]) -> None:
        """Cancel allocations that a supervisor made for a job and left behind."""
        open_jobs = {record.job_id for record in self.store.jobs() if record.state is State.RESUMING}
        current = set()
        for helper, job_id in hints.helpers.items():
            if helper not in running:
                continue
            resuming = job_id in open_jobs and job_id in running
            if resuming and running[helper].state is not JobState.RUNNING:
                continue  # it waits for nodes, and the step for it
            current.add(helper)
            since = self._orphans.setdefault(helper, seen.at)
            patience = UNMERGED_SECONDS if resuming else ORPHAN_SECONDS
            if seen.at - since < patience and job_id in running:
                continue
            detail, owner = self.reader.job(helper), self.store.job(job_id)
            if detail is None or detail.name != f"auto-resume-{job_id}" or owner is None:
                continue
            if detail.info.user == owner.user and not detail.batch:
                log.warning("cancelling a left-over allocation", extra={"job": helper, "of": job_id})
                self.jobs.cancel(helper)
        for gone in self._orphans.keys() - current:
            del self._orphans[gone]
