"""How careful the agent is: limits and patience, as an administrator sets them in ``agent.toml``.

Times are seconds. The defaults follow HyperPod where it has a public behaviour, and caution elsewhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hpadmin.errors import InvalidInput, OperationFailed, Problem
from hpadmin.nodes.provider import Repair

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
    """Nodes never touched, beside the controllers."""

    @staticmethod
    def from_mapping(data: Mapping[str, Any], *, path: str = "policy") -> Policy:
        """Check and take the ``[policy]`` table. Raises InvalidInput with every problem."""
        problems = []
        values: dict[str, Any] = {}
        known = {item.name: item for item in fields(Policy)}
        for key, value in data.items():
            if key not in known:
                problems.append(Problem(f"{path}.{key}", "no such setting"))
                continue
            kind = str(known[key].type)
            if kind == "bool" and not isinstance(value, bool):
                problems.append(Problem(f"{path}.{key}", f"must be true or false, not {value!r}"))
            elif kind in ("int", "float") and (isinstance(value, bool) or not isinstance(value, int | float)):
                problems.append(Problem(f"{path}.{key}", f"must be a number, not {value!r}"))
            elif kind == "int" and not isinstance(value, int):
                problems.append(Problem(f"{path}.{key}", f"must be a whole number, not {value!r}"))
            elif kind in ("int", "float") and value < 0:
                problems.append(Problem(f"{path}.{key}", f"must not be negative, is {value!r}"))
            elif kind.startswith("Mapping"):
                problems += _actions(value, f"{path}.{key}")
                values[key] = value
            elif kind.startswith("tuple"):
                if isinstance(value, list) and all(isinstance(item, str) for item in value):
                    values[key] = tuple(value)
                else:
                    problems.append(Problem(f"{path}.{key}", f"must be a list of strings, not {value!r}"))
            else:
                values[key] = float(value) if kind == "float" else value
        if problems:
            raise InvalidInput("the agent's policy is not valid", problems)
        if "actions" in values:
            values["actions"] = {code: Repair(action) for code, action in values["actions"].items()}
        return Policy(**values)


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
    provider: Mapping[str, Any] = field(default_factory=dict)
    """The ``[provider]`` table, read by `hpadmin.nodes.providers`."""
    interval: float = 5
    """Seconds between two looks."""
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
        unknown = set(data) - {"policy", "provider", "interval", "probe", "metrics"}
        if unknown:
            raise InvalidInput(
                f"{path} is not valid", [Problem(key, "no such setting") for key in sorted(unknown)]
            )
        interval = data.get("interval", 5)
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0.2 <= interval <= 600:
            raise InvalidInput(f"{path} is not valid", [Problem("interval", "must be 0.2 to 600 seconds")])
        return Settings(
            policy=Policy.from_mapping(data.get("policy", {})),
            provider=data.get("provider", {}),
            interval=float(interval),
            probe=bool(data.get("probe", True)),
            metrics=str(data.get("metrics", "")),
        )
