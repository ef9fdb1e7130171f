"""What the lab tells its machines: who is in the cluster, and what the administrator's bundle says.

A machine is given its facts before its first boot, and new ones whenever an instance comes, goes or is replaced, or
the bundle is another. Its lifecycle then takes them in; until it has, a file on it says that this is still to be done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from docker.models.containers import Container

from hpadmin.errors import OperationFailed
from hpadmin.lab import machine
from hpadmin.lab.facts import resource_config
from hpadmin.lab.machine import BUNDLE, INVENTORY, LOG, PENDING, SECRETS, Files, LabNode
from hpadmin.lab.machines import PARALLEL, Machines
from hpadmin.model import NodeType

KEY = f"{SECRETS}/auth.key"

_ON_CREATE = "/opt/hpadmin/lifecycle/on_create.sh"
_BUSY = "another on_create runs"
"""What the lifecycle says to a second run of it on one machine."""
_TAKE_IN = 600.0


def facts(config: str, bundle: Mapping[str, bytes], key: bytes | None = None) -> Files:
    """Return what a node is given: its inventory, its lifecycle bundle and, at its birth, the cluster's key."""
    given = {INVENTORY: (config.encode(), 0o644)}
    given |= {f"{BUNDLE}/{file}": (content, 0o644) for file, content in bundle.items()}
    if key is not None:
        given[KEY] = (key, 0o400)
    return given


def tell(lab: Machines, config: str, bundle: Mapping[str, bytes], nodes: Iterable[LabNode]) -> None:
    """Give those of `nodes` that run the new facts, and let their lifecycle take them in.

    Who is in the cluster concerns the controllers alone, another bundle everybody: the other nodes have what the
    controllers' configuration will name before it does. Raises OperationFailed when a lifecycle fails.
    """
    given = facts(config, bundle)
    running = [node for node in nodes if node.running == "running"]
    lacking = {node: _lacking(_container(lab, node), given) for node in running}
    changed = [node for node in running if lacking[node]]
    controllers = [node for node in changed if node.instance.node_type is NodeType.CONTROLLER]
    others = [node for node in changed if node not in controllers and lacking[node] - {INVENTORY}]
    for node in changed:
        # In one request with what it is about, so that neither is ever there without the other.
        pending = {PENDING: (b"", 0o644)} if node in (*controllers, *others) else {}
        lab.client.api.put_archive(node.container, "/", machine.archive({**pending, **given}))
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda node: _take_in(lab, node), others))
    for node in controllers:
        _take_in(lab, node)


def tell_of_replacements(lab: Machines) -> None:
    """Tell every running node which instances there are now. Raises OperationFailed."""
    config, bundle, _ = _from_controller(lab)
    tell(lab, config, bundle, lab.nodes())


def give_facts(lab: Machines, container: Container) -> None:
    """Give a container that was not started yet what the controller has: inventory, bundle and key."""
    config, bundle, key = _from_controller(lab)
    lab.client.api.put_archive(str(container.id), "/", machine.archive(facts(config, bundle, key)))


def last_words(lab: Machines, node: LabNode) -> str:
    """Return the last line of a node's provisioning log; empty where it has none."""
    log = text(machine.read_file(_container(lab, node), LOG) or b"").splitlines()
    return log[-1] if log else ""


def text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", "surrogateescape")


def _lacking(container: Container, given: Files) -> set[str]:
    """The files of `given` that the node has not, or not in this form, or has not taken in yet."""
    there = {
        f"{folder}/{name}": content
        for folder in {path.rpartition("/")[0] for path in (*given, PENDING)}
        for name, content in machine.read_folder(container, folder).items()
    }
    if PENDING in there:
        return set(given)
    return {path for path, (content, _) in given.items() if there.get(path) != content}


def _take_in(lab: Machines, node: LabNode) -> None:
    runner = lab.runner(node.instance.name)
    deadline = time.monotonic() + _TAKE_IN
    while (done := runner.run([_ON_CREATE], timeout=_TAKE_IN)).returncode != 0:
        said = last_words(lab, node)
        # Somebody else's run may have begun before this change was there.
        if _BUSY not in done.stdout + done.stderr + said or time.monotonic() > deadline:
            raise OperationFailed(
                f"{node.instance.name} did not take in the change: {said}",
                hint=f"hpadmin lab exec {node.instance.name} -- cat {LOG}",
            )
        time.sleep(1)
    runner.run(["rm", "-f", PENDING], timeout=60).check()


def _from_controller(lab: Machines) -> tuple[str, dict[str, bytes], bytes | None]:
    """The inventory as it is now, and the bundle and key as the controller has them."""
    donor = _container(lab, lab.controller())
    name = json.loads(text(machine.read_file(donor, INVENTORY)))["ClusterConfig"]["ClusterName"]
    return (
        resource_config(name, [node.instance for node in lab.nodes()]),
        machine.read_folder(donor, BUNDLE),
        machine.read_file(donor, KEY),
    )


def _container(lab: Machines, node: LabNode) -> Container:
    found: Container = lab.client.containers.get(node.container)
    return found
