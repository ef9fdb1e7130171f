"""Run where Slurm and pyslurm are: both readers must say the same; then what pyslurm told is printed as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

from hpadmin.slurm.command import Local
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.pyslurm_reader import PyslurmReader, best_reader, node_info

NODE_ATTRIBUTES = (
    "state",
    "name",
    "reason",
    "reason_user",
    "reason_time",
    "address",
    "hostname",
    "slurmd_port",
    "partitions",
    "active_features",
    "configured_gres",
    "allocated_gres",
    "total_cpus",
    "allocated_cpus",
    "sockets",
    "cores_per_socket",
    "real_memory",
    "boot_time",
    "slurmd_start_time",
    "last_busy_time",
    "slurm_version",
    "comment",
    "extra",
)
"""What is read of a `pyslurm.Node` (pyslurm/core/node.pyx)."""
JOB_ATTRIBUTES = (
    "array_tasks_waiting",
    "array_tasks_parallel",
    "array_task_id",
    "state_reason",
    "gres_per_node",
    "id",
    "state",
    "user_name",
    "account",
    "partition",
    "qos",
    "num_nodes",
    "allocated_nodes",
    "batch_host",
    "submit_time",
    "start_time",
    "end_time",
    "time_limit",
    "array_id",
    "reservation",
)
"""What is read of a `pyslurm.Job` (pyslurm/core/job/job.pyx)."""


def attributes(of: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names}


def main() -> None:
    commands, reader = CommandReader(Local()), best_reader(Local())
    if not isinstance(reader, PyslurmReader):
        raise SystemExit("pyslurm is not used")
    pyslurm = reader.pyslurm
    own = [node for node in pyslurm.Nodes.load().values() if not node.allocated_cpus]
    if not own:
        raise SystemExit(
            "no node is idle: what pyslurm says of nodes cannot be told from what the commands say"
        )
    expected = {
        node.name: replace(node, instance_id="", instance_type="", reservation="")
        for node in commands.nodes()
    }
    differences = [
        f"{node.name}: commands say {expected[node.name]}, pyslurm {node_info(node)}"
        for node in own
        if expected[node.name] != node_info(node)
    ]
    if reader.nodes() != commands.nodes():
        differences.append("where GRES is not accounted for, nodes in use are the commands'")
    for ended in (False, True):
        ours = {job.job_id: job for job in commands.jobs(ended=ended)}
        theirs = {job.job_id: job for job in reader.jobs(ended=ended)}
        differences += [
            f"{number}: commands say {ours.get(number)}, pyslurm {theirs.get(number)}"
            for number in ours | theirs
            if ours.get(number) != theirs.get(number)
        ]
    json.dump(
        {
            "version": pyslurm.__version__,
            "nodes": [attributes(node, NODE_ATTRIBUTES) for node in pyslurm.Nodes.load().values()],
            "jobs": [attributes(job, JOB_ATTRIBUTES) for job in pyslurm.Jobs.load().values()],
        },
        sys.stdout,
    )
    sys.stderr.write("\n".join(differences))
    if differences:
        raise SystemExit(1)


main()
