"""The controller follows the inventory: when `resource_config.json` changes, its lifecycle runs again by itself.

A node that joins or comes back with a new address waits until the controller's configuration has it. systemd watches
the file (systemd.path(5)); a run that fails, because a node still has a job or because another run has the lock, is
tried again. Machines without systemd have nobody who watches: whoever writes the file runs `on_create.sh`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lifecycle
from hpadmin.errors import InvalidInput
from lifecycle.engine import Stage
from lifecycle.machine import Machine
from lifecycle.services import Systemd
from lifecycle.situation import Situation
from lifecycle.step import File, Step

NAME = "hpadmin-inventory"
PATH_UNIT = f"{NAME}.path"
FOLDER = "/etc/systemd/system"


def path_unit(inventory: str) -> str:
    """Return the unit that watches the file `inventory`."""
    return f"""# Written by hpadmin's lifecycle.
[Unit]
Description=The cluster's instances, as the controller is told of them

[Path]
PathChanged={_plain(inventory).replace("%", "%%")}

[Install]
WantedBy=multi-user.target
"""


def service_unit(on_create: str, bundle: str, inventory: str) -> str:
    """Return the unit that runs the lifecycle when the file changed."""
    return f"""# Written by hpadmin's lifecycle.
[Unit]
Description=Bring a change of the cluster's instances into Slurm's configuration
After=slurmctld.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={_word(on_create)} --bundle {_word(bundle)} --resource-config {_word(inventory)}
Restart=on-failure
RestartSec=60
"""


def _word(path: str) -> str:
    """Return a path as one word of a unit (systemd.syntax(7), systemd.unit(5) SPECIFIERS)."""
    escaped = _plain(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != path or " " in path else path


def _plain(path: str) -> str:
    """Return a path that can stand on a line; raise InvalidInput for another."""
    if not path.isprintable():
        raise InvalidInput(f"{path!r} cannot stand in a unit: it holds a control character")
    return path


@dataclass(frozen=True, slots=True)
class Watching:
    """The path unit is active, now and after a boot; with the units' present text."""

    files: tuple[File, ...]

    def lacking(self, machine: Machine) -> str | None:
        if not machine.is_directory("/run/systemd/system"):
            return None
        if any(file.lacking(machine) for file in self.files):
            return f"write {PATH_UNIT} and its service"
        services = Systemd(machine)
        there = services.enabled(PATH_UNIT) and services.active(PATH_UNIT)
        return None if there else f"start {PATH_UNIT}"

    def make(self, machine: Machine) -> None:
        for file in self.files:
            file.make(machine)
        services = Systemd(machine)
        services.enable(PATH_UNIT)
        services.restart(PATH_UNIT)


def steps(situation: Situation) -> Iterator[Step]:
    """Yield the step of the stage."""
    on_create = Path(lifecycle.__file__).resolve().parent / "on_create.sh"
    inventory = str(situation.inventory)
    service = service_unit(str(on_create), str(situation.bundle.resolve()), inventory)
    yield Watching(
        (
            File(f"{FOLDER}/{NAME}.service", service),
            File(f"{FOLDER}/{PATH_UNIT}", path_unit(inventory)),
        )
    )


STAGE = Stage(
    "inventory",
    "following resource_config.json",
    steps,
    applies=lambda situation: situation.is_primary and situation.settings.follow_inventory,
)
