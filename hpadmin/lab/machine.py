"""One machine of the lab: a container with its instance's facts, what state it is in, the files inside it.

A container is given `FACTS`, `BUNDLE` and `SECRETS` before its first boot; the rest is its lifecycle's work.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass

import docker
import docker.errors
import docker.types
from docker.models.containers import Container

from hpadmin.errors import OperationFailed
from hpadmin.lab.facts import LabInstance
from hpadmin.model import NodeType

LABEL = "hpadmin.lab"
"""On every container and network that a lab made; its value is the lab's name."""
INSTANCE = "hpadmin.lab.instance"
"""On every node; its value is `LabInstance.to_json`."""
REPLACES = "hpadmin.lab.replaces"
"""On a node that takes the place of another: the instance id of that one (`hpadmin.lab.replacing`)."""
NEXT = ".next"
"""End of a container's name until what it replaces is gone."""
_FILE_SYSTEM = "hpadmin.lab.file-system"
_HOST_NAME = "lab-host"
"""What nodes call the machine that the lab runs on."""

FACTS = "/opt/ml/config"
"""`resource_config.json`, as HyperPod puts it."""
INVENTORY = f"{FACTS}/resource_config.json"
PENDING = f"{FACTS}/pending"
"""There while a controller has been told of a change that its lifecycle has not taken in."""
REBOOT = f"{FACTS}/reboot"
"""Names the boot that is to end, on a machine that is to be rebooted (`hpadmin.lab.rebooting`)."""
BUNDLE = "/opt/ml/bundle"
"""The lifecycle bundle: request.json, lifecycle.yaml, and the legacy provisioning_parameters.json."""
ENGINE = "/opt/ml/engine/docker.sock"
"""The engine's own socket, on controllers alone and in a folder of root's: their agent reboots and replaces nodes."""
SECRETS = "/opt/ml/secrets"
"""Stands for the secrets manager: the cluster's authentication key."""
_ENGINE_FOLDER = ENGINE.rpartition("/")[0]
_ENGINE_README = b"""docker.sock is the container engine of the lab's host: whoever may use it is root on that host.
It is here for the lab's recovery agent, which reboots and replaces nodes. No real cluster has such a thing.
"""
STATE = "/var/lib/hpadmin/lifecycle/state.json"
"""Where a node's lifecycle says how far it is."""
FIRST_BOOT = "/var/lib/machine-first-boot"
"""Exit status of `on_create.sh`, once it has ended."""
_BOOTED = "OnCreate exited"
"""What a machine prints when its first boot is over (containers/slurm/init)."""
_STAGE = re.compile(r" (?:INFO|WARNING) ([a-z]+(?:-[a-z]+)*): ")
"""What the lifecycle says of a stage."""
_PRINTED = 400
"""Lines of a machine's output that are read."""
LOG = "/var/log/provision/provisioning.log"

_PRIVATE = (SECRETS, _ENGINE_FOLDER)

_ATTEMPTS = 5
"""Times that a file which changes while it is read is read again."""

Files = Mapping[str, tuple[bytes, int]]
"""Absolute path to content and mode."""


@dataclass(frozen=True, slots=True)
class LabNode:
    """One container of the lab that is an instance."""

    instance: LabInstance
    container: str
    running: str
    """Docker's word: ``running``, ``paused``, ``exited``, …"""

    @property
    def role(self) -> str:
        """``controller``, ``login`` or ``compute``."""
        return self.instance.node_type.value.lower()


@dataclass(frozen=True, slots=True)
class SeenNode(LabNode):
    """A container, and what its lifecycle says of itself."""

    status: str
    """``ready``, ``joining (STAGE)``, ``failed (STAGE)``; or Docker's word when it is not running."""


def create(
    client: docker.DockerClient, lab: str, instance: LabInstance, image: str, network: str, files: Files
) -> None:
    """Create and start the container of `instance` with `files` in it."""
    made = make(client, lab, instance, image, network, name=f"{lab}-{instance.name}")
    client.api.put_archive(made, "/", archive(files))
    client.api.start(made)


