"""The cluster model: what a request and an inventory together say, as plain frozen data without I/O.

`hpadmin.request` makes it; `hpadmin.configure`, `hpadmin.topology`, the lab and the lifecycle read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from hpadmin.errors import Problem


class NodeType(StrEnum):
    """`SlurmConfig.NodeType` of an instance group."""

    CONTROLLER = "Controller"
    LOGIN = "Login"
    COMPUTE = "Compute"


class Strategy(StrEnum):
    """`Orchestrator.Slurm.SlurmConfigStrategy`: how desired and manual configuration meet."""

    MANAGED = "Managed"
    OVERWRITE = "Overwrite"
    MERGE = "Merge"


@dataclass(frozen=True, slots=True)
class Hardware:
    """What one instance type has, as the catalog knows it. Memory in MiB."""

    instance_type: str
    vcpus: int
    cores: int
    threads_per_core: int
    memory_mib: int
    arch: str
    accelerator: str | None = None
    """Slurm's GRES type of the accelerator in lower case (``h100``, ``a100``, ``trainium``); None without one."""
    accelerator_kind: str | None = None
    """``gpu`` for NVIDIA devices, ``neuron`` for Trainium and Inferentia; None without accelerators."""
    accelerator_count: int = 0
    accelerator_cores: int = 0
    """NeuronCores of all devices together; 0 for GPUs."""
    efa_interfaces: int = 0
    ultraserver_nodes: int = 0
    """Nodes of a whole UltraServer for a type that comes in UltraServers; 0 for all others."""


@dataclass(frozen=True, slots=True)
class Filesystem:
    """One shared filesystem that a group mounts."""

    kind: str
    """``lustre`` or ``openzfs``."""
    dns_name: str
    mount_path: str
    mount_name: str = ""
    """Lustre's mount name; empty for OpenZFS."""


@dataclass(frozen=True, slots=True)
class AccountingDatabase:
    """`Orchestrator.Slurm.AccountingDatabase`: an external database for slurmdbd."""

    endpoint: str
    port: int
    name: str
    secret_arn: str


@dataclass(frozen=True, slots=True)
class Group:
    """One instance group of the request."""

    name: str
    node_type: NodeType
    instance_types: tuple[str, ...]
    count: int
    threads_per_core: int | None = None
    """As requested; None leaves the instance type's own default."""
    min_count: int | None = None
    partition: str | None = None
    """None for a group whose nodes are in the universal partition ``dev`` alone, and for other node types."""
    filesystems: tuple[Filesystem, ...] = ()
    deep_health_checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as the inventory (`resource_config.json`) tells it."""

    name: str
    """`InstanceName`, ``<group>-<n>``."""
    group: str
    instance_type: str
    instance_id: str
    address: str
    """`CustomerIpAddress`."""
    network_layers: tuple[str, ...] = ()
    """EC2 network node ids, top layer first; as many as are known."""
    ultraserver: str | None = None
    """`UltraServerInfo.Id`, or the label ``ultraserver-id``."""
    hostname: str | None = None
    """First label of `PrivateDnsHostname`; None where the inventory does not tell."""


@dataclass(frozen=True, slots=True)
class Node:
    """One Slurm node: an instance, its name in Slurm and its hardware."""

    name: str
    instance: Instance
    hardware: Hardware
    threads_per_core: int
    """Threads that Slurm sees on a core: the request's `ThreadsPerCore`, else the type's default."""

    @property
    def host(self) -> str:
        """The machine's own name, without its domain: not Slurm's where nodes are named after their instances."""
        return self.instance.hostname or self.name

    @property
    def cpus(self) -> int:
        """Slurm's CPUs."""
        return self.hardware.cores * self.threads_per_core


@dataclass(frozen=True, slots=True)
class Cluster:
    """Everything that configuration is derived from."""

    name: str
    strategy: Strategy
    groups: tuple[Group, ...]
    controllers: tuple[Node, ...]
    """The primary first."""
    logins: tuple[Node, ...]
    computes: tuple[Node, ...]
    """In the order of the request's groups, then of the names within a group (numbers as numbers), so that
    a replaced or added instance never moves the others: Slurm's node table may follow this order."""
    accounting: bool = False
    accounting_database: AccountingDatabase | None = None
    node_recovery: bool = True
    """`NodeRecovery`: Automatic (the default) or None."""
    arn: str = ""
    partitions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Partition name to names of its groups, in the request's order; without the universal ``dev``."""
    notes: tuple[Problem, ...] = field(default=(), compare=False)
    """What an administrator should know and what is no error, such as a group that has fewer instances than
    requested."""
