"""Waiting for a lab: for its nodes' lifecycles, and for Slurm to have them.

Each look is work for the host, whose processors the nodes want: a few machines are looked at a time, in turn.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable

from hpadmin.errors import OperationFailed
from hpadmin.lab import telling
from hpadmin.lab.machine import LOG, SeenNode
from hpadmin.lab.machines import Machines
from hpadmin.slurm.hostlist import expand, fold

Say = Callable[[str], None]

_POLL = 0.5
"""Seconds between two looks at what is awaited."""
_AT_A_TIME = 8
"""Machines that are looked at in one turn."""


def until_ready(lab: Machines, *, timeout: float, say: Say) -> None:
    """Wait as `Lab.wait_ready` says. Raises OperationFailed."""
    deadline = time.monotonic() + timeout
    pending = lab.look()
    last: dict[str, str] = {}
    while pending:
        looked, others = pending[:_AT_A_TIME], pending[_AT_A_TIME:]
        for node in looked:
            if last.get(node.instance.name) != node.status:
                say(f"{node.instance.name} ({node.instance.hostname}): {node.status}")
                last[node.instance.name] = node.status
        _refuse_failed(lab, looked)
        pending = [*others, *(node for node in looked if node.status != "ready")]
        if not pending:
            break
        if time.monotonic() > deadline:
            names = ", ".join(node.instance.name for node in pending)
            raise OperationFailed(f"not ready after {timeout:g} s: {names}")
        time.sleep(_POLL)
        looked, others = pending[:_AT_A_TIME], pending[_AT_A_TIME:]
        pending = [*lab.look_at(node.container for node in looked), *others]
    until_schedulable(lab, timeout=max(60.0, deadline - time.monotonic()), say=say)


def _refuse_failed(lab: Machines, looked: Iterable[SeenNode]) -> None:
    failed = [node for node in looked if node.status.startswith("failed") or node.running == "exited"]
    if failed:
        causes = (f"{node.instance.name}: {telling.last_words(lab, node) or node.status}" for node in failed)
        raise OperationFailed(
            f"{len(failed)} nodes did not become ready: {'; '.join(causes)}",
            hint=f"hpadmin lab exec {failed[0].instance.name} -- cat {LOG}",
        )


def until_schedulable(lab: Machines, *, timeout: float, say: Say, nodes: Iterable[str] | None = None) -> None:
    """Wait as `Lab.wait_schedulable` says. Raises OperationFailed."""
    wanted = (
        set(nodes)
        if nodes is not None
        else {node.instance.hostname for node in lab.nodes() if node.role == "compute"}
    )
    deadline = time.monotonic() + timeout
    said = ""
    while True:
        states = slurm_states(lab)
        missing = {
            name: states.get(name, "unknown to Slurm") for name in wanted if not _usable(states.get(name, ""))
        }
        if not missing:
            say(f"Slurm has {len(wanted)} compute nodes ready")
            return
        summary = f"Slurm waits for {fold(sorted(missing))}"
        if summary != said:
            say(summary)
            said = summary
        if time.monotonic() > deadline:
            raise OperationFailed(
                f"not schedulable after {timeout:g} s: "
                + ", ".join(f"{name} ({state})" for name, state in sorted(missing.items()))
            )
        time.sleep(_POLL)


def slurm_states(lab: Machines) -> dict[str, str]:
    """Return host name to state, as ``sinfo`` on the controller tells it; empty while it does not answer."""
    with contextlib.suppress(OperationFailed):
        said = lab.runner(lab.controller().instance.name).run(["sinfo", "-h", "-o", "%N|%T"], timeout=30)
        if said.returncode == 0:
            lines = (line.split("|", 1) for line in said.stdout.splitlines())
            return {name: state for hosts, state in lines for name in expand(hosts)}
    return {}


def _usable(state: str) -> bool:
    """Whether a node of this ``sinfo`` state runs jobs or could: no flag such as ``*`` (not answering) on it."""
    return state in ("idle", "mixed", "allocated", "completing", "planned", "blocked")