def make(
    client: docker.DockerClient,
    lab: str,
    instance: LabInstance,
    image: str,
    network: str,
    *,
    name: str,
    replaces: str = "",
) -> str:
    """Create the container of `instance`, without facts and not started; return its id.

    `replaces` is the id of the instance whose place it takes. Raises docker.errors.APIError.
    """
    api = client.api
    endpoint = api.create_endpoint_config(ipv4_address=instance.address, aliases=[instance.hostname])
    socket = engine_socket() if instance.node_type is NodeType.CONTROLLER else None
    created: dict[str, str] = api.create_container(
        image,
        name=name,
        hostname=instance.hostname,
        detach=True,
        labels={LABEL: lab, INSTANCE: instance.to_json()} | ({REPLACES: replaces} if replaces else {}),
        environment={"HPADMIN_DEVICES": instance.devices},
        host_config=api.create_host_config(
            init=True,
            network_mode=network,
            # slurmd looks up who connects to it; of the host, the engine would ask a name service far away.
            extra_hosts={_HOST_NAME: instance.gateway},
            # A node mounts file systems and runs jobs at other priorities than its own; a controller checks
            # configurations in a network of their own (hpadmin.slurm.sandbox).
            cap_add=["SYS_ADMIN", "SYS_NICE", "NET_ADMIN"],
            # Jobs in containers change their root, which the engine's own filter of system calls forbids.
            security_opt=["apparmor=unconfined", "seccomp=unconfined"],
            # File systems in user space, for hosts whose kernel has no NFS client.
            device_cgroup_rules=["c 10:229 rwm"],
            mounts=[docker.types.Mount(ENGINE, socket, type="bind")] if socket else None,
        ),
        networking_config={"EndpointsConfig": {network: endpoint}},
    )
    if socket:
        api.put_archive(created["Id"], "/", archive({f"{_ENGINE_FOLDER}/README": (_ENGINE_README, 0o600)}))
    return created["Id"]


def engine_socket() -> str | None:
    """Return the path of the engine's socket on this host; None for an engine that is reached over a network."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    return host.removeprefix("unix://") if host.startswith("unix://") else None


def create_file_server(
    client: docker.DockerClient, lab: str, dns_name: str, image: str, network: str
) -> None:
    """Create and start the server of the file system that the request calls `dns_name`, unless it is there.

    Raises OperationFailed when something else has its name.
    """
    name = f"{lab}-{dns_name.partition('.')[0]}"
    with contextlib.suppress(docker.errors.NotFound):
        found = client.containers.get(name)
        if (found.labels.get(LABEL), found.labels.get(_FILE_SYSTEM)) != (lab, dns_name):
            raise OperationFailed(
                f"a container {name} is there, and it is not lab {lab}'s server of {dns_name}",
                hint="remove it or give it another name, or give the lab one",
            )
        found.start()
        return
    api = client.api
    endpoint = api.create_endpoint_config(aliases=[dns_name])
    created = api.create_container(
        image,
        name=name,
        detach=True,
        labels={LABEL: lab, _FILE_SYSTEM: dns_name},
        host_config=api.create_host_config(
            init=True,
            network_mode=network,
            # An NFS server opens files by handle.
            cap_add=["SYS_ADMIN", "DAC_READ_SEARCH"],
            security_opt=["apparmor=unconfined", "seccomp=unconfined"],
        ),
        networking_config={"EndpointsConfig": {network: endpoint}},
    )
    api.start(created["Id"])


def identify(container: Container) -> LabNode:
    """Return the container by its labels, and whether it runs."""
    instance = LabInstance.from_json(container.labels[INSTANCE])
    return LabNode(instance, str(container.name), str(container.status))


def look(container: Container) -> SeenNode:
    """Return the container as it stands. Reading how far its lifecycle is may cost the engine a process."""
    node = identify(container)
    status = node.running
    if status == "running":
        status = _first_boot(container) or _lifecycle_status(read_file(container, STATE))
        # A lifecycle that died cannot say so; the machine can.
        if status.startswith("joining") and (read_file(container, FIRST_BOOT) or b"0").strip() != b"0":
            status = status.replace("joining", "failed")
    return _seen(node, status)


def ready(container: Container) -> SeenNode:
    """Return a running container whose lifecycle is known to be done."""
    return _seen(identify(container), "ready")


def _seen(node: LabNode, status: str) -> SeenNode:
    return SeenNode(node.instance, node.container, node.running, status)


def read_file(container: Container, path: str) -> bytes | None:
    """Return one file's content; None when it, or the container, is not there.

    Raises OperationFailed when what the engine sends is no whole file, time and again.
    """
    found = _unpacked(container, path)
    return None if found is None else next(iter(found.values()), None)


def read_folder(container: Container, path: str) -> dict[str, bytes]:
    """Return every file below a folder by its name relative to it; empty when the folder is not there.

    Raises as `read_file` does.
    """
    found = _unpacked(container, path) or {}
    return {name.partition("/")[2]: content for name, content in found.items()}


def _unpacked(container: Container, path: str) -> dict[str, bytes] | None:
    """Return the files at `path` by their names in the engine's archive; None where nothing is."""
    for attempt in range(_ATTEMPTS):
        try:
            stream, _ = container.get_archive(path)
            return unpack(b"".join(stream))
        except docker.errors.NotFound:
            return None
        except docker.errors.APIError as error:
            # The engine looks at the file, then packs it: one that is replaced or goes in between is its error.
            if "no such file" not in str(error.explanation) or attempt == _ATTEMPTS - 1:
                raise
        except tarfile.TarError as error:
            # It notices no earlier than in the middle of what it sends; so it does when the container goes.
            if attempt == _ATTEMPTS - 1:
                raise OperationFailed(f"{path} of {container.name} cannot be read: {error}") from error
    return None


