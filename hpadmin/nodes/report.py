"""A node's own word about its health, carried by its `Extra` field in Slurm.

The check program on a node writes it when the verdict changes; the agent reads it with everything else. So it
is authenticated as any change to a node is, and no port of ours is needed. `Extra` is a JSON object (Slurm
wants JSON there for ``extra_constraints``); only the member ``hpadmin`` is ours, and text that is no
object is somebody else's and stays.

>>> text = HealthReport(Verdict.FAILED, 1795354763, "xid-79", "reboot", "PCI:0000:01:00").merged_into("")
>>> HealthReport.read(text).fault
'xid-79'
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from hpadmin.slurm.command import printable

MEMBER = "hpadmin"


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    CHECKING = "checking"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """One verdict, by the node's own clock (epoch seconds), the clock that its SlurmdStartTime has too."""

    verdict: Verdict
    at: float
    fault: str = ""
    """Code of the gravest fault in the fault table; empty when passed."""
    action: str = ""
    """``reboot``, ``replace`` or ``monitor``; empty when passed."""
    text: str = ""
    boot: str = ""
    """Which boot of which machine it is of, as a digest; empty where whoever made it is not on the node."""

    @staticmethod
    def read(extra: str) -> HealthReport | None:
        """Return the report in a node's Extra; None where there is none that can be understood."""
        if not extra.startswith("{"):
            return None
        try:
            member = json.loads(extra)[MEMBER]
            return HealthReport(
                verdict=Verdict(member["health"]),
                at=float(member["at"]),
                **{key: printable(str(member.get(key, ""))) for key in ("fault", "action", "text", "boot")},
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None

    def merged_into(self, extra: str) -> str | None:
        """Return the Extra that carries this report beside what it holds already; None where it is not ours."""
        others: object = {}
        if extra.strip():
            try:
                others = json.loads(extra)
            except ValueError:
                return None
        if not isinstance(others, dict):
            return None
        member: dict[str, object] = {"health": self.verdict.value, "at": int(self.at)}
        member |= {
            k: v
            for k, v in (
                ("fault", self.fault),
                ("action", self.action),
                ("text", self.text),
                ("boot", self.boot),
            )
            if v
        }
        return json.dumps({**others, MEMBER: member}, separators=(",", ":"))

    def is_current(self, boot_time: float, slurmd_start_time: float) -> bool:
        """True when it was made since the node's last boot.

        Not since the start of its slurmd, where that can be helped: ``scontrol reconfigure`` starts every slurmd anew,
        without a check (src/slurmd/slurmd/slurmd.c, `original`).
        """
        return self.at >= (boot_time if self.boot else slurmd_start_time) - 1

    def follows(self, boot_before: str, slurmd_start_time: float) -> bool:
        """True when it is of another boot than `boot_before`: evidence from after a repair, whatever clocks say."""
        return self.boot != boot_before if self.boot else self.at >= slurmd_start_time - 1
