"""The inventory: which instances exist, as HyperPod writes it to ``/opt/ml/config/resource_config.json``.

Older forms without `ClusterType`, `SlurmConfig` or `InstanceLabel` are read as well. An instance's UltraServer is
its `UltraServerInfo.Id` or, where that is absent, the label ``ultraserver-id`` in `InstanceLabel`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import Instance
from hpadmin.request import document

_LAYERS = tuple(f"network-node-layer-{number}" for number in (1, 2, 3, 4))
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
"""Ids of network nodes and UltraServers (``nn-0b53107754517bf0e``): they name switches and blocks in topology.conf."""
_CLUSTER_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_ARN = re.compile(r"arn:[A-Za-z0-9:/_-]{1,2000}")
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_INSTANCE_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,127}")
_INSTANCE_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")


class NodeNames(StrEnum):
    """How Slurm's node names are formed."""

    ADDRESS = "address"
    """``ip-10-1-2-3``: HyperPod's default, and the host name that EC2 gives an instance."""
    INSTANCE = "instance"
    """`InstanceName`, ``<group>-<n>``."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What `resource_config.json` says."""

    cluster_name: str
    cluster_arn: str
    instances: tuple[Instance, ...]
    primary_controller: str | None = None
    """`SlurmConfig.PrimaryControllerIp`; None in older files."""


def load(source: document.Source) -> Inventory:
    """Parse an inventory.

    Raises InvalidInput with every problem: wrong types, missing members, addresses, names or ids that are
    malformed or used twice.
    """
    parsed = document.parse(source.text, origin=source.origin)
    reader = _Reader(list(parsed.problems))
    inventory = reader.read(parsed.value)
    if reader.problems:
        raise InvalidInput(f"{source.origin} is not a usable inventory", reader.problems)
    return inventory


def node_name(instance: Instance, names: NodeNames) -> str:
    """Return the name of an instance in Slurm.

    >>> node_name(Instance("w-1", "w", "ml.c5.large", "i-1", "10.1.2.3"), NodeNames.ADDRESS)
    'ip-10-1-2-3'
    """
    if names is NodeNames.INSTANCE:
        return instance.name
    return instance.hostname or "ip-" + instance.address.replace(".", "-")


class _Reader:
    """Walks the inventory and collects what is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def problem(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def read(self, value: Any) -> Inventory:
        root = self.mapping(value, "")
        config = self.mapping(root.get("ClusterConfig", {}), "ClusterConfig")
        slurm = self.mapping(root.get("SlurmConfig") or {}, "SlurmConfig")
        if (kind := root.get("ClusterType", "Slurm")) != "Slurm":
            self.problem("ClusterType", f"must be Slurm, got {kind!r}")
        instances: list[Instance] = []
        for index, entry in enumerate(self.items(root.get("InstanceGroups"), "InstanceGroups")):
            instances += self.group(entry, f"InstanceGroups[{index}]")
        primary = slurm.get("PrimaryControllerIp")
        return Inventory(
            cluster_name=self.text(config, "ClusterName", "ClusterConfig", _CLUSTER_NAME) if config else "",
            cluster_arn=self.text(config, "ClusterArn", "ClusterConfig", _ARN)
            if "ClusterArn" in config
            else "",
            instances=tuple(instances),
            primary_controller=self.address(primary, "SlurmConfig.PrimaryControllerIp") if primary else None,
        )

    def group(self, value: Any, path: str) -> list[Instance]:
        group = self.mapping(value, path)
        name = self.text(group, "Name", path, _INSTANCE_NAME)
        found = []
        for index, entry in enumerate(self.items(group.get("Instances"), f"{path}.Instances")):
            where = f"{path}.Instances[{index}]"
            instance = self.mapping(entry, where)
            if isinstance(entry, dict):
                instance_type = instance.get("InstanceType", group.get("InstanceType"))
                found.append(self.instance(instance, where, name, instance_type))
        return found

    def instance(self, entry: dict[str, Any], path: str, group: str, instance_type: Any) -> Instance:
        labels = self.mapping(entry.get("InstanceLabel") or {}, f"{path}.InstanceLabel")
        if not isinstance(instance_type, str):
            self.problem(f"{path}.InstanceType", "missing here and in the group, or not a string")
            instance_type = ""
        return Instance(
            name=self.text(entry, "InstanceName", path, _INSTANCE_NAME),
            group=group,
            instance_type=instance_type,
            instance_id=self.text(entry, "InstanceId", path, _INSTANCE_ID),
            address=self.address(entry.get("CustomerIpAddress"), f"{path}.CustomerIpAddress"),
            network_layers=self.layers(labels, f"{path}.InstanceLabel"),
            ultraserver=self.ultraserver(entry, labels, path),
            hostname=self.hostname(entry, path),
        )

    def layers(self, labels: dict[str, Any], path: str) -> tuple[str, ...]:
        found = []
        for layer in _LAYERS:
            if layer in labels:
                found.append(self.text(labels, layer, path, _LABEL_NAME))
        return tuple(found)

    def ultraserver(self, entry: dict[str, Any], labels: dict[str, Any], path: str) -> str | None:
        info = self.mapping(entry.get("UltraServerInfo") or {}, f"{path}.UltraServerInfo")
        if info:
            return self.text(info, "Id", f"{path}.UltraServerInfo", _LABEL_NAME)
        if "ultraserver-id" in labels:
            return self.text(labels, "ultraserver-id", f"{path}.InstanceLabel", _LABEL_NAME)
        return None

    def hostname(self, entry: dict[str, Any], path: str) -> str | None:
        if not entry.get("PrivateDnsHostname"):
            return None
        full = self.text(entry, "PrivateDnsHostname", path)
        label = full.split(".")[0]
        if not all(_HOST_LABEL.fullmatch(part) for part in full.split(".")):
            self.problem(f"{path}.PrivateDnsHostname", f"{full!r} is not a host name")
        return label

    def address(self, value: Any, path: str) -> str:
        if not isinstance(value, str):
            self.problem(path, "missing, or not a string")
            return ""
        try:
            return str(ipaddress.IPv4Address(value))
        except ValueError:
            self.problem(path, f"{value!r} is not an IPv4 address")
            return ""

    def text(self, entry: dict[str, Any], key: str, path: str, pattern: re.Pattern[str] | None = None) -> str:
        value = entry.get(key)
        where = document.join(path, key)
        if not isinstance(value, str) or not value:
            self.problem(where, "missing, or not a string")
            return ""
        if pattern and not pattern.fullmatch(value):
            self.problem(where, f"{value!r} has characters that a Slurm file cannot carry")
            return ""
        return value

    def mapping(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.problem(path, "must be an object")
        return {}

    def items(self, value: Any, path: str) -> list[Any]:
        if isinstance(value, list):
            return value
        self.problem(path, "must be a list")
        return []
