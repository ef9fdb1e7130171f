"""topology/ring and topology/torus3d (26.05): checked for the mistakes that Slurm dies of, but not planned
with."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from hpadmin.errors import InvalidInput, Problem
from hpadmin.slurm.hostlist import expand

MAX_RING = 16
"""Nodes in one ring (MAX_RING_SIZE, ring_record.h)."""


def problems(kind: str, body: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the body of a ``ring`` or ``torus3d`` entry; that we do not model it, when nothing
    is."""
    found = _ring(body) if kind == "ring" else _torus(body)
    return found or [Problem(f"#/{kind}/", f"topology/{kind} is valid, but placement does not model it")]


def _ring(body: Mapping[str, Any]) -> list[Problem]:
    rings, found = _dictionaries(body.get("rings"), "#/ring/rings/")
    for ring in rings:
        count = _count(ring.get("nodes"))
        if count > MAX_RING:
            name = ring.get("ring", "")
            found.append(Problem("#/ring/rings/", f"Ring ({name}) is bigger than {MAX_RING}: {count} nodes"))
    return found


def _torus(body: Mapping[str, Any]) -> list[Problem]:
    toruses, found = _dictionaries(body.get("toruses"), "#/torus3d/toruses/")
    for torus in toruses:
        before = len(found)
        nodes = _count(torus.get("nodes"))
        for key in ("placements", "regions"):
            if torus.get(key) is not None:
                parts, wrong = _dictionaries(torus[key], f"#/torus3d/toruses/{key}/")
                found.extend(wrong)
                if key == "regions":
                    nodes += sum(_count(part.get("nodes")) for part in parts)
        dims = torus.get("dims")
        sides = [dims.get(axis, 0) for axis in "xyz"] if isinstance(dims, Mapping) else []
        cells = prod(side if isinstance(side, int) else 0 for side in sides) if sides else 0
        if len(found) == before and cells != nodes:
            found.append(
                Problem(
                    "#/torus3d/toruses/",
                    f"Torus3d ({torus.get('name', '')}) has invalid configuration: {cells} cells, {nodes} nodes",
                )
            )
    return found


def _dictionaries(value: Any, path: str) -> tuple[list[Mapping[str, Any]], list[Problem]]:
    if isinstance(value, Mapping):
        return [value], []
    if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        return list(value), []
    kind = "string" if isinstance(value, str) else type(value).__name__
    return [], [Problem(path, f"Unexpected type {kind} when expecting a list")]


def _count(nodes: Any) -> int:
    try:
        return len(expand(nodes)) if isinstance(nodes, str) else 0
    except InvalidInput:
        return 0
