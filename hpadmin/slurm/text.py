"""Parsers of what Slurm's commands print, pure: text in, frozen data out.

The long forms are those of ``scontrol -o show …`` (src/api/node_info.c and its neighbours), times as epoch
seconds (``SLURM_TIME_FORMAT=%s``). Each parser raises `Unreadable` rather than leave anything out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import printable
from hpadmin.slurm.reader import JobInfo, NodeInfo, PartitionInfo, ReservationInfo
from hpadmin.slurm.states import JobState, NodeState

JOB_FORMAT = "%A|%F|%K|%T|%r|%u|%a|%P|%q|%D|%N|%B|%b|%V|%S|%e|%v"
"""The ``squeue -o`` format that `parse_jobs` reads: no field in it is free text of a user."""

_JOB_FIELDS = JOB_FORMAT.count("|") + 1
_NODE_START = re.compile(r"\n(?=NodeName=)")
_FIELD = re.compile(r"(\S+?)=(\S*)")
# Up to AveWatts everything is made by Slurm in a fixed order; from there on administrators wrote free text.
_NEXT_FIELD = re.compile(r" (?:InstanceId|InstanceType|ReservationName|TLSCert\w+|Topology|Parameters)=")
_TAIL = re.compile(
    r"(?:Reason=(?P<reason>.*?))?\s*"
    r"(?:\s?Comment=(?P<comment>.*?))?\s*"
    r"(?:\s?Extra=(?P<extra>.*?))?\s*"
    r"(?:\s?InstanceId=(?P<id>\S*))?\s*"
    r"(?:\s?InstanceType=(?P<type>\S*))?\s*"
    r"(?:\s?ReservationName=(?P<reservation>\S*))?\s*"
    r"(?:\s?(?:TLSCert\w+|Topology|Parameters)=.*)?",
    re.DOTALL,
)
# A reason of several lines carries the author at the end of its first, and 8 blanks before each other one.
_AUTHOR = re.compile(
    r"(?P<first>.*?) \[(?P<user>[^\s@\[\]]+)@(?P<time>\d+|Unknown|None)\](?:\s{8}(?P<rest>.*))?"
)


class Unreadable(OperationFailed):
    """Slurm printed something that cannot be read whole; nothing may be concluded from it."""


def _plain(value: str) -> str:
    return "" if value in ("(null)", "N/A", "n/a", "None") else value


def _list(value: str) -> tuple[str, ...]:
    plain = _plain(value)
    return tuple(plain.split(",")) if plain else ()


def _time(value: str) -> float:
    """Epoch seconds; 0 for Slurm's words for "no time"."""
    return float(value) if value.isdigit() else 0.0


def _count(value: str) -> int:
    return int(value) if value.isdigit() else 0


def split_reason(text: str) -> tuple[str, str, float]:
    """Take ``reason [user@time]`` apart into reason, user and time (0 without).

    >>> split_reason("Action:Replace : Not responding [slurm@1795354786]")
    ('Action:Replace : Not responding', 'slurm', 1795354786.0)
    >>> split_reason("first [line] [root@1795354786]        second")
    ('first [line]\\nsecond', 'root', 1795354786.0)
    """
    found = _AUTHOR.fullmatch(text)
    if found is None:
        return text, "", 0.0
    first, rest = found["first"], found["rest"]
    reason = first if rest is None else first + "\n" + re.sub(r"\s{8,}", "\n", rest)
    return reason, found["user"], _time(found["time"])


def parse_nodes(text: str) -> tuple[NodeInfo, ...]:
    """Parse ``scontrol -o show nodes``."""
    # A Comment may hold line ends of its own, so a record ends only where the next one begins.
    return tuple(_parse_node(record) for record in _NODE_START.split(text) if record.strip())


def _parse_node(record: str) -> NodeInfo:
    # Ten thousand of these are read every few seconds: string searches cost a tenth of a regular expression.
    fixed, watts, rest = record.partition(" AveWatts=")
    fixed = " " + fixed + " "
    name = _value(fixed, " NodeName=")
    state = _value(fixed, " State=")
    if not watts or not name or not state:
        raise Unreadable(f"scontrol show nodes printed a record that is no node: {record[:120]!r}")
    free = _free_text(name, rest.partition(" ")[2].strip(" \n"))
    reason, user, reason_time = split_reason(printable(free.get("reason") or ""))
    return NodeInfo(
        name=name,
        state=NodeState.parse(state),
        reason=reason,
        reason_user=user,
        reason_time=reason_time,
        address=_value(fixed, " NodeAddr="),
        hostname=_value(fixed, " NodeHostName="),
        port=_count(_value(fixed, " Port=")),
        partitions=_list(_value(fixed, " Partitions=")),
        features=_list(_value(fixed, " ActiveFeatures=")),
        gres=_plain(_value(fixed, " Gres=")),
        gres_used=_plain(_value(fixed, " GresUsed=")),
        cpus=_count(_value(fixed, " CPUTot=")),
        cpus_allocated=_count(_value(fixed, " CPUAlloc=")),
        cores=_count(_value(fixed, " Sockets=")) * _count(_value(fixed, " CoresPerSocket=")),
        memory=_count(_value(fixed, " RealMemory=")),
        boot_time=_time(_value(fixed, " BootTime=")),
        slurmd_start_time=_time(_value(fixed, " SlurmdStartTime=")),
        last_busy=_time(_value(fixed, " LastBusyTime=")),
        version=_value(fixed, " Version="),
        comment=free.get("comment") or "",
        extra=free.get("extra") or "",
        instance_id=free.get("id") or "",
        instance_type=free.get("type") or "",
        reservation=free.get("reservation") or "",
    )


