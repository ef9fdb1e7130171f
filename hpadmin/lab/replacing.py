"""Replacing a machine of the lab, so that whoever does it may die at any moment and anybody may go on.

The intention is one container, made in one request to the engine: the successor, which is labelled with the id of the
instance that it takes the place of. From then on all that is left to do can be read off the containers and the
controller's inventory, and each step of it may be done twice:

    begin:   make the successor           (a second attempt is refused by its name)
    finish:  its facts; the old one goes; its name; its start; everybody is told
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import docker.errors
from docker.models.containers import Container

from hpadmin.errors import OperationFailed
from hpadmin.lab import machine, telling
from hpadmin.lab.facts import LabInstance, replacement
from hpadmin.lab.machine import INSTANCE, REPLACES
from hpadmin.lab.machines import Machines
from hpadmin.lab.network import subnet_of

_CONFLICT = 409
"""The engine's answer to a name that is taken."""


@dataclass(frozen=True, slots=True)
class Successor:
    """A container that takes, or took, the place of another, and how far it is."""

    container: Container
    instance: LabInstance
    old: Container | None
    """What it replaces, while that is there."""

    @property
    def moved_in(self) -> bool:
        """The old machine is gone, and this one runs, or has run, under its name."""
        return (
            self.old is None
            and self.container.status != "created"
            and not str(self.container.name).endswith(machine.NEXT)
        )


def begin(lab: Machines, name: str, instance_id: str) -> LabInstance:
    """Make the successor of a node (named as for `Machines.node`); it is not started yet.

    Raises InvalidInput when the lab has no such node (any more), OperationFailed when its replacement has begun.
    """
    old = lab.node(name)
    container = lab.client.containers.get(old.container)
    network = lab.existing_network()
    # Machines that are about to go count too: their addresses are not free yet.
    others = [_instance(one) for one in lab.containers() if INSTANCE in one.labels]
    new = replacement(old.instance, others, subnet_of(network), instance_id=instance_id)
    try:
        machine.make(
            lab.client,
            lab.name,
            new,
            container.attrs["Image"],
            str(network.name),
            name=f"{lab.name}-{new.name}{machine.NEXT}",
            replaces=old.instance.instance_id,
        )
    except docker.errors.APIError as error:
        if error.status_code == _CONFLICT:
            raise OperationFailed(f"{old.instance.name} is being replaced already") from error
        raise
    return new


def successors(lab: Machines) -> Iterator[Successor]:
    """Yield every container that replaces, or once replaced, another."""
    containers = lab.containers()
    by_id = {_instance(one).instance_id: one for one in containers if INSTANCE in one.labels}
    for one in containers:
        if replaced := one.labels.get(REPLACES):
            yield Successor(one, _instance(one), by_id.get(replaced))


def unfinished(lab: Machines) -> bool:
    """Whether there is a replacement that was begun and is not at its end."""
    found = list(successors(lab))
    return any(not each.moved_in for each in found) or bool(_untold(lab, found))


def finish(lab: Machines) -> None:
    """Bring every replacement that was begun to its end; the new machine's own lifecycle then goes on by itself.

    Raises OperationFailed when the controller does not take the change in.
    """
    found = list(successors(lab))
    for each in found:
        if not each.moved_in:
            _move_in(lab, each)
    if _untold(lab, found):
        telling.tell_of_replacements(lab)


def _move_in(lab: Machines, successor: Successor) -> None:
    if successor.old is not None:
        telling.give_facts(lab, successor.container)
        machine.remove(successor.old)
    successor.container.reload()
    if str(successor.container.name).endswith(machine.NEXT):
        successor.container.rename(f"{lab.name}-{successor.instance.name}")
    if successor.container.status == "created":
        successor.container.start()


def _untold(lab: Machines, found: list[Successor]) -> list[str]:
    """The new instances that a running controller does not know, or has not taken in yet."""
    wanted = {each.instance.instance_id for each in found}
    missing: set[str] = set()
    for controller in lab.controllers() if wanted else ():
        if controller.running == "running":
            container = lab.client.containers.get(controller.container)
            if machine.read_file(container, machine.PENDING) is not None:
                return sorted(wanted)
            missing |= wanted - _known(machine.read_file(container, machine.INVENTORY) or b"{}")
    return sorted(missing)


def _known(inventory: bytes) -> set[str]:
    groups = json.loads(inventory).get("InstanceGroups", ())
    return {str(instance["InstanceId"]) for group in groups for instance in group["Instances"]}


def _instance(container: Container) -> LabInstance:
    return LabInstance.from_json(container.labels[INSTANCE])
