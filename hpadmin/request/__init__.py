"""The request, its validation, the instance-type catalog, the legacy form and the inventory.

    from hpadmin import request

    cluster = request.load("cluster.json", inventory="resource_config.json")   # hpadmin.model.Cluster

or step by step, for those who make the inventory themselves (the lab):

    wanted = request.load_request("cluster.json")          # .groups: hpadmin.model.Group
    existing = request.read_inventory(request.Source(json.dumps(resource_config), "lab"))
    cluster = request.build(wanted, existing, request.NodeNames.ADDRESS)

Everything raises `hpadmin.errors.InvalidInput` that carries all problems, each with its JSON path.
"""

from __future__ import annotations

from pathlib import Path

from hpadmin.model import Cluster
from hpadmin.request.cluster import build
from hpadmin.request.document import Source, read_source
from hpadmin.request.inventory import Inventory, NodeNames
from hpadmin.request.inventory import load as read_inventory
from hpadmin.request.reading import Request, read, sibling_legacy

__all__ = [
    "Inventory",
    "NodeNames",
    "Request",
    "Source",
    "build",
    "load",
    "load_request",
    "read",
    "read_inventory",
    "read_source",
    "sibling_legacy",
]


def load(
    path: Path | str,
    *,
    inventory: Path | str,
    names: NodeNames = NodeNames.ADDRESS,
    legacy: Path | str | None = None,
    current: Path | str | None = None,
    update: bool = False,
) -> Cluster:
    """Read the request at `path` and the inventory at `inventory` (``-`` is stdin) into the cluster model.

    `legacy` is a provisioning_parameters.json; without it, one that lies beside the request is taken, and always so
    for `current`. `current` and `update` are explained in `hpadmin.request.reading`.

    Raises InvalidInput with every problem of the file that is wrong.
    """
    wanted = load_request(path, legacy=legacy, current=current, update=update)
    return build(wanted, read_inventory(read_source(inventory)), names)


def load_request(
    path: Path | str,
    *,
    legacy: Path | str | None = None,
    current: Path | str | None = None,
    update: bool = False,
) -> Request:
    """Read and validate the request at `path`, with the legacy form beside it. See `load`."""
    source = read_source(path)
    legacy_source = sibling_legacy(source) if legacy is None else read_source(legacy)
    current_source = None if current is None else read_source(current)
    return read(
        source,
        legacy_source=legacy_source,
        current=current_source,
        current_legacy_source=sibling_legacy(current_source) if current_source else None,
        update=update,
    )
