"""Machines that are switched on and that nobody has told to become nodes: their lifecycle is the test's to run."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import docker
import docker.errors

from hpadmin.lab import image, machine
from hpadmin.lab.engine import ContainerRunner, connect
from hpadmin.slurm.command import Completed
from tests.support import labs

ON_CREATE = "/opt/hpadmin/lifecycle/on_create.sh"
STATE = "/var/lib/hpadmin/lifecycle/state.json"
PYTHON = "/opt/hpadmin/bin/python3"
FILE_SYSTEM = "fs-0123456789abcdef0.fsx.us-west-2.amazonaws.com"

GROUPS = (("head", "Controller", None), ("door", "Login", None), ("work", "Compute", "p"))
"""Name, node type and partition of the cluster's groups, of one instance each."""


_AWAKE: dict[str, Any] = {
    "entrypoint": ["sleep", "infinity"],
    "init": True,
    "cap_add": ["SYS_ADMIN", "NET_ADMIN"],
    "security_opt": ["apparmor=unconfined", "seccomp=unconfined"],
}
"""What makes a container that does nothing by itself."""


class Bare:
    """The machines of one cluster, on a network of their own; with `home`, all of it shall be on a file system."""

    def __init__(
        self,
        client: docker.DockerClient,
        tag: str,
        *,
        lifecycle: str,
        users: str,
        legacy: bool = False,
        home: bool = False,
        systemd: bool = False,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        self.client = client
        self.tag = tag
        self.name = f"hpadmin-bare-{uuid.uuid4().hex[:8]}"
        self.network = client.networks.create(self.name, labels={"hpadmin.test": "bare"})
        self.bundle = {"lifecycle.yaml": lifecycle, "shared_users.txt": users}
        self.addresses: dict[str, str] = {}
        self.legacy = legacy
        self.home = home
        self.systemd = systemd
        self.request = request or {}

    def start(self, *names: str) -> None:
        """Switch on machines ``<group>-1``, and give all of them their facts."""
        for name in names:
            container = self.client.containers.run(
                self.tag,
                name=f"{self.name}-{name}",
                network=self.name,
                detach=True,
                device_cgroup_rules=["c 10:229 rwm"],
                labels={"hpadmin.test": "bare"},
                **(self._booted() if self.systemd else _AWAKE),
            )
            container.reload()
            self.run(name, "sh", "-c", "[ -e /dev/fuse ] || mknod /dev/fuse c 10 229")
            self.addresses[name] = container.attrs["NetworkSettings"]["Networks"][self.name]["IPAddress"]
        self._name(names)
        for name in names:
            self.tell(name)

    def _name(self, new: tuple[str, ...]) -> None:
        """Let every machine find the new ones, and these all, by the names that a VPC's name service has.

        slurmctld looks for the host of each srun: without an answer it tries for seconds, and nobody gets one of it.
        """
        for name in self.addresses:
            found = [self.addresses[other] for other in (self.addresses if name in new else new)]
            lines = "".join(f"{address} ip-{address.replace('.', '-')}\n" for address in found)
            self.runner(name).run(["tee", "-a", "/etc/hosts"], stdin=lines, timeout=60).check()

    def _booted(self) -> dict[str, Any]:
        """What makes a container that boots with systemd, in control groups of its own."""
        words: list[str] = []
        if self.client.info()["CgroupVersion"] == "1":
            # systemd 256 and later want to be told twice (systemd(1), kernel-command-line(7)).
            words = ["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "systemd.unified_cgroup_hierarchy=0"]
        return {
            "entrypoint": ["/lib/systemd/systemd", *words],
            "environment": {"container": "docker"},
            "cgroupns": "private",
            "tmpfs": {"/run": "", "/run/lock": "", "/sys/fs/cgroup": ""},
            "cap_add": ["SYS_ADMIN", "SYS_NICE", "NET_ADMIN"],
            "security_opt": ["apparmor=unconfined", "seccomp=unconfined"],
        }

    def tell(self, name: str) -> None:
        """Put facts, bundle and key on a machine."""
        request = labs.request(
            *((group, "ml.c5.xlarge", 1, kind, partition) for group, kind, partition in GROUPS),
            **self.request,
        )
        if self.home:
            request = labs.with_home(request, FILE_SYSTEM)
        instances = [
            {
                "Name": group,
                "InstanceType": "ml.c5.xlarge",
                "Instances": [
                    {
                        "InstanceName": f"{group}-1",
                        "CustomerIpAddress": self.addresses.get(f"{group}-1", f"192.0.2.{number}"),
                        "InstanceId": f"i-{number}",
                    }
                ],
            }
            for number, (group, _, _) in enumerate(GROUPS, start=1)
        ]
        config = {"ClusterConfig": {"ClusterName": "test"}, "InstanceGroups": instances}
        files = {f"/opt/ml/bundle/{file}": (text.encode(), 0o644) for file, text in self.bundle.items()}
        if self.legacy:
            # Where HyperPod puts it; no node of a legacy cluster sees its request.
            form = {
                "version": "1.0.0",
                "workload_manager": "slurm",
                "controller_group": "head",
                "login_group": "door",
                "worker_groups": [{"instance_group_name": "work", "partition_name": "p"}],
            }
            files["/opt/ml/config/provisioning_parameters.json"] = (json.dumps(form).encode(), 0o644)
        else:
            files["/opt/ml/bundle/request.json"] = (request.text.encode(), 0o644)
        files["/opt/ml/config/resource_config.json"] = (json.dumps(config).encode(), 0o644)
        files["/opt/ml/secrets/auth.key"] = (b"k" * 1024, 0o400)
        self.client.api.put_archive(f"{self.name}-{name}", "/", machine.archive(files))

    def runner(self, name: str) -> ContainerRunner:
        """Return what runs commands on a machine."""
        return ContainerRunner(self.client, f"{self.name}-{name}")

    def run(self, name: str, *command: str, timeout: float = 300) -> str:
        """Run a command that must succeed; return what it printed."""
        return self.runner(name).run(command, timeout=timeout).check().stdout

    def on_create(self, name: str, timeout: float = 300) -> Completed:
        """Run the lifecycle to its end."""
        return self.runner(name).run([ON_CREATE], timeout=timeout)

    def begin(self, name: str) -> None:
        """Run the lifecycle without waiting for it."""
        self.detached(name, ON_CREATE)

    def detached(self, name: str, command: str, *, output: str = "/dev/null") -> None:
        """Run a command that nobody waits for: the engine forgets commands that take minutes."""
        self.run(name, "sh", "-c", f"setsid {command} >{output} 2>&1 </dev/null &")

    def state(self, name: str) -> dict[str, object]:
        """Return the lifecycle's record; empty before the first."""
        done = self.runner(name).run(["cat", STATE], timeout=120)
        found: dict[str, object] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def outcome(self, name: str, stage: str) -> dict[str, Any]:
        """Return how a stage went, as the record has it."""
        stages: Any = self.state(name)["stages"]
        found: dict[str, Any] = next(each for each in stages if each["stage"] == stage)
        return found

    def runs(self, name: str, program: str) -> bool:
        """Tell whether a process of that name runs on a machine."""
        return self.runner(name).run(["pgrep", "-x", program], timeout=120).returncode == 0

    def installed(self, name: str, package: str) -> bool:
        """Tell whether dpkg has a package as installed."""
        asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
        return self.runner(name).run(asked, timeout=120).stdout == "installed"

    def unmounted(self, name: str, path: str) -> bool:
        """Unmount what is on a path; False while somebody uses it."""
        return self.runner(name).run(["umount", path], timeout=120).returncode == 0

    def log(self, name: str) -> str:
        """Return what the lifecycle said so far."""
        return self.run(name, "cat", "/var/log/provision/provisioning.log")

    def wait(self, name: str, status: str, timeout: float = 240) -> None:
        """Wait for a status in the record."""
        labs.wait_until(lambda: self.state(name).get("status") == status, timeout, f"{name} is {status}")

    def serve(self) -> str:
        """Switch on the file server; return its container's name."""
        tag = image.ensure_file_server(self.client)
        machine.create_file_server(self.client, self.name, FILE_SYSTEM, tag, self.name)
        return f"{self.name}-{FILE_SYSTEM.partition('.')[0]}"

    def remove(self) -> None:
        """Remove everything."""
        with contextlib.suppress(docker.errors.NotFound):
            server = f"{self.name}-{FILE_SYSTEM.partition('.')[0]}"
            self.client.containers.get(server).remove(force=True, v=True)
        for name in self.addresses:
            with contextlib.suppress(docker.errors.NotFound):
                self.client.containers.get(f"{self.name}-{name}").remove(force=True, v=True)
        self.network.remove()


@contextlib.contextmanager
def bare(
    *names: str,
    lifecycle: str = "profile: container\n",
    users: str = "",
    legacy: bool = False,
    home: bool = False,
    systemd: bool = False,
    request: Mapping[str, Any] | None = None,
) -> Iterator[Bare]:
    """Machines that are switched on, removed at the end; `request` has further members of theirs."""
    client = connect()
    tag = image.ensure_node(client)
    machines = Bare(
        client,
        tag,
        lifecycle=lifecycle,
        users=users,
        legacy=legacy,
        home=home,
        systemd=systemd,
        request=request,
    )
    try:
        machines.start(*names)
        yield machines
    finally:
        machines.remove()
