"""The rules that no shape holds, one function a rule.

Each takes the `View` of a request whose shapes were checked before, and yields problems. Unsound parts are absent
from the view, so a rule judges what is there and never repeats what the shape check said. The messages in
`UPDATE_REQUIRED`, `CONTROLLERS`, `NO_CONTROLLER`, `PARTITIONS` and `BOTH_FORMS` are SageMaker's own ("Migrating to
API-driven Slurm configuration", developer guide).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from hpadmin.errors import Problem
from hpadmin.request import body as bodies
from hpadmin.request import catalog
from hpadmin.request.document import join
from hpadmin.request.view import Entry, View

CONTROLLERS = "{} Controller Groups found: SlurmConfig for InstanceGroups may only have one Controller Group."
UPDATE_REQUIRED = "Update required to use SlurmConfig in InstanceGroups"
NO_CONTROLLER = "Cluster {} has no InstanceGroup with Controller node type."
PARTITIONS = "Partitions can only be assigned to Compute node types"
BOTH_FORMS = (
    "The LifeCycleConfig cannot include both a SLURM Orchestrator Config and a provisioning_parameters.json file "
    "simultaneously."
)
FSX_IN_VPC = "FSx filesystems are in your VPC, which only a cluster with VpcConfig can reach"

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})+")
"""A full host name: RFC 1123, section 2.1."""

_LONGEST_NAME_WITH_ACCOUNTING = 64 - len("_assoc_usage_month_table")
"""MariaDB's limit for a table's name, less slurmdbd's longest suffix
(src/plugins/accounting_storage/mysql/accounting_storage_mysql.c)."""

Rule = Callable[[View], Iterator[Problem]]


def orchestrator(view: View) -> Iterator[Problem]:
    """There is one orchestrator, and it is Slurm."""
    if "Orchestrator" not in view.raw or not isinstance(view.raw["Orchestrator"], dict):
        return
    if view.eks:
        message = "hpadmin configures Slurm clusters; a cluster orchestrated by EKS runs Kubernetes instead"
        yield Problem("Orchestrator.Eks", message)
    if view.eks == ("Slurm" in view.orchestrator):
        got = "both" if view.eks else "neither"
        yield Problem("Orchestrator", f"must have exactly one of Eks and Slurm, got {got}")


def one_form_of_configuration(view: View) -> Iterator[Problem]:
    """Slurm is configured by the request or by provisioning_parameters.json, never by both."""
    if view.legacy and view.api_driven:
        yield Problem("Orchestrator" if "Slurm" in view.orchestrator else "InstanceGroups", BOTH_FORMS)


def controller_groups(view: View) -> Iterator[Problem]:
    """Exactly one Controller group with one instance: several controllers need the legacy form."""
    if view.legacy or view.eks:
        return
    found = list(view.of_type("Controller"))
    if not found and view.complete and not view.roles_unclear and not lacks_slurm_config(view):
        yield Problem("InstanceGroups", NO_CONTROLLER.format(view.cluster_name))
    if len(found) > 1:
        yield Problem("InstanceGroups", CONTROLLERS.format(len(found)))
    for entry in found:
        count = entry.sound.get("InstanceCount", 1)
        if count != 1:
            message = f"must be 1 for a Controller group, got {count}"
            hint = "; several controllers need the legacy provisioning_parameters.json" if count > 1 else ""
            yield Problem(f"{entry.path}.InstanceCount", message + hint)


def login_groups(view: View) -> Iterator[Problem]:
    """At most one Login group."""
    found = list(view.of_type("Login"))
    for entry in found[1:]:
        message = f"only one instance group may be Login, and {_name(found[0])} is"
        yield Problem(f"{entry.path}.SlurmConfig.NodeType", message)


def slurm_config_on_update(view: View) -> Iterator[Problem]:
    """An update whose Orchestrator configures Slurm, for groups none of which does."""
    if lacks_slurm_config(view):
        yield Problem("InstanceGroups", UPDATE_REQUIRED)


def lacks_slurm_config(view: View) -> bool:
    """Tell whether an update configures Slurm without any group that has a SlurmConfig."""
    return (
        view.operation == "UpdateCluster"
        and not view.legacy
        and "Slurm" in view.orchestrator
        and bool(view.entries)
        and not any("SlurmConfig" in entry.raw for entry in view.entries)
    )


def every_group_has_a_role(view: View) -> Iterator[Problem]:
    """In an API-driven request no group is left without SlurmConfig."""
    if view.legacy or view.eks or not any("SlurmConfig" in entry.raw for entry in view.entries):
        return
    for entry in view.entries:
        if "SlurmConfig" not in entry.raw:
            yield Problem(f"{entry.path}.SlurmConfig", "is required, as other instance groups have it")


def partition_names(view: View) -> Iterator[Problem]:
    """Required for Compute, refused elsewhere, and no name that Slurm reserves."""
    for entry in view.entries:
        where = f"{entry.path}.SlurmConfig.PartitionNames"
        names = entry.slurm.get("PartitionNames", [])
        written = entry.raw.get("SlurmConfig")
        if entry.node_type == "Compute" and isinstance(written, dict) and not written.get("PartitionNames"):
            yield Problem(where, "is required for NodeType Compute: one partition name")
        if entry.node_type in ("Controller", "Login") and names:
            yield Problem(where, PARTITIONS)
        for index, name in enumerate(names):
            if name is not None and name.upper() == "DEFAULT":
                message = f"{name!r} cannot be a partition: slurm.conf keeps that name for default values"
                yield Problem(f"{where}[{index}]", message)


def continuous_provisioning(view: View) -> Iterator[Problem]:
    """Continuous provisioning refuses any strategy, and the legacy form."""
    if view.body.get("NodeProvisioningMode") != "Continuous":
        return
    if "SlurmConfigStrategy" in view.slurm:
        message = "must be absent with NodeProvisioningMode Continuous, which always merges"
        yield Problem("Orchestrator.Slurm.SlurmConfigStrategy", message)
    if view.legacy:
        message = (
            "Continuous needs SlurmConfig in the instance groups instead of provisioning_parameters.json"
        )
        yield Problem("NodeProvisioningMode", message)


def accounting(view: View) -> Iterator[Problem]:
    """A cluster with accounting has a name that slurmdbd can name its tables after."""
    name = view.previous_name or view.cluster_name
    wrong = "" if name.startswith("arn:") else name_with_accounting(name)
    if wrong and "AccountingDatabase" in view.slurm:
        yield Problem("ClusterName", wrong)


def name_with_accounting(name: str) -> str:
    """Return what is wrong with the name of a cluster that has accounting; empty when nothing is."""
    if len(name) <= _LONGEST_NAME_WITH_ACCOUNTING:
        return ""
    return (
        f"must have at most {_LONGEST_NAME_WITH_ACCOUNTING} characters with accounting, got {len(name)}: "
        "slurmdbd names tables after it, and a table's name has at most 64"
    )


def type_or_requirements(view: View) -> Iterator[Problem]:
    """A group has an instance type or a list of types that it may be made of."""
    for entry in view.entries:
        given = [key for key in ("InstanceType", "InstanceRequirements") if key in entry.raw]
        if len(given) != 1:
            got = "both" if given else "neither"
            yield Problem(
                entry.path, f"must have exactly one of InstanceType and InstanceRequirements, got {got}"
            )


def known_types(view: View) -> Iterator[Problem]:
    """A type that botocore knows and the catalog does not: the catalog must be refreshed."""
    known = catalog.known_types()
    for entry in view.entries:
        seen: set[str] = set()
        for path, name in entry.types:
            if name not in known:
                message = f"hpadmin's catalog does not know {name}: python -m hpadmin.request.refresh adds it"
                yield Problem(path, message)
            if name in seen:
                yield Problem(path, f"{name} is listed twice")
            seen.add(name)


def counts(view: View) -> Iterator[Problem]:
    """MinInstanceCount is at most InstanceCount."""
    for entry in view.entries:
        low, high = entry.sound.get("MinInstanceCount"), entry.sound.get("InstanceCount")
        if low is not None and high is not None and low > high:
            yield Problem(
                f"{entry.path}.MinInstanceCount", f"must be at most InstanceCount ({high}), got {low}"
            )


def unique_names(view: View) -> Iterator[Problem]:
    """Names of groups, restricted ones too, and keys of tags are unique."""
    groups = [(entry.path, entry.sound) for entry in view.entries]
    groups += _objects(view.body.get("RestrictedInstanceGroups"), "RestrictedInstanceGroups")
    for member, owners in (
        ("InstanceGroupName", groups),
        ("Key", _objects(view.body.get("Tags"), "Tags")),
    ):
        first: dict[str, str] = {}
        for path, entry in owners:
            name = entry.get(member)
            if name is not None and first.setdefault(name, path) != path:
                yield Problem(f"{path}.{member}", f"{name!r} is taken by {first[name]}")


def fsx_prerequisites(view: View) -> Iterator[Problem]:
    """FSx filesystems need the cluster's own VPC, and a Controller group with SlurmConfig."""
    where = next((path for entry in view.entries for _, path, _ in _filesystems(entry)), None)
    if where is None or not view.complete:
        return
    if "VpcConfig" not in view.raw and "VpcConfig" not in view.body:
        yield Problem("VpcConfig", FSX_IN_VPC)
    if not view.eks and not view.roles_unclear and not any(view.of_type("Controller")):
        yield Problem(
            where, "FSx filesystems need an instance group whose SlurmConfig has NodeType Controller"
        )


