"""A throw-away slurmctld that tells whether Slurm accepts a configuration, and which jobs it would cost.

Slurm 24.11 has no option that only checks. A second slurmctld on a copy of the files, with its own state, in
its own network namespace, starts or dies within a second and says why:

    verdict = check(Local(), {"slurm.conf": b"...", "gres.conf": b"..."})
    verdict.accepted, [message.text for message in verdict.messages]

With `state`, the folder of the real controller's state (StateSaveLocation), it starts from a copy of that, and
`Verdict.jobs` tells which jobs the new configuration would end. Needs root on the controller's host, or in a
container the capabilities SYS_ADMIN and NET_ADMIN; the commands unshare, ip, mount and python3; slurmctld.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.slurm.command import Runner
from hpadmin.slurm.sandbox_host import WAITING
from hpadmin.slurm.sandbox_order import Order, local_name, prepare, with_includes


class Severity(StrEnum):
    """How slurmctld said something."""

    FATAL = "fatal"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Message:
    """One line that slurmctld logged; `file` (relative) and `line` where it names them, else empty and 0."""

    severity: Severity
    text: str
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class DoomedJob:
    """A job that the configuration would end (or keep from being requeued), and slurmctld's reason."""

    job_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the throw-away slurmctld made of a configuration."""

    accepted: bool
    messages: tuple[Message, ...]
    jobs: tuple[DoomedJob, ...] = ()
    """Finished jobs that slurmctld still remembers may be among them."""
    seconds: float = 0
    """From start to end of slurmctld."""

    def said(self, *severities: Severity) -> tuple[Message, ...]:
        """The messages of these severities."""
        return tuple(message for message in self.messages if message.severity in severities)


def check(
    runner: Runner,
    files: Mapping[str, bytes],
    *,
    conf_dir: str = "/etc/slurm",
    beside: bool = False,
    absent: Collection[str] = (),
    state: str | None = None,
    overrides: Mapping[str, str] | None = None,
    timeout: float = 60,
    program: str = "slurmctld",
) -> Verdict:
    """Start a throw-away slurmctld where `runner` runs, with `files` (name relative to the folder to content).

    `conf_dir` is where the files will live: Includes that name it lead into the copy, all other absolute ones
    are read where the runner runs. With `beside`, what else lies there (keys, scripts) is copied too, except
    the names in `absent`. `overrides` replace keys of slurm.conf (for a host without munge, say).
    Raises InvalidInput without a slurm.conf among the files, OperationFailed when the sandbox cannot be made
    or slurmctld neither starts nor ends within `timeout` seconds.
    """
    if "slurm.conf" not in files:
        raise InvalidInput("there is no slurm.conf among the files to check")
    sandbox = _Sandbox(
        with_includes(runner, files, conf_dir, beside=beside, absent=absent),
        state,
        overrides or {},
        {
            "beside": conf_dir if beside else None,
            "absent": [local_name(name, conf_dir) for name in absent],
            "timeout": timeout,
            "grace": 5,
            "program": program,
        },
    )
    order, answer = sandbox.run(runner, alone=False)
    if answer["needs_database"]:
        order, answer = sandbox.run(runner, alone=True)
    if not answer["ended"] and not answer["primary"]:
        said = [message.text for message in judge(answer["lines"], order, primary=False, seconds=0).messages]
        raise OperationFailed(
            f"the throw-away slurmctld neither started nor ended within {timeout:g} s; it last said: "
            f"{said[-1] if said else 'nothing'}"
        )
    return judge(answer["lines"], order, primary=answer["primary"], seconds=answer["seconds"])


@dataclass(frozen=True, slots=True)
class _Sandbox:
    """What is the same for every run of one check."""

    files: Mapping[str, bytes]
    state: str | None
    overrides: Mapping[str, str]
    around: Mapping[str, object]

    def run(self, runner: Runner, *, alone: bool) -> tuple[Order, dict[str, Any]]:
        """Run slurmctld once; return what it was given and what the host answered."""
        order = prepare(
            self.files,
            folder=f"/tmp/hpadmin-sandbox-{uuid.uuid4().hex}",  # noqa: S108 - mkdir(0700) refuses what exists
            state=self.state,
            overrides=self.overrides,
            alone=alone,
        )
        payload = json.dumps({**order.as_json(), **self.around})
        done = runner.run(
            ["unshare", "--net", "--mount", "--uts", "--", "python3", "-"],
            timeout=float(str(self.around["timeout"])) + 30,
            stdin=f"{_host_source()}\n\nmain(json.loads({payload!r}))\n",
        )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise OperationFailed(
                f"no throw-away slurmctld could be started: {said[-1] if said else 'no reason given'}",
                hint="it needs root (in a container: the capabilities SYS_ADMIN and NET_ADMIN), "
                "unshare, ip, mount, python3 and slurmctld",
            )
        answer: dict[str, Any] = json.loads(done.stdout)
        return order, answer


def _host_source() -> str:
    return resources.files("hpadmin.slurm").joinpath("sandbox_host.py").read_text(encoding="utf-8")


# 24.11 puts its name before each line, 26.05 the time.
_LINE = re.compile(r"^(?:slurmctld: |\[[^\]]*\] )(?:(?P<severity>fatal|error|warning): )?(?P<text>.*)$")
_PLACE = re.compile(r"file (?P<file>\S+) line (?P<line>\d+)")
_JOB = re.compile(
    r"^(?:Aborting |(?:Invalid (?:nodes|partition|req_nodes) \(.*\)|No partition) for )"
    # Tasks of arrays and parts of heterogeneous jobs have their own number behind: 10_3(12), 10+1(11).
    r"JobId=(?P<id>\d+)(?:[_+][^( ]*\((?P<own>\d+)\))?"
)
NOISE = re.compile(
    r"Could not open (job|node|reservation|trigger|part|priority|assoc_mgr|last|qos|fed_mgr|dbd|layouts)\S* "
    r"|NOTE: Trying backup .*state save file|No \S+ state file|state file .* to recover"
    r"|No (job|node|reservation|trigger|partition|last decay|Assoc usage|Qos usage).*file"
    r"|Configured MailProg is invalid|Terminate signal|Sending children SIGKILL"
    r"|_open_persist_conn|Sending PersistInit msg|Association database appears down"
    r"|_shutdown_bu_thread|^Locks left set|^Semaphores still set"
    r"|^High latency for 1000 calls to gettimeofday"
)
"""What slurmctld says because it is a throw-away one, on empty state, without slurmdbd, or of the machine's clock."""


