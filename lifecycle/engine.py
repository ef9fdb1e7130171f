"""Working through stages: look, do, look again; write down how it went.

The record (`STATE`/state.json) is for people and for ``hpadmin lab status``; nothing is decided by it. Whether a
step is needed is seen on the machine itself, which is why a run that was killed anywhere can simply be run again.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

from hpadmin.errors import HpadminError, OperationFailed
from lifecycle.daemon import STATE
from lifecycle.machine import Machine
from lifecycle.retry import ONCE, Clock, Retry
from lifecycle.situation import Situation
from lifecycle.step import Step, Transient

log = logging.getLogger("lifecycle")

_PASSING = frozenset(
    (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EHOSTDOWN, errno.EREMOTEIO, errno.EFAULT)
)
"""What a shared file system says while its server is away (EFAULT is libnfs's word for a broken connection)."""

STATE_FILE = f"{STATE}/state.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of becoming a node."""

    name: str
    title: str
    """What it is for, for people."""
    steps: Callable[[Situation], Iterable[Step]]
    """The steps for this node, in order; they are looked at one after the other, each when those before it hold."""
    applies: Callable[[Situation], bool] = lambda situation: True
    """The precondition: whether this node needs the stage at all."""
    retry: Retry = ONCE


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage went."""

    stage: str
    status: str
    """``pending``, ``running``, ``done``, ``skipped``, or ``failed``."""
    seconds: float = 0.0
    attempts: int = 0
    changes: tuple[str, ...] = ()
    """What was done; empty when everything was as it should be."""
    message: str = ""


class StageFailed(OperationFailed):
    """A stage could not be completed: names the stage and the cause."""


@dataclass(frozen=True, slots=True)
class Record:
    """The record of a run, as `hpadmin lab status` and people read it."""

    node: str
    role: str
    status: str
    """``running``, ``done`` or ``failed``."""
    stage: str = ""
    """The stage that runs now, or that failed."""
    stages: tuple[Outcome, ...] = field(default=())
    message: str = ""

    def write(self, machine: Machine) -> None:
        """Put the record in place. Raises OSError."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        # Nothing is decided by it, and it is written often: a machine that loses its power may lose it.
        machine.write(STATE_FILE, text.encode(), mode=0o644, durable=False)


def pending(machine: Machine, situation: Situation, stages: Sequence[Stage]) -> dict[str, list[str]]:
    """Return what a run would do, by stage, changing nothing.

    A step that only makes sense after an earlier one is judged by the machine as it is now. What cannot be seen before
    others have started, or while a server is away, is told as such.
    """
    found: dict[str, list[str]] = {}
    for stage in stages:
        if stage.applies(situation):
            said = found[stage.name] = []
            try:
                for step in stage.steps(situation):
                    if (text := _look(machine, step)) and text not in said:
                        said.append(text)
            except Transient as error:
                said.append(_untold(error))
    return found


def _look(machine: Machine, step: Step) -> str | None:
    try:
        return step.lacking(machine)
    except Transient as error:
        return _untold(error)


def _untold(error: Transient) -> str:
    return f"more, which cannot be told yet: {' '.join(_words(error).split())}"


def run(machine: Machine, situation: Situation, stages: Sequence[Stage], clock: Clock) -> Record:
    """Bring the node through its stages and return the record.

    Raises StageFailed on the first stage that cannot be completed; the record on disk then says so too.
    """
    outcomes = [Outcome(stage.name, "pending") for stage in stages]
    record = Record(situation.name, situation.role.value, "running", stages=tuple(outcomes))
    for index, stage in enumerate(stages):
        if not stage.applies(situation):
            outcomes[index] = replace(outcomes[index], status="skipped")
            continue
        outcomes[index] = replace(outcomes[index], status="running")
        record = replace(record, stage=stage.name, stages=tuple(outcomes))
        _write(record, machine)
        outcomes[index] = _stage(machine, situation, stage, clock)
        record = replace(record, stages=tuple(outcomes))
        if outcomes[index].status == "failed":
            record = replace(record, status="failed", message=f"{stage.name}: {outcomes[index].message}")
            _write(record, machine)
            raise StageFailed(f"stage {stage.name} failed: {outcomes[index].message}")
    record = replace(record, status="done", stage="", stages=tuple(outcomes))
    _write(record, machine)
    return record


def _write(record: Record, machine: Machine) -> None:
    try:
        record.write(machine)
    except OSError as error:
        # The record is no reason to fail: a full disk is reported by the stage that needs the space.
        log.warning("the record %s cannot be written: %s", STATE_FILE, error.strerror)


def _stage(machine: Machine, situation: Situation, stage: Stage, clock: Clock) -> Outcome:
    start = clock.now()
    log.info("%s: %s", stage.name, stage.title)
    changes: list[str] = []
    delays = stage.retry.delays(clock.draw)
    attempts = 0
    while True:
        attempts += 1
        try:
            for step in stage.steps(situation):
                _step(machine, step, changes)
        except (HpadminError, OSError) as error:
            message = _words(error)
            pause = next(delays)
            late = clock.now() + pause - start > stage.retry.deadline
            if not may_pass(error) or late:
                log.error("%s: %s", stage.name, message)
                return Outcome(
                    stage.name, "failed", round(clock.now() - start, 3), attempts, tuple(changes), message
                )
            log.warning("%s: %s; trying again in %.1f s", stage.name, message, pause)
            clock.sleep(pause)
            continue
        seconds = round(clock.now() - start, 3)
        log.info("%s: done in %.1f s, %s", stage.name, seconds, _count(changes))
        return Outcome(stage.name, "done", seconds, attempts, tuple(changes))


def _step(machine: Machine, step: Step, changes: list[str]) -> None:
    lacking = step.lacking(machine)
    if lacking is None:
        return
    step.make(machine)
    log.info("  %s", lacking)
    changes.append(lacking)
    if still := step.lacking(machine):
        raise OperationFailed(f"was done and did not hold: {still}")


def may_pass(error: HpadminError | OSError) -> bool:
    """Tell whether what failed with this may succeed when it is tried again."""
    return isinstance(error, Transient) or (isinstance(error, OSError) and error.errno in _PASSING)


def _words(error: HpadminError | OSError) -> str:
    if isinstance(error, HpadminError):
        return f"{error} ({error.hint})" if error.hint else str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _count(changes: Sequence[str]) -> str:
    return f"{len(changes)} changes" if len(changes) != 1 else "1 change"
