"""One agent at a time: an advisory lock on a file chooses it.

The file lies in the state directory, so that all agents of one cluster must share that. The kernel releases the lock
when its holder dies in any way. An agent that looks after a lab from outside also holds the lock of the agent on
the lab's controller, through a process there that lives as long as it does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpadmin.errors import OperationFailed

LOCK = "agent.lock"

Leads = Callable[[], bool]
"""Whether the lock is still held: a lock in another machine ends with that machine. Raises OperationFailed where that
cannot be told now."""


class StandsBy(OperationFailed):
    """Another agent leads this cluster."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"another agent leads this cluster: {holder.strip() or 'unknown'}")


def whoami() -> str:
    """Return how the holder of a lock is called in it."""
    return f"pid {os.getpid()} on {os.uname().nodename}"


@contextmanager
def leadership(state_dir: Path) -> Iterator[None]:
    """Hold the cluster's agent lock. Raises StandsBy when another process has it, telling which."""
    path = state_dir / LOCK
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OperationFailed(f"the agent's lock {path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StandsBy(os.pread(handle, 200, 0).decode("utf-8", "replace")) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{whoami()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
