"""The request, its validation, the instance-type catalog, the legacy form and the inventory.

    from hpadmin import request

    cluster = request.load("cluster.json", inventory="resource_config.json")   # hpadmin.model.Cluster

or step by step, for those who make the inventory themselves (the lab):

    wanted = request.read(request.read_source("cluster.json"))     # .groups: hpadmin.model.Group
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
from hpadmin.request.reading import Request, read

__all__ = [
    "Inventory",
    "NodeNames",
    "Request",
    "Source",
    "build",
    "load",
    "read",
    "read_inventory",
    "read_source",
]


def load(path: Path | str, *, inventory: Path | str, names: NodeNames = NodeNames.ADDRESS) -> Cluster:
    """Read the request at `path` and the inventory at `inventory` (``-`` is stdin) into the cluster model.

    Raises InvalidInput with every problem of the file that is wrong.
    """
    wanted = read(read_source(path))
    return build(wanted, read_inventory(read_source(inventory)), names)
