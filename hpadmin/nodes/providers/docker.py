"""The lab: a container is an instance. A reboot restarts it, a replacement is another container.

The requests go on in threads of their own, as a cloud's would: accepted means begun. A cloud also goes on when whoever
asked is gone. Here nobody else would: a replacement or a reboot whose first step was done (`hpadmin.lab.replacing`,
`hpadmin.lab.rebooting`) is brought to its end by the agent's next cycle (`Upkeep`), in this process or in a later one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
from docker.models.containers import Container

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.lab import machine, rebooting
from hpadmin.lab.cluster import Lab
from hpadmin.lab.engine import connect
from hpadmin.nodes.provider import (
    Answer,
    Condition,
    Outcome,
    ProviderError,
    ProviderInstance,
    Repair,
)
from hpadmin.nodes.providers import take
from hpadmin.slurm.command import Runner

if TYPE_CHECKING:
    from hpadmin.recovery.observe import Observation

log = logging.getLogger(__name__)

_PARALLEL = 8
_PAUSE = 15.0
"""Seconds until a replacement that could not be finished is tried again."""
_FAILED = frozenset({"paused", "exited", "dead", "removing"})


class Docker:
    """One lab, by its name."""

    name = "docker"

    def __init__(self, lab: str, engine: str = "") -> None:
        """`engine` is its URL, where it is not this host's own.

        Raises OperationFailed when Docker's engine does not answer.
        """
        self._client: docker.DockerClient = connect(url=engine)
        self._lab = Lab(self._client, lab)
        self._rebooting: set[str] = set()
        self._reboot_failed = False
        self._moving: threading.Thread | None = None
        self._move_after = 0.0
        self._lock = threading.Lock()
        self._done: set[tuple[str, str]] = set()
        """Container id and start of every boot whose lifecycle is done."""

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> Docker:
        """Make one from agent.toml: lab, its name, not needed where there is only one; engine, its URL."""
        got = take(settings, lab="", engine="")
        return Docker(got["lab"] or Lab.find().name, got["engine"])

    @property
    def lab(self) -> Lab:
        return self._lab

    def instances(self) -> tuple[ProviderInstance, ...]:
        try:
            containers: list[Container] = self._client.containers.list(
                all=True,
                filters={"label": [f"{machine.LABEL}={self._lab.name}", machine.INSTANCE]},
                ignore_removed=True,
            )
            with ThreadPoolExecutor(_PARALLEL) as pool:
                return tuple(pool.map(self._instance, containers))
        except (OperationFailed, docker.errors.DockerException, OSError) as error:
            raise ProviderError(f"Docker's engine does not answer: {error}", transient=True) from error

    def _instance(self, container: Container) -> ProviderInstance:
        node = self._look(container)
        state = container.attrs["State"]
        instance = node.instance
        if instance.instance_id in self._rebooting:
            condition = Condition.STARTING
        elif node.running in _FAILED or node.status.startswith("failed"):
            condition = Condition.FAILED
        elif node.status == "ready":
            condition = Condition.RUNNING
        else:
            condition = Condition.STARTING
        return ProviderInstance(
            instance_id=instance.instance_id,
            node=instance.hostname,
            condition=condition,
            group=instance.group,
            instance_type=instance.instance_type,
            address=instance.address,
            launched=_epoch(container.attrs["Created"]),
            booted=_epoch(state["StartedAt"]),
            message=f"is {node.status}" if condition is Condition.FAILED else "",
        )

    def _look(self, container: Container) -> machine.SeenNode:
        """Look at a machine, but not again at a lifecycle that was done in this boot: each look costs a process."""
        boot = (str(container.id), str(container.attrs["State"]["StartedAt"]))
        if boot in self._done and container.status == "running":
            return machine.ready(container)
        node = machine.look(container)
        if node.status == "ready":
            self._done.add(boot)
        return node

    def node_recovery(self) -> bool:
        return True

    def repair(self, action: Repair, instance_ids: Sequence[str]) -> Mapping[str, Outcome]:
        return {instance: self._begin(action, instance) for instance in instance_ids}

    def _begin(self, action: Repair, instance_id: str) -> Outcome:
        try:
            if action is Repair.REPLACE:
                self._lab.begin_replacement(instance_id)
                self.carry_on()
                return Outcome(Answer.ACCEPTED)
            if instance_id in self._rebooting:
                return Outcome(Answer.BUSY, message="a reboot is under way")
            rebooting.begin(self._lab, instance_id)
        except InvalidInput as error:
            return Outcome(Answer.GONE, message=error.message)
        except OperationFailed as error:
            return Outcome(Answer.BUSY, message=error.message)
        except (docker.errors.DockerException, OSError) as error:
            return Outcome(Answer.LATER, message=str(error))
        self._go_on_rebooting(instance_id)
        return Outcome(Answer.ACCEPTED)

    def _go_on_rebooting(self, instance_id: str) -> None:
        with self._lock:
            if instance_id in self._rebooting:
                return
            self._rebooting.add(instance_id)
        threading.Thread(target=self._reboot, args=(instance_id,), daemon=True).start()

    def _reboot(self, instance_id: str) -> None:
        try:
            rebooting.finish(self._lab, instance_id)
        except (OperationFailed, InvalidInput, docker.errors.DockerException, OSError) as error:
            log.error("the lab could not reboot a node", extra={"node": instance_id, "error": str(error)})
            self._reboot_failed = True
        finally:
            with self._lock:
                self._rebooting.discard(instance_id)

    def carry_on(self) -> None:
        """Go on with every replacement that was begun, in a thread of its own; nothing while one is at it."""
        with self._lock:
            busy = self._moving is not None and self._moving.is_alive()
            if busy or time.monotonic() < self._move_after:
                return
            self._moving = threading.Thread(target=self._move, daemon=True)
            self._moving.start()

    def _move(self) -> None:
        """One machine after the other: the controller's lifecycle takes one change in at a time."""
        try:
            while self._lab.replacements_unfinished():
                self._lab.finish_replacements()
        except (OperationFailed, InvalidInput, docker.errors.DockerException, OSError) as error:
            log.error("a replacement is not finished and will be tried again", extra={"error": str(error)})
            self._move_after = time.monotonic() + _PAUSE

    def carry_on_reboots(self) -> None:
        """Go on with every reboot that was ordered and not done, whoever ordered it."""
        self._reboot_failed = False
        for instance_id in rebooting.unfinished(self._lab):
            self._go_on_rebooting(instance_id)

    @property
    def reboot_failed(self) -> bool:
        """Whether a reboot was tried in vain since they were last carried on."""
        return self._reboot_failed

    def runner(self, node: str) -> Runner | None:
        try:
            return self._lab.runner(self._lab.node(node).instance.name)
        except (InvalidInput, docker.errors.DockerException, OSError):
            return None


