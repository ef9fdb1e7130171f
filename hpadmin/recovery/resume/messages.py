"""What supervisor and agent tell each other, as text in two fields of the job; pure.

A record stands in angle brackets inside a field that may also hold text of others, which is kept:

>>> ask = Request("7f3a90c1", 0, Phase.ASK, exit_code=1, want=4)
>>> text = put(put("owner: physics", ask), Request("", 1, Phase.WATCH))
>>> text
'owner: physics <auto-resume/1 phase=watch steps=1> <auto-resume/1 step=0 id=7f3a90c1 phase=ask exit=1 want=4>'
>>> requests(text)[0] == ask
True

Slurm takes `MAX_EXTRA` characters, so steps of which there is nothing to say but where they are share one record, and
only what is asked needs one of its own.

Nothing here is executed, and a record that does not parse exactly is no record. A request is a wish of the
job's owner about this job only; the agent takes its numbers as limits, never as facts about nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hpadmin.slurm.hostlist import HostlistError, expand, fold

MARK = "<auto-resume/1 "
"""How every record begins; a job whose Extra holds it is one of ours."""

SERVICE_SECONDS = 3600
"""A step waits so long for a node where the answer does not say: the original's service timeout."""
MAX_TEXT = 300
"""Characters that the words for people in an answer may have."""
MAX_EXTRA = 1024
"""Bytes that Slurm takes for a job's Extra (`_test_job_desc_fields`, src/slurmctld/job_mgr.c)."""
MAX_RECORDS = 64
"""Records of one field that are read: more than `MAX_EXTRA` has room for."""
MAX_STEPS = 4096
"""Steps that one field may speak of: its owner writes it, and a few digits could name billions."""
MAX_ANSWERS = 24_000
"""Characters of answers that one job's AdminComment holds: the names of 1500 nodes that do not fold."""
MAX_COMMENT = 32_000
"""Characters of an AdminComment that a supervisor reads; our records come first there."""

_LAST_STEP = 0xFFFFFFFF
"""Slurm counts steps in 32 bits, and names some of them from the end (SLURM_INTERACTIVE_STEP, slurm.h)."""
_RECORD = re.compile(r"<auto-resume/1 ([^<>\n]*)>")
_VALUE = re.compile(r"[A-Za-z0-9_.,:%/\[\]+-]+")
_ID = re.compile(r"[0-9a-f]{8}")


class Phase(StrEnum):
    """Where a supervised step is."""

    WATCH = "watch"
    """It runs."""
    ASK = "ask"
    """It failed and is held until the agent answers."""
    SWAP = "swap"
    """The answer was to retry; the supervisor is changing the job's nodes."""


class Cause(StrEnum):
    """Why a step counts as failed."""

    EXIT = "exit"
    """srun ended with a status that is not 0."""
    SILENT = "silent"
    """It runs, but some of its nodes do not answer. Is one of them dead?"""
    CUT = "cut"
    """It runs, but a slurmstepd closed its connection to srun, and the node cannot be asked why."""
    LOST = "lost"
    """Its processes on some node were killed from outside; it was ended."""
    HANG = "hang"
    """No sign of progress within the limit of ``--auto-resume-heartbeat``; it was ended."""

    STUCK = "stuck"
    """It was to start again, but Slurm would not give the job other nodes."""

    @property
    def still_runs(self) -> bool:
        """The question is whether a running step is dead: without a fault it just goes on."""
        return self in (Cause.SILENT, Cause.CUT)


