"""The bundle: the folder that the administrator gives every node, and what is found in it.

It holds the request (`request.json` or `.yaml`), or for the older form `provisioning_parameters.json`, and may
hold `lifecycle.yaml` and `shared_users.txt`.
"""

from __future__ import annotations

from pathlib import Path

from hpadmin.errors import InvalidInput

REQUESTS = ("request.json", "request.yaml", "request.yml")
LEGACY = "provisioning_parameters.json"


def request_file(bundle: Path, inventory: Path) -> Path:
    """Return the file that says what the cluster's groups are for.

    The older form may also lie beside `resource_config.json`, where HyperPod puts it. Raises InvalidInput when
    there is none, or when both forms are there and contradict by their mere presence.
    """
    requests = [bundle / name for name in REQUESTS if (bundle / name).is_file()]
    legacy = [folder / LEGACY for folder in (bundle, inventory.parent) if (folder / LEGACY).is_file()]
    if len(requests) > 1:
        raise InvalidInput(
            f"the bundle has more than one request: {', '.join(path.name for path in requests)}"
        )
    if requests:
        return requests[0]
    if legacy:
        return legacy[0]
    raise InvalidInput(
        f"nothing in {bundle} says what this node is for",
        hint=f"put the cluster's request there as {REQUESTS[0]}, or {LEGACY}",
    )
