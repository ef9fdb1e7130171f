"""What the lab's instances are told about themselves: pure, from groups to `resource_config.json`.

Addresses, instance ids and places in the network are the lab's to give, as the cloud's are elsewhere. What an
existing instance was given it keeps.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from hpadmin.errors import InvalidInput
from hpadmin.model import Group, NodeType
from hpadmin.request.catalog import lookup

PREFIX = 20
"""Of a lab's network. Four thousand addresses: nodes are numbered on, also when they are replaced."""
_FIRST_HOST = 10
"""Addresses below are left to the engine (its gateway is the first)."""
_LEAF_NODES = 4
"""Instances below one leaf switch of the lab's imagined network."""


@dataclass(frozen=True, slots=True)
class LabInstance:
    """One instance of the lab: the facts that its container is given."""

    name: str
    group: str
    node_type: NodeType
    instance_type: str
    instance_id: str
    address: str
    hostname: str
    ultraserver: str | None = None
    network_layers: tuple[str, ...] = ()

    @property
    def devices(self) -> str:
        """Fake devices of the machine as ``kind:count`` (``nvidia:8``); empty without accelerators."""
        hardware = lookup(self.instance_type)
        if not hardware.accelerator_count:
            return ""
        return f"{'nvidia' if hardware.accelerator_kind == 'gpu' else 'neuron'}:{hardware.accelerator_count}"

    @property
    def gateway(self) -> str:
        """The address that the lab's host has on the lab's network, where an agent outside the lab comes from."""
        return str(ipaddress.IPv4Interface(f"{self.address}/{PREFIX}").network[1])

    def to_json(self) -> str:
        """Return the facts as the text that the container's label carries."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> LabInstance:
        """Read back what `to_json` wrote."""
        data = json.loads(text)
        data["node_type"] = NodeType(data["node_type"])
        data["network_layers"] = tuple(data["network_layers"])
        return LabInstance(**data)


def allocate(
    groups: Sequence[Group],
    existing: Iterable[LabInstance],
    subnet: str,
    *,
    ultraserver_nodes: int | None,
    new_id: Callable[[], str],
) -> tuple[LabInstance, ...]:
    """Return the instances that `groups` ask for, keeping those of `existing` that are still wanted.

    `ultraserver_nodes` is the number of instances in an UltraServer, for those types that come in UltraServers
    (None: as many as the real one has). Raises InvalidInput when `subnet` has too few addresses.
    """
    known = {instance.name: instance for instance in existing}
    free = _Addresses(subnet, known.values())
    wanted: list[LabInstance] = []
    for group in groups:
        for index in range(group.count):
            name = f"{group.name}-{index + 1}"
            kept = known.get(name)
            if kept and kept.instance_type == group.instance_types[0]:
                wanted.append(kept)
                continue
            address = free.take()
            wanted.append(
                LabInstance(
                    name=name,
                    group=group.name,
                    node_type=group.node_type,
                    instance_type=group.instance_types[0],
                    instance_id=new_id(),
                    address=address,
                    hostname=_hostname(address),
                    ultraserver=_ultraserver(group, index, ultraserver_nodes),
                    network_layers=_network_layers(group, index),
                )
            )
    return tuple(wanted)


def replacement(
    old: LabInstance, others: Iterable[LabInstance], subnet: str, *, instance_id: str
) -> LabInstance:
    """Return the instance that takes the place of `old`: another id and address, the same names and place."""
    return replace(old, instance_id=instance_id, address=_Addresses(subnet, [old, *others]).take())


def resource_config(cluster_name: str, instances: Sequence[LabInstance]) -> str:
    """Return `resource_config.json` for `instances`, in the form that HyperPod writes."""
    groups: dict[str, list[LabInstance]] = {}
    for instance in instances:
        groups.setdefault(instance.group, []).append(instance)
    controllers = [i.address for i in instances if i.node_type is NodeType.CONTROLLER]
    return (
        json.dumps(
            {
                "ClusterConfig": {
                    "ClusterName": cluster_name,
                    "ClusterArn": "arn:aws:sagemaker:us-west-2:111122223333:cluster/hpadminlab00",
                },
                "ClusterType": "Slurm",
                "SlurmConfig": {
                    "PrimaryControllerIp": controllers[0] if controllers else "",
                    "SecondaryControllerIps": controllers[1:],
                },
                "InstanceGroups": [
                    {
                        "Name": name,
                        "InstanceType": members[0].instance_type,
                        "Instances": [_entry(member) for member in members],
                    }
                    for name, members in groups.items()
                ],
            },
            indent=2,
        )
        + "\n"
    )


def _entry(instance: LabInstance) -> dict[str, object]:
    entry: dict[str, object] = {
        "InstanceName": instance.name,
        "AgentIpAddress": instance.address,
        "CustomerIpAddress": instance.address,
        "InstanceId": instance.instance_id,
        "PrivateDnsHostname": f"{instance.hostname}.us-west-2.compute.internal",
    }
    if instance.network_layers:
        entry["InstanceLabel"] = {
            f"network-node-layer-{layer}": node for layer, node in enumerate(instance.network_layers, start=1)
        }
    if instance.ultraserver:
        entry["UltraServerInfo"] = {"Id": instance.ultraserver, "Type": "ml.u-p6e-gb200x72"}
    return entry


class _Addresses:
    """Hands out addresses of a subnet that nobody has, and whose host name nobody has either.

    A replaced instance keeps its host name but not its address, so that the two are separate questions.
    """

    def __init__(self, subnet: str, taken: Iterable[LabInstance]) -> None:
        self._network = ipaddress.IPv4Network(subnet)
        held = list(taken)
        self._used = {instance.address for instance in held}
        self._names = {instance.hostname for instance in held}
        self._next = _FIRST_HOST

    def take(self) -> str:
        while self._next < self._network.num_addresses - 1:
            address = str(self._network[self._next])
            self._next += 1
            if address not in self._used and _hostname(address) not in self._names:
                return address
        raise InvalidInput(f"the lab's network {self._network} has no address left")


def _hostname(address: str) -> str:
    return "ip-" + address.replace(".", "-")


def _ultraserver(group: Group, index: int, nodes: int | None) -> str | None:
    """The UltraServer of instance `index` of a group: each is filled before the next begins."""
    size = nodes or lookup(group.instance_types[0]).ultraserver_nodes
    comes_in_ultraservers = lookup(group.instance_types[0]).ultraserver_nodes > 0
    return f"us-{group.name}-{index // size + 1}" if comes_in_ultraservers else None


def _network_layers(group: Group, index: int) -> tuple[str, ...]:
    """The network nodes above instance `index`, top first, for types whose place in the network EC2 tells."""
    hardware = lookup(group.instance_types[0])
    if hardware.ultraserver_nodes or not (hardware.accelerator_count and hardware.efa_interfaces):
        return ()
    return ("nn-spine-1", f"nn-{group.name}", f"nn-{group.name}-{index // _LEAF_NODES + 1}")