@dataclass
class Upkeep:
    """The agent's part that brings to their end the reboots and replacements which an agent before it began."""

    provider: Docker
    hurried: bool = field(default=False, init=False)
    """Nobody waits for it: the machine that moves in takes longer."""
    _finished: frozenset[str] = field(default=frozenset(), init=False)
    """Successors that need no look any more: a cache, nothing is lost with it."""
    _reboots_known: bool = field(default=False, init=False)
    """Whether this agent has looked for reboots of another: it knows of its own."""

    def cycle(self, seen: Observation) -> None:
        """Carry on where there is anything to do; `seen` does not matter. Raises OperationFailed."""
        lab = self.provider.lab
        try:
            if not self._reboots_known or self.provider.reboot_failed:
                self.provider.carry_on_reboots()
                self._reboots_known = True
            ids = frozenset(str(one["Id"]) for one in lab.successors())
            if ids <= self._finished:
                return
            if lab.replacements_unfinished():
                self.provider.carry_on()
            else:
                self._finished = ids
        except (docker.errors.DockerException, OSError) as error:
            raise OperationFailed(f"Docker's engine does not answer: {error}") from error


def _epoch(text: str) -> float:
    """Docker's times carry nanoseconds, which datetime does not; year 1 means never."""
    if text.startswith("0001"):
        return 0
    return datetime.fromisoformat(text[:19] + "+00:00").timestamp() + float("0" + text[19:].rstrip("Z")[:7])
