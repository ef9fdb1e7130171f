"""The configuration that a cluster should have: from the model to the text of every file.

    files = render(cluster, RenderOptions())        # {"slurm.conf": "…", "gres.conf": "…", …}
    mode = file_mode("slurmdbd.conf")               # 0o600

The same cluster and options always give the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hpadmin.configure import gres, submission, templates
from hpadmin.configure.gres import NodeGres
from hpadmin.configure.options import RenderOptions
from hpadmin.configure.templates import listed
from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import Cluster, Node
from hpadmin.request import catalog, rules
from hpadmin.request.shapes import did_you_mean
from hpadmin.topology.choose import TopologyChoice, choose

UNIVERSAL_PARTITION = "dev"
"""Partition of every compute node, besides its group's own."""

_SECRET_FILES = frozenset({"slurmdbd.conf"})
_NODES_A_LINE = 256
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "SlurmctldParameters": ("enable_configless",),
    "SlurmdParameters": (),
    "LaunchParameters": ("enable_nss_slurm",),
    "SchedulerParameters": ("permit_job_expansion", "batch_sched_delay=1"),
}
"""Settings that are lists of parameters, and what every cluster has of them."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """All files, and what the administrator should know about them."""

    files: dict[str, str]
    """Name relative to the configuration directory, and text."""
    topology: TopologyChoice
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeLine:
    """One NodeName line: neighbours in name with the same hardware."""

    names: str
    hosts: str
    """The machines' own names; empty where they are the nodes' names."""
    addresses: str
    cpus: int
    cores: int
    threads: int
    memory: int
    gres: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartitionLine:
    """One PartitionName line."""

    name: str
    nodes: str
    """Host list; empty while the groups have no instances."""
    default: bool
    topology: str = ""


def render(cluster: Cluster, options: RenderOptions | None = None) -> dict[str, str]:
    """Return every file of the configuration: relative name to text. See `render_all` for what is told besides.

    Raises InvalidInput when the cluster cannot be configured (no controller yet, contradicting network facts,
    device files that do not fit) or a value cannot stand in a Slurm file.
    """
    return render_all(cluster, options).files


def render_all(cluster: Cluster, options: RenderOptions | None = None) -> Rendered:
    """Like `render`, with the topology that was chosen and the warnings that go with it."""
    options = options or RenderOptions()
    if not cluster.controllers:
        raise InvalidInput(
            "the cluster has no controller to configure",
            [Problem("InstanceGroups", "no instance of the Controller group is in the inventory")],
        )
    topology = choose(cluster, options.release, block_sizes=options.block_sizes, spares=options.spares)
    gres_of = {node.name: gres.of_node(node, options) for node in cluster.computes}
    context: dict[str, Any] = {
        "cluster": cluster,
        "options": options,
        # slurmctld looks for the name of its own machine there (src/slurmctld/controller.c, _valid_controller).
        "controllers": [f"{node.host}({node.instance.address})" for node in cluster.controllers],
        "task_plugin": "task/cgroup,task/affinity" if options.process_tracking == "cgroup" else "task/none",
        "gres_types": gres.types(gres_of.values()),
        "topology": topology,
        "placeholders": listed(topology.placeholders),
        "node_lines": list(node_lines(cluster.computes, gres_of)),
        "partitions": list(_partitions(cluster, topology)),
        "parameters": _parameters(options),
        "settings": {name: each for name, each in options.settings.items() if name not in _PARAMETERS},
        "submission": submission.plugin(options.release) if options.submission_checks else None,
        "gres_lines": list(_gres_lines(cluster.computes, gres_of)),
        "accounting": _accounting(cluster, options, any(each.names for each in gres_of.values())),
    }
    names = ["slurm.conf", "gres.conf", "cgroup.conf", "plugstack.conf"]
    if context["accounting"]:
        names += ["accounting.conf", "slurmdbd.conf"]
    environment = templates.environment()
    files = {name: environment.get_template(f"{name}.j2").render(context) for name in names}
    _check_settings(options, files)
    if context["submission"]:
        files |= submission.files(context["submission"])
    files.update(topology.files)
    return Rendered(files, topology, (*_unused_device_files(cluster, options), *topology.warnings))


def _unused_device_files(cluster: Cluster, options: RenderOptions) -> Iterator[str]:
    """Tell of device files that mean nothing: of groups that the request does not have, or without devices."""
    groups = [group.name for group in cluster.groups]
    for name in options.device_files:
        devices = [
            bool(node.hardware.accelerator_count) for node in cluster.computes if node.instance.group == name
        ]
        if name not in groups:
            yield f"device_files of {name} mean nothing: the request has no such group{did_you_mean(name, groups)}"
        elif devices and not any(devices):
            yield f"device_files of {name} mean nothing: its instances have no devices"


def _parameters(options: RenderOptions) -> dict[str, str]:
    """Return the settings that are lists: what every cluster has, then what the site adds or gives another value."""
    found = {name: list(always) for name, always in _PARAMETERS.items()}
    if options.config_overrides:
        found["SlurmdParameters"].append("config_overrides")
    if options.prolog:
        # A prolog that fails tells of its node: the job goes elsewhere instead of being held (slurm.conf(5)).
        found["SchedulerParameters"].append("nohold_on_prolog_fail")
    for name, listed_already in found.items():
        added = [each for each in options.settings.get(name, "").split(",") if each]
        valued = {each.partition("=")[0].lower() for each in added if "=" in each}
        listed_already[:] = [each for each in listed_already if each.partition("=")[0] not in valued]
        listed_already += [each for each in added if each not in listed_already]
    return {name: ",".join(each) for name, each in found.items()}


def _check_settings(options: RenderOptions, files: dict[str, str]) -> None:
    """Refuse a setting of the site that would stand in the files twice: Slurm takes the later and complains."""
    lines = (files["slurm.conf"] + files.get("accounting.conf", "")).splitlines()
    written = Counter(line.partition("=")[0].strip().lower() for line in lines if not line.startswith("#"))
    problems = [
        Problem(f"settings.{name}", "is rendered already: it follows from the request or has its own option")
        for name in options.settings
        if written[name.lower()] > 1
    ]
    if problems:
        raise InvalidInput("the site's settings and the rendered ones overlap", problems)


def file_mode(name: str) -> int:
    """Return the permission bits of a rendered file: slurmdbd demands 0600 for the one that may hold a password."""
    return 0o600 if name in _SECRET_FILES else 0o644


def node_lines(nodes: Sequence[Node], gres_of: dict[str, NodeGres]) -> Iterator[NodeLine]:
    """Yield the lines that define `nodes`, in their order; `gres_of` has an entry for each node's name."""

    def key(node: Node) -> tuple[object, ...]:
        return (*_place(node.name), node.instance.group, node.hardware, node.threads_per_core)

    for _, run in groupby(nodes, key):
        members = list(run)
        first = members[0]
        yield NodeLine(
            names=listed(node.name for node in members),
            hosts=_hosts(members),
            addresses=listed(node.instance.address for node in members),
            cpus=first.cpus,
            cores=first.hardware.cores,
            threads=first.threads_per_core,
            memory=catalog.real_memory(first.hardware.memory_mib),
            gres=gres_of[first.name].node,
            features=(first.instance.group, first.hardware.instance_type),
        )


