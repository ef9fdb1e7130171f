"""CreateCluster's and UpdateCluster's shapes, as botocore's service model of SageMaker describes them.

The model is read from botocore's own file and not by its loader, which takes most of a second's third: it brings in
what speaks HTTP, and looks for additions in folders. Every node of a cluster reads a request when it is created.

>>> shape("CreateClusterRequest").required
('ClusterName',)
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from hpadmin.errors import OperationFailed

_FILE = "service-2.json.gz"


@dataclass(frozen=True)
class Shape:
    """One shape: a structure, list, map, string, number, boolean or timestamp with its limits."""

    name: str
    facts: Mapping[str, Any]
    """What the model says of it: ``type``, ``min``, ``max``, ``pattern``, ``union`` and others, as they stand there."""

    @property
    def kind(self) -> str:
        """``structure``, ``list``, ``map``, ``string``, ``integer``, …"""
        return str(self.facts["type"])

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Members that a structure must have."""
        return tuple(self.facts.get("required", ()))

    @cached_property
    def enum(self) -> tuple[str, ...]:
        """The only values of a string; empty where any may stand."""
        return tuple(self.facts.get("enum", ()))

    @cached_property
    def members(self) -> dict[str, Shape]:
        """A structure's members by name, in the model's order."""
        return {name: shape(member["shape"]) for name, member in self.facts.get("members", {}).items()}

    def part(self, which: str) -> Shape:
        """Return the shape of a list's ``member``, or of a map's ``key`` or ``value``."""
        return shape(self.facts[which]["shape"])


@lru_cache(maxsize=1024)
def shape(name: str) -> Shape:
    """Return a shape of the model. Raises KeyError for an unknown one, OperationFailed without a model."""
    return Shape(name, _shapes()[name])


@lru_cache(maxsize=1)
def _shapes() -> dict[str, dict[str, Any]]:
    found = importlib.util.find_spec("botocore")
    folders = found.submodule_search_locations if found else None
    # Of several versions of the interface the last one counts; their names are dates.
    files = sorted(
        file for folder in folders or () for file in Path(folder).glob(f"data/sagemaker/*/{_FILE}")
    )
    if not files:
        raise OperationFailed(
            f"botocore's model of SageMaker is not installed: there is no data/sagemaker/*/{_FILE}",
            hint="install botocore as its wheel has it",
        )
    shapes: dict[str, dict[str, Any]] = json.loads(gzip.decompress(files[-1].read_bytes()))["shapes"]
    return shapes
