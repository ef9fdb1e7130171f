"""Rules about partitions (``_parse_partitionname``, ``src/slurmctld/read_config.c``)."""

from __future__ import annotations

from collections.abc import Iterator

from hpadmin.slurm.hostlist import HostlistError, fold
from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, error, info, reason, warning
from hpadmin.slurmconf.lint.nodes import defaults_without_effect
from hpadmin.slurmconf.lint.values import minutes, preempt_mode
from hpadmin.slurmconf.records import Origin, Record

_STATES = ("down", "up", "drain", "inactive")
_RESOURCES = ("cr_core", "cr_socket")
_YES = frozenset({"yes", "up", "true", "1"})


def nodes(subject: Subject) -> Iterator[Finding]:
    """Partitions given twice, of unknown nodes, of none."""
    view = subject.slurm
    if view is None:
        return
    where: dict[str, Origin] = {}
    for record in view.of("PartitionName"):
        if record.name in where:
            message = f"the partition {record.name} is defined in {where[record.name]} already: keep one"
            yield error(record.origin, "duplicate-partition", message)
        where.setdefault(record.name, record.origin)
        listed = record.get("Nodes")
        try:
            selected = view.select(listed)
        except HostlistError as problem:
            yield error(record.origin, "bad-hostlist", f"Nodes={listed} is no host list: {reason(problem)}")
            continue
        if subject.references is None:
            continue
        if selected.unknown:
            unknown = list(selected.unknown)
            hint = subject.speller.did_you_mean(unknown[0], [*list(view.nodes)[:4096], *view.node_sets])
            if "ALL" in (name.upper() for name in unknown):
                hint = "; ALL must stand alone"
            message = f"there is no node or NodeSet {fold(unknown)}{hint}"
            yield error(record.origin, "unknown-node", f"partition {record.name}: {message}")
        elif not selected.names and not selected.functions and not view.value("MaxNodeCount"):
            yield info(record.origin, "empty-partition", f"partition {record.name} has no nodes")


def default(subject: Subject) -> Iterator[Finding]:
    """The default partition: exactly one."""
    view = subject.slurm
    if view is None:
        return
    first: Record | None = None
    for record in view.of("PartitionName"):
        if record.get("Default").lower() not in _YES:
            continue
        if first is not None:
            message = f"{first.name} ({first.origin}) is the default partition too; the last counts: keep one"
            yield warning(record.origin, "two-defaults", message)
        first = record
    if first is None and subject.references is not None and view.of("PartitionName"):
        message = "no partition has Default=YES: jobs that name none are refused"
        yield warning(Origin(view.name, 0, 0), "no-default", message)


def values(subject: Subject) -> Iterator[Finding]:
    """Values that their key does not take, and keys that exclude each other."""
    view = subject.slurm
    if view is None:
        return
    for record in view.of("PartitionName"):
        yield from _refused(record)
        yield from _ignored(record)
        other = record.get("Alternate")
        if other and subject.references is not None and other not in view.partitions:
            hint = subject.speller.did_you_mean(other, view.partitions)
            yield warning(
                record.origin, "unknown-partition", f"Alternate: there is no partition {other}{hint}"
            )
        qos = record.get("QOS")
        if qos and subject.references is not None and "slurmdbd" not in view.value("AccountingStorageType"):
            message = f"QOS={qos} has no effect without AccountingStorageType=accounting_storage/slurmdbd"
            yield warning(record.origin, "qos-without-accounting", message)


def _refused(record: Record) -> Iterator[Finding]:
    """Values that slurmctld does not start with."""
    state = record.get("State").lower()
    if state and not state.startswith(_STATES):
        yield _bad(record, "State", "UP, DOWN, DRAIN or INACTIVE")
    for key in ("MaxTime", "DefaultTime"):
        if record.get(key) and minutes(record.get(key)) is None:
            yield _bad(record, key, "a time such as 60, 12:00:00 or 7-0, or INFINITE")
    sharing = record.get("OverSubscribe").lower()
    if sharing and sharing.partition(":")[0] not in ("no", "exclusive", "yes", "force"):
        yield _bad(record, "OverSubscribe", "NO, EXCLUSIVE, YES or FORCE, with :COUNT behind the last two")
    resources = record.get("SelectTypeParameters").lower()
    if resources and not resources.startswith(_RESOURCES):
        yield _bad(record, "SelectTypeParameters", "CR_Core, CR_Core_Memory, CR_Socket or CR_Socket_Memory")
    suspend = record.get("SuspendTime").lower()
    if suspend.isdecimal() and int(suspend) > 2**32 - 1:
        yield _bad(record, "SuspendTime", "a number of seconds, or INFINITE")


def _bad(record: Record, key: str, allowed: str) -> Finding:
    message = f"{key} is {allowed}; not {record.get(key)!r}"
    return error(record.origin, "bad-value", f"partition {record.name}: {message}")


def _ignored(record: Record) -> Iterator[Finding]:
    """Values that Slurm ignores or reads otherwise."""
    mode = record.get("PreemptMode")
    if mode and (not preempt_mode(mode) or "gang" in mode.lower().split(",")):
        allowed = "OFF, CANCEL, REQUEUE or SUSPEND; GANG is for the whole cluster"
        yield warning(record.origin, "bad-value", f"PreemptMode of a partition is {allowed}; not {mode!r}")
    longest, usual = minutes(record.get("MaxTime", "INFINITE")), minutes(record.get("DefaultTime", "0"))
    if longest is not None and usual is not None and longest < usual:
        message = "DefaultTime is beyond MaxTime and is ignored: lower it"
        yield warning(record.origin, "default-time-exceeds", f"partition {record.name}: {message}")
    for kept, lost in _EXCLUSIVE:
        if kept.lower() in record.attributes and lost.lower() in record.attributes:
            message = f"{kept} is given too, so {lost} is ignored: keep one"
            yield warning(record.origin, "exclusive-keys", f"partition {record.name}: {message}")
    least, most = record.get("MinNodes"), record.get("MaxNodes")
    if least.isdecimal() and most.isdecimal() and int(least) > int(most):
        message = f"MinNodes={least} is more than MaxNodes={most}: no job can run"
        yield warning(record.origin, "bad-value", f"partition {record.name}: {message}")


_EXCLUSIVE = (
    ("DefMemPerNode", "DefMemPerCPU"),
    ("MaxMemPerNode", "MaxMemPerCPU"),
    ("AllowAccounts", "DenyAccounts"),
    ("AllowQos", "DenyQos"),
)


def defaults(subject: Subject) -> Iterator[Finding]:
    """DEFAULT lines: those without effect, and the keys that Slurm does not take from them."""
    view = subject.slurm
    if view is None:
        return
    yield from defaults_without_effect(view, "partitionname", "PartitionName")
    for record in view.default_records.get("partitionname", ()):
        for key in sorted(record.rule.not_inherited & record.own.keys()):
            spelled = record.own[key].key
            message = f"{spelled} is not taken from PartitionName=DEFAULT: give it to each partition"
            yield warning(record.origin, "not-inherited", message)


RULES: tuple[Rule, ...] = (nodes, default, values, defaults)
