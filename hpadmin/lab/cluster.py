"""Bringing a request to life: containers on a network of their own, and what can be done to them.

All that the lab knows is in the labels of what it made: there is no state file that could be wrong. Each container
is given its instance's facts and nothing else; `lifecycle/on_create.sh`, run at its first boot, makes it a node.

    lab = Lab.open("hpadmin")                 # or Lab.find(), if there is just one
    lab.up(Source(text, "cluster.json"), say=print)
    lab.runner("ip-172-18-0-12").run(["nvidia-smi"], timeout=10)
    lab.down(say=print)
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hpadmin import request
from hpadmin.errors import InvalidInput
from hpadmin.lab import faults, image, machine, own_agent, rebooting, replacing, telling, waiting
from hpadmin.lab.engine import connect, engine_errors
from hpadmin.lab.facts import LabInstance, allocate, resource_config
from hpadmin.lab.machine import LABEL, LabNode
from hpadmin.lab.machines import PARALLEL, Machines
from hpadmin.lab.network import create_network, remove_network, subnet_of

Say = Callable[[str], None]

CONTAINER_PROFILE = "profile: container\n"
"""``lifecycle.yaml`` of a node that is a container: no control groups, hardware that is not there."""

_ENGINE_SECONDS = 300
"""Limit of one request: an engine on a busy host makes many containers at once, and slowly."""


class Lab(Machines):
    """One lab: a private network and the containers on it."""

    @staticmethod
    def open(name: str) -> Lab:
        """Return the lab of that name, whether it has been brought up or not.

        Raises OperationFailed when Docker's engine does not answer.
        """
        return Lab(connect(_ENGINE_SECONDS), name)

    @staticmethod
    def find(name: str | None = None) -> Lab:
        """Return the lab `name`, or the only one there is.

        Raises InvalidInput when there is none, or several and no name was given.
        """
        client = connect(_ENGINE_SECONDS)
        names = sorted(
            {network.attrs["Labels"][LABEL] for network in client.networks.list(filters={"label": LABEL})}
        )
        if name is None and len(names) == 1:
            name = names[0]
        if name is None or name not in names:
            raise InvalidInput(
                f"there is no lab {name}"
                if name
                else "there is no lab"
                if not names
                else "there are several labs",
                hint=f"--name takes one of: {', '.join(names)}"
                if names
                else "hpadmin lab up REQUEST makes one",
            )
        return Lab(client, name)

    # --- up and down ---------------------------------------------------------------------------------------

    def up(
        self,
        source: request.Source,
        *,
        legacy: request.Source | None = None,
        ultraserver_nodes: int | None = None,
        lifecycle: str | None = None,
        bundle: Mapping[str, str | bytes] | None = None,
        release: str = "24.11",
        timeout: float = 900,
        say: Say,
    ) -> None:
        """Make the lab what the request says: create what is missing, remove what is no longer wanted, wait.

        `legacy` is a `provisioning_parameters.json` (when not given, the one beside the request), `bundle` what else
        nodes are given by name, such as ``shared_users.txt`` and ``ssh_keys/ann.pub``. `lifecycle` is its
        ``lifecycle.yaml``; without one it is the bundle's own, else `CONTAINER_PROFILE`. A second call converges. The
        lab's own agent repairs its nodes, unless ``lifecycle.yaml`` says ``agent: false``.

        Raises InvalidInput for a bad request, and for an update; OperationFailed when a node does not become ready
        within `timeout` seconds, with what its log says.
        """
        legacy = legacy or request.sibling_legacy(source)
        wanted = request.read(source, legacy_source=legacy)
        if not wanted.complete:
            raise InvalidInput(
                f"{source.origin} is an update, which does not say what the whole cluster is",
                hint="a lab is made, and changed, by the request of the whole cluster",
            )
        for note in wanted.notes:
            say(f"note: {note}")
        with engine_errors():
            files: dict[str, str | bytes] = {
                **own_agent.bundle(self.name),
                "lifecycle.yaml": CONTAINER_PROFILE,
                **(bundle or {}),
                "request.json": source.text,
            }
            if lifecycle is not None:
                files["lifecycle.yaml"] = lifecycle
            if legacy:
                files["provisioning_parameters.json"] = legacy.text
            given = {
                name: content.encode() if isinstance(content, str) else content
                for name, content in files.items()
            }
            self._up(wanted, given, ultraserver_nodes, release, say)
        self.wait_ready(timeout=timeout, say=say)

    def _up(
        self,
        wanted: request.Request,
        files: Mapping[str, bytes],
        ultraserver_nodes: int | None,
        release: str,
        say: Say,
    ) -> None:
        tag = image.ensure_node(self.client, release, say=say)
        self.finish_replacements()
        network = self.network_if_any() or create_network(self.client, self.name)
        instances = allocate(
            wanted.groups,
            [node.instance for node in self.nodes()],
            subnet_of(network),
            ultraserver_nodes=ultraserver_nodes,
            new_id=_instance_id,
        )
        self._file_servers(wanted, str(network.name), release, say)
        self._converge(wanted.name, instances, files, tag, str(network.name), say)

    def down(self, *, say: Say) -> None:
        """Remove all that this lab made, and nothing else. Raises OperationFailed where the engine refuses."""
        with engine_errors():
            self._down(say)

    def _down(self, say: Say) -> None:
        containers = self.containers()
        if containers:
            say(f"removing {len(containers)} containers")
        # The lab's own agent goes first: it would take the others' end for a fault.
        for node in self.controllers():
            machine.remove(self.client.containers.get(node.container))
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(machine.remove, containers))
        for network in self.client.networks.list(filters={"label": f"{LABEL}={self.name}"}):
            say(f"removing network {network.name}")
            remove_network(network)

    def wait_ready(self, *, timeout: float, say: Say) -> None:
        """Wait until every node's lifecycle is done and Slurm has every compute node idle or at work.

        Raises OperationFailed with the names and causes when a node failed or `timeout` seconds passed.
        """
        waiting.until_ready(self, timeout=timeout, say=say)

    def wait_schedulable(self, *, timeout: float, say: Say, nodes: Iterable[str] | None = None) -> None:
        """Wait until Slurm has the compute nodes (all, or `nodes` by host name) idle or at work.

        Raises OperationFailed with each other node's state and reason when `timeout` seconds passed.
        """
        waiting.until_schedulable(self, timeout=timeout, say=say, nodes=nodes)

    def slurm_states(self) -> dict[str, str]:
        """Return host name to state, as ``sinfo`` on the controller tells it; empty while it does not answer."""
        return waiting.slurm_states(self)

    # --- what happens to machines --------------------------------------------------------------------------

    def fault(self, name: str, kind: str) -> None:
        """Do one of `FAULTS` to a node. Raises InvalidInput for another kind or an unknown node."""
        faults.fault(self, name, kind)

    def reboot(self, name: str) -> None:
        """Restart a node's container, as a machine reboots: files stay, processes do not."""
        rebooting.begin(self, name)
        rebooting.finish(self, name)

    def replace(self, name: str) -> LabInstance:
        """Give a node another machine: a new container with a new id and address, and the same host name.

        Returns the new instance once its container runs; its lifecycle goes on by itself. Every node is told of
        the new address as HyperPod does it, in `resource_config.json`, and the controller's lifecycle runs again
        to bring it into Slurm's configuration. Raises OperationFailed when that fails; where the node has an
        agent of its own, or `finish_replacements` is called, it is tried again.
        """
        new = self.begin_replacement(name)
        self.finish_replacements()
        return new

    def begin_replacement(self, name: str) -> LabInstance:
        """Make a node's next machine, without starting it: the first step of `replace`, after which it is certain.

        Raises InvalidInput for an unknown node, OperationFailed for one that is being replaced already.
        """
        return replacing.begin(self, name, _instance_id())

    def finish_replacements(self) -> None:
        """Bring every replacement that was begun to its end, whoever began it. Raises OperationFailed."""
        replacing.finish(self)

    def successors(self) -> list[dict[str, Any]]:
        """Return the engine's short record of every machine that took, or is to take, another's place."""
        wanted = [f"{LABEL}={self.name}", machine.REPLACES]
        found: list[dict[str, Any]] = self.client.api.containers(all=True, filters={"label": wanted})
        return found

    def replacements_unfinished(self) -> bool:
        """Whether there is anything for `finish_replacements` to do."""
        return replacing.unfinished(self)

    def _file_servers(self, wanted: request.Request, network: str, release: str, say: Say) -> None:
        """Give every file system that the request mounts a server of that name."""
        names = sorted({fs.dns_name for group in wanted.groups for fs in group.filesystems})
        if names:
            tag = image.ensure_file_server(self.client, release, say=say)
            for name in names:
                machine.create_file_server(self.client, self.name, name, tag, network)

    def _converge(
        self,
        cluster_name: str,
        instances: Sequence[LabInstance],
        files: Mapping[str, bytes],
        tag: str,
        network: str,
        say: Say,
    ) -> None:
        nodes = {node.instance.name: node for node in self.nodes()}
        wanted = {instance.name: instance for instance in instances}
        gone = [node for name, node in nodes.items() if wanted.get(name) != node.instance]
        new = [instance for name, instance in wanted.items() if name not in nodes or nodes[name] in gone]
        stopped = [
            node for node in nodes.values() if node not in gone and node.running in ("exited", "created")
        ]
        key = self._key(nodes.values())
        config = resource_config(cluster_name, instances)
        told = [node for node in nodes.values() if node not in gone]
        if gone and told:
            # Slurm must let go of them before they vanish: the controller's own plan refuses to lose jobs.
            telling.tell(self, config, files, told)
        for node in gone:
            say(f"{node.instance.name}: removed")
            machine.remove(self.client.containers.get(node.container))
        for node in stopped:
            say(f"{node.instance.name}: started again")
            self.client.containers.get(node.container).start()
        if new:
            say(f"creating {len(new)} containers")
        with ThreadPoolExecutor(PARALLEL) as pool:
            given = telling.facts(config, files, key)
            list(pool.map(lambda i: machine.create(self.client, self.name, i, tag, network, given), new))
        if told and not gone:
            telling.tell(self, config, files, told)

    def _key(self, nodes: Iterable[LabNode]) -> bytes:
        """The cluster's authentication key: that of any node there is, else a new one."""
        for node in nodes:
            if found := machine.read_file(self.client.containers.get(node.container), telling.KEY):
                return found
        return secrets.token_bytes(1024)


def _instance_id() -> str:
    return f"i-{uuid.uuid4().hex[:17]}"
