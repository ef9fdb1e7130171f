"""One job as ``scontrol show job ID --json`` describes it.

The shape is that of data_parser v0.0.40 and later: a number is an object of `set`, `infinite` and `number`,
a state a list of words. Releases drop old parsers, so the newest that the release has is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hpadmin.slurm.reader import JobDetail, JobInfo
from hpadmin.slurm.states import JobState
from hpadmin.slurm.text import Unreadable


def number(value: object, default: int = 0) -> int:
    """Read Slurm's three-part numbers, or a plain one; `default` where it is unset or infinite."""
    if isinstance(value, Mapping):
        if not value.get("set", False) or value.get("infinite", False):
            return default
        value = value.get("number", default)
    return int(value) if isinstance(value, int | float) else default


def parse_job(text: str, job_id: int) -> JobDetail | None:
    """Return job `job_id` from the output of ``scontrol show job ID --json``; None when it is not there.

    Raises Unreadable when this is not such an output.
    """
    try:
        jobs = json.loads(text)["jobs"]
        for record in jobs:
            if record["job_id"] == job_id:
                return _detail(record)
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"scontrol's JSON of job {job_id} cannot be read: {error!r}") from error
    return None


def _detail(record: dict[str, Any]) -> JobDetail:
    exit_code = record.get("exit_code") or {}
    limit = record.get("time_limit")
    unlimited = isinstance(limit, Mapping) and bool(limit.get("infinite", False))
    task = str(number(record.get("array_task_id"))) if _is_set(record.get("array_task_id")) else ""
    info = JobInfo(
        job_id=record["job_id"],
        state=JobState.parse(record["job_state"]),
        reason="" if record.get("state_reason") == "None" else record.get("state_reason", ""),
        user=record.get("user_name", ""),
        account=record.get("account", ""),
        partition=record.get("partition", ""),
        qos=record.get("qos", ""),
        node_count=number(record.get("node_count")),
        nodes=record.get("nodes", ""),
        batch_host=record.get("batch_host", ""),
        gres=record.get("tres_per_node", ""),
        submit_time=number(record.get("submit_time")),
        start_time=number(record.get("start_time")),
        end_time=number(record.get("end_time")),
        array_job_id=number(record.get("array_job_id")),
        array_task=task or record.get("array_task_string", ""),
        reservation=record.get("resv_name", ""),
    )
    return JobDetail(
        info=info,
        uid=record["user_id"],
        name=record.get("name", ""),
        comment=record.get("comment", ""),
        admin_comment=record.get("admin_comment", ""),
        extra=record.get("extra", ""),
        requeue=bool(record.get("requeue", False)),
        restarts=number(record.get("restart_cnt")),
        batch=bool(record.get("batch_flag", False)),
        exit_code=number(exit_code.get("return_code")),
        signal=number((exit_code.get("signal") or {}).get("id")),
        time_limit=None if unlimited else number(limit),
        dependency=record.get("dependency", ""),
        excluded_nodes=record.get("excluded_nodes", ""),
        required_nodes=record.get("required_nodes", ""),
        features=record.get("features", ""),
        standard_output=record.get("standard_output", ""),
        working_directory=record.get("current_working_directory", ""),
        exclusive=bool(_shares(record) & {"true", "none"}),
        exclusive_topo="topo" in _shares(record),
        tres_allocated=record.get("tres_alloc_str", ""),
        het_job_id=number(record.get("het_job_id")),
        raw=record,
    )


def _is_set(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value.get("set", False))


def _shares(record: Mapping[str, Any]) -> set[str]:
    """How it shares nodes: ``"shared": ["none"]`` for whole nodes up to 25.11, ``"exclusive"`` from 26.05 on."""
    return {str(word).lower() for key in ("exclusive", "shared") for word in _words(record.get(key))}


def _words(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []
