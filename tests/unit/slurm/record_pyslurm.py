"""Record what pyslurm says: run where pyslurm and a slurmctld are, standard output is the recording.

python3 record_pyslurm.py >recorded/24.11/pyslurm.json
"""

from __future__ import annotations

import importlib
import json
import sys

NODE = (
    "name state reason reason_user reason_time address hostname slurmd_port partitions active_features configured_gres"
    " allocated_gres total_cpus allocated_cpus sockets cores_per_socket real_memory boot_time slurmd_start_time last_busy_time slurm_version"
    " comment extra"
)
JOB = (
    "id state state_reason user_name account partition qos num_nodes allocated_nodes batch_host gres_per_node"
    " submit_time start_time end_time array_id array_task_id array_tasks_waiting reservation"
)


def record() -> dict[str, object]:
    pyslurm = importlib.import_module("pyslurm")
    return {
        "version": pyslurm.__version__,
        "nodes": [
            {key: getattr(node, key) for key in NODE.split()} for node in pyslurm.Nodes.load().values()
        ],
        "jobs": [{key: getattr(job, key) for key in JOB.split()} for job in pyslurm.Jobs.load().values()],
    }


if __name__ == "__main__":
    json.dump(record(), sys.stdout, indent=1, default=str)
