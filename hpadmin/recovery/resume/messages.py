"""What supervisor and agent tell each other, as text in two fields of the job; pure.

A record stands in angle brackets inside a field that may also hold text of others, which is kept:

>>> ask = Request("7f3a90c1", 0, Phase.ASK, attempt=1, exit_code=1, want=4)
>>> text = put("owner: physics", ask.record())
>>> text
'owner: physics <auto-resume/1 step=0 id=7f3a90c1 phase=ask attempt=1 cause=exit exit=1 want=4>'
>>> requests(text) == {0: ask}
True

Nothing here is executed, and a record that does not parse exactly is no record. A request is a wish of the
job's owner about this job only; the agent takes its numbers as limits, never as facts about nodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hpadmin.slurm.hostlist import HostlistError, expand, fold

MARK = "<auto-resume/1 "
"""How every record begins; a job whose Extra holds it is one of ours."""

SERVICE_SECONDS = 3600
"""A step waits so long for a node where the answer does not say: the original's service timeout."""
MAX_TEXT = 300
"""Characters that the words for people in an answer may have."""
MAX_RECORDS = 64
"""Records of one field that are read: sruns of one job that run at once."""

_RECORD = re.compile(r"<auto-resume/1 ([^<>\n]*)>")
_VALUE = re.compile(r"[A-Za-z0-9_.,:%/\[\]+-]{1,600}")
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
    """The supervisor's record: one supervised step and what is asked about it."""

    id: str
    """Eight hexadecimal digits, new for each question; the answer repeats it."""
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
    lost: tuple[str, ...] = ()
    """Nodes that did not answer the supervisor: the first to be probed, no more."""

    def record(self) -> str:
        """Return this request as a record."""
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
            "lost": fold(self.lost),
        }
        # What is at its default is left out: the field is small, and people read it.
        needed = ("step", "id", "phase", "attempt", "cause")
        return _write({key: value for key, value in fields.items() if key in needed or value})


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
    found = (_request(body) for body in _RECORD.findall(text)[:MAX_RECORDS])
    wanted = (each for each in found if each is not None and restart in (None, each.restart))
    return {request.step: request for request in wanted}


def answers(text: str) -> dict[int, Answer]:
    """Return the answers in a job's AdminComment, by step; what does not parse is left out."""
    found = (_answer(body) for body in _RECORD.findall(text)[:MAX_RECORDS])
    return {answer.step: answer for answer in found if answer is not None}


def put(text: str, record: str) -> str:
    """Return `text` with `record` in the place of an older one about the same step, else at its end."""
    step = _read(record[len(MARK) : -1])[0].get("step")
    kept = drop(text, int(step)) if step else text
    return f"{kept} {record}".strip()


def drop(text: str, step: int | None = None) -> str:
    """Return `text` without the record about `step`, or without any record of ours."""

    def replaced(found: re.Match[str]) -> str:
        about = _read(found[1])[0].get("step")
        return "" if step is None or about == str(step) else found[0]

    return re.sub(r"  +", " ", _RECORD.sub(replaced, text)).strip()


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


def _request(body: str) -> Request | None:
    fields, _ = _read(body)
    identity, phase, cause = fields.get("id", ""), fields.get("phase", ""), fields.get("cause", "exit")
    numbers = {
        key: _number(fields, key) for key in ("step", "attempt", "exit", "want", "ran", "most", "restart")
    }
    lost = _hosts(fields.get("lost", ""))
    if (
        not _ID.fullmatch(identity)
        or phase not in set(Phase)
        or cause not in set(Cause)
        or "step" not in fields
        or lost is None
        or any(number is None for number in numbers.values())
    ):
        return None
    known = {key: number or 0 for key, number in numbers.items()}
    return Request(
        identity,
        known["step"],
        Phase(phase),
        attempt=known["attempt"],
        cause=Cause(cause),
        exit_code=known["exit"],
        want=known["want"],
        ran=known["ran"],
        most=known["most"],
        restart=known["restart"],
        lost=lost,
    )


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
    value = fields.get(key, "0")
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 9 else None


def _hosts(value: str) -> tuple[str, ...] | None:
    try:
        return tuple(expand(value)) if value else ()
    except HostlistError:
        return None