def fsx_values(view: View) -> Iterator[Problem]:
    """At most one filesystem of each kind a group; host names and mount paths that mean what they say."""
    for entry in view.entries:
        kinds: set[str] = set()
        mounts: dict[str, str] = {}
        for kind, path, fsx in _filesystems(entry):
            if kind in kinds:
                yield Problem(path, f"an instance group can have at most one {kind}")
                continue
            kinds.add(kind)
            name = fsx.get("DnsName")
            if name is not None and not HOST_NAME.fullmatch(name):
                yield Problem(f"{path}.DnsName", f"{name!r} is not a host name")
            mount = fsx.get("MountPath", DEFAULT_MOUNTS[kind])
            if any(part in ("", ".", "..") for part in mount.split("/")[1:]):
                yield Problem(f"{path}.MountPath", f"{mount!r} has an empty, '.' or '..' part")
            if mounts.setdefault(mount, kind) != kind:
                yield Problem(
                    f"{path}.MountPath", f"{mount} is the mount path of the group's {mounts[mount]} already"
                )


def deletions(view: View) -> Iterator[Problem]:
    """An update cannot change and delete the same group, or delete one that does not exist."""
    own = {
        entry["InstanceGroupName"]: path
        for path, entry in _objects(view.raw.get("InstanceGroups"), "InstanceGroups")
        if isinstance(entry.get("InstanceGroupName"), str)
    }
    listed = view.raw.get("InstanceGroupsToDelete")
    listed = listed if isinstance(listed, list) else []
    for index, name in enumerate(listed):
        where = f"InstanceGroupsToDelete[{index}]"
        if not isinstance(name, str):
            continue
        if name in own:
            yield Problem(where, f"{name!r} is {own[name]} as well: change a group or delete it")
        elif view.previous and name not in view.previous:
            yield Problem(where, f"the cluster has no instance group {name!r}")
        if name in listed[:index]:
            yield Problem(where, f"{name!r} is listed twice")


