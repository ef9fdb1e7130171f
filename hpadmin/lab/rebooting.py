"""Rebooting a machine of the lab, so that whoever does it may die at any moment and anybody may go on.

The intention is a file on the machine that names the boot which is to end. With the next boot it is history, so that
nobody has to take it away, and it may be carried out twice.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import docker.errors
from docker.models.containers import Container

from hpadmin.lab import machine
from hpadmin.lab.machine import INSTANCE, REBOOT
from hpadmin.lab.machines import PARALLEL, Machines

_GRACE = 5
"""Seconds that a machine's services have to end."""


def begin(lab: Machines, name: str) -> None:
    """Leave word on a node (named as for `Machines.node`) that it is to be rebooted: from then on that is certain.

    Raises InvalidInput when the lab has no such node.
    """
    container = lab.client.containers.get(lab.node(name).container)
    word = machine.archive({REBOOT: (_boot(container).encode(), 0o644)})
    lab.client.api.put_archive(str(container.id), "/", word)


def unfinished(lab: Machines) -> list[str]:
    """Return the instance ids of the nodes that are to be rebooted and have not been."""

    def instance(container: Container) -> str | None:
        try:
            due = _due(container)
        except docker.errors.NotFound:  # it goes while we look
            return None
        return machine.identify(container).instance.instance_id if due else None

    machines = [one for one in lab.containers() if INSTANCE in one.labels and one.status != "created"]
    with ThreadPoolExecutor(PARALLEL) as pool:
        return [found for found in pool.map(instance, machines) if found is not None]


def finish(lab: Machines, name: str) -> None:
    """Restart a node's container, unless that has been done since `begin`: files stay, processes do not."""
    container = lab.client.containers.get(lab.node(name).container)
    if not _due(container):
        return
    if container.status == "paused":
        container.unpause()
    container.restart(timeout=_GRACE)


def _boot(container: Container) -> str:
    return str(container.attrs["State"]["StartedAt"])


def _due(container: Container) -> bool:
    return machine.read_file(container, REBOOT) == _boot(container).encode()
