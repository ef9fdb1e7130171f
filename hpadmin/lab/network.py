"""The private network of a lab: a subnet that nobody else uses."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types

from hpadmin.errors import OperationFailed
from hpadmin.lab.facts import PREFIX
from hpadmin.lab.machine import LABEL

SUBNETS = ipaddress.IPv4Network("10.200.0.0/14")
"""Where labs get their subnets from."""
_POLL = 0.5
_LETS_GO = 20.0
"""Seconds within which the engine forgets the containers that were just removed from a network."""


class MiscountedError(OperationFailed):
    """The engine refuses to remove a network that holds nothing: it has lost count of its endpoints.

    Docker's engine counts them beside the endpoints themselves, and sets the count right only when it starts ("Fixing
    inconsistent endpoint_cnt" in its log).
    """


def create_network(client: docker.DockerClient, lab: str) -> Any:
    """Make the network of `lab` on the first subnet of `SUBNETS` that is free.

    Raises OperationFailed when none is.
    """
    in_use = host_networks()
    for subnet in SUBNETS.subnets(new_prefix=PREFIX):
        if any(subnet.overlaps(other) for other in in_use):
            continue
        try:
            return client.networks.create(
                f"hpadmin-{lab}",
                driver="bridge",
                labels={LABEL: lab},
                check_duplicate=True,
                ipam=docker.types.IPAMConfig(
                    pool_configs=[docker.types.IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))]
                ),
            )
        except docker.errors.APIError as error:
            # Another lab took it between our look and now.
            if "overlap" not in str(error.explanation):
                raise
    raise OperationFailed(f"no subnet of {SUBNETS} is free for the lab's network")


def remove_network(network: Any, *, patience: float = _LETS_GO) -> None:
    """Remove a network whose containers are gone, as soon as the engine knows that they are.

    Raises OperationFailed with the engine's words when it does not within `patience` seconds: MiscountedError where
    nothing is left on the network.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            network.remove()
            return
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if "active endpoints" not in str(error.explanation):
                raise
            if time.monotonic() > deadline:
                raise _refused(network, str(error.explanation)) from error
        time.sleep(_POLL)


def _refused(network: Any, words: str) -> OperationFailed:
    network.reload()
    attached = sorted(each["Name"] for each in (network.attrs.get("Containers") or {}).values())
    if attached:
        hint = f"remove what is left on it, then run this again: {', '.join(attached)}"
        return OperationFailed(f"Docker refused: {words}", hint=hint)
    hint = "no container is left on it: restart Docker's engine, then run this again"
    return MiscountedError(f"Docker refused: {words}", hint=hint)


def subnet_of(network: Any) -> str:
    """Return a network's subnet."""
    network.reload()
    return str(network.attrs["IPAM"]["Config"][0]["Subnet"])


def host_networks() -> list[ipaddress.IPv4Network]:
    """Return the networks that this host has routes to (``/proc/net/route``), the default route left out."""
    found = []
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask:
            found.append(ipaddress.IPv4Network((destination, mask.bit_count())))
    return found
