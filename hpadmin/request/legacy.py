"""The legacy form: ``provisioning_parameters.json`` beside a request without SlurmConfig.

Its fields mean what their API-driven counterparts do ("Migrating to API-driven Slurm configuration", SageMaker
developer guide), so it is checked and then written into the request's groups as `SlurmConfig` and
`InstanceStorageConfigs`; from there on there is one form.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hpadmin.errors import Problem
from hpadmin.request.document import Document, join
from hpadmin.request.rules import HOST_NAME
from hpadmin.request.shapes import did_you_mean, shown

FILE_NAME = "provisioning_parameters.json"

_VERSION = "1.0.0"
_REQUIRED = ("version", "workload_manager", "controller_group", "worker_groups")
_OPTIONAL = ("login_group", "fsx_dns_name", "fsx_mountname", "fsx_openzfs_dns_name", "slurm_configurations")
_SEVERAL_CONTROLLERS = (
    "slurm_database_secret_arn",
    "slurm_database_endpoint",
    "slurm_shared_directory",
    "slurm_database_user",
    "slurm_sns_arn",
)
_PARTITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,1023}")
"""Wider than the API's pattern: legacy clusters name partitions after instance types, ``ml.p5.48xlarge``."""
_MOUNT_NAME = re.compile(r"[A-Za-z0-9_-]{1,8}")


@dataclass(frozen=True, slots=True)
class Legacy:
    """What a provisioning_parameters.json says, as far as it is sound."""

    controller: str
    login: str
    partitions: Mapping[str, str]
    """Instance group to partition."""
    storage: tuple[dict[str, Any], ...]
    """Entries for InstanceStorageConfigs of every group."""
    problems: tuple[Problem, ...]


def read(
    document: Document, groups: Mapping[str, int], *, absent: Collection[str] = (), complete: bool = True
) -> Legacy:
    """Check a legacy form against the instance groups of the request: name to InstanceCount.

    It may name groups that an update deletes (`absent`), and any where `groups` are not all (not `complete`).
    """
    return _Reader(document, groups, absent, complete).read()


def apply(legacy: Legacy, body: dict[str, Any]) -> dict[str, Any]:
    """Return `body` with the legacy form written into its instance groups."""
    groups = []
    for entry in body.get("InstanceGroups", []):
        name = entry["InstanceGroupName"]
        slurm: dict[str, Any] = {"NodeType": "Compute", "PartitionNames": [legacy.partitions.get(name)]}
        if name == legacy.controller:
            slurm = {"NodeType": "Controller"}
        elif name == legacy.login:
            slurm = {"NodeType": "Login"}
        storage = [*entry.get("InstanceStorageConfigs", []), *legacy.storage]
        groups.append({**entry, "SlurmConfig": slurm, "InstanceStorageConfigs": storage})
    return {**body, "InstanceGroups": groups}


