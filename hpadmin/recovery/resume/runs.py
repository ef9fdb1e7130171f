"""Which run of a job is which: Slurm starts a job several times under one id.

Mostly its count of restarts tells. Not so after a slurmctld was killed within the seconds before it wrote down that a
job had started (`SAVE_MAX_WAIT`, src/slurmctld/state_save.c): the job waits again, as if it had never run, what runs
of it is ended as soon as its nodes register (`validate_jobs_on_node`, src/slurmctld/job_mgr.c), and it is started
anew with the same count. The time of its start tells then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from hpadmin.recovery.observe import Observation
from hpadmin.recovery.resume.desk import Desk
from hpadmin.recovery.resume.store import NEXT_RUN, JobRecord, State
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.reader import JobDetail, JobInfo
from hpadmin.slurm.states import JobState

FORGOTTEN = "slurmctld was killed and had forgotten that the job ran: Slurm started it anew"

log = logging.getLogger(__name__)


def same_run(record: JobRecord, detail: JobDetail) -> bool:
    """Tell whether what is remembered of the job's nodes is about this run of it."""
    return bool(record.nodes) and record.restarts == detail.restarts and not _started_anew(record, detail)


def later_run(record: JobRecord, detail: JobDetail) -> bool:
    """Tell whether a job that runs or has ended did so in a later run than the one that is remembered."""
    return detail.restarts > record.restarts or _started_anew(record, detail)


def _started_anew(record: JobRecord, detail: JobDetail) -> bool:
    if detail.info.state is not JobState.RUNNING and not detail.info.state.ended:
        return False  # the start of a job that waits is a guess
    return record.started not in (0, detail.info.start_time)


@dataclass(frozen=True)
class Runs:
    """Follows jobs into runs that no decision of ours began."""

    _desk: Desk

    def follow(self, seen: Observation, running: Mapping[int, JobInfo]) -> None:
        """Let what is remembered of a job be about the run that there is now. Raises OperationFailed."""
        for record in self._desk.store.jobs():
            info = running.get(record.job_id)
            if info is None or info.state is not JobState.RUNNING or record.state is State.REQUEUING:
                continue
            if record.started in (0, info.start_time):
                continue
            detail = self._desk.reader.job(record.job_id)
            if detail is not None and detail.info.state is JobState.RUNNING and _started_anew(record, detail):
                self._adopt(record, detail, seen.at)

    def _adopt(self, record: JobRecord, detail: JobDetail, now: float) -> None:
        info, incident = detail.info, self._desk.store.open_incident(record)
        if incident is not None:
            before = set(expand(incident.nodes)) if incident.nodes else set()
            gained = sorted(set(expand(info.nodes)) - before)
            self._desk.store.finish(incident, fold(gained), now)
        forgotten = record.started != NEXT_RUN and detail.restarts <= record.restarts
        self._desk.save(
            record,
            State.WATCHED,
            now,
            nodes=info.nodes,
            batch_host=info.batch_host if detail.batch else "",
            restarts=detail.restarts,
            started=info.start_time,
            reason=FORGOTTEN if forgotten else record.reason,
        )
        if forgotten:
            log.warning(
                "slurmctld had forgotten that a job ran", extra={"job": record.job_id, "nodes": info.nodes}
            )
