"""The bundle: the folder that the administrator gives every node, and what is found in it.

It holds the request (`request.json` or `.yaml`), or for the older form `provisioning_parameters.json`, and may
hold `lifecycle.yaml`, `shared_users.txt` and `ssh_keys/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpadmin import request
from hpadmin.errors import InvalidInput
from hpadmin.request import Request, Source, read_source

REQUESTS = ("request.json", "request.yaml", "request.yml")
LEGACY = "provisioning_parameters.json"

_UNKNOWN_ROLE = "arn:aws:iam::000000000000:role/unknown"
_UNKNOWN_VPC = {"SecurityGroupIds": ["sg-unknown"], "Subnets": ["subnet-unknown"]}
"""The API demands an ExecutionRole of every group and, for FSx, the cluster's VPC: nothing here looks at them."""


def read_request(bundle: Path, resource_config: Path) -> tuple[Request, Source]:
    """Return what the cluster shall be, and the text that says so.

    The older form may also lie beside `resource_config.json`, where HyperPod puts it; without a request, the
    groups are then those of `resource_config.json`. Raises InvalidInput when nothing says what the node is for, or
    when it is wrong.
    """
    requests = [bundle / name for name in REQUESTS if (bundle / name).is_file()]
    legacy = [folder / LEGACY for folder in (bundle, resource_config.parent) if (folder / LEGACY).is_file()]
    if len(requests) > 1:
        raise InvalidInput(
            f"the bundle has more than one request: {', '.join(path.name for path in requests)}"
        )
    form = read_source(legacy[0]) if legacy else None
    if requests:
        source = read_source(requests[0])
    elif form:
        body = legacy_body(read_source(resource_config).text, str(resource_config))
        source = Source(body, f"{resource_config} and {LEGACY}")
        form = Source(present(form.text, source.text), form.origin)
    else:
        raise InvalidInput(
            f"nothing in {bundle} says what this node is for",
            hint=f"put the cluster's request there as {REQUESTS[0]}, or {LEGACY}",
        )
    return request.read(source, legacy_source=form), source


def present(form: str, body: str) -> str:
    """Return the older form without worker groups that `body` does not have: those have no instances at present.

    What is no such form is returned as it is: whoever reads it says what is wrong with it.
    """
    groups = {group["InstanceGroupName"] for group in json.loads(body)["InstanceGroups"]}
    try:
        data = json.loads(form)
        workers = [worker for worker in data["worker_groups"] if worker["instance_group_name"] in groups]
    except (ValueError, TypeError, KeyError, RecursionError):
        return form
    return json.dumps({**data, "worker_groups": workers})


def legacy_body(resource_config: str, origin: str) -> str:
    """Return a request of the groups that a valid `resource_config.json` lists, as many as there are of each.

    The older form says what groups are for, not what they are: that stood in a request which nodes never see.
    Raises InvalidInput where nothing says what the cluster is called.
    """
    data = json.loads(resource_config)
    groups: list[dict[str, Any]] = [
        {
            "InstanceGroupName": group["Name"],
            "InstanceType": group["InstanceType"],
            "InstanceCount": len(group["Instances"]),
            "ExecutionRole": _UNKNOWN_ROLE,
        }
        for group in data["InstanceGroups"]
    ]
    name = (data.get("ClusterConfig") or {}).get("ClusterName")
    if name is None:
        raise InvalidInput(
            f"{origin} does not say what the cluster is called: it has no ClusterConfig.ClusterName",
            hint=f"put the cluster's request into the bundle as {REQUESTS[0]}",
        )
    return json.dumps({"ClusterName": name, "InstanceGroups": groups, "VpcConfig": _UNKNOWN_VPC})