_NOT_STORED = "Job accounting information gathered, but not stored"
"""Said because slurmdbd was taken out (`Order.alone`)."""


def judge(lines: Iterable[str], order: Order, *, primary: bool, seconds: float) -> Verdict:
    """Read slurmctld's log; what it repeats counts once. Pure."""
    messages: list[Message] = []
    jobs: dict[int, str] = {}
    seen: set[str] = set()
    prefix = f"{order.folder}/conf/"
    for line in lines:
        found = _LINE.match(line)
        if found is None or NOISE.search(found["text"]):
            continue
        text = found["text"].replace(prefix, "")
        if text in seen or (order.alone and text.startswith(_NOT_STORED)):
            continue
        seen.add(text)
        place = _PLACE.search(text)
        # A file that Slurm waits for kills it after a minute; the throw-away one is not left to wait.
        fatal = text.endswith(WAITING)
        messages.append(
            Message(
                Severity.FATAL if fatal else Severity(found["severity"] or "info"),
                text,
                place["file"] if place else "",
                int(place["line"]) if place else 0,
            )
        )
        job = _JOB.match(text)
        if job:
            jobs.setdefault(int(job["own"] or job["id"]), text)
    died = any(message.severity is Severity.FATAL for message in messages)
    return Verdict(
        accepted=primary and not died,
        messages=tuple(messages),
        jobs=tuple(DoomedJob(job_id, reason) for job_id, reason in sorted(jobs.items())),
        seconds=seconds,
    )