def immutable(view: View) -> Iterator[Problem]:
    """NodeType cannot change, and an update is for the cluster that it names."""
    for entry in view.entries:
        old = view.previous.get(entry.sound.get("InstanceGroupName", ""))
        if old and old.node_type and entry.node_type and old.node_type != entry.node_type:
            message = (
                f"NodeType is immutable: {_name(entry)} is {old.node_type} and cannot become {entry.node_type}; "
                "create a new instance group"
            )
            yield Problem(f"{entry.path}.SlurmConfig.NodeType", message)
    name = view.raw.get("ClusterName")
    if (
        view.previous_name
        and isinstance(name, str)
        and name.startswith("arn:") == view.previous_name.startswith("arn:")
        and name != view.previous_name
    ):
        yield Problem(
            "ClusterName", f"the update is for {name!r}, the current request for {view.previous_name!r}"
        )


RULES: tuple[Rule, ...] = (
    orchestrator,
    one_form_of_configuration,
    slurm_config_on_update,
    controller_groups,
    login_groups,
    every_group_has_a_role,
    partition_names,
    continuous_provisioning,
    accounting,
    type_or_requirements,
    known_types,
    counts,
    unique_names,
    fsx_prerequisites,
    fsx_values,
    deletions,
    immutable,
)
"""All rules, in the order in which their problems are told."""

DEFAULT_MOUNTS = {
    "FsxLustreConfig": bodies.DEFAULT_LUSTRE_PATH,
    "FsxOpenZfsConfig": bodies.DEFAULT_OPENZFS_PATH,
}


def notes(view: View) -> Iterator[Problem]:
    """What is allowed and still worth knowing."""
    continuous = view.body.get("NodeProvisioningMode") == "Continuous"
    if "AccountingDatabase" in view.slurm and not continuous:
        message = (
            "SageMaker takes this with NodeProvisioningMode Continuous only; hpadmin sets it up in any case"
        )
        yield Problem("Orchestrator.Slurm.AccountingDatabase", message)
    for entry in view.entries:
        if "KubernetesConfig" in entry.sound:
            yield Problem(f"{entry.path}.KubernetesConfig", "means nothing to Slurm and is left out")
        threads = entry.sound.get("ThreadsPerCore", 1)
        for _, name in entry.types:
            has = catalog.lookup(name).threads_per_core if name in catalog.known_types() else threads
            if threads > has:
                message = f"{name} has {has} thread a core, so Slurm gets {has}"
                yield Problem(f"{entry.path}.ThreadsPerCore", message)
    if "RestrictedInstanceGroups" in view.body:
        message = "have no SlurmConfig and are not part of the Slurm cluster"
        yield Problem("RestrictedInstanceGroups", message)


def _filesystems(entry: Entry) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield kind, path and settings of each FSx filesystem of a group."""
    for path, config in _objects(
        entry.sound.get("InstanceStorageConfigs"), f"{entry.path}.InstanceStorageConfigs"
    ):
        for kind in DEFAULT_MOUNTS:
            if isinstance(config.get(kind), dict):
                yield kind, join(path, kind), config[kind]


def _objects(value: Any, path: str) -> list[tuple[str, dict[str, Any]]]:
    items = value if isinstance(value, list) else []
    return [(f"{path}[{index}]", item) for index, item in enumerate(items) if isinstance(item, dict)]


def _name(entry: Entry) -> str:
    return repr(entry.sound.get("InstanceGroupName", entry.path))
