"""Everything that the stages of one node are derived from: frozen, made once at the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpadmin.errors import InvalidInput
from hpadmin.model import Cluster, Group, Instance, Node, NodeType
from hpadmin.request import Source
from lifecycle.secrets import Secrets
from lifecycle.settings import Settings


@dataclass(frozen=True, slots=True)
class Situation:
    """A node, its role and its cluster."""

    node: Node
    role: NodeType
    group: Group
    cluster: Cluster
    settings: Settings
    secrets: Secrets
    bundle: Path
    """Folder of the request, `lifecycle.yaml`, `shared_users.txt`."""
    request: Source
    """What the cluster was asked to be."""
    inventory: Path
    """`resource_config.json`."""
    conf_dir: str
    """Slurm's configuration folder on the controller."""

    @property
    def name(self) -> str:
        """The node's name in Slurm and its host name."""
        return self.node.name

    @property
    def is_controller(self) -> bool:
        """Whether slurmctld runs here."""
        return self.role is NodeType.CONTROLLER

    @property
    def is_primary(self) -> bool:
        """Whether this is the controller that configures the cluster."""
        return self.is_controller and self.cluster.controllers[0].name == self.name

    @property
    def conf_server(self) -> str:
        """The controllers' addresses, as slurmd and sackd take them."""
        return ",".join(node.instance.address for node in self.cluster.controllers)


def locate(cluster: Cluster, instance: Instance) -> tuple[Node, NodeType, Group]:
    """Return the node of the cluster that `instance` is, with role and group.

    Raises InvalidInput when no group of the request has the instance.
    """
    by_role = {
        NodeType.CONTROLLER: cluster.controllers,
        NodeType.LOGIN: cluster.logins,
        NodeType.COMPUTE: cluster.computes,
    }
    for role, nodes in by_role.items():
        for node in nodes:
            if node.instance.name == instance.name:
                group = next(group for group in cluster.groups if group.name == instance.group)
                return node, role, group
    known = ", ".join(group.name for group in cluster.groups)
    raise InvalidInput(
        f"instance {instance.name} is of group {instance.group}, which the request does not have (it has {known})",
        hint="the bundle's request is not the one that this instance was created from",
    )
