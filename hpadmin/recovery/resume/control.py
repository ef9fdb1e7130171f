"""What the agent does to jobs, behind a protocol that tests replace. Operator's rights are needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from hpadmin.recovery.resume.messages import MARK
from hpadmin.slurm.command import Runner

_JOB_LINE = re.compile(r"JobId=(\d+) ")
_HELPER = re.compile(r" JobName=auto-resume-(\d+) ")


@dataclass(frozen=True, slots=True)
class Hints:
    """Jobs that are worth a closer look. Made from text that users write: never more than a hint."""

    records: dict[int, str]
    """Job id to the records that its line seems to hold."""
    helpers: dict[int, int]
    """Allocation that seems to be made for a job, to that job."""


class JobControl(Protocol):
    """Changes to jobs. Every method raises OperationFailed with what Slurm said."""

    def hints(self) -> Hints:
        """Look over the whole queue at the price of one RPC."""
        ...

    def answer(self, job_id: int, admin_comment: str) -> None:
        """Set a job's AdminComment."""
        ...

    def requeue(self, job_id: int) -> None:
        """Put a running job back into the queue under its id."""
        ...

    def start_now(self, job_id: int, priority: int = 0) -> None:
        """Let a requeued job start at once instead of after the 121 seconds of cred_expire.

        In the same request give it `priority`, unless that is 0: no other job comes in between.
        """
        ...

    def set_priority(self, job_id: int, priority: int) -> None:
        """Set the priority of a job that waits: Slurm does not count it by itself any more."""
        ...

    def release(self, job_id: int, excluded: str) -> None:
        """Let a job that Slurm holds wait again, for other nodes than those of the hostlist `excluded`."""
        ...

    def cancel(self, job_id: int) -> None:
        """Cancel an allocation that nobody needs any more."""
        ...


def read_hints(text: str) -> Hints:
    """Look through ``scontrol -o show jobs``."""
    records: dict[int, str] = {}
    helpers: dict[int, int] = {}
    for line in text.splitlines():
        found = _JOB_LINE.match(line)
        if found is None:
            continue
        job_id = int(found[1])
        _, extra, tail = line.partition(" Extra=")
        if extra and MARK in tail:
            records[job_id] = tail
        helper = _HELPER.search(line)
        if helper is not None:
            helpers[job_id] = int(helper[1])
    return Hints(records, helpers)


@dataclass(frozen=True, slots=True)
class CommandJobControl:
    """A `JobControl` over Slurm's commands. `timeout` is seconds for each."""

    runner: Runner
    timeout: float = 30.0

    def hints(self) -> Hints:
        done = self.runner.run(["scontrol", "-a", "-o", "show", "jobs"], timeout=self.timeout)
        return read_hints(done.check().stdout)

    def answer(self, job_id: int, admin_comment: str) -> None:
        self._scontrol("update", f"JobId={job_id}", f"AdminComment={admin_comment}")

    def requeue(self, job_id: int) -> None:
        self._scontrol("requeue", str(job_id))

    def start_now(self, job_id: int, priority: int = 0) -> None:
        raised = [f"Priority={priority}"] if priority else []
        self._scontrol("update", f"JobId={job_id}", *raised, "StartTime=now")

    def set_priority(self, job_id: int, priority: int) -> None:
        self._scontrol("update", f"JobId={job_id}", f"Priority={priority}")

    def release(self, job_id: int, excluded: str) -> None:
        self._scontrol("update", f"JobId={job_id}", f"ExcNodeList={excluded}")
        self._scontrol("release", str(job_id))

    def cancel(self, job_id: int) -> None:
        self.runner.run(["scancel", "-Q", str(job_id)], timeout=self.timeout).check()

    def _scontrol(self, *words: str) -> None:
        self.runner.run(["scontrol", *words], timeout=self.timeout).check()
