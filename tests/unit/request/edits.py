"""Small edits of the guide's request: what the broken-request tables are written in."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
GUIDE: dict[str, Any] = json.loads((EXAMPLES / "guide.json").read_text())

CONTROLLER, LOGIN, GPU, CPU = (f"InstanceGroups/{index}" for index in range(4))
"""Places of the guide's groups."""

Edit = Callable[[dict[str, Any]], None]


def guide(*edits: Edit) -> dict[str, Any]:
    """Return the guide's request with `edits` made."""
    body = copy.deepcopy(GUIDE)
    for edit in edits:
        edit(body)
    return body


def put(place: str, value: Any) -> Edit:
    """Set the member at `place` (``InstanceGroups/0/InstanceCount``); ``-`` after a list appends."""

    def edit(body: dict[str, Any]) -> None:
        parent, last = _parent(body, place)
        if isinstance(parent, list) and last == "-":
            parent.append(copy.deepcopy(value))
        else:
            parent[int(last) if isinstance(parent, list) else last] = copy.deepcopy(value)

    return edit


def drop(place: str) -> Edit:
    """Remove the member at `place`."""

    def edit(body: dict[str, Any]) -> None:
        parent, last = _parent(body, place)
        del parent[int(last) if isinstance(parent, list) else last]

    return edit


def rename(place: str, name: str) -> Edit:
    """Give the member at `place` another name, in the same position."""

    def edit(body: dict[str, Any]) -> None:
        parent, last = _parent(body, place)
        members = [(name if key == last else key, value) for key, value in parent.items()]
        parent.clear()
        parent.update(members)

    return edit


def group(name: str, node_type: str, **members: Any) -> dict[str, Any]:
    """Return a sound instance group."""
    slurm: dict[str, Any] = {"NodeType": node_type}
    if node_type == "Compute":
        slurm["PartitionNames"] = [f"{name}-partition"]
    return {
        "InstanceGroupName": name,
        "InstanceType": "ml.c5.xlarge",
        "InstanceCount": 1,
        "SlurmConfig": slurm,
        "ExecutionRole": "arn:aws:iam::111122223333:role/HyperPodRole",
        **members,
    }


def _parent(body: Any, place: str) -> tuple[Any, str]:
    *way, last = place.split("/")
    for step in way:
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body, last
