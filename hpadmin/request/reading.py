"""Reading a request: parse, validate everything, turn it into the model's terms.

    request = read(read_source("cluster.json"))     # raises InvalidInput with every problem
    request.groups                                   # the lab makes instances from these

A body is UpdateCluster's when the caller says so, when a current request is given with it, when it has
`InstanceGroupsToDelete`, or when its ClusterName is an ARN; else it is CreateCluster's. An update by itself is
judged by what it says alone; with the current request, by what results from both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import AccountingDatabase, Group, Strategy
from hpadmin.request import body as bodies
from hpadmin.request import document, legacy, rules, shapes, view
from hpadmin.request.document import Source
from hpadmin.request.shapes import Operation


@dataclass(frozen=True, slots=True)
class Request:
    """A valid CreateCluster or UpdateCluster request."""

    name: str
    """ClusterName; empty for an update that names the cluster by ARN only."""
    operation: Operation
    groups: tuple[Group, ...]
    strategy: Strategy
    accounting_database: AccountingDatabase | None
    node_recovery: bool
    body: dict[str, Any]
    """What the request amounts to, in CreateCluster's form: legacy form and current request joined in."""
    notes: tuple[Problem, ...] = ()
    """What is allowed and still worth knowing."""


def read(
    source: Source,
    *,
    legacy_source: Source | None = None,
    current: Source | None = None,
    update: bool = False,
) -> Request:
    """Parse and validate a request.

    `legacy_source` is a provisioning_parameters.json, `current` the request that the cluster was made from,
    `update` says that the body is UpdateCluster's.

    Raises InvalidInput with every problem that was found.
    """
    before = read(current) if current else None
    parsed = document.parse(source.text, origin=source.origin)
    raw = parsed.value if isinstance(parsed.value, dict) else {}
    operation: Operation = "UpdateCluster" if update or before or _is_update(raw) else "CreateCluster"
    problems, sound = shapes.check(parsed.value, operation)
    problems = [*parsed.problems, *problems]
    seen = view.make(
        operation,
        raw,
        sound,
        legacy=legacy_source is not None,
        previous=before.body if before else None,
        previous_origin=current.origin if current else "",
    )
    if isinstance(parsed.value, dict):
        problems += [problem for rule in rules.RULES for problem in rule(seen)]
    form = _legacy_form(legacy_source, seen, problems) if legacy_source else None
    if problems:
        raise InvalidInput(f"{source.origin} is not a valid {operation} request", problems)
    body = view.effective_body(seen)
    if form:
        body = legacy.apply(form, body)
    return Request(
        name="" if str(body["ClusterName"]).startswith("arn:") else body["ClusterName"],
        operation=operation,
        groups=bodies.groups(body),
        strategy=bodies.strategy(body),
        accounting_database=bodies.accounting_database(body),
        node_recovery=body.get("NodeRecovery", "Automatic") == "Automatic",
        body=body,
        notes=tuple(rules.notes(seen)),
    )


def sibling_legacy(source: Source) -> Source | None:
    """Return the provisioning_parameters.json that lies beside a request's file, if there is one."""
    if source.directory is None:
        return None
    path = source.directory / legacy.FILE_NAME
    return document.read_source(path) if path.is_file() else None


def _is_update(raw: dict[str, Any]) -> bool:
    name = raw.get("ClusterName")
    return "InstanceGroupsToDelete" in raw or (isinstance(name, str) and name.startswith("arn:"))


def _legacy_form(source: Source, seen: view.View, problems: list[Problem]) -> legacy.Legacy:
    groups = {
        entry.sound["InstanceGroupName"]: entry.sound.get("InstanceCount", 1)
        for entry in seen.entries
        if "InstanceGroupName" in entry.sound
    }
    form = legacy.read(document.parse(source.text, origin=source.origin), groups)
    problems += form.problems
    return form
