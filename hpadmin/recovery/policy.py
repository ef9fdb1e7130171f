"""How careful the agent is: limits and patience, as an administrator sets them in ``agent.toml``.

Times are seconds. The defaults follow HyperPod where it has a public behaviour, and caution elsewhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpadmin.errors import InvalidInput, OperationFailed, Problem
from hpadmin.nodes.provider import Repair
from hpadmin.recovery import tables
from hpadmin.recovery.resume import limits
from hpadmin.recovery.resume.limits import Limits
from hpadmin.slurm.hostlist import HostlistError, expand

INTERVAL = 2.0
"""Seconds between two looks: what a dead node costs at most before anybody looks at it. A look is a few RPCs."""
HURRIED = 1.0
"""The same while a job stands still until the next look."""
SHARE = 0.1
"""Of one processor: more than this the agent takes only while somebody waits for it."""
OUTSIDE = ("machine-failed", "unreachable", "slurmd-lost")
"""Faults that no node tells of itself (hpadmin/nodes/faults.toml)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """All that `decide` may be told."""

    automatic: bool = True
    """False: faults are only marked, whatever the provider's NodeRecovery says; orders by hand still count."""
    max_in_flight: int = 5
    """Repairs that may be at the provider at the same time."""
    max_replacements_per_hour: int = 10
    """Automatic ones; a replacement that a person asked for does not count."""
    max_failures: int = 3
    """This many failed repairs within `failure_window` stop all automatic repair until somebody resets it."""
    failure_window: float = 3600
    storm_nodes: int = 4
    storm_fraction: float = 0.2
    """More faulty nodes at once than both of these is not a node's fault: automatic repair waits for a person."""
    confirm_after: float = 3
    """A provider must call an instance failed for this long before it is believed."""
    unreachable_after: float = 60
    """A node must be out of reach for this long, in Slurm's eyes and ours, before it counts as dead."""
    settle: float = 60
    """After a request whose answer was lost: time for it to show before it is made again."""
    retry_after: float = 30
    """Pause after a request that failed for a passing reason."""
    refused_after: float = 600
    """Pause after a request that failed for a reason that somebody has to remove."""
    reboot_within: float = 1200
    replace_within: float = 3600
    verify_within: float = 660
    """Time for the health report of a node that came back: more than two of Slurm's HealthCheckInterval."""
    require_report: bool = True
    """Without a health report a node that came back stays out, and that is told."""
    max_attempts: int = 3
    recurrence: float = 86400
    """The same node faulty again within this time after a reboot is replaced instead."""
    actions: Mapping[str, Repair] = field(default_factory=dict)
    """Repairs other than the fault table's for what the agent notices from outside (`OUTSIDE`), by fault code."""
    protected: tuple[str, ...] = ()
    """Nodes never touched, beside the controllers and the agent's own host. The table has hostlists."""

    @staticmethod
    def read(data: object, path: str = "policy") -> tuple[Policy, list[Problem]]:
        """Check and take the table; what is wrong comes back as problems, all of them."""
        values, problems = tables.read(Policy, data, path)
        if "actions" in values:
            problems += _actions(values["actions"], f"{path}.actions")
        if "protected" in values:
            values["protected"], wrong = _expanded(values["protected"], f"{path}.protected")
            problems += wrong
        if problems:
            return Policy(), problems
        if "actions" in values:
            values["actions"] = {code: Repair(action) for code, action in values["actions"].items()}
        return Policy(**values), []


def _expanded(hostlists: Iterable[str], path: str) -> tuple[tuple[str, ...], list[Problem]]:
    names: dict[str, None] = {}
    problems = []
    for text in hostlists:
        try:
            names |= dict.fromkeys(expand(text))
        except HostlistError as error:
            problems.append(Problem(path, error.message))
    return tuple(names), problems


def _actions(value: Any, path: str) -> list[Problem]:
    if not isinstance(value, Mapping):
        return [Problem(path, f"must be a table, not {value!r}")]
    known = [
        Problem(f"{path}.{code}", f"must be one of {', '.join(OUTSIDE)}")
        for code in value
        if code not in OUTSIDE
    ]
    return known + [
        Problem(f"{path}.{code}", f"must be one of {', '.join(Repair)}, not {action!r}")
        for code, action in value.items()
        if action not in list(Repair)
    ]


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of ``agent.toml``."""

    policy: Policy = Policy()
    resume: Limits = field(default_factory=Limits)
    provider: Mapping[str, Any] = field(default_factory=dict)
    """The ``[provider]`` table, read by `hpadmin.nodes.providers`."""
    interval: float = INTERVAL
    """Seconds between two looks, at least: see `pause`."""
    probe: bool = True
    """Try to connect to the slurmds, so that a dead node is known before SlurmdTimeout."""
    metrics: str = ""
    """A file that Prometheus' node exporter reads (textfile collector); empty for none."""

    @staticmethod
    def load(path: Path) -> Settings:
        """Read `path`; a missing file means all defaults.

        Raises InvalidInput for a bad one, OperationFailed for one that this user may not read.
        """
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Settings()
        except OSError as error:
            raise OperationFailed(f"{path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path} is not TOML: {error}") from error
        known = {"policy", "resume", "provider", "interval", "probe", "metrics"}
        problems = [Problem(key, "no such setting") for key in sorted(set(data) - known)]
        interval = data.get("interval", INTERVAL)
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0.2 <= interval <= 600:
            problems.append(Problem("interval", "must be 0.2 to 600 seconds"))
        policy, wrong = Policy.read(data.get("policy", {}))
        resume, wrong_too = limits.read(data.get("resume", {}))
        problems += [*wrong, *wrong_too]
        if not isinstance(data.get("provider", {}), dict):
            problems.append(Problem("provider", "must be a table: [provider]"))
        if not isinstance(data.get("probe", True), bool):
            problems.append(Problem("probe", f"must be true or false, not {data['probe']!r}"))
        metrics = data.get("metrics", "")
        if not isinstance(metrics, str) or (metrics and not metrics.startswith("/")):
            problems.append(Problem("metrics", f"must be the path of a file, from / on, not {metrics!r}"))
        if problems:
            raise InvalidInput(f"{path} is not valid", problems)
        return Settings(
            policy=policy,
            resume=resume,
            provider=data.get("provider", {}),
            interval=float(interval),
            probe=data.get("probe", True),
            metrics=metrics,
        )

    def pause(self, spent: float, cpu: float, *, hurried: bool) -> float:
        """Return how long to wait after a look that took `spent` seconds and `cpu` seconds of a processor.

        While somebody stands still until the next look (`hurried`) that is `HURRIED` after this one; else `interval`,
        and in a cluster that is large enough as long as keeps the agent below `SHARE` of one processor.
        """
        if hurried:
            return max(0.0, min(self.interval, HURRIED) - spent)
        return max(0.0, self.interval - spent, cpu / SHARE - spent)
