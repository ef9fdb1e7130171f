"""What repairs a node: the small protocol that SageMaker, Docker and SSH each fulfil.

A provider knows instances and can reboot or replace them. It decides nothing. Everything it is asked for
is asked by instance, so that asking twice for the replacement of one instance can never hit its successor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Runner


class Repair(StrEnum):
    """The two repairs there are."""

    REBOOT = "reboot"
    REPLACE = "replace"


class Condition(StrEnum):
    """How an instance is doing, in the provider's eyes."""

    RUNNING = "running"
    """Up, as far as the provider can tell; says nothing about the software on it."""
    STARTING = "starting"
    """Being created or booted, or under the provider's own maintenance or deep check."""
    STOPPING = "stopping"
    FAILED = "failed"
    """Not working, and the provider says so: stopped, paused, failed its status checks."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProviderInstance:
    """One instance. Times are seconds since the epoch, 0 where the provider does not tell."""

    instance_id: str
    node: str
    """The Slurm node that it is; empty where the provider cannot tell."""
    condition: Condition
    group: str = ""
    instance_type: str = ""
    address: str = ""
    launched: float = 0
    """When this instance came to be: a replacement launched later than what it replaces."""
    booted: float = 0
    """When it last started, where the provider tells; a reboot changes it."""
    message: str = ""


class Answer(StrEnum):
    """What became of one request for one instance."""

    ACCEPTED = "accepted"
    BUSY = "busy"
    """Another operation on the instance is under way: wait, then look again."""
    GONE = "gone"
    """The provider knows no such instance (any more)."""
    LATER = "later"
    """Not heard, or turned down for a reason that passes (throttled): ask again."""
    LOST = "lost"
    """May have been heard or not (time ran out, internal error): look for its traces before asking again."""
    REFUSED = "refused"
    """Failed for a reason that stays: somebody has to look."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An `Answer` and what the provider said with it."""

    answer: Answer
    code: str = ""
    message: str = ""


class ProviderError(OperationFailed):
    """The provider could not be asked at all. `transient`: it may work later without anybody's help."""

    def __init__(self, message: str, *, transient: bool, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.transient = transient


class Provider(Protocol):
    """A source of instances that can repair them."""

    @property
    def name(self) -> str:
        """``sagemaker``, ``docker`` or ``ssh``."""
        ...

    def instances(self) -> tuple[ProviderInstance, ...]:
        """Return every instance of the cluster. Raises ProviderError; never returns a part."""
        ...

    def node_recovery(self) -> bool:
        """Return False where the cluster's `NodeRecovery` is None: then nodes are only marked."""
        ...

    def repair(self, action: Repair, instance_ids: Sequence[str]) -> Mapping[str, Outcome]:
        """Ask for `action` on each instance; return an outcome for each id, whatever their number.

        Raises ProviderError only when nothing at all was asked for; ids of a request that may have
        been heard, but has no answer, come back as LOST.
        """
        ...

    def runner(self, node: str) -> Runner | None:
        """Return a way to run commands as root on the node, or None where the provider has none."""
        ...