def unpack(packed: bytes) -> dict[str, bytes]:
    """Return the regular files of a tar archive by name. Raises tarfile.TarError where it is cut short.

    >>> unpack(archive({"/etc/motd": (b"hello", 0o644)}).ljust(10240, b"\\0"))
    {'etc/motd': b'hello'}
    """
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for entry in tar.getmembers():
            if member := tar.extractfile(entry) if entry.isfile() else None:
                found[entry.name] = member.read()
                if len(found[entry.name]) < entry.size:
                    raise tarfile.ReadError("unexpected end of data")
    return found


def archive(files: Files) -> bytes:
    """Return a tar archive of `files`, folders included, all root's."""
    buffer = io.BytesIO()
    now = int(time.time())
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in dict.fromkeys(path.rpartition("/")[0] for path in files):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o700 if folder in _PRIVATE else 0o755, now
            tar.addfile(entry)
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(content), mode, now
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def remove(container: Container) -> None:
    """Remove a container and its volumes; one that is gone already is no error."""
    with contextlib.suppress(docker.errors.NotFound):
        container.remove(force=True, v=True)


def _first_boot(container: Container) -> str | None:
    """Return how far a machine's first boot is; None when it is over, or cannot be told so.

    From what the machine printed: that costs the engine nothing, whereas it starts a process for every file that it
    reads from a running container, and a lab is looked at often while it comes up.
    """
    try:
        printed = container.logs(tail=_PRINTED).decode(errors="replace")
    except docker.errors.APIError:  # an engine that keeps no logs
        return None
    return joining(printed)


def joining(printed: str) -> str | None:
    """Return the status of a machine whose first boot printed this so far; None when that is over.

    >>> joining("12:00:01,001 INFO identity: done in 0.1 s, 2 changes\\n12:00:01,010 INFO users: accounts\\n")
    'joining (users)'
    >>> joining("12:00:09,001 INFO on_create done\\nOnCreate exited 0\\n")
    """
    if not printed or _BOOTED in printed:
        return None
    stages = _STAGE.findall(printed)
    return f"joining ({stages[-1]})" if stages else "joining"


def _lifecycle_status(state: bytes | None) -> str:
    """What a node's state file means in a word or two."""
    try:
        data = json.loads(state or b"{}")
    except ValueError:  # it is being written at this moment
        data = {}
    if data.get("status") == "done":
        return "ready"
    word = "failed" if data.get("status") == "failed" else "joining"
    return f"{word} ({data['stage']})" if data.get("stage") else word
