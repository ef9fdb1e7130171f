"""The lab: a container is an instance. A reboot restarts it, a replacement is another container.

The requests go on in threads of their own, as a cloud's would: accepted means begun.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import docker
import docker.errors
from docker.models.containers import Container

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.lab import machine
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

log = logging.getLogger(__name__)

_PARALLEL = 8
_FAILED = frozenset({"paused", "exited", "dead", "removing"})


class Docker:
    """One lab, by its name."""

    name = "docker"

    def __init__(self, lab: str) -> None:
        """Raises OperationFailed when Docker's engine does not answer."""
        self._client: docker.DockerClient = connect()
        self._lab = Lab(self._client, lab)
        self._busy: dict[str, Repair] = {}
        self._lock = threading.Lock()
        self._done: set[tuple[str, str]] = set()
        """Container id and start of every boot whose lifecycle is done."""

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> Docker:
        """Make one from agent.toml: lab, its name; not needed where there is only one."""
        got = take(settings, lab="")
        return Docker(got["lab"] or Lab.find().name)

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
        except (docker.errors.DockerException, OSError) as error:
            raise ProviderError(f"Docker's engine does not answer: {error}", transient=True) from error

    def _instance(self, container: Container) -> ProviderInstance:
        node = self._look(container)
        state = container.attrs["State"]
        instance = node.instance
        if instance.instance_id in self._busy:
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

    def _look(self, container: Container) -> machine.LabNode:
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
            name = self._lab.node(instance_id).instance.name
        except InvalidInput as error:
            return Outcome(Answer.GONE, message=error.message)
        except (docker.errors.DockerException, OSError) as error:
            return Outcome(Answer.LATER, message=str(error))
        with self._lock:
            if instance_id in self._busy:
                return Outcome(Answer.BUSY, message=f"{self._busy[instance_id].value} is under way")
            self._busy[instance_id] = action
        threading.Thread(target=self._do, args=(action, instance_id, name), daemon=True).start()
        return Outcome(Answer.ACCEPTED)

    def _do(self, action: Repair, instance_id: str, name: str) -> None:
        try:
            if action is Repair.REBOOT:
                self._lab.reboot(name)
            else:
                self._lab.replace(name)
        except (OperationFailed, InvalidInput, docker.errors.DockerException, OSError) as error:
            log.error("the lab could not repair a node", extra={"node": name, "error": str(error)})
        finally:
            with self._lock:
                del self._busy[instance_id]

    def runner(self, node: str) -> Runner | None:
        try:
            return self._lab.runner(self._lab.node(node).instance.name)
        except InvalidInput:
            return None


def _epoch(text: str) -> float:
    """Docker's times carry nanoseconds, which datetime does not; year 1 means never."""
    if text.startswith("0001"):
        return 0
    return datetime.fromisoformat(text[:19] + "+00:00").timestamp() + float("0" + text[19:].rstrip("Z")[:7])