class Action(StrEnum):
    """The agent's answer, in the words of the original where it has them."""

    NONE = "NONE"
    """No fault of the hardware: the step's own exit code counts."""
    WAIT = "WAIT"
    """The question was seen; the diagnosis is under way."""
    RETRYSTEP = "RETRYSTEP"
    """Drop the named nodes, get others if too few are left, start the step again."""
    REQUEUE = "REQUEUE"
    """The agent requeues the whole job; keep still."""
    FAIL = "FAIL"
    """There was a fault, but this job is not resumed; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a supervisor says of its step. All but number, phase and run is told only where something is asked."""

    id: str
    """Eight hexadecimal digits, new for each question; the answer repeats it. Empty where nothing is asked."""
    step: int
    phase: Phase
    attempt: int = 0
    """How often this step was started again in this run of the job."""
    cause: Cause = Cause.EXIT
    exit_code: int = 0
    want: int = 0
    """Nodes that the step needs; 0 where that is not known."""
    ran: int = 0
    """Seconds that the failed attempt ran."""
    most: int = 0
    """How many resumes the user allows; 0 leaves it to the site."""
    restart: int = 0
    """Slurm's count of requeues in the run of the job that this is about: the field outlives a requeue."""

    def record(self) -> str:
        """Return this question as a record. What is at its default is left out: the field is small."""
        fields = {
            "step": self.step,
            "id": self.id,
            "phase": self.phase,
            "attempt": self.attempt,
            "cause": self.cause,
            "exit": self.exit_code,
            "want": self.want,
            "ran": self.ran,
            "most": self.most,
            "restart": self.restart,
        }
        if self.cause is Cause.EXIT:
            del fields["cause"]
        return _write({key: value for key, value in fields.items() if value or key == "step"})


@dataclass(frozen=True, slots=True)
class Answer:
    """The agent's record: what becomes of the step that was asked about."""

    id: str
    step: int
    action: Action
    bad: tuple[str, ...] = ()
    """Nodes to drop."""
    within: int = 0
    """Seconds that other nodes may be waited for; 0 stands for `SERVICE_SECONDS`."""
    text: str = field(default="", compare=False)
    """For people; at most `MAX_TEXT` characters arrive."""

    def record(self) -> str:
        """Return this answer as a record."""
        fields: dict[str, object] = {"step": self.step, "id": self.id, "action": self.action}
        if self.bad:
            fields["bad"] = fold(self.bad)
        if self.within:
            fields["within"] = self.within
        return _write(fields, self.text)


def requests(text: str, restart: int | None = None) -> dict[int, Request]:
    """Return the requests in a job's Extra, by step; what does not parse is left out.

    With `restart`, also those of other runs of the job are left out: nobody waits for their answers any more.
    """
    found: list[Request] = []
    for body in _RECORD.findall(text)[:MAX_RECORDS]:
        found += _requests(body, MAX_STEPS - len(found))
    return {request.step: request for request in found if restart in (None, request.restart)}


def asks(text: str, restart: int) -> bool:
    """Tell whether a job's Extra asks anything about this run of the job, answered or not."""
    return any(request.phase is Phase.ASK for request in requests(text, restart).values())


def put(text: str, request: Request) -> str:
    """Return a job's Extra with `request` in the place of what was said of the same step, and others' text first."""
    return _written(text, {**requests(text), request.step: request})


def drop(text: str, *steps: int) -> str:
    """Return a job's Extra without what is said of `steps`."""
    return _written(text, {step: each for step, each in requests(text).items() if step not in steps})


def answers(text: str) -> dict[int, Answer]:
    """Return the answers in a job's AdminComment, by step; what does not parse is left out."""
    found = (_answer(body) for body in _RECORD.findall(text)[:MAX_RECORDS])
    return {answer.step: answer for answer in found if answer is not None}


def reply(text: str, answer: Answer, asked: Mapping[int, Request]) -> str:
    """Return a job's AdminComment with `answer` first, then the latest other answers to what is still `asked`.

    Of those, so many are kept as `MAX_ANSWERS` allows. A question whose answer went is open again, and answered anew
    once others have read theirs. Text of others comes last.
    """
    records = [answer.record()]
    left = MAX_ANSWERS - len(records[0])
    for step, other in answers(text).items():
        if step == answer.step or step not in asked or asked[step].id != other.id:
            continue
        left -= len(other.record())
        if left < 0:
            break
        records.append(other.record())
    return " ".join([*records, _of_others(text)]).strip()