def _hosts(nodes: Sequence[Node]) -> str:
    """Return NodeHostname of a line: slurmd finds its node by the name of its machine (slurm.conf(5))."""
    named = all(node.host == node.name for node in nodes)
    return "" if named else listed(node.host for node in nodes)


def _place(name: str) -> tuple[str, int]:
    """Return what names on one line have in common: the text before the last number, and that number's range."""
    match = re.fullmatch(r"(.*?)(\d+)", name)
    return (match[1], int(match[2]) // _NODES_A_LINE) if match else (name, 0)


def _partitions(cluster: Cluster, topology: TopologyChoice) -> Iterator[PartitionLine]:
    # ALL would take in the placeholders, and with them a size that the partition does not have.
    everything = "ALL" if not topology.placeholders else _fold(cluster.computes)
    yield PartitionLine(
        UNIVERSAL_PARTITION, everything, True, topology.partition_topology.get(UNIVERSAL_PARTITION, "")
    )
    by_group: dict[str, list[Node]] = {}
    for node in cluster.computes:
        by_group.setdefault(node.instance.group, []).append(node)
    for name, groups in cluster.partitions.items():
        members = [node for group in groups for node in by_group.get(group, [])]
        yield PartitionLine(name, _fold(members), False, topology.partition_topology.get(name, ""))


def _fold(nodes: Iterable[Node]) -> str:
    return listed(node.name for node in nodes)


def _gres_lines(nodes: Sequence[Node], gres_of: dict[str, NodeGres]) -> Iterator[dict[str, Any]]:
    by_settings: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for node in nodes:
        for settings in gres_of[node.name].lines:
            by_settings.setdefault(settings, []).append(node.name)
    for settings, names in by_settings.items():
        yield {"nodes": listed(names), "settings": settings}


def _accounting(cluster: Cluster, options: RenderOptions, devices: bool) -> dict[str, Any] | None:
    if not (cluster.accounting or options.accounting):
        return None
    if wrong := rules.name_with_accounting(cluster.name):
        raise InvalidInput("the cluster cannot have accounting", [Problem("ClusterName", wrong)])
    external = cluster.accounting_database
    return {
        "host": cluster.controllers[0].host,
        "tres": ["gres/gpu"] if devices else [],
        "storage_host": external.endpoint if external else "localhost",
        "storage_port": external.port if external else 3306,
        "storage_name": (external and external.name) or _database_name(cluster),
        "storage_user": options.storage_user,
        "storage_password": options.storage_password,
        "storage_ca": options.storage_ca,
        "external": external is not None,
    }


def _database_name(cluster: Cluster) -> str:
    """Return the default name of the database: with the cluster's id for an external one, as HyperPod has it."""
    identity = cluster.arn.rpartition("/")[2]
    if cluster.accounting_database and identity:
        return f"slurm_acct_db_{identity}"
    return "slurm_acct_db"
