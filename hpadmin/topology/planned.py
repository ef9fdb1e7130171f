"""The topology that a request would get, as a snapshot: all nodes there and idle."""

from __future__ import annotations

from hpadmin.model import Cluster
from hpadmin.topology.choose import TopologyChoice
from hpadmin.topology.graph import BlockTopology
from hpadmin.topology.names import table_order
from hpadmin.topology.placement.state import NodeView, PartitionView, Snapshot
from hpadmin.topology.release import Release


def snapshot_of(cluster: Cluster, choice: TopologyChoice, release: str) -> Snapshot:
    """The cluster as it would be once `choice` is configured and nothing runs."""
    slurm = Release.parse(release)
    nodes = {
        node.name: NodeView(
            node.name,
            cpus=node.cpus,
            gres={node.hardware.accelerator_kind: node.hardware.accelerator_count}
            if node.hardware.accelerator_kind
            else {},
        )
        for node in cluster.computes
    }
    as_written = not slurm.reads_yaml and isinstance(choice.topologies.default.topology, BlockTopology)
    members = {
        name: frozenset(node.name for node in cluster.computes if node.instance.group in groups)
        for name, groups in cluster.partitions.items()
    }
    return Snapshot(
        tuple(nodes[name] for name in table_order(nodes, as_written=as_written)),
        choice.topologies,
        slurm,
        (
            PartitionView("dev", frozenset(nodes), default=True),
            *(PartitionView(name, names) for name, names in members.items()),
        ),
    )
