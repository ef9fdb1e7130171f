"""Placement: Slurm's own choice of nodes for a job, modelled rule by rule from its source.

`Planner` answers on a `Snapshot`. What is looked at before the topology is in `admission`, which nodes a job could use
in `usable`; the plugins' algorithms are in `block`, `tree` and `flat`, and how Slurm retries in `retry`."""

from hpadmin.topology.placement.planner import Planner
from hpadmin.topology.placement.state import (
    JobView,
    NodeView,
    PartitionView,
    Placement,
    Request,
    Snapshot,
)

__all__ = ["JobView", "NodeView", "PartitionView", "Placement", "Planner", "Request", "Snapshot"]
