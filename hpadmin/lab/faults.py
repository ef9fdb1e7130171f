"""Breaking a machine of the lab as power, an operating system and a cable break, and mending it."""

from __future__ import annotations

import time

import docker.errors
from docker.models.containers import Container

from hpadmin.errors import InvalidInput
from hpadmin.lab import machine
from hpadmin.lab.machines import Machines

FAULTS = ("kill", "pause", "disconnect", "heal")
"""The machine loses power, hangs, loses its network; ``heal`` undoes all three.

A reboot brings a machine back that lost power or hangs; a network that is cut stays cut.
"""

_FREEZE = 60.0
"""Seconds within which a container must let itself be paused."""
_POLL = 0.5


def fault(lab: Machines, name: str, kind: str) -> None:
    """Do one of `FAULTS` to a node. Raises InvalidInput for another kind or an unknown node."""
    container = lab.client.containers.get(lab.container_name(name))
    if kind == "kill":
        container.kill()
    elif kind == "pause":
        _pause(container)
    elif kind == "disconnect":
        lab.existing_network().disconnect(container, force=True)
    elif kind == "heal":
        _heal(lab, container)
    else:
        raise InvalidInput(f"no fault {kind!r}", hint=f"there are: {', '.join(FAULTS)}")


def _pause(container: Container) -> None:
    """Freeze a container. On a busy host the kernel needs more than one attempt to stop every process of it."""
    deadline = time.monotonic() + _FREEZE
    while True:
        try:
            container.pause()
        except docker.errors.APIError:
            container.reload()
            if container.status == "paused":
                return
            if container.status != "running" or time.monotonic() > deadline:
                raise
            time.sleep(_POLL)
        else:
            return


def _heal(lab: Machines, container: Container) -> None:
    container.reload()
    if container.status == "paused":
        container.unpause()
    network = lab.existing_network()
    network.reload()
    if container.id not in network.attrs["Containers"] and container.status == "running":
        instance = machine.look(container).instance
        network.connect(container, ipv4_address=instance.address, aliases=[instance.hostname])
    if container.status in ("exited", "created"):
        container.start()
