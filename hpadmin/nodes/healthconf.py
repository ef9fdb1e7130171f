"""What a node is checked for: ``/etc/hpadmin/health.toml``, and what the inventory adds to it.

[accelerators]                 # left out: from resource_config.json and the catalog of instance types
kind = "gpu"
count = 8
devices = "/dev/nvidia[0-9]*"

[filesystems]
mounts = ["/fsx", "/home"]

[[external]]
name = "nhc"
command = ["/usr/sbin/nhc", "-F", "-e", "MARK_OFFLINE=0"]
form = "exit"
"""

from __future__ import annotations

import json
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpadmin.errors import InvalidInput, Problem
from hpadmin.nodes.external import External
from hpadmin.nodes.faults import FaultAction, table

DEFAULT_PATH = Path("/etc/hpadmin/health.toml")
INVENTORY = Path("/opt/ml/config/resource_config.json")
_DEVICES = {"gpu": "/dev/nvidia[0-9]*", "neuron": "/dev/neuron[0-9]*"}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a healthy node has. Nothing is checked whose expectation is None or empty."""

    kind: str = ""
    """``gpu`` or ``neuron``; empty for a node without accelerators."""
    accelerators: int | None = None
    devices: str = ""
    """A glob for the accelerators' device files."""
    efa: int | None = None
    """Interfaces below /sys/class/infiniband."""
    mounts: tuple[str, ...] = ()
    disks: Mapping[str, float] = field(default_factory=dict)
    """Directory to the least per cent that must be free."""
    kernel_log: str = "auto"
    """A file, ``/dev/kmsg``, ``auto`` (kern.log where it is, else /dev/kmsg) or ``none``."""
    clock: bool = True
    nvidia_smi: bool = True
    """Ask nvidia-smi in the whole check, where it is installed."""
    externals: tuple[External, ...] = ()
    actions: Mapping[str, FaultAction] = field(default_factory=dict)
    """Fault code to an action other than the table's."""


_TABLES: Mapping[str, Mapping[str, type]] = {
    "accelerators": {"kind": str, "count": int, "devices": str, "nvidia_smi": bool},
    "efa": {"count": int},
    "filesystems": {"mounts": list},
    "disk": {},
    "kernel_log": {"path": str},
    "clock": {"check": bool},
    "actions": {},
    "external": {},
}


def load(path: Path = DEFAULT_PATH, *, inventory: Path = INVENTORY, host: str | None = None) -> Expected:
    """Read the configuration, and the inventory for what it leaves out. Raises InvalidInput with all problems."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        data = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from error
    problems = list(_problems(data))
    externals = []
    given = data.get("external", [])
    for index, entry in enumerate(given if isinstance(given, list) else []):
        if not isinstance(entry, dict):
            problems.append(Problem(f"external[{index}]", "must be a table: [[external]]"))
            continue
        try:
            externals.append(External.from_mapping(entry))
        except InvalidInput as error:
            problems += [Problem(f"external[{index}].{each.path}", each.message) for each in error.problems]
    if problems:
        raise InvalidInput(f"{path} is not valid", problems)
    accelerators = data.get("accelerators", {})
    expected = Expected(
        mounts=tuple(data.get("filesystems", {}).get("mounts", ())),
        disks={str(place): float(least) for place, least in data.get("disk", {"/": 1.0}).items()},
        kernel_log=data.get("kernel_log", {}).get("path", "auto"),
        clock=data.get("clock", {}).get("check", True),
        nvidia_smi=accelerators.get("nvidia_smi", True),
        efa=data.get("efa", {}).get("count"),
        externals=tuple(externals),
        actions={code: FaultAction(action) for code, action in data.get("actions", {}).items()},
    )
    expected = _from_inventory(expected, inventory, host or socket.gethostname())
    kind = accelerators.get("kind", expected.kind)
    return replace(
        expected,
        kind=kind,
        accelerators=accelerators.get("count", expected.accelerators),
        devices=accelerators.get("devices", _DEVICES.get(kind, "")),
    )


def _problems(data: Mapping[str, Any]) -> list[Problem]:
    problems = [Problem(key, "no such table") for key in data.keys() - _TABLES.keys()]
    for name, members in _TABLES.items():
        given = data.get(name, [] if name == "external" else {})
        if name == "external":
            if not isinstance(given, list):
                problems.append(Problem(name, "must be an array of tables: [[external]]"))
            continue
        if not isinstance(given, dict):
            problems.append(Problem(name, f"must be a table: [{name}]"))
            continue
        for key, value in given.items():
            wanted = members.get(key)
            if members and wanted is None:
                problems.append(Problem(f"{name}.{key}", "no such setting"))
            elif wanted is not None and type(value) is not wanted:
                problems.append(Problem(f"{name}.{key}", f"must be of type {wanted.__name__}, not {value!r}"))
            elif wanted is int and value < 0:
                problems.append(Problem(f"{name}.{key}", f"must not be negative, is {value}"))
    kind = _table(data, "accelerators").get("kind", "gpu")
    if kind not in list(_DEVICES):
        problems.append(Problem("accelerators.kind", f"must be gpu or neuron, not {kind!r}"))
    mounts = _table(data, "filesystems").get("mounts", [])
    places = [("filesystems.mounts", place) for place in mounts] if isinstance(mounts, list) else []
    places += [(f"disk.{place}", place) for place in _table(data, "disk")]
    for path, place in places:
        # The light check's list has one expectation a line, its words separated by tabs.
        if not isinstance(place, str) or not place.startswith("/") or re.search(r"[\x00-\x1f]", place):
            problems.append(Problem(path, f"must be the path of a directory, from / on, not {place!r}"))
    for place, least in _table(data, "disk").items():
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 100:
            problems.append(Problem(f"disk.{place}", f"must be 0 to 100 per cent, not {least!r}"))
    for code, action in _table(data, "actions").items():
        if code not in table() and not code.startswith("xid-"):
            problems.append(Problem(f"actions.{code}", "no such fault"))
        if action not in list(FaultAction):
            problems.append(
                Problem(f"actions.{code}", f"must be one of {', '.join(FaultAction)}, not {action!r}")
            )
    return problems


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a table; an empty one for what is none, which is told elsewhere."""
    given = data.get(name, {})
    return given if isinstance(given, dict) else {}


def _from_inventory(expected: Expected, path: Path, host: str) -> Expected:
    """Add what the instance type of this host has, where inventory and catalog know it."""
    try:
        instance_type = _type_of(json.loads(path.read_text(encoding="utf-8")), host.partition(".")[0])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return expected
    from hpadmin.request.catalog import known_types, lookup

    if instance_type not in known_types():
        return expected
    hardware = lookup(instance_type)
    return replace(
        expected,
        kind=hardware.accelerator_kind or "",
        accelerators=hardware.accelerator_count or None,
        efa=expected.efa if expected.efa is not None else hardware.efa_interfaces or None,
    )


def _type_of(inventory: Any, host: str) -> str:
    """The instance type of `host`; empty for one that is not in it. Raises whatever another form leads to."""
    for group in inventory["InstanceGroups"]:
        for instance in group.get("Instances", ()):
            name = str(instance.get("PrivateDnsHostname", "")).partition(".")[0]
            by_address = "ip-" + str(instance.get("CustomerIpAddress", "")).replace(".", "-")
            if host in (name, by_address, instance.get("InstanceName")):
                return str(group["InstanceType"])
    return ""
