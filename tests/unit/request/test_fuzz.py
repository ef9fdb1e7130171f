"""Whatever stands in an inventory, a legacy form or an update is told as problems; nothing else is ever raised."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.errors import InvalidInput
from hpadmin.request import NodeNames, Source, build, read, read_inventory
from tests.unit.request.edits import EXAMPLES, GUIDE

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
INVENTORY = json.loads((EXAMPLES / "guide.resource_config.json").read_text())
INVENTORY["InstanceGroups"][2]["Instances"][0]["UltraServerInfo"] = {"Id": "us-1"}
INVENTORY["InstanceGroups"][2]["Instances"][0]["PrivateDnsHostname"] = "ip-10-1-2-3.ec2.internal"
LEGACY_BODY = json.loads((EXAMPLES / "legacy" / "cluster.json").read_text())
LEGACY = json.loads((EXAMPLES / "legacy" / "provisioning_parameters.json").read_text())
UPDATE = {
    "ClusterName": "ml-training-cluster",
    "InstanceGroups": [GUIDE["InstanceGroups"][2]],
    "InstanceGroupsToDelete": ["cpu-compute"],
}


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document, of lists the first item only."""
    found = [way] if way else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*way, key))
    elif isinstance(value, list) and value:
        found += places(value[0], (*way, 0))
    return found


def changed(document: Any, place: tuple[Any, ...], value: Any) -> str:
    made = copy.deepcopy(document)
    parent = made
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    return json.dumps(made)


GPU_FIRST = copy.deepcopy(INVENTORY)
GPU_FIRST["InstanceGroups"].sort(key=lambda group: group["Name"] != "gpu-compute")


@given(st.sampled_from(places(GPU_FIRST)), JSON, st.sampled_from(list(NodeNames)))
@settings(max_examples=60, deadline=None)
def test_inventories(place: tuple[Any, ...], value: Any, names: NodeNames) -> None:
    wanted = read(Source(json.dumps(GUIDE), "request.json"))
    try:
        build(wanted, read_inventory(Source(changed(GPU_FIRST, place, value), "r.json")), names)
    except InvalidInput as error:
        told = error.problems
    else:
        told = ()
    assert all("\n" not in str(problem) for problem in told)


@given(st.sampled_from(places(LEGACY)), JSON)
@settings(max_examples=60, deadline=None)
def test_legacy_forms(place: tuple[Any, ...], value: Any) -> None:
    form = Source(changed(LEGACY, place, value), "provisioning_parameters.json")
    try:
        read(Source(json.dumps(LEGACY_BODY), "cluster.json"), legacy_source=form)
    except InvalidInput as error:
        told = error.problems
    else:
        told = ()
    assert all("\n" not in str(problem) for problem in told)


@given(st.sampled_from(places(UPDATE)), JSON, st.booleans())
@settings(max_examples=60, deadline=None)
def test_updates(place: tuple[Any, ...], value: Any, with_current: bool) -> None:
    current = Source(json.dumps(GUIDE), "current.json") if with_current else None
    try:
        read(Source(changed(UPDATE, place, value), "update.json"), current=current, update=True)
    except InvalidInput as error:
        told = error.problems
    else:
        told = ()
    assert all("\n" not in str(problem) for problem in told)
