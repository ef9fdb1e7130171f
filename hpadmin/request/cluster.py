"""A request and an inventory together: the cluster model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import Cluster, Group, Instance, Node, NodeType
from hpadmin.request import catalog
from hpadmin.request.inventory import Inventory, NodeNames, node_name
from hpadmin.request.reading import Request

_KEYWORDS = ("DEFAULT", "ALL")
"""Node names that mean something else (src/common/read_config.c, _parse_nodename)."""


def build(request: Request, inventory: Inventory, names: NodeNames = NodeNames.ADDRESS) -> Cluster:
    """Join a request with the instances that exist.

    Instances of a group that the request does not know, and groups with more or fewer instances than
    requested, are told in the result's `notes`: inventories lag behind requests while a cluster grows or shrinks.

    Raises InvalidInput when the request is an update that leaves open what becomes of groups in the inventory, when
    the two are not of one cluster, when names, addresses or ids are used twice, or an instance's type is unknown.
    """
    _require_all_groups(request, inventory)
    problems = [*_identity(request, inventory), *_duplicates(inventory.instances, names)]
    notes: list[Problem] = [*request.notes]
    if not request.complete and "Orchestrator" not in request.body:
        message = "is not in the update, so defaults are taken; with --current, what the cluster has now"
        notes.append(Problem("Orchestrator", message))
    by_group: dict[str, list[Instance]] = {group.name: [] for group in request.groups}
    strangers: Counter[str] = Counter()
    for instance in inventory.instances:
        if instance.group in by_group:
            by_group[instance.group].append(instance)
        else:
            strangers[instance.group] += 1
    for name, count in strangers.items():
        notes.append(
            Problem(name, f"{count} instances of this group are left out: the request has no such group")
        )
    nodes: dict[str, list[Node]] = {}
    for group in request.groups:
        members = by_group[group.name]
        if len(members) != group.count:
            notes.append(Problem(group.name, f"has {len(members)} instances, {group.count} were requested"))
        nodes[group.name], wrong = _nodes(group, members, names)
        problems += wrong
        other = Counter(i.instance_type for i in members if i.instance_type not in group.instance_types)
        for instance_type, count in other.items():
            message = f"{count} of its instances are {instance_type}, {' or '.join(group.instance_types)} was requested"
            notes.append(Problem(group.name, message))
    if problems:
        raise InvalidInput("request and inventory do not make a cluster", problems)
    return _assemble(request, inventory, nodes, notes)


def _require_all_groups(request: Request, inventory: Inventory) -> None:
    """Refuse an update by itself that would take the nodes of every group that it does not name."""
    if request.complete:
        return
    settled = {*(group.name for group in request.groups), *request.deleted}
    left = Counter(each.group for each in inventory.instances if each.group not in settled)
    if left:
        raise InvalidInput(
            "the update alone does not say what the whole cluster is",
            [
                Problem(
                    group,
                    f"has {count} instances in the inventory, and no SlurmConfig in the update",
                )
                for group, count in left.items()
            ],
            hint="an update names only what it changes: give --current, the request that the cluster has now",
        )


def _identity(request: Request, inventory: Inventory) -> list[Problem]:
    """Tell where request and inventory are of two clusters, or of one that neither of them names."""
    pairs = ((request.name, inventory.cluster_name), (request.arn, inventory.cluster_arn))
    problems = [
        Problem("ClusterName", f"the request is for {asked!r}, the inventory of {found!r}")
        for asked, found in pairs
        if asked and found and asked != found
    ]
    if not request.name and not inventory.cluster_name:
        message = "the request has the cluster's ARN, and the inventory no ClusterConfig.ClusterName"
        problems.append(Problem("ClusterName", f"is not known: {message}"))
    return problems


def _assemble(
    request: Request, inventory: Inventory, nodes: dict[str, list[Node]], notes: list[Problem]
) -> Cluster:
    def of(node_type: NodeType) -> list[Node]:
        return [
            node for group in request.groups if group.node_type is node_type for node in nodes[group.name]
        ]

    controllers = of(NodeType.CONTROLLER)
    if primary := inventory.primary_controller:
        controllers.sort(key=lambda node: node.instance.address != primary)
    partitions: dict[str, tuple[str, ...]] = {}
    for group in request.groups:
        if group.partition is not None:
            partitions[group.partition] = (*partitions.get(group.partition, ()), group.name)
    if not controllers:
        notes.append(Problem("", "the inventory has no instance of the Controller group yet"))
    return Cluster(
        name=request.name or inventory.cluster_name,
        strategy=request.strategy,
        groups=request.groups,
        controllers=tuple(controllers),
        logins=tuple(of(NodeType.LOGIN)),
        computes=tuple(of(NodeType.COMPUTE)),
        accounting=request.accounting_database is not None,
        accounting_database=request.accounting_database,
        node_recovery=request.node_recovery,
        arn=inventory.cluster_arn,
        partitions=partitions,
        notes=tuple(notes),
    )


def _nodes(group: Group, members: Iterable[Instance], names: NodeNames) -> tuple[list[Node], list[Problem]]:
    found, problems = [], []
    known = catalog.known_types()
    for instance in members:
        if instance.instance_type not in known:
            message = f"the catalog does not know instance type {instance.instance_type!r}"
            problems.append(Problem(instance.name, message))
            continue
        name = node_name(instance, names)
        if name.upper() in _KEYWORDS:
            problems.append(
                Problem(instance.name, f"{name!r} cannot be a node: slurm.conf reads it as a keyword")
            )
        hardware = catalog.lookup(instance.instance_type)
        threads = min(group.threads_per_core or hardware.threads_per_core, hardware.threads_per_core)
        found.append(Node(name, instance, hardware, threads))
    found.sort(key=lambda node: natural_key(node.name))
    return found, problems


def _duplicates(instances: Iterable[Instance], names: NodeNames) -> list[Problem]:
    members: tuple[tuple[str, Callable[[Instance], str]], ...] = (
        ("CustomerIpAddress", lambda instance: instance.address),
        ("InstanceId", lambda instance: instance.instance_id),
        ("InstanceName", lambda instance: instance.name),
    )
    problems = [problem for what, value_of in members for problem in _shared(instances, what, value_of)]
    # A node's name and its machine's come from one of these: where one is shared, that is the fault to mend.
    return (
        problems
        or _shared(instances, "node name", lambda instance: node_name(instance, names))
        or _shared(instances, "host name", lambda instance: instance.hostname or node_name(instance, names))
    )


def _shared(instances: Iterable[Instance], what: str, value_of: Callable[[Instance], str]) -> list[Problem]:
    owners: dict[str, list[str]] = {}
    for instance in instances:
        owners.setdefault(value_of(instance), []).append(instance.name)
    return [
        Problem(value, f"is the {what} of several instances: {', '.join(sharing)}")
        for value, sharing in owners.items()
        if len(sharing) > 1
    ]


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that compares numbers as numbers: ``n9`` before ``n10``."""
    return [(int(part), part) if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]
