"""Faults and what they call for: the table `faults.toml`, and the kernel's lines read with it.

>>> line = "NVRM: Xid (PCI:0000:01:00): 79, pid=71039, name=Media, GPU has fallen off the bus."
>>> [finding] = kernel_findings([line])
>>> finding.code, finding.action
('xid-79', <FaultAction.REBOOT: 'reboot'>)
>>> kernel_findings(["NVRM: Xid (PCI:0000:cb:00): 13, pid='<unknown>', name=<unknown>, Graphics Exception: ESR"])
()
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType


class FaultAction(StrEnum):
    """What a fault calls for, gravest last."""

    NONE = "none"
    MONITOR = "monitor"
    REBOOT = "reboot"
    REPLACE = "replace"

    @property
    def gravity(self) -> int:
        return list(FaultAction).index(self)


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the table."""

    code: str
    action: FaultAction
    text: str
    source: str
    fatal_only: bool = False
    """Counts only where the kernel's line says that it is fatal."""
    escalates: Mapping[str, FaultAction] = field(default_factory=dict)
    """Words at the line's end (after its last ``to``, where it tells of a change) that change the action."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that was seen on this node."""

    code: str
    action: FaultAction
    text: str
    """Evidence, for people: the device, the line, the numbers."""


@lru_cache(maxsize=1)
def table() -> Mapping[str, Fault]:
    """Return the table: fault code (``gpu-count``, ``xid-79``) to fault."""
    data = tomllib.loads(files("hpadmin.nodes").joinpath("faults.toml").read_text(encoding="utf-8"))
    entries = dict(data["fault"]) | {f"xid-{number}": entry for number, entry in data["xid"].items()}
    return {
        code: Fault(
            code,
            FaultAction(entry["action"]),
            entry["text"],
            entry["source"],
            entry.get("fatal_only", False),
            {words: FaultAction(action) for words, action in entry.get("escalates", {}).items()},
        )
        for code, entry in entries.items()
    }


def finding(code: str, text: str, *, action: FaultAction | None = None) -> Finding:
    """Return what was seen as a finding, with the table's action unless another is given."""
    return Finding(code, action or table()[code].action, text)


_XID = re.compile(r"NVRM: Xid \((?P<where>[^)]*)\): (?P<number>\d+)(?:, (?P<rest>.*))?")
_SXID = re.compile(
    r"SXid \((?P<where>[^)]*)\): (?P<number>\d+), (?P<severity>Fatal|Non-fatal)\b,?(?P<rest>.*)"
)
_LOST = re.compile(r"NVRM:.*fallen off the bus")
_NONFATAL = re.compile(r"\bNon-?fatal\b", re.IGNORECASE)
_KERNEL_WORDS = ("Xid", "fallen off the bus")
"""Without one of these a line cannot matter: what the light check looks for."""


def kernel_findings(
    lines: Iterable[str], actions: Mapping[str, FaultAction] = MappingProxyType({})
) -> tuple[Finding, ...]:
    """Return what the kernel's lines tell of faults, in order; those that call for nothing are left out.

    `actions` of a fault's code is what a site thinks otherwise than the table.
    """
    found = []
    for line in lines:
        if any(word in line for word in _KERNEL_WORDS):
            seen = _kernel_finding(line)
            action = FaultAction.NONE if seen is None else actions.get(seen.code, seen.action)
            if seen is not None and action is not FaultAction.NONE:
                found.append(replace(seen, action=action))
    return tuple(found)


def _kernel_finding(line: str) -> Finding | None:
    if match := _XID.search(line):
        number, rest = match["number"], match["rest"] or ""
        fault = table().get(f"xid-{number}", table()["xid"])
        action = fault.action
        if fault.fatal_only and (_NONFATAL.search(rest) or "Fatal" not in rest):
            action = FaultAction.MONITOR
        for words, escalated in fault.escalates.items():
            if words.casefold() in rest.rpartition(" to ")[2].casefold():
                action = escalated
        return Finding(f"xid-{number}", action, f"{match['where']} {rest}".strip())
    if match := _SXID.search(line):
        code = "sxid-fatal" if match["severity"] == "Fatal" else "sxid"
        return finding(code, f"{match['where']} {match['number']}{match['rest']}".strip())
    if _LOST.search(line):
        return finding("gpu-lost", line[line.index("NVRM:") :].strip())
    return None


def gravest(findings: Iterable[Finding]) -> Finding | None:
    """Return the finding that decides what happens to the node: the first of the gravest action."""
    return max(findings, key=lambda each: each.action.gravity, default=None)
