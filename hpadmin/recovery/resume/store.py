"""What the agent remembers of jobs that resume: an SQLite file, written before and after every deed.

It holds no truth about the present (that is Slurm's), only what Slurm forgets: how often a job was resumed, why,
which nodes it lost and got, how long it stood, and that a requeue has been begun.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from hpadmin.errors import OperationFailed
from hpadmin.recovery.database import on_this_host, open_database
from hpadmin.recovery.resume.place import Place

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    job_id INTEGER NOT NULL,
    submitted REAL NOT NULL,
    user TEXT NOT NULL,
    partition TEXT NOT NULL,
    state TEXT NOT NULL,
    nodes TEXT NOT NULL DEFAULT '',
    batch_host TEXT NOT NULL DEFAULT '',
    restarts INTEGER NOT NULL DEFAULT 0,
    resumes INTEGER NOT NULL DEFAULT 0,
    quick INTEGER NOT NULL DEFAULT 0,
    last_action TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    first_seen REAL NOT NULL,
    changed REAL NOT NULL,
    started REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (job_id, submitted)
);
CREATE TABLE IF NOT EXISTS incidents (
    number INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL,
    submitted REAL NOT NULL,
    request TEXT NOT NULL,
    step INTEGER NOT NULL,
    at REAL NOT NULL,
    cause TEXT NOT NULL,
    action TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    nodes TEXT NOT NULL DEFAULT '',
    lost TEXT NOT NULL DEFAULT '',
    gained TEXT NOT NULL DEFAULT '',
    decided REAL NOT NULL DEFAULT 0,
    over REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS places (
    job_id INTEGER NOT NULL,
    submitted REAL NOT NULL,
    priority INTEGER NOT NULL,
    waiting_since REAL NOT NULL,
    base INTEGER NOT NULL,
    raised INTEGER NOT NULL,
    PRIMARY KEY (job_id, submitted)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_incident_a_question ON incidents (job_id, submitted, request);
CREATE INDEX IF NOT EXISTS incidents_of_job ON incidents (job_id, number);
"""
_JOB = (
    "job_id, submitted, user, partition, state, nodes, batch_host, restarts, resumes, quick, last_action,"
    " reason, first_seen, changed, started"
)
_INCIDENT = (
    "number, job_id, submitted, request, step, at, cause, action, reason, nodes, lost, gained, decided, over"
)


NEXT_RUN = -1.0


class State(StrEnum):
    """Where a job of ours is."""

    WATCHED = "watched"
    RESUMING = "resuming"
    """A step is held or being started again, inside the allocation."""
    REQUEUING = "requeuing"
    """To be, or being, started again through the queue."""
    FAILED = "failed"
    """It was not resumed, and the reason says why; it may still run."""
    ENDED = "ended"

    @property
    def over(self) -> bool:
        return self is State.ENDED


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job. Times are epoch seconds by the agent's clock, `submitted` by slurmctld's.

    Job ids are used again in the life of a cluster; id and time of submission name a job.
    """

    job_id: int
    submitted: float
    user: str
    partition: str
    state: State
    nodes: str = ""
    batch_host: str = ""
    restarts: int = 0
    """Slurm's own count when the job was seen last."""
    resumes: int = 0
    quick: int = 0
    last_action: str = ""
    reason: str = ""
    first_seen: float = 0
    changed: float = 0
    started: float = 0
    """When the run began that `nodes` and `batch_host` are about, by slurmctld's clock; 0 where that is not known,
    `NEXT_RUN` where the job waits for another one."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One failure of one job, and what became of it."""

    number: int
    job_id: int
    submitted: float
    request: str
    """Id of the question; the agent's own name for what no supervisor asked about."""
    step: int
    at: float
    cause: str
    action: str = ""
    reason: str = ""
    nodes: str = ""
    """The job's nodes before."""
    lost: str = ""
    gained: str = ""
    decided: float = 0
    over: float = 0
    """When the step ran again, or the job was given up; 0 before."""

    @property
    def seconds(self) -> float | None:
        """From the question to running again; None while that is not so."""
        return self.over - self.at if self.over else None