def _written(text: str, said: Mapping[int, Request]) -> str:
    """Return others' text and the records of what is `said`."""
    together: dict[tuple[Phase, int], list[int]] = {}
    for request in said.values():
        if request.phase is not Phase.ASK:
            together.setdefault((request.phase, request.restart), []).append(request.step)
    records = [
        _write({"phase": phase, "steps": _ranges(steps), **({"restart": restart} if restart else {})})
        for (phase, restart), steps in together.items()
    ]
    records += [request.record() for request in said.values() if request.phase is Phase.ASK]
    return " ".join([_of_others(text), *records]).strip()


def _of_others(text: str) -> str:
    """Return a field's text without our records."""
    return re.sub(r"  +", " ", _RECORD.sub("", text)).strip()


def _write(fields: Mapping[str, object], text: str = "") -> str:
    words = " ".join(f"{key}={value}" for key, value in fields.items())
    plain = re.sub(r"[^\x20-\x7e]|[<>\"'\\]", " ", text)[:MAX_TEXT].strip()
    return f"{MARK}{words}{': ' + plain if plain else ''}>"


def _read(body: str) -> tuple[dict[str, str], str]:
    """Split a record's inside into its fields and its text; empty where a field is malformed."""
    head, _, text = body.partition(": ")
    fields: dict[str, str] = {}
    for word in head.split():
        key, _, value = word.partition("=")
        if not _VALUE.fullmatch(value):
            return {}, ""
        fields[key] = value
    return fields, text


def _requests(body: str, room: int) -> list[Request]:
    """Read one record, of at most `room` steps."""
    fields, _ = _read(body)
    identity, phase, cause = fields.get("id", ""), fields.get("phase", ""), fields.get("cause", "exit")
    numbers = {key: _number(fields, key) for key in ("attempt", "exit", "want", "ran", "most", "restart")}
    steps = _steps(fields.get("steps", fields.get("step", "")), room)
    if (
        phase not in set(Phase)
        or cause not in set(Cause)
        or any(number is None for number in numbers.values())
    ):
        return []
    known = {key: number or 0 for key, number in numbers.items()}
    if phase != Phase.ASK:
        return [Request("", step, Phase(phase), restart=known["restart"]) for step in steps]
    if not _ID.fullmatch(identity) or len(steps) != 1:
        return []
    return [
        Request(
            identity,
            steps[0],
            Phase(phase),
            attempt=known["attempt"],
            cause=Cause(cause),
            exit_code=known["exit"],
            want=known["want"],
            ran=known["ran"],
            most=known["most"],
            restart=known["restart"],
        )
    ]


def _ranges(steps: Iterable[int]) -> str:
    """Write numbers short.

    >>> _ranges([5, 2, 0, 1, 7])
    '0-2,5,7'
    """
    parts: list[list[int]] = []
    for step in sorted(steps):
        if parts and step == parts[-1][-1] + 1:
            parts[-1][1:] = [step]
        else:
            parts.append([step])
    return ",".join("-".join(map(str, part)) for part in parts)


def _steps(text: str, room: int) -> Sequence[int]:
    """Read what `_ranges` wrote; nothing where it is malformed or names more than `room`."""
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        first, last = _whole(low), _whole(high if dash else low)
        if first is None or last is None or first > last or last - first >= room - len(found):
            return ()
        found.extend(range(first, last + 1))
    return found


def _answer(body: str) -> Answer | None:
    fields, text = _read(body)
    identity, action, step = fields.get("id", ""), fields.get("action", ""), _number(fields, "step")
    bad, within = _hosts(fields.get("bad", "")), _number(fields, "within")
    if not _ID.fullmatch(identity) or action not in set(Action) or "step" not in fields:
        return None
    if step is None or bad is None or within is None:
        return None
    return Answer(identity, step, Action(action), bad, within, text)


def _number(fields: Mapping[str, str], key: str) -> int | None:
    return _whole(fields.get(key, "0"))


def _whole(text: str) -> int | None:
    """Read a whole number of 32 bits; None where it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LAST_STEP):
        return None
    return int(text)


def _hosts(value: str) -> tuple[str, ...] | None:
    try:
        return tuple(expand(value)) if value else ()
    except HostlistError:
        return None
