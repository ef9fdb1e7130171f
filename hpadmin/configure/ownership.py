"""Whose a setting is: HyperPod's, the site's, or nobody's in particular.

HyperPod owns what its cluster agent writes and its auto-resume needs ("What particular parameters HyperPod
overrides in Slurm configuration files", Amazon SageMaker AI Developer Guide): in slurm.conf ClusterName,
SlurmctldHost, NodeName, PartitionName, TaskPlugin and SchedulerParameters; in gres.conf the lines of its nodes;
and the network topology, which it derives from the instances. The site owns what the request says nothing of.
What hpadmin sets by default and nobody claims is neither's.
"""

from __future__ import annotations

from enum import StrEnum

from hpadmin.slurmconf.grammar import FileKind


class Owner(StrEnum):
    """Who decides a setting."""

    HYPERPOD = "hyperpod"
    SITE = "site"
    NONE = "none"


_SLURM_SETTINGS = frozenset(
    {"clustername", "taskplugin", "schedulerparameters", "topologyplugin", "topologyparam"}
)
_SLURM_RECORDS = frozenset({"slurmctldhost", "nodename", "partitionname"})


def hyperpod_owns(file: str, key: str) -> bool:
    """Tell whether HyperPod owns a key of a top-level file; for a record `key` is the one that opens it."""
    lowered = key.lower()
    if file == FileKind.SLURM:
        return lowered in _SLURM_SETTINGS or lowered in _SLURM_RECORDS
    if file == FileKind.GRES:
        return lowered in ("nodename", "name", "autodetect")
    return file in (FileKind.TOPOLOGY, "topology.yaml")


def owner(file: str, key: str, *, rendered: bool) -> Owner:
    """Return the owner of what a key of a top-level file says.

    `rendered` tells whether the request's own files say something there: the site's partition has a key that
    HyperPod owns, and is the site's all the same.
    """
    if not rendered:
        return Owner.SITE
    return Owner.HYPERPOD if hyperpod_owns(file, key) else Owner.NONE