class _Reader:
    def __init__(
        self, document: Document, groups: Mapping[str, int], absent: Collection[str], complete: bool
    ) -> None:
        self.document = document
        self.groups = groups
        self.absent = absent
        self.complete = complete
        self.problems: list[Problem] = []
        for problem in document.problems:
            self.wrong(problem.path, problem.message)
        self.roles: dict[str, str] = {}

    def wrong(self, path: str, message: str) -> None:
        self.problems.append(Problem(f"{FILE_NAME}:{path}" if path else FILE_NAME, message))

    def read(self) -> Legacy:
        form = self.document.value
        if not isinstance(form, dict):
            self.wrong("", f"must be an object, got {shown(form)}")
            return Legacy("", "", {}, (), tuple(self.problems))
        self.members(form, _REQUIRED, _OPTIONAL, "")
        for key, value in (("version", _VERSION), ("workload_manager", "slurm")):
            if key in form and form[key] != value:
                self.wrong(key, f"must be {value!r}, got {shown(form[key])}")
        controller = self.group(form, "controller_group") if "controller_group" in form else ""
        login = self.group(form, "login_group") if _given(form, "login_group") else ""
        partitions = self.workers(form.get("worker_groups", []))
        self.everybody_has_a_role(form)
        several = "slurm_configurations" in form
        if several and self.string_members(form["slurm_configurations"], "slurm_configurations"):
            required = _SEVERAL_CONTROLLERS[:3]
            self.members(
                form["slurm_configurations"], required, _SEVERAL_CONTROLLERS[3:], "slurm_configurations"
            )
        self.controllers(controller, several)
        storage = self.storage(form)
        return Legacy(controller, login, partitions, storage, tuple(self.problems))

    def members(
        self, found: dict[str, Any], required: tuple[str, ...], optional: tuple[str, ...], path: str
    ) -> None:
        for key in found:
            if key not in (*required, *optional):
                self.wrong(join(path, key), f"is unknown{did_you_mean(key, (*required, *optional))}")
        for key in required:
            if key not in found:
                self.wrong(join(path, key), "is required")

    def group(self, found: dict[str, Any], key: str, path: str = "") -> str:
        """Return the name of an instance group that the request has and that has no role yet."""
        where, name = join(path, key), found[key]
        if not isinstance(name, str):
            self.wrong(where, f"must be a string, got {shown(name)}")
            return ""
        if name not in self.groups and name not in self.absent and self.complete:
            self.wrong(
                where, f"the request has no instance group {shown(name)}{did_you_mean(name, self.groups)}"
            )
            return ""
        if name in self.roles:
            self.wrong(where, f"instance group {name!r} is {self.roles[name]} already")
            return ""
        self.roles[name] = where
        return name

    def workers(self, listed: Any) -> dict[str, str]:
        partitions: dict[str, str] = {}
        if not isinstance(listed, list):
            self.wrong("worker_groups", f"must be a list, got {shown(listed)}")
            return partitions
        for index, entry in enumerate(listed):
            where = f"worker_groups[{index}]"
            if not isinstance(entry, dict):
                self.wrong(where, f"must be an object, got {shown(entry)}")
                continue
            self.members(entry, ("instance_group_name", "partition_name"), (), where)
            name = self.group(entry, "instance_group_name", where) if "instance_group_name" in entry else ""
            if "partition_name" not in entry:
                continue
            partition = entry["partition_name"]
            if self.partition(partition, f"{where}.partition_name") and name:
                partitions[name] = partition
        return partitions

    def partition(self, name: Any, where: str) -> bool:
        if not isinstance(name, str):
            self.wrong(where, f"must be a string, got {shown(name)}")
        elif not _PARTITION.fullmatch(name):
            self.wrong(where, f"{shown(name)} does not match {_PARTITION.pattern}")
        elif name.upper() == "DEFAULT":
            message = f"{name!r} cannot be a partition: slurm.conf keeps that name for default values"
            self.wrong(where, message)
        else:
            return True
        return False

    def everybody_has_a_role(self, form: dict[str, Any]) -> None:
        # Only when every name could be read: a misspelt group would be told twice.
        if self.problems or not all(key in form for key in _REQUIRED):
            return
        for name in self.groups:
            if name not in self.roles:
                message = f"instance group {name!r} is neither controller_group, login_group nor one of worker_groups"
                self.wrong("worker_groups", message)

    def controllers(self, controller: str, several: bool) -> None:
        count = self.groups.get(controller, 1)
        if count < 1:
            self.wrong("controller_group", f"instance group {controller!r} must have an instance")
        elif count > 1 and not several:
            message = f"instance group {controller!r} has {count} instances, which needs slurm_configurations"
            self.wrong("controller_group", message)

    def storage(self, form: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        found: list[dict[str, Any]] = []
        names = {key: form[key] for key in _OPTIONAL[1:4] if _given(form, key)}
        for key, value in names.items():
            pattern = _MOUNT_NAME if key == "fsx_mountname" else HOST_NAME
            if not isinstance(value, str):
                self.wrong(key, f"must be a string, got {shown(value)}")
            elif not pattern.fullmatch(value):
                what = "mount name of FSx for Lustre" if key == "fsx_mountname" else "host name"
                self.wrong(key, f"{shown(value)} is not a {what}")
        for key, other in (("fsx_dns_name", "fsx_mountname"), ("fsx_mountname", "fsx_dns_name")):
            if key in names and other not in names:
                self.wrong(other, f"is required with {key}")
        if "fsx_dns_name" in names and "fsx_mountname" in names:
            lustre = {"DnsName": names["fsx_dns_name"], "MountName": names["fsx_mountname"]}
            found.append({"FsxLustreConfig": lustre})
        if "fsx_openzfs_dns_name" in names:
            found.append({"FsxOpenZfsConfig": {"DnsName": names["fsx_openzfs_dns_name"]}})
        return tuple(found)

    def string_members(self, found: Any, path: str) -> bool:
        if not isinstance(found, dict):
            self.wrong(path, f"must be an object, got {shown(found)}")
            return False
        for key, value in found.items():
            if not isinstance(value, str):
                self.wrong(join(path, key), f"must be a string, got {shown(value)}")
        return True


def _given(form: Mapping[str, Any], key: str) -> bool:
    """Tell whether an optional member says something: HyperPod's own scripts take null and "" for absent."""
    return form.get(key) not in (None, "")
