"""Points of a recovery at which agent and supervisor can be made to stand still: for tests, inside their container.

The product knows nothing of them: `agent_main` and `supervisor_main` wrap what it does. A process that comes
to a point for which ``/run/points/NAME`` exists moves it to ``NAME.reached`` and stands until that is removed; a test
kills whomever it likes meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

FOLDER = Path("/run/points")

SUPERVISOR = {
    "asked": "the question stands in the job's Extra",
    "swapping": "the answer was read, nothing is done yet",
    "dropped": "the job was shrunk to its healthy nodes",
    "granted": "an allocation for another node was granted",
    "merged": "its node has joined the job",
    "retrying": "srun is about to be started again",
}
AGENT = {
    "seen": "the question was read",
    "marked": "the bad node is kept out of scheduling",
    "decided": "the decision is written down",
    "answered": "the answer stands in the job's AdminComment",
    "requeued": "the job was requeued",
    "hurried": "its BeginTime was taken away",
}


def reach(name: str) -> None:
    """Stand still here if a test wants it."""
    reached = FOLDER / f"{name}.reached"
    try:
        (FOLDER / name).rename(reached)
    except FileNotFoundError:
        return
    while reached.exists():
        time.sleep(0.05)


def after(owner: type, method: str, name: str, when: Callable[..., bool] = lambda *_, **__: True) -> None:
    """Let every call of `method` that `when` is true of reach the point once it is done."""
    inner = getattr(owner, method)

    @wraps(inner)
    def outer(*arguments: Any, **named: Any) -> Any:
        result = inner(*arguments, **named)
        if when(*arguments, **named):
            reach(name)
        return result

    setattr(owner, method, outer)


def before(owner: type, method: str, name: str, when: Callable[..., bool] = lambda *_, **__: True) -> None:
    """Let every call of `method` that `when` is true of reach the point before it is begun."""
    inner = getattr(owner, method)

    @wraps(inner)
    def outer(*arguments: Any, **named: Any) -> Any:
        if when(*arguments, **named):
            reach(name)
        return inner(*arguments, **named)

    setattr(owner, method, outer)
