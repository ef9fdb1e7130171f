"""Where the facts of the network graph come from.

The inventory is the usual source. SageMaker's API tells UltraServers only; EC2's instance topology works for
instances of one's own account, not for those that HyperPod owns; an administrator may write the facts down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import Cluster
from hpadmin.slurm.hostlist import expand
from hpadmin.topology.graph import (
    BlockTopology,
    FlatTopology,
    Location,
    NetworkGraph,
    Topology,
    TreeTopology,
)


def from_cluster(cluster: Cluster) -> NetworkGraph:
    """The graph of a cluster's compute nodes, from the labels and UltraServer ids of its inventory."""
    return NetworkGraph(
        tuple(
            Location(node.name, node.instance.network_layers, node.instance.ultraserver)
            for node in cluster.computes
        )
    )


def from_sagemaker(nodes: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> NetworkGraph:
    """The graph that SageMaker tells: `nodes` are ClusterNodeDetails or summaries, `names` maps instance ids
    to Slurm's node names. Instances without a name in Slurm (not yet joined) are left out."""
    found = []
    for node in nodes:
        name = names.get(str(node.get("InstanceId", "")))
        if name is None:
            continue
        info = node.get("UltraServerInfo") or {}
        found.append(Location(name, domain=info.get("Id")))
    return NetworkGraph(tuple(found))


def from_ec2(instances: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> NetworkGraph:
    """The graph of EC2's DescribeInstanceTopology: `instances` are its ``Instances``, whose ``NetworkNodes``
    go from the top down; `names` maps instance ids to node names.

    A capacity block id is that of an UltraServer only for UltraServer types, which EC2 tells by ``GroupName``
    nowhere: domains are therefore not taken from here."""
    return NetworkGraph(
        tuple(
            Location(names[str(instance["InstanceId"])], tuple(instance.get("NetworkNodes", ())))
            for instance in instances
            if str(instance.get("InstanceId", "")) in names
        )
    )


def from_recorded(document: object, names: Mapping[str, str]) -> NetworkGraph:
    """The graph that recorded answers tell, one or a list of them (pages, or one call a node): of EC2's
    DescribeInstanceTopology, or of SageMaker's DescribeClusterNode or ListClusterNodes. `names` are node names by
    instance id; all of them are in the graph. Raises InvalidInput for anything else."""
    graph = NetworkGraph(tuple(Location(name) for name in names.values()))
    problems = []
    for number, answer in enumerate(document if isinstance(document, list) else [document]):
        found = answer if isinstance(answer, Mapping) else {}
        instances = found.get("Instances")
        nodes = [found["NodeDetails"]] if "NodeDetails" in found else found.get("ClusterNodeSummaries")
        entries = nodes if instances is None else instances
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            problems.append(
                Problem(
                    f"[{number}]",
                    "is no answer of describe-instance-topology, describe-cluster-node or list-cluster-nodes",
                )
            )
            continue
        graph = merge(
            graph, from_sagemaker(entries, names) if instances is None else from_ec2(entries, names)
        )
    if problems:
        raise InvalidInput("the network facts cannot be read", problems)
    return graph


def with_places(cluster: Cluster, more: NetworkGraph) -> Cluster:
    """`cluster` with the network layers and UltraServers that its inventory does not tell and `more` does."""
    known = merge(from_cluster(cluster), more).locations
    return replace(
        cluster,
        computes=tuple(
            replace(
                node, instance=replace(node.instance, network_layers=place.layers, ultraserver=place.domain)
            )
            for node, place in zip(cluster.computes, known, strict=True)
        ),
    )


def merge(first: NetworkGraph, second: NetworkGraph) -> NetworkGraph:
    """The nodes of `first` with what `second` knows besides: missing layers and missing domains are filled
    in."""
    more = {location.node: location for location in second.locations}
    return NetworkGraph(
        tuple(
            Location(
                here.node,
                here.layers or (more[here.node].layers if here.node in more else ()),
                here.domain or (more[here.node].domain if here.node in more else None),
            )
            for here in first.locations
        ),
        first.domain_order or second.domain_order,
    )


def from_topology(topology: Topology) -> NetworkGraph:
    """The graph that an existing topology describes; block order is kept."""
    if isinstance(topology, BlockTopology):
        return NetworkGraph(
            tuple(Location(node, domain=block.name) for block in topology.blocks for node in block.nodes),
            tuple(block.name for block in topology.blocks),
        )
    if isinstance(topology, TreeTopology):
        parent = {child: switch.name for switch in topology.switches for child in switch.children}
        found: dict[str, Location] = {}
        for switch in topology.switches:
            path = [switch.name]
            while path[0] in parent and parent[path[0]] not in path:
                path.insert(0, parent[path[0]])
            for node in switch.nodes:
                found.setdefault(node, Location(node, tuple(path)))
        return NetworkGraph(tuple(found.values()))
    assert isinstance(topology, FlatTopology)
    return NetworkGraph(tuple(Location(node) for node in topology.nodes))


def from_handwritten(document: object) -> tuple[NetworkGraph, tuple[int, ...] | None]:
    """Read the facts as an administrator writes them down in YAML; also returns ``block_sizes``, None if
    absent.

    ::

        ultraservers:            # in the order in which they stand
          us1: ultraserver1-[0-17]
          us2: ultraserver2-[0-17]
        block_sizes: [18]        # optional
        network:                 # optional: network nodes from the top down, hosts at the leaves
          core:
            rack1: ip-10-1-1-[1-8]
            rack2: ip-10-1-2-[1-8]
        nodes: login-free-[1-4]  # optional: nodes of which nothing is known

    Raises InvalidInput with every problem."""
    problems: list[Problem] = []
    domain: dict[str, str] = {}
    layers: dict[str, tuple[str, ...]] = {}
    order: dict[str, None] = {}

    def hosts(value: object, path: str) -> list[str]:
        try:
            names = expand(value) if isinstance(value, str) else None
        except InvalidInput as error:
            problems.append(Problem(path, error.message))
            return []
        if not names:
            problems.append(Problem(path, "expected a host list such as node[1-18]"))
            return []
        order.update(dict.fromkeys(names))
        return names

    def walk(value: object, above: tuple[str, ...], path: str) -> None:
        if isinstance(value, Mapping):
            for name, below in value.items():
                walk(below, (*above, str(name)), f"{path}.{name}")
            return
        for name in hosts(value, path):
            if name in layers:
                problems.append(
                    Problem(path, f"node {name} is already below {'/'.join(layers[name]) or 'none'}")
                )
            layers.setdefault(name, above)

    if not isinstance(document, Mapping):
        raise InvalidInput("expected a mapping with ultraservers, network, nodes or block_sizes")
    known = {"ultraservers", "network", "nodes", "block_sizes"}
    problems.extend(Problem(str(key), "is not known here") for key in document if key not in known)
    servers = document.get("ultraservers", {})
    if not isinstance(servers, Mapping):
        problems.append(Problem("ultraservers", "expected UltraServer ids with their host lists"))
        servers = {}
    for name, value in servers.items():
        for node in hosts(value, f"ultraservers.{name}"):
            if node in domain:
                problems.append(Problem(f"ultraservers.{name}", f"node {node} is already in {domain[node]}"))
            domain.setdefault(node, str(name))
    if "network" in document:
        walk(document["network"], (), "network")
    if "nodes" in document:
        hosts(document["nodes"], "nodes")
    sizes = document.get("block_sizes")
    if sizes is not None and not (
        isinstance(sizes, list)
        and all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    ):
        problems.append(Problem("block_sizes", "expected a list of whole numbers"))
    if not order and not problems:
        problems.append(Problem("", "names no node"))
    if problems:
        raise InvalidInput("the topology facts cannot be read", problems)
    graph = NetworkGraph(
        tuple(Location(node, layers.get(node, ()), domain.get(node)) for node in order),
        tuple(str(name) for name in servers),
    )
    return graph, None if sizes is None else tuple(sizes)