def _value(text: str, key: str) -> str:
    """What follows `key` up to the next blank; empty when `key` is not in `text`, which ends in a blank."""
    start = text.find(key)
    if start < 0:
        return ""
    start += len(key)
    return text[start : text.index(" ", start)]


def _free_text(node: str, text: str) -> Mapping[str, str | None]:
    """Take apart what administrators wrote: the Reason and what follows it."""
    if not text:
        return {}
    if text.startswith("Extra=") and _NEXT_FIELD.search(text) is None:
        return {"extra": text[6:]}
    tail = _TAIL.fullmatch(text)
    if tail is None:
        raise Unreadable(f"the end of node {node}'s record cannot be read: {text[:120]!r}")
    return tail.groupdict()


def parse_jobs(text: str) -> tuple[JobInfo, ...]:
    """Parse ``squeue -h -o JOB_FORMAT``."""
    return tuple(_parse_job(line) for line in text.split("\n") if line)


def _parse_job(line: str) -> JobInfo:
    fields = line.split("|")
    if len(fields) != _JOB_FIELDS or not fields[0].isdigit():
        raise Unreadable(f"squeue printed a line that is no job: {line[:160]!r}")
    (job, array, task, state, reason, user, account, partition, qos) = fields[:9]
    (count, nodes, batch_host, gres, submitted, start, end, reservation) = fields[9:]
    task = _plain(task)
    return JobInfo(
        job_id=int(job),
        state=JobState.parse(state),
        reason=_plain(reason),
        user=user,
        account=_plain(account),
        partition=partition,
        qos=_plain(qos),
        node_count=_count(count),
        nodes=_plain(nodes),
        batch_host=_plain(batch_host),
        gres=_plain(gres),
        submit_time=_time(submitted),
        start_time=_time(start),
        end_time=_time(end),
        array_job_id=int(array) if task else 0,
        array_task=task,
        reservation=_plain(reservation),
    )


def _records(text: str, key: str) -> list[dict[str, str]]:
    records = []
    for line in text.split("\n"):
        if not line.strip() or line.startswith("No "):
            continue
        fields = dict(_FIELD.findall(line))
        if key not in fields:
            raise Unreadable(f"scontrol printed a line without {key}=: {line[:120]!r}")
        records.append(fields)
    return records


def parse_partitions(text: str) -> tuple[PartitionInfo, ...]:
    """Parse ``scontrol -o show partitions``."""
    return tuple(
        PartitionInfo(
            name=fields["PartitionName"],
            state=fields.get("State", ""),
            nodes=_plain(fields.get("Nodes", "")),
            default=fields.get("Default") == "YES",
        )
        for fields in _records(text, "PartitionName")
    )


def parse_reservations(text: str) -> tuple[ReservationInfo, ...]:
    """Parse ``scontrol -o show reservations``."""
    return tuple(
        ReservationInfo(
            name=fields["ReservationName"],
            nodes=_plain(fields.get("Nodes", "")),
            users=_plain(fields.get("Users", "")),
            flags=_list(fields.get("Flags", "")),
            start_time=_time(fields.get("StartTime", "")),
            end_time=_time(fields.get("EndTime", "")),
            partition=_plain(fields.get("PartitionName", "")),
        )
        for fields in _records(text, "ReservationName")
    )


def parse_configuration(text: str) -> dict[str, str]:
    """Parse ``scontrol show config``: its first part, without the sections about cgroups and daemons."""
    settings: dict[str, str] = {}
    for line in text.split("\n")[1:]:
        if not line.strip():
            break
        key, equals, value = line.partition("=")
        if equals:
            settings[key.strip()] = _plain(value.strip())
    if "ClusterName" not in settings:
        raise Unreadable("scontrol show config did not print a configuration")
    return settings
