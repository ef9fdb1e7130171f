"""The shape check against the whole of botocore's model, not just what the tables use."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.errors import InvalidInput
from hpadmin.request import Source, read, service_model, shapes
from tests.unit.request.edits import GUIDE

MODEL = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")


def walk(shape: Any, seen: set[str]) -> Iterator[Any]:
    """Yield every shape below `shape` once."""
    if shape.name in seen:
        return
    seen.add(shape.name)
    yield shape
    below = list(getattr(shape, "members", {}).values())
    below += [part for name in ("member", "key", "value") if (part := getattr(shape, name, None)) is not None]
    for part in below:
        yield from walk(part, seen)


def every_shape() -> list[Any]:
    seen: set[str] = set()
    requests = ("CreateClusterRequest", "UpdateClusterRequest")
    return [shape for name in requests for shape in walk(MODEL.shape_for(name), seen)]


def test_the_model_is_what_botocores_own_loader_reads() -> None:
    found = every_shape()
    assert len(found) > 80
    for theirs in found:
        ours = service_model.shape(theirs.name)
        assert ours.kind == theirs.type_name
        assert ours.enum == tuple(getattr(theirs, "enum", ()))
        assert ours.required == tuple(getattr(theirs, "required_members", ()))
        below = {name: member.name for name, member in getattr(theirs, "members", {}).items()}
        assert {name: member.name for name, member in ours.members.items()} == below
        for limit in ("min", "max", "pattern", "union"):
            assert ours.facts.get(limit) == theirs.metadata.get(limit), (theirs.name, limit)
        for part in ("member", "key", "value"):
            if hasattr(theirs, part):
                assert ours.part(part).name == getattr(theirs, part).name


def test_every_kind_of_shape_is_checked() -> None:
    known = {
        "structure",
        "list",
        "map",
        "string",
        "integer",
        "long",
        "float",
        "double",
        "boolean",
        "timestamp",
    }
    assert {shape.type_name for shape in every_shape()} <= known


def test_every_pattern_is_understood() -> None:
    patterns = [shape.metadata["pattern"] for shape in every_shape() if "pattern" in shape.metadata]
    assert len(patterns) > 20
    for pattern in patterns:
        shapes._compiled(pattern, "abc äß 研究")
        outside_sets = re.sub(r"\[(\\.|[^\]])*\]", "", pattern)
        assert r"\p" not in outside_sets


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("plain", True),
        ("Überprüfung 研究 ٣", True),
        ("a\u00a0b", True),
        ("✓", False),
        ("a,b", False),
    ],
)
def test_unicode_categories(text: str, fits: bool) -> None:
    assert shapes._matches(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", text) is fits


def test_a_pattern_that_python_cannot_read_refuses_nothing() -> None:
    assert shapes._matches(r"(?<name", "anything")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
PLACES: list[tuple[Any, ...]] = [
    ("ClusterName",),
    ("InstanceGroups",),
    ("Orchestrator",),
    ("VpcConfig",),
    ("Tags",),
]
PLACES += [("InstanceGroups", 2, key) for key in GUIDE["InstanceGroups"][2]]
PLACES += [("InstanceGroups", 2, "SlurmConfig", key) for key in ("NodeType", "PartitionNames")]


@given(st.sampled_from(PLACES), JSON)
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_a_request_is_told_and_never_raises(place: tuple[Any, ...], value: Any) -> None:
    body: Any = copy.deepcopy(GUIDE)
    parent = body
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    try:
        found = read(Source(json.dumps(body), "request.json"))
    except InvalidInput as error:
        problems = error.problems
    else:
        problems = ()
        assert found.name
    assert all(problem.message and "\n" not in str(problem) for problem in problems)
