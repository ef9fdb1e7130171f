"""Rules about the values of slurm.conf's settings: words that do not exist, settings that exclude each other.

They follow ``_validate_and_set_defaults`` in ``src/common/read_config.c``: where Slurm returns an error or dies
there, a finding is an error; where it complains and goes on, a warning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.lint import facts
from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, error, warning
from hpadmin.slurmconf.records import Setting
from hpadmin.slurmconf.view import View

_LEVELS = ("quiet", "fatal", "error", "info", "verbose", "debug", "debug2", "debug3", "debug4", "debug5")
_LIMITS = ("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS")
_RESETS = ("none", "now", "daily", "weekly", "monthly", "quarterly", "yearly")
_PREEMPT = ("gang", "within", "off", "cluster", "cancel", "requeue", "on", "suspend")
_ENFORCE = ("yes", "up", "true", "1", "any", "no", "down", "false", "0", "all")
_TIME = re.compile(r"\d+(-\d*(:\d+){0,2}|(:\d+){0,2})$")


def minutes(value: str) -> float | None:
    """Read a time as Slurm does (``time_str2mins``); None for one that it refuses.

    >>> minutes("1-12:30"), minutes("90:30"), minutes("INFINITE"), minutes("soon")
    (2190.0, 90.5, inf, None)
    """
    if value.lower() in ("-1", "infinite", "unlimited"):
        return float("inf")
    if not _TIME.match(value):
        return None
    days, dash, rest = value.rpartition("-")
    parts = [float(part) for part in rest.split(":")] if rest else [0.0]
    if dash:
        hours, minute, second = (*parts, 0, 0)[:3]
        return int(days) * 1440 + hours * 60 + minute + second / 60
    if len(parts) == 3:
        return parts[0] * 60 + parts[1] + parts[2] / 60
    return parts[0] + (parts[1] / 60 if len(parts) == 2 else 0)


def preempt_mode(value: str) -> bool:
    """Tell whether a PreemptMode is one (``preempt_mode_num``): one mode, and GANG or WITHIN beside it."""
    tokens = [token.lower() for token in value.split(",") if token]
    modes = [token for token in tokens if token not in ("gang", "within")]
    known = all(token in _PREEMPT for token in tokens)
    return known and len(modes) <= 1 and not {"gang", "within"} <= set(tokens)


def tokens(view: View, key: str) -> set[str]:
    """Return the elements of a comma list in lower case."""
    return {token.lower() for token in view.value(key).split(",") if token}


def _word(allowed: tuple[str, ...]) -> Callable[[str], bool]:
    return lambda value: value.lower() in allowed


def _level(value: str) -> bool:
    return value[:1].isdigit() or value.lower() in _LEVELS


def _limits(value: str) -> bool:
    names = [name.removeprefix("RLIMIT_") for name in re.split(r"[,\s]+", value) if name]
    return value in ("ALL", "NONE") or all(name in _LIMITS for name in names)


def _port(value: str) -> bool:
    match = re.match(r"(\d+)(?:-(\d+))?$", value)
    return match is not None and int(match[1]) > 0 and (match[2] is None or int(match[2]) > int(match[1]))


_CHECKS: dict[str, tuple[Callable[[str], bool], str]] = {
    "slurmctlddebug": (_level, "a number or one of " + ", ".join(_LEVELS)),
    "slurmctldsyslogdebug": (_level, "a number or one of " + ", ".join(_LEVELS)),
    "slurmddebug": (_level, "a number or one of " + ", ".join(_LEVELS)),
    "slurmdsyslogdebug": (_level, "a number or one of " + ", ".join(_LEVELS)),
    "enforcepartlimits": (_word(_ENFORCE), "NO, ANY or ALL"),
    "priorityusageresetperiod": (_word(_RESETS), "one of " + ", ".join(_RESETS)),
    "propagateresourcelimits": (_limits, "ALL, NONE or a list of " + ", ".join(_LIMITS)),
    "propagateresourcelimitsexcept": (_limits, "ALL, NONE or a list of " + ", ".join(_LIMITS)),
    "prioritydecayhalflife": (lambda v: minutes(v) is not None, "a time, such as 7-0"),
    "prioritymaxage": (lambda v: minutes(v) is not None, "a time, such as 7-0"),
    "prioritycalcperiod": (lambda v: (minutes(v) or 0) >= 1, "a time of a minute or more"),
    "preemptexempttime": (lambda v: minutes(v) is not None, "a time, such as 00:10:00"),
    "preemptmode": (preempt_mode, "OFF, CANCEL, REQUEUE or SUSPEND, with GANG or WITHIN beside it"),
    "slurmctldport": (_port, "a port, or a range such as 6817-6820"),
    "accountingstoragetype": (
        lambda v: "mysql" not in v.lower(),
        "accounting_storage/slurmdbd: only slurmdbd itself speaks to the database",
    ),
}
_RANGES: dict[str, tuple[int, float, bool]] = {
    # Key: least, most, whether Slurm dies of others (it corrects the rest).
    "firstjobid": (1, float("inf"), True),
    "maxjobcount": (1, float("inf"), True),
    "maxstepcount": (1, float("inf"), True),
    "maxdbdmsgs": (10000, float("inf"), True),
    "maxnodecount": (0, 65536, True),
    "propagateprioprocess": (0, 2, True),
    "maxarraysize": (0, 4000001, False),
    "messagetimeout": (0, 100, False),
    "minjobage": (2, float("inf"), False),
    "schedulertimeslice": (5, float("inf"), False),
    "treewidth": (1, float("inf"), False),
}


def task_parameters(subject: Subject) -> Iterator[Finding]:
    """TaskPluginParam: one unit of binding, and flags."""
    setting = subject.slurm.setting("TaskPluginParam") if subject.slurm is not None else None
    if setting is None:
        return
    words = [word.lower() for word in setting.value.split(",") if word]
    flags = _TASK_FLAGS | {"slurmdspecoverride"} if subject.since("26.05") else _TASK_FLAGS
    for word in words:
        if word not in _TASK_UNITS and word not in flags and word not in _TASK_AUTOBIND:
            spelled = subject.speller.did_you_mean(word, [*_TASK_UNITS, *flags, *_TASK_AUTOBIND])
            message = f"Slurm {subject.release} knows no {word!r} in TaskPluginParam{spelled}"
            yield error(setting.origin, "bad-value", message)
    if sum(word in _TASK_UNITS for word in words) > 1:
        message = f"TaskPluginParam takes one of {', '.join(_TASK_UNITS)}"
        yield error(setting.origin, "bad-value", message)


_TASK_UNITS = ("none", "sockets", "cores", "threads")
_TASK_FLAGS = frozenset({"verbose", "slurmdoffspec", "oomkillstep"})
_TASK_AUTOBIND = tuple(f"autobind={unit}" for unit in _TASK_UNITS)


def number(view: View, key: str) -> int | None:
    """Return a setting that is a plain number; None where it is not set, endless, or no number."""
    value = view.value(key)
    return int(value) if value.isdecimal() else None


def single(subject: Subject) -> Iterator[Finding]:
    """Values that their key does not take."""
    view = subject.slurm
    if view is None:
        return
    for key, (right, allowed) in _CHECKS.items():
        setting = view.setting(key)
        if setting is not None and not right(setting.value):
            yield error(setting.origin, "bad-value", f"{setting.key} is {allowed}; not {setting.value!r}")
    for key, (least, most, dies) in _RANGES.items():
        setting, value = view.setting(key), number(view, key)
        if setting is not None and value is not None and not least <= value <= most:
            bounds = f"at least {least}" if value < least else f"at most {most:.0f}"
            make = error if dies else warning
            yield make(setting.origin, "bad-value", f"{setting.key} is {bounds}; not {value}")
    for key in (
        "DebugFlags",
        "PrologFlags",
        "ReconfigFlags",
        "SelectTypeParameters",
        "AccountingStorageEnforce",
    ):
        setting = view.setting(key)
        if setting is not None:
            yield from _words(subject, setting, key)


def _words(subject: Subject, setting: Setting, key: str) -> Iterator[Finding]:
    known = facts.words(key, subject.release)
    lowered = {word.lower() for word in known}
    for word in setting.value.split(","):
        if word and word.lower() not in lowered:
            hint = subject.speller.did_you_mean(word, known) or f": there are {', '.join(known)}"
            message = f"Slurm {subject.release} knows no {word!r} in {setting.key}{hint}"
            make = (
                warning if key == "ReconfigFlags" else error
            )  # Slurm complains of the one, dies of the others
            yield make(setting.origin, "bad-value", message)


def preemption(subject: Subject) -> Iterator[Finding]:
    """PreemptType and PreemptMode that do not go together; slurmctld does not start with them."""
    view = subject.slurm
    if view is None:
        return
    kind, mode = view.value("PreemptType").lower(), view.setting("PreemptMode")
    modes = tokens(view, "PreemptMode") or {"off"}
    real = modes - {"gang", "within"} or {"off"}
    if mode is not None and modes <= {"suspend", "on"}:
        yield error(mode.origin, "preemption", "PreemptMode=SUSPEND needs GANG too: PreemptMode=SUSPEND,GANG")
    elif kind in ("", "preempt/none"):
        if mode is not None and (real - {"off", "cluster"} or "within" in modes):
            message = f"PreemptMode={mode.value} needs a PreemptType, preempt/qos or preempt/partition_prio"
            yield error(mode.origin, "preemption", message)
    elif kind in ("preempt/qos", "preempt/partition_prio") and real <= {"off", "cluster"}:
        origin = view.setting("PreemptType") or mode
        assert origin is not None
        message = f"{kind} needs a PreemptMode: CANCEL, REQUEUE or SUSPEND,GANG"
        yield error(origin.origin, "preemption", message)


def combinations(subject: Subject) -> Iterator[Finding]:
    """Settings that exclude or need each other."""
    view = subject.slurm
    if view is None:
        return
    flags = tokens(view, "PrologFlags")
    contained = bool(flags & {"contain", "x11", "runinjob"})
    setting = view.setting("PrologFlags")
    if setting is not None:
        if contained and "nohold" in flags:
            yield error(setting.origin, "bad-value", "PrologFlags: NoHold excludes Contain, X11 and RunInJob")
        if "x11" in flags and view.value("ProctrackType") == "proctrack/linuxproc":
            yield error(setting.origin, "bad-value", "PrologFlags=X11 does not work with proctrack/linuxproc")
        elif contained and view.value("ProctrackType", "proctrack/cgroup") != "proctrack/cgroup":
            message = "PrologFlags=Contain needs ProctrackType=proctrack/cgroup for pam_slurm_adopt"
            yield warning(setting.origin, "bad-value", message)
    container = view.setting("JobContainerType")
    if container is not None and "tmpfs" in container.value and not contained:
        message = "job_container/tmpfs needs PrologFlags=Contain"
        yield error(container.origin, "bad-value", message)
    yield from _excluding(view, "LaunchParameters", "enable_nss_slurm", "disable_send_gids")
    yield from _excluding(view, "JobAcctGatherParams", "usepss", "noshared")
    yield from _needs(subject, view)
    for mine, other in (("DefMemPerCPU", "DefMemPerNode"), ("MaxMemPerCPU", "MaxMemPerNode")):
        setting = view.setting(mine)
        if setting is not None and view.setting(other) is not None:
            yield warning(
                setting.origin, "exclusive-keys", f"{other} is set too, so {mine} is ignored: keep one"
            )


def _excluding(view: View, key: str, one: str, other: str) -> Iterator[Finding]:
    setting = view.setting(key)
    if setting is not None and {one, other} <= tokens(view, key):
        yield error(setting.origin, "bad-value", f"{setting.key}: {one} and {other} exclude each other")


def _needs(subject: Subject, view: View) -> Iterator[Finding]:
    mcs = view.setting("MCSPlugin")
    if mcs is not None and mcs.value == "mcs/group" and not view.value("MCSParameters"):
        yield error(mcs.origin, "bad-value", "mcs/group needs MCSParameters with the groups")
    parameters = view.setting("MCSParameters")
    if parameters is not None and mcs is None:
        yield error(parameters.origin, "bad-value", "MCSParameters needs an MCSPlugin")
    level = view.setting("SlurmSchedLogLevel")
    if level is not None and level.value != "0" and not view.value("SlurmSchedLogFile"):
        yield error(level.origin, "bad-value", "SlurmSchedLogLevel needs SlurmSchedLogFile")
    linear = view.value("SelectType").lower() == "select/linear"
    topology, most = view.setting("TopologyPlugin"), view.setting("MaxNodeCount")
    if linear and topology is not None and topology.value.lower() == "topology/tree":
        yield error(topology.origin, "bad-value", "topology/tree needs SelectType=select/cons_tres")
    if linear and most is not None:
        yield error(most.origin, "bad-value", "MaxNodeCount needs SelectType=select/cons_tres")
    first, last = number(view, "FirstJobId"), number(view, "MaxJobId")
    setting = view.setting("FirstJobId")
    if setting is not None and first is not None and last is not None and first > last:
        yield error(setting.origin, "bad-value", f"FirstJobId {first} is beyond MaxJobId {last}")
    program = view.setting("HealthCheckProgram")
    if program is not None and program.value and number(view, "HealthCheckInterval") in (None, 0):
        message = "without HealthCheckInterval (seconds) it never runs, not even at start"
        yield warning(program.origin, "health-check-off", f"HealthCheckProgram: {message}")
    timeout = view.setting("UnkillableStepTimeout")
    unkillable, wait = number(view, "UnkillableStepTimeout"), number(view, "MessageTimeout") or 10
    if timeout is not None and unkillable is not None and unkillable < 5 * wait:
        message = f"UnkillableStepTimeout is at least five times MessageTimeout ({wait}); not {unkillable}"
        yield warning(timeout.origin, "bad-value", message)


def users(subject: Subject) -> Iterator[Finding]:
    """Users that do not exist on the host; only asked where a host is given."""
    if subject.host is None:
        return
    for view in (subject.slurm, subject.files.get(FileKind.SLURMDBD)):
        for key in ("SlurmUser", "SlurmdUser"):
            setting = view.setting(key) if view is not None else None
            if setting is not None and not subject.host.has_user(setting.value):
                message = f"{setting.key}: there is no user {setting.value!r} on this host"
                yield error(setting.origin, "bad-value", message)


RULES: tuple[Rule, ...] = (single, task_parameters, preemption, combinations, users)
