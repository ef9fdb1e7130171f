"""Reading a request: parse, validate everything, turn it into the model's terms.

    request = read(read_source("cluster.json"))     # raises InvalidInput with every problem
    request.groups                                   # the lab makes instances from these

A body is UpdateCluster's when the caller says so, when a current request is given with it, when it has
`InstanceGroupsToDelete`, or when its ClusterName is an ARN; else it is CreateCluster's. An update by itself is
judged by what it says alone; with the current request, by what results from both.

The roles of a cluster in the legacy form come with the update's own form, else with the current request's. An update
that configures Slurm itself moves the cluster away from that form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import AccountingDatabase, Group, Strategy
from hpadmin.request import body as bodies
from hpadmin.request import document, legacy, rules, shapes, view
from hpadmin.request.document import Document, Source
from hpadmin.request.shapes import Operation


@dataclass(frozen=True, slots=True)
class Request:
    """A valid CreateCluster or UpdateCluster request."""

    name: str
    """ClusterName; empty for an update that names the cluster by ARN only."""
    arn: str
    """The cluster's ARN where the request has that for its ClusterName, else empty."""
    operation: Operation
    groups: tuple[Group, ...]
    strategy: Strategy
    accounting_database: AccountingDatabase | None
    node_recovery: bool
    body: dict[str, Any]
    """What the request amounts to, in CreateCluster's form: legacy form and current request joined in."""
    complete: bool = True
    """Whether `groups` are all that the cluster shall have: an update by itself names only what it changes."""
    deleted: tuple[str, ...] = ()
    """`InstanceGroupsToDelete`."""
    notes: tuple[Problem, ...] = ()
    """What is allowed and still worth knowing."""


def read(
    source: Source,
    *,
    legacy_source: Source | None = None,
    current: Source | None = None,
    current_legacy_source: Source | None = None,
    update: bool = False,
) -> Request:
    """Parse and validate a request.

    `legacy_source` is a provisioning_parameters.json, `current` the request that the cluster was made from with
    `current_legacy_source` as its own such form, `update` says that the body is UpdateCluster's.

    Raises InvalidInput with every problem that was found.
    """
    parsed = document.parse(source.text, origin=source.origin)
    form_source = legacy_source
    if form_source is None and current and not view.configures_slurm(_object(parsed)):
        form_source = current_legacy_source
    before = _before(current, current_legacy_source, roles=form_source is None) if current else None
    seen, problems = _judge(parsed, before, legacy=form_source is not None, update=update)
    form = _legacy_form(form_source, seen, problems) if form_source else None
    _refuse(parsed, seen, problems)
    body = view.effective_body(seen)
    if form:
        body = legacy.apply(form, body)
    names = (str(body["ClusterName"]), str(seen.raw["ClusterName"]))
    return Request(
        name=next((name for name in names if not name.startswith("arn:")), ""),
        arn=next((name for name in names if name.startswith("arn:")), ""),
        operation=seen.operation,
        groups=bodies.groups(body),
        strategy=bodies.strategy(body),
        accounting_database=bodies.accounting_database(body),
        node_recovery=body.get("NodeRecovery", "Automatic") == "Automatic",
        body=body,
        complete=seen.complete,
        deleted=seen.deleted,
        notes=tuple(rules.notes(seen)),
    )


def sibling_legacy(source: Source) -> Source | None:
    """Return the provisioning_parameters.json that lies beside a request's file, if there is one."""
    if source.directory is None:
        return None
    path = source.directory / legacy.FILE_NAME
    return document.read_source(path) if path.is_file() else None


@dataclass(frozen=True, slots=True)
class _Before:
    """What an update starts from."""

    body: dict[str, Any]
    origin: str
    complete: bool


def _before(current: Source, form_source: Source | None, *, roles: bool) -> _Before:
    """Return the current request; without `roles` those of its legacy form do not count, as another will give them."""
    if roles:
        found = read(current, legacy_source=form_source)
        return _Before(found.body, current.origin, found.complete)
    parsed = document.parse(current.text, origin=current.origin)
    seen, problems = _judge(parsed, legacy=not view.configures_slurm(_object(parsed)))
    _refuse(parsed, seen, problems)
    return _Before(view.effective_body(seen), current.origin, seen.complete)


def _judge(
    parsed: Document, before: _Before | None = None, *, legacy: bool, update: bool = False
) -> tuple[view.View, list[Problem]]:
    """Check shapes and rules of a request, over the one before it under an update."""
    raw = _object(parsed)
    operation: Operation = "UpdateCluster" if update or before or _is_update(raw) else "CreateCluster"
    problems, sound = shapes.check(parsed.value, operation)
    problems = [*parsed.problems, *problems]
    seen = view.make(
        operation,
        raw,
        sound,
        legacy=legacy,
        previous=before.body if before else None,
        previous_origin=before.origin if before else "",
        previous_complete=before is not None and before.complete,
    )
    if isinstance(parsed.value, dict):
        problems += [problem for rule in rules.RULES for problem in rule(seen)]
    return seen, problems


def _refuse(parsed: Document, seen: view.View, problems: list[Problem]) -> None:
    if problems:
        raise InvalidInput(f"{parsed.origin} is not a valid {seen.operation} request", problems)


def _object(parsed: Document) -> dict[str, Any]:
    return parsed.value if isinstance(parsed.value, dict) else {}


def _is_update(raw: dict[str, Any]) -> bool:
    name = raw.get("ClusterName")
    return "InstanceGroupsToDelete" in raw or (isinstance(name, str) and name.startswith("arn:"))


def _legacy_form(source: Source, seen: view.View, problems: list[Problem]) -> legacy.Legacy:
    groups = {
        entry.sound["InstanceGroupName"]: entry.sound.get("InstanceCount", 1)
        for entry in seen.entries
        if "InstanceGroupName" in entry.sound
    }
    parsed = document.parse(source.text, origin=source.origin)
    form = legacy.read(parsed, groups, absent=seen.deleted, complete=seen.complete)
    if form.storage and seen.complete and "VpcConfig" not in seen.raw and "VpcConfig" not in seen.body:
        problems.append(Problem("VpcConfig", rules.FSX_IN_VPC))
    problems += form.problems
    return form
