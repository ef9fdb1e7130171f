"""Changing a running Slurm: what the recovery agent may do to nodes, behind a protocol that tests replace.

Slurm has no compare-and-set: whoever changes a node reads it first, and decides anew when it is not as expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hpadmin.errors import InvalidInput
from hpadmin.slurm.command import Runner
from hpadmin.slurm.hostlist import fold


class NewState(StrEnum):
    """States that ``scontrol update node state=`` takes, of those that are needed here."""

    FAIL = "fail"
    """No new jobs; running ones go on. Sticky."""
    DRAIN = "drain"
    """As FAIL, without saying that something is wrong."""
    DOWN = "down"
    """Ends what runs there. By itself not sticky where ReturnToService=2; with FAIL or DRAIN it is."""
    RESUME = "resume"
    """Back into service: DOWN, DRAIN and FAIL are gone, the Reason stays until it is overwritten."""


class SlurmControl(Protocol):
    """Changes to nodes and reservations. Every method raises OperationFailed with what Slurm said."""

    def set_state(self, nodes: Sequence[str], state: NewState, reason: str) -> None:
        """Set state and Reason of `nodes` in one request. Slurm keeps no Reason empty: one is always given."""
        ...

    def set_extra(self, node: str, extra: str) -> None:
        """Set a node's Extra."""
        ...

    def reserve(self, name: str, nodes: Sequence[str], *, minutes: int, flags: Sequence[str]) -> None:
        """Create a reservation of root's on `nodes`, from now on."""
        ...

    def release_reservation(self, name: str) -> None:
        """Delete a reservation."""
        ...


def checked_text(text: str) -> str:
    """Return `text` when Slurm keeps it as it is; raise InvalidInput otherwise.

    `scontrol` strips quotes around a value, and a line end in a Reason breaks what others parse.
    """
    if not text.strip() or any(ord(c) < 0x20 or c in '"\x7f\x85\u2028\u2029' for c in text):
        raise InvalidInput(f"a Reason must be one line without quotes, and not empty: {text!r}")
    return text


@dataclass(frozen=True, slots=True)
class CommandControl:
    """A `SlurmControl` over ``scontrol``. `timeout` is seconds for each command."""

    runner: Runner
    timeout: float = 30.0

    def set_state(self, nodes: Sequence[str], state: NewState, reason: str) -> None:
        self._scontrol(
            "update", f"NodeName={fold(nodes)}", f"State={state.value}", f"Reason={checked_text(reason)}"
        )

    def set_extra(self, node: str, extra: str) -> None:
        self._scontrol("update", f"NodeName={node}", f"Extra={extra}")

    def reserve(self, name: str, nodes: Sequence[str], *, minutes: int, flags: Sequence[str]) -> None:
        self._scontrol(
            "create",
            "reservation",
            f"ReservationName={name}",
            f"Nodes={fold(nodes)}",
            "Users=root",
            "StartTime=now",
            f"Duration={minutes}",
            f"Flags={','.join(flags)}",
        )

    def release_reservation(self, name: str) -> None:
        self._scontrol("delete", f"ReservationName={name}")

    def _scontrol(self, *words: str) -> None:
        self.runner.run(["scontrol", *words], timeout=self.timeout).check()
