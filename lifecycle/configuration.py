"""Slurm's files on the controller: planned and applied exactly as ``hpadmin config apply`` does.

A node that joins, leaves or comes back with a new address is a change of the inventory, and so a plan like any
other: checked first, told to slurmctld once, verified on the nodes, recorded; no daemon is restarted for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpadmin.configure import apply, folder
from hpadmin.configure import plan as planning
from hpadmin.configure.history import History
from hpadmin.configure.live import Live, WithConf, look
from hpadmin.configure.options import RenderOptions
from hpadmin.configure.plan import Plan
from hpadmin.errors import OperationFailed
from hpadmin.model import Cluster, Strategy
from lifecycle.machine import Machine
from lifecycle.services import processes

log = logging.getLogger("lifecycle")

STATE_DIRECTORY = "/var/lib/hpadmin"


@dataclass(frozen=True, slots=True)
class Applied:
    """The configuration that request and inventory ask for is applied."""

    cluster: Cluster
    options: RenderOptions
    render: Callable[[Machine], dict[str, str]]
    """Returns the files' text by name."""
    conf_dir: str
    request: bytes
    inventory: bytes

    def lacking(self, machine: Machine) -> str | None:
        history = self._history(machine)
        if history.unfinished() is not None:
            return "bring a change of the configuration to its end that was interrupted"
        plan = self._plan(machine, history)
        if plan.changes:
            subjects = [f"{change.subject} ({change.kind})" for change in plan.changes]
            shown = "; ".join(subjects[:6]) + (f" and {len(subjects) - 6} more" if len(subjects) > 6 else "")
            return f"apply {len(subjects)} changes to {self.conf_dir}: {shown}"
        return f"record what is wanted of {self.conf_dir}" if plan.new_base else None

    def make(self, machine: Machine) -> None:
        history = self._history(machine)
        apply.recover(history, machine.runner, step=_tell)
        plan = self._plan(machine, history)
        order = apply.Order(
            command="apply",
            request=self.request,
            inventory=self.inventory,
            # Before slurmctld's first start there is nobody to tell; it reads the files when it starts.
            reconfigure=plan.live is not None,
            step=_tell,
        )
        apply.apply(history, plan, machine.runner, order)

    def _history(self, machine: Machine) -> History:
        return History(machine.path(STATE_DIRECTORY), machine.path(self.conf_dir))

    def _plan(self, machine: Machine, history: History) -> Plan:
        conf_dir = machine.path(self.conf_dir)
        wanted = self.render(machine)
        live = self._live(machine, conf_dir)
        last = history.base()
        # What a new machine has in that folder came with its packages: nobody's changes that could be respected.
        fresh = last is None and live is None
        return planning.make(
            Strategy.OVERWRITE
            if fresh and self.cluster.strategy is Strategy.MANAGED
            else self.cluster.strategy,
            last=last,
            disk=folder.read(conf_dir, wanted),
            wanted={name: text.encode() for name, text in wanted.items()},
            live=live,
            release=self.options.release,
            untold=live is not None and live.hashes and not live.runs_the_files,
        )

    @staticmethod
    def _live(machine: Machine, conf_dir: Path) -> Live | None:
        """Look at the running Slurm; None when no slurmctld runs here. Raises OperationFailed when one hangs."""
        if not processes(machine, "slurmctld"):
            return None
        try:
            return look(WithConf(machine.runner, conf_dir))
        except OperationFailed as error:
            raise OperationFailed(
                f"slurmctld runs and does not answer: {error}",
                hint="its log tells why; a stopped slurmctld would be started with the new files",
            ) from error


def _tell(text: str) -> None:
    log.debug("configuration: %s", text)
