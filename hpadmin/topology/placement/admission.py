"""What slurmctld looks at before the topology: options, the partition's limits and state, named nodes, features."""

from __future__ import annotations

from dataclasses import replace

from hpadmin.errors import InvalidInput, Problem
from hpadmin.topology.placement.bits import outside
from hpadmin.topology.placement.features import names_in
from hpadmin.topology.placement.state import PartitionView, Placement, Request, Snapshot
from hpadmin.topology.placement.usable import Usable

NODE_CONFIG = "Requested node configuration is not available"
"""ESLURM_REQUESTED_NODE_CONFIG_UNAVAILABLE: the refusal of a job that could never run."""


def partition_of(snapshot: Snapshot, name: str | None) -> PartitionView | None:
    """The partition of that name, without one the default; None where there is none. Raises InvalidInput."""
    if name is None:
        return next((one for one in snapshot.partitions if one.default), None)
    for one in snapshot.partitions:
        if one.name == name:
            return one
    if "," in name:
        raise InvalidInput(
            f"several partitions at once ({name}) cannot be planned with",
            [Problem("--partition", "expected one partition; ask for each of them by itself")],
        )
    known = ", ".join(one.name for one in snapshot.partitions) or "none"
    raise InvalidInput(f"there is no partition {name!r}", [Problem("--partition", f"known are: {known}")])


def completed(usable: Usable, request: Request, partition: PartitionView | None) -> Request:
    """The request with what the partition adds; a node list longer than the job is cut, as sbatch does.

    Raises InvalidInput for nodes that do not exist and options that the release does not have.
    """
    unknown = [
        Problem(option, f"{name} is not a node of this cluster")
        for option, names in (("--nodelist", request.nodelist), ("--exclude", request.exclude))
        for name in names
        if name not in usable.masks.index
    ]
    if unknown:
        raise InvalidInput("the request names nodes that do not exist", unknown)
    release = usable.snapshot.release
    missing = [
        Problem(option, f"is no option of Slurm {release}: it is there from 25.11 on")
        for option, given in (
            ("--spread-segments", request.spread_segments),
            ("--consolidate-segments", request.consolidate_segments),
        )
        if given and not release.segments_span_blocks
    ]
    if missing:
        raise InvalidInput("the request uses options that this release does not have", missing)
    if partition is not None:
        request = replace(
            request,
            whole=request.whole or partition.whole,
            exclusive_topo=request.exclusive_topo or partition.exclusive_topo,
        )
    if len(set(request.nodelist)) > request.nodes:
        # A longer list than the job has nodes means: only these (job_mgr.c, _job_create).
        others = set(usable.masks.index) - set(request.nodelist)
        request = replace(request, nodelist=(), exclude=tuple({*request.exclude, *others}))
    return request


def before_topology(
    usable: Usable, request: Request, partition: PartitionView | None, eligible: int
) -> Placement | None:
    """What decides before any topology is asked (``select_nodes``, node_scheduler.c); None where that goes on.

    `eligible` are the nodes that could serve the request if they were up and empty.
    """
    snapshot, masks = usable.snapshot, usable.masks
    release = snapshot.release
    segment = request.segment
    if release.refuses_uneven_segments and 0 < segment < request.nodes and request.nodes % segment:
        return Placement(
            "rejected",
            slurm_says=f"--segment={segment} does not fit the job size ({request.nodes}): "
            "node count must be evenly divisible by segment size",
            why=f"{request.nodes} nodes are no multiple of the segment of {segment}",
        )
    if partition is None and snapshot.partitions:
        return Placement(
            "rejected",
            slurm_says="No partition specified or system default partition",
            why="no partition is asked for, and none is the default (Default=YES)",
        )
    if partition is not None and partition.state in ("DRAIN", "INACTIVE"):
        return Placement(
            "rejected",
            slurm_says="Required partition not available (inactive or drain)",
            why=f"partition {partition.name} is in state {partition.state} and takes no jobs",
        )
    if set(request.nodelist) & set(request.exclude):
        return Placement(
            "rejected",
            slurm_says="Invalid node name specified",
            why="a node is both in the node list and excluded",
        )
    if request.constraint and names_in(request.constraint) - masks.features:
        unknown = ", ".join(sorted(names_in(request.constraint) - masks.features))
        return Placement(
            "rejected", slurm_says="Invalid feature specification", why=f"no node has feature {unknown}"
        )
    limit = _beyond(request, partition) if partition is not None else ""
    if partition is not None and snapshot.enforce_part_limits:
        if set(request.nodelist) - partition.nodes:
            return Placement(
                "rejected",
                slurm_says="Requested nodes not in this partition",
                why=f"a node of the node list is not in partition {partition.name}",
            )
        if limit:
            return Placement("rejected", slurm_says="Node count specification invalid", why=limit)
    if partition is not None and partition.state == "DOWN":
        return Placement(
            "pending", slurm_says="PartitionDown", why=f"partition {partition.name} is in state DOWN"
        )
    if limit and release.segments_span_blocks:
        return Placement("pending", slurm_says="PartitionConfig", why=limit)
    required = masks.of(request.nodelist)
    # GRES are looked at last, by the select plugin.
    configured = usable.eligible(replace(request, gres={}), partition) if request.gres else eligible
    if outside(required, configured):
        return Placement(
            "rejected",
            slurm_says=NODE_CONFIG,
            why="a node of the node list is not in the partition, or lacks the features",
        )
    if limit and configured and partition is not None and not _within(request, partition):
        # Before 25.11 nodes are looked for first, and more than the partition has are none.
        return Placement("pending", slurm_says="PartitionConfig", why=limit)
    if outside(required, masks.up):
        return Placement(
            "pending", slurm_says="ReqNodeNotAvail", why="a node of the node list is down or drained"
        )
    if outside(required, eligible):
        return Placement(
            "rejected", slurm_says=NODE_CONFIG, why="a node of the node list does not have the GRES"
        )
    return None


def _within(request: Request, partition: PartitionView) -> bool:
    """Whether the job's size is one that the partition's MinNodes and MaxNodes allow."""
    most = request.nodes if partition.max_nodes is None else partition.max_nodes
    return partition.min_nodes <= request.nodes <= most


def _beyond(request: Request, partition: PartitionView) -> str:
    """Which limit of a partition the job's size breaks (``_part_access_check`` and ``_valid_job_part``, job_mgr.c);
    empty for none. How many nodes a partition in state DOWN has is not asked."""
    if not _within(request, partition):
        if request.nodes < partition.min_nodes:
            return f"partition {partition.name} takes no job of fewer than {partition.min_nodes} nodes (MinNodes)"
        return f"partition {partition.name} takes no job of more than {partition.max_nodes} nodes (MaxNodes)"
    if request.nodes > len(partition.nodes) and partition.state != "DOWN":
        return f"partition {partition.name} has {len(partition.nodes)} nodes and never {request.nodes}"
    return ""
