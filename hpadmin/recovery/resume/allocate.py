"""Getting more nodes for a running job: the salloc whose allocation is merged into it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from hpadmin.errors import OperationFailed
from hpadmin.recovery.resume.child import Child
from hpadmin.recovery.resume.ownjob import OwnJob, granted


class InterruptedStepError(Exception):
    """Somebody sent a signal that ends the step, while none ran."""


class GivenUpError(Exception):
    """The step cannot be resumed; the words are for the user."""


def allocate(argv: Sequence[str], job: OwnJob, limit: float) -> int:
    """Run salloc to its end, at most `limit` seconds, and return the allocation that it got.

    Raises OperationFailed with what salloc said, GivenUpError when it waited too long or the job is over, and
    InterruptedStepError when somebody sent a signal; nothing is left in the queue then.
    """
    environment = dict(os.environ)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    saved = os.dup(2)
    os.dup2(writer, 2)  # salloc speaks to its standard error; ours comes back at once
    try:
        salloc = Child.start(argv[0], argv, environment, "/", interrupts_at_once=True)
    except OSError as error:
        raise OperationFailed(f"{argv[0]} cannot be started: {error}") from error
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(writer)
    said, deadline = "", time.monotonic() + limit
    try:
        while (status := salloc.wait(0.2)) is None:
            said += _read(reader)
            if salloc.ended_by_user:
                raise InterruptedStepError
            if time.monotonic() > deadline:
                raise GivenUpError(f"No node came within {limit / 60:g} minutes.")
            if int(time.monotonic() * 5) % 25 == 0 and job.glance()[0] != "RUNNING":
                raise GivenUpError("The job is over.")
        said += _read(reader)
    finally:
        os.close(reader)
        if salloc.process.poll() is None:
            salloc.process.terminate()
            salloc.process.wait()
            if (pending := granted(said)) is not None:
                job.cancel(pending)
    helper = granted(said)
    if status != 0 or helper is None:
        raise OperationFailed(f"salloc got no nodes and said: {said.strip()}")
    return helper


def _read(reader: int) -> str:
    try:
        return os.read(reader, 65536).decode("utf-8", "replace")
    except BlockingIOError:
        return ""