def path_in(state_dir: Path) -> Path:
    """Return where the store lies in hpadmin's state directory."""
    return state_dir / "resume.sqlite"


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what SQLite meets into OperationFailed: a file that is locked for long, a disk that is full."""
    try:
        yield
    except sqlite3.Error as error:
        raise OperationFailed(f"the record of resumed jobs cannot be read or written: {error}") from error


class Store:
    """The file. Its one writer is the leading agent; anybody may read."""

    def __init__(self, path: Path, *, reads: bool = False) -> None:
        """Open or make it, or only read what an agent wrote there. Raises OperationFailed when that is not possible."""
        self._db = (
            _open_to_read(path) if reads else open_database(path, _SCHEMA, "the record of resumed jobs")
        )

    def close(self) -> None:
        self._db.close()

    def jobs(self, *, ended: bool = False) -> tuple[JobRecord, ...]:
        """Return the jobs, newest first; with `ended` also those that are over."""
        where = "" if ended else "WHERE state <> 'ended'"
        rows = self._db.execute(f"SELECT {_JOB} FROM jobs {where} ORDER BY first_seen DESC, job_id DESC")  # noqa: S608 - constants
        return tuple(_job(row) for row in rows)

    def job(self, job_id: int) -> JobRecord | None:
        """Return the latest job of this id."""
        row = self._db.execute(
            f"SELECT {_JOB} FROM jobs WHERE job_id = ? ORDER BY submitted DESC LIMIT 1",  # noqa: S608 - constants
            (job_id,),
        ).fetchone()
        return None if row is None else _job(row)

    def incidents(self, job: JobRecord) -> tuple[Incident, ...]:
        """Return what happened to a job, oldest first."""
        rows = self._db.execute(
            f"SELECT {_INCIDENT} FROM incidents WHERE job_id = ? AND submitted = ? ORDER BY number",  # noqa: S608
            (job.job_id, job.submitted),
        )
        return tuple(Incident(*row) for row in rows)

    def open_incident(self, job: JobRecord) -> Incident | None:
        """Return the last incident of a job that is not over."""
        open_ones = [incident for incident in self.incidents(job) if not incident.over]
        return open_ones[-1] if open_ones else None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make what is written inside one transaction: all of it survives a kill, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def save(self, job: JobRecord, now: float) -> JobRecord:
        """Write a job down and return it with its time."""
        saved = replace(job, changed=now, first_seen=job.first_seen or now)
        marks = ", ".join("?" * 15)
        values = (
            *(saved.job_id, saved.submitted, saved.user, saved.partition, saved.state.value, saved.nodes),
            *(saved.batch_host, saved.restarts, saved.resumes, saved.quick, saved.last_action, saved.reason),
            *(saved.first_seen, saved.changed, saved.started),
        )
        self._db.execute(f"INSERT OR REPLACE INTO jobs ({_JOB}) VALUES ({marks})", values)  # noqa: S608
        return saved

    def place(self, job: JobRecord) -> Place | None:
        """Return what the job had in the queue before it was requeued first; None where it was never seen running."""
        row = self._db.execute(
            "SELECT priority, waiting_since, base, raised FROM places WHERE job_id = ? AND submitted = ?",
            (job.job_id, job.submitted),
        ).fetchone()
        return None if row is None else Place(*row)

    def keep_place(self, job: JobRecord, place: Place) -> None:
        """Write it down."""
        self._db.execute(
            "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?, ?)",
            (job.job_id, job.submitted, *astuple(place)),
        )

    def begin(self, job: JobRecord, request: str, step: int, cause: str, now: float) -> Incident:
        """Write down that a question was seen; the same question twice is one incident."""
        self._db.execute(
            "INSERT OR IGNORE INTO incidents (job_id, submitted, request, step, at, cause, nodes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (job.job_id, job.submitted, request, step, now, cause, job.nodes),
        )
        return next(each for each in self.incidents(job) if each.request == request)

    def decide(self, incident: Incident, action: str, reason: str, lost: str, now: float) -> None:
        """Write down what was decided, before it is done."""
        self._db.execute(
            "UPDATE incidents SET action = ?, reason = ?, lost = ?, decided = ? WHERE number = ?",
            (action, reason, lost, now, incident.number),
        )

    def finish(self, incident: Incident, gained: str, now: float) -> None:
        """Write down that the step runs again, or that the job was given up."""
        self._db.execute(
            "UPDATE incidents SET gained = ?, over = ? WHERE number = ?", (gained, now, incident.number)
        )

    def discard(self, incident: Incident) -> None:
        """Forget a question that turned out to be none: the step it was about runs on."""
        self._db.execute("DELETE FROM incidents WHERE number = ?", (incident.number,))

    def forget_before(self, moment: float) -> None:
        """Drop the jobs that ended before `moment`, and what happened to them."""
        old: Iterable[tuple[int, float]] = self._db.execute(
            "SELECT job_id, submitted FROM jobs WHERE state = 'ended' AND changed < ?", (moment,)
        ).fetchall()
        for key in old:
            self._db.execute("DELETE FROM incidents WHERE job_id = ? AND submitted = ?", key)
            self._db.execute("DELETE FROM places WHERE job_id = ? AND submitted = ?", key)
            self._db.execute("DELETE FROM jobs WHERE job_id = ? AND submitted = ?", key)


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open the file with no other right than to read it; an empty one where no agent has run."""
    try:
        if not path.exists():
            return open_database(Path(":memory:"), _SCHEMA, "")
        # While an agent has it open, its -wal is there; without one SQLite would have to make files beside it.
        alone = on_this_host(path) and not path.with_name(f"{path.name}-wal").exists()
        still = "&immutable=1" if alone else ""
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro{still}", uri=True, timeout=30, isolation_level=None
        )
        database.execute("SELECT 1 FROM jobs").fetchone()
    except (OSError, sqlite3.Error) as error:
        raise OperationFailed(f"the record of resumed jobs {path} cannot be read: {error}") from error
    return database


def _job(row: tuple[Any, ...]) -> JobRecord:
    values = dict(zip(_JOB.split(", "), row, strict=True))
    if values["state"] not in set(State):
        raise OperationFailed(
            f"job {values['job_id']} is recorded in a state that this release does not know: {values['state']}",
            hint="a later release of hpadmin wrote it: use that one",
        )
    return JobRecord(**{**values, "state": State(values["state"])})
