"""The machines of a lab, as the labels of its containers tell of them: what all that is done to a lab begins with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import docker.errors
from docker.models.containers import Container

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.lab import machine
from hpadmin.lab.engine import ContainerRunner
from hpadmin.lab.facts import LabInstance
from hpadmin.lab.machine import LABEL, LabNode, SeenNode
from hpadmin.model import NodeType

PARALLEL = 8
"""Requests to the engine at a time."""


class Machines:
    """The containers of the lab `name`, and the network that they are on."""

    def __init__(self, client: docker.DockerClient, name: str) -> None:
        self.client = client
        self.name = name

    def nodes(self) -> list[LabNode]:
        """Return the machines, controllers first, then by group and number.

        One whose successor has been made is left out.
        """
        containers = [one for one in self.containers() if machine.INSTANCE in one.labels]
        replaced = {one.labels.get(machine.REPLACES) for one in containers}
        nodes = [machine.identify(one) for one in containers]
        return sorted((node for node in nodes if node.instance.instance_id not in replaced), key=_place)

    def look(self) -> list[SeenNode]:
        """Return the machines as `nodes` does, with how far the lifecycle of each is."""
        return self.look_at(node.container for node in self.nodes())

    def node(self, name: str) -> LabNode:
        """Return one node by instance name, host name or instance id. Raises InvalidInput for an unknown one."""
        nodes = self.nodes()
        for node in nodes:
            if name in (node.instance.name, node.instance.hostname, node.instance.instance_id):
                return node
        raise InvalidInput(
            f"lab {self.name} has no node {name}",
            hint=f"there are: {', '.join(node.instance.name for node in nodes)}",
        )

    def controllers(self) -> list[LabNode]:
        """Return the controllers, the primary one first."""
        return [node for node in self.nodes() if node.instance.node_type is NodeType.CONTROLLER]

    def controller(self) -> LabNode:
        """Return the primary controller. Raises OperationFailed when the lab has none."""
        if found := self.controllers():
            return found[0]
        raise OperationFailed(f"lab {self.name} has no controller")

    def runner(self, name: str, *, user: str = "root") -> ContainerRunner:
        """Return what runs commands on a node (named as for `node`)."""
        return ContainerRunner(self.client, self.container_name(name), user)

    def look_at(self, names: Iterable[str]) -> list[SeenNode]:
        """Return those of these containers that are there, with how far the lifecycle of each is."""

        def look(name: str) -> SeenNode | None:
            with contextlib.suppress(docker.errors.NotFound):  # it may go while we look
                return machine.look(self.client.containers.get(name))
            return None

        with ThreadPoolExecutor(PARALLEL) as pool:
            return [node for node in pool.map(look, names) if node]

    def containers(self) -> list[Container]:
        """Return every container of the lab, file servers and replaced machines included."""
        found: list[Container] = self.client.containers.list(
            all=True, filters={"label": f"{LABEL}={self.name}"}, ignore_removed=True
        )
        return found

    def container_name(self, name: str) -> str:
        """Find a node's container by its labels alone: one request, whatever state the machines are in."""
        listed = self.client.api.containers(all=True, filters={"label": f"{LABEL}={self.name}"})
        for one in listed:
            if machine.INSTANCE in one["Labels"]:
                instance = LabInstance.from_json(one["Labels"][machine.INSTANCE])
                if name in (instance.name, instance.hostname, instance.instance_id):
                    return str(one["Names"][0]).removeprefix("/")
        return self.node(name).container

    def existing_network(self) -> Any:
        """Return the lab's network. Raises OperationFailed where there is none."""
        network = self.network_if_any()
        if network is None:
            raise OperationFailed(f"lab {self.name} has no network: it is not up")
        return network

    def network_if_any(self) -> Any | None:
        """Return the lab's network; None before it was brought up."""
        found = self.client.networks.list(filters={"label": f"{LABEL}={self.name}"})
        return found[0] if found else None


def _place(node: LabNode) -> tuple[int, str, int]:
    """Controllers first, then by group and number."""
    return (list(NodeType).index(node.instance.node_type), *_natural(node.instance.name))


def _natural(name: str) -> tuple[str, int]:
    """Sort key of an instance name: its group, then its number as a number."""
    group, _, number = name.rpartition("-")
    return (group, int(number)) if number.isdigit() else (name, 0)
