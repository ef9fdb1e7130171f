"""From a validated request body to the model's groups and filesystems."""

from __future__ import annotations

from typing import Any

from hpadmin.model import AccountingDatabase, Filesystem, Group, NodeType, Strategy

DEFAULT_LUSTRE_PATH = "/fsx"
DEFAULT_OPENZFS_PATH = "/home"
DEFAULT_DATABASE_PORT = 3306
UNIVERSAL_PARTITION = "dev"
"""Every compute node is in this partition besides its group's own."""


def groups(body: dict[str, Any]) -> tuple[Group, ...]:
    """Return the instance groups of a validated body that have a part in Slurm, in the request's order."""
    return tuple(_group(entry) for entry in body.get("InstanceGroups", []) if "SlurmConfig" in entry)


def strategy(body: dict[str, Any]) -> Strategy:
    """Return the configuration strategy.

    The default is Managed, except under continuous provisioning, which knows Merge alone and refuses a request
    that names a strategy ("Migrating to API-driven Slurm configuration", SageMaker developer guide).
    """
    if chosen := _slurm(body).get("SlurmConfigStrategy"):
        return Strategy(chosen)
    return Strategy.MERGE if body.get("NodeProvisioningMode") == "Continuous" else Strategy.MANAGED


def accounting_database(body: dict[str, Any]) -> AccountingDatabase | None:
    """Return the external accounting database that the request names, if any."""
    database = _slurm(body).get("AccountingDatabase")
    if not database:
        return None
    return AccountingDatabase(
        endpoint=database["Endpoint"],
        port=database.get("Port", DEFAULT_DATABASE_PORT),
        name=database.get("Name", ""),
        secret_arn=database["SecretArn"],
    )


def storage(entry: dict[str, Any]) -> tuple[Filesystem, ...]:
    """Return the FSx filesystems of one group's `InstanceStorageConfigs`, default mount paths filled in."""
    found = []
    for config in entry.get("InstanceStorageConfigs", []):
        if lustre := config.get("FsxLustreConfig"):
            path = lustre.get("MountPath", DEFAULT_LUSTRE_PATH)
            found.append(Filesystem("lustre", lustre["DnsName"], path, lustre["MountName"]))
        if openzfs := config.get("FsxOpenZfsConfig"):
            found.append(
                Filesystem("openzfs", openzfs["DnsName"], openzfs.get("MountPath", DEFAULT_OPENZFS_PATH))
            )
    return tuple(found)


def instance_types(entry: dict[str, Any]) -> tuple[str, ...]:
    """Return a group's instance type, or the types that it may be made of."""
    if requirements := entry.get("InstanceRequirements"):
        return tuple(requirements["InstanceTypes"])
    return (entry["InstanceType"],)


def _slurm(body: dict[str, Any]) -> dict[str, Any]:
    slurm: dict[str, Any] = body.get("Orchestrator", {}).get("Slurm") or {}
    return slurm


def _group(entry: dict[str, Any]) -> Group:
    slurm = entry["SlurmConfig"]
    partitions = slurm.get("PartitionNames") or [None]
    return Group(
        name=entry["InstanceGroupName"],
        node_type=NodeType(slurm["NodeType"]),
        instance_types=instance_types(entry),
        count=entry["InstanceCount"],
        threads_per_core=entry.get("ThreadsPerCore"),
        min_count=entry.get("MinInstanceCount"),
        partition=None if partitions[0] == UNIVERSAL_PARTITION else partitions[0],
        filesystems=storage(entry),
        deep_health_checks=tuple(entry.get("OnStartDeepHealthChecks", [])),
    )
