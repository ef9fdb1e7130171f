"""Reading a request: parse, validate, and turn into the model's terms.

request = read(read_source("cluster.json"))     # raises InvalidInput with every problem
request.groups                                   # the lab makes instances from these
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import AccountingDatabase, Group, Strategy
from hpadmin.request import body as bodies
from hpadmin.request import document


@dataclass(frozen=True, slots=True)
class Request:
    """A validated CreateCluster or UpdateCluster request."""

    name: str
    groups: tuple[Group, ...]
    strategy: Strategy
    accounting_database: AccountingDatabase | None
    node_recovery: bool
    body: dict[str, Any]
    """The request as it was written, in CreateCluster's form."""
    notes: tuple[Problem, ...] = ()
    """What is allowed and still worth knowing."""


def read(source: document.Source) -> Request:
    """Parse and validate a request. Raises InvalidInput with every problem."""
    parsed = document.parse(source.text, origin=source.origin)
    if parsed.problems:
        raise InvalidInput(f"{source.origin} is not a valid request", parsed.problems)
    body = parsed.value
    return Request(
        name=body["ClusterName"],
        groups=bodies.groups(body),
        strategy=bodies.strategy(body),
        accounting_database=bodies.accounting_database(body),
        node_recovery=body.get("NodeRecovery", "Automatic") == "Automatic",
        body=body,
    )
