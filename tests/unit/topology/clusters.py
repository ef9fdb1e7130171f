"""Cluster models for topology tests: groups of instances with their place in the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hpadmin.model import Cluster, Group, Hardware, Instance, Node, NodeType, Strategy

ULTRASERVER = "ml.p6e-gb200.36xlarge"
P5 = "ml.p5.48xlarge"
PLAIN = "ml.c5.xlarge"


def node(
    name: str,
    group: str,
    instance_type: str,
    *,
    ultraserver: str | None = None,
    layers: Sequence[str] = (),
    address: str = "10.0.0.1",
) -> Node:
    """One compute node."""
    hardware = Hardware(
        instance_type,
        4,
        4,
        1,
        16384,
        "x86_64",
        ultraserver_nodes=18 if instance_type == ULTRASERVER else 0,
    )
    instance = Instance(name, group, instance_type, f"i-{name}", address, tuple(layers), ultraserver)
    return Node(name, instance, hardware, 1)


def cluster(
    nodes: Iterable[Node], wanted: Mapping[str, int] | None = None, **partitions: Sequence[str]
) -> Cluster:
    """A cluster of these compute nodes; `wanted` are counts by group, `partitions` are groups by partition."""
    nodes = tuple(nodes)
    types = {one.instance.group: one.instance.instance_type for one in nodes}
    groups = tuple(
        Group(name, NodeType.COMPUTE, (types[name],), count) for name, count in (wanted or {}).items()
    )
    return Cluster(
        "test",
        Strategy.MANAGED,
        groups,
        (),
        (),
        nodes,
        partitions={name: tuple(groups) for name, groups in partitions.items()},
    )


def ultraservers(*sizes: int, group: str = "gb200", start: int = 1, layers: bool = False) -> list[Node]:
    """UltraServers of these sizes, one a size."""
    return [
        node(
            f"ip-10-1-{server}-{slot}",
            group,
            ULTRASERVER,
            ultraserver=f"us-{server:02}",
            layers=("nn-top", f"nn-{server // 2}", f"nn-us{server}") if layers else (),
            address=f"10.1.{server}.{slot}",
        )
        for server, size in enumerate(sizes, start)
        for slot in range(1, size + 1)
    ]


def p5s(count: int, *, group: str = "p5", labelled: bool = True, leaves: int = 2) -> list[Node]:
    """Instances of a type with a place in the network, over some leaves."""
    return [
        node(
            f"ip-10-2-0-{number}",
            group,
            P5,
            layers=("nn-spine", f"nn-leaf{number % leaves}") if labelled else (),
        )
        for number in range(1, count + 1)
    ]


def plain(count: int, *, group: str = "cpu") -> list[Node]:
    """Instances of a type without one."""
    return [node(f"ip-10-3-0-{number}", group, PLAIN) for number in range(1, count + 1)]
