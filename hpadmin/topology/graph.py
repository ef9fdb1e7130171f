"""The network graph: where every node hangs, between the sources of such facts and what is written for Slurm.

A source (`hpadmin.topology.sources`) says of each node which network nodes it hangs on and which UltraServer
it is part of. A topology is what Slurm is told: blocks, a tree of switches, or nothing. Neither end knows the
other.

>>> graph = NetworkGraph((Location("a", ("top", "leaf"), None), Location("b", ("top", "leaf"), None)))
>>> graph.nodes
('a', 'b')"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Location:
    """Where one node is in the network."""

    node: str
    layers: tuple[str, ...] = ()
    """Network node ids, top layer first; the last one is what the node is connected to. Empty when
    unknown."""
    domain: str | None = None
    """The NVLink domain (UltraServer id); None for a node outside of any."""


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """All nodes with their locations, in the cluster's node order."""

    locations: tuple[Location, ...]
    domain_order: tuple[str, ...] = ()
    """Order of NVLink domains where a source knows it (an existing file): their positions carry meaning."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes."""
        return tuple(location.node for location in self.locations)

    def domains(self) -> dict[str, tuple[Location, ...]]:
        """Locations by NVLink domain, in any order."""
        found: dict[str, list[Location]] = {}
        for location in self.locations:
            if location.domain is not None:
                found.setdefault(location.domain, []).append(location)
        return {name: tuple(members) for name, members in found.items()}


@dataclass(frozen=True, slots=True)
class Block:
    """One base block (an UltraServer): nodes that share the fastest network."""

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlockTopology:
    """topology/block. The order of blocks is physical: aggregates are runs of 2^k consecutive blocks."""

    blocks: tuple[Block, ...]
    sizes: tuple[int, ...]
    """BlockSizes: the planning base block size, then multiples of it by powers of two.
    Empty when the file gives none; see `effective_sizes`."""

    @property
    def base(self) -> int:
        """Nodes of the planning base block; without BlockSizes, those of the first block (block_record.c)."""
        return self.sizes[0] if self.sizes else max(1, len(self.blocks[0].nodes) if self.blocks else 1)

    @property
    def levels(self) -> tuple[int, ...]:
        """Configured levels k, meaning aggregates of 2^k base blocks, ascending.

        Without BlockSizes Slurm sets the levels 0 to 4 (block_record.c).
        """
        if not self.sizes:
            return (0, 1, 2, 3, 4)
        return tuple(sorted({(size // self.base).bit_length() - 1 for size in self.sizes}))

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes in block order."""
        return tuple(node for block in self.blocks for node in block.nodes)


@dataclass(frozen=True, slots=True)
class Switch:
    """One switch: a leaf with nodes, or an inner one with children; never both (switch_record.c)."""

    name: str
    nodes: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    link_speed: str = ""


@dataclass(frozen=True, slots=True)
class TreeTopology:
    """topology/tree, switches in file order."""

    switches: tuple[Switch, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes, leaf after leaf."""
        return tuple(node for switch in self.switches for node in switch.nodes)

    def roots(self) -> tuple[Switch, ...]:
        """Switches that are no other's child."""
        children = {child for switch in self.switches for child in switch.children}
        return tuple(switch for switch in self.switches if switch.name not in children)


@dataclass(frozen=True, slots=True)
class FlatTopology:
    """No topology: topology/default, from 25.05 topology/flat."""

    nodes: tuple[str, ...] = ()


Topology = BlockTopology | TreeTopology | FlatTopology


@dataclass(frozen=True, slots=True)
class NamedTopology:
    """One entry of topology.yaml; a topology.conf is a single one named ``default``."""

    name: str
    topology: Topology
    cluster_default: bool = False


@dataclass(frozen=True, slots=True)
class TopologySet:
    """All topologies of a cluster: one on 24.11, any number in topology.yaml."""

    topologies: tuple[NamedTopology, ...]
    partition_topology: dict[str, str] = field(default_factory=dict)
    """Partition name to the name of its topology; partitions not listed use the default."""

    def __iter__(self) -> Iterator[NamedTopology]:
        return iter(self.topologies)

    @property
    def default(self) -> NamedTopology:
        """The one that governs partitions without ``Topology=``: the first marked, else the first."""
        for named in self.topologies:
            if named.cluster_default:
                return named
        return self.topologies[0]

    def of_partition(self, partition: str | None) -> NamedTopology:
        """The topology that governs `partition`; None means no partition in particular."""
        name = self.partition_topology.get(partition or "")
        return next((named for named in self.topologies if named.name == name), self.default)
