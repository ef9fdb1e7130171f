"""What goes wrong while a node is made: each fault ends in a working node, or in a failure that names its cause."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from hpadmin.lab import image, machine
from hpadmin.lab.engine import ContainerRunner, connect
from hpadmin.slurm.command import Completed
from tests.support import labs

pytestmark = [pytest.mark.lab, pytest.mark.unsettled]

ON_CREATE = "/opt/hpadmin/lifecycle/on_create.sh"
STATE = "/var/lib/hpadmin/lifecycle/state.json"
PYTHON = "/opt/hpadmin/bin/python3"


class Bare:
    """Machines that are switched on and that nobody has told to become nodes: their lifecycle is the test's to run."""

    def __init__(
        self, client: docker.DockerClient, tag: str, *, lifecycle: str, users: str, legacy: bool = False
    ) -> None:
        self.client = client
        self.tag = tag
        self.name = f"hpadmin-bare-{uuid.uuid4().hex[:8]}"
        self.network = client.networks.create(self.name, labels={"hpadmin.test": "bare"})
        self.bundle = {"lifecycle.yaml": lifecycle, "shared_users.txt": users}
        self.addresses: dict[str, str] = {}
        self.legacy = legacy

    def start(self, *names: str) -> None:
        """Switch on machines ``<group>-1``, and give all of them their facts."""
        for name in names:
            container = self.client.containers.run(
                self.tag,
                entrypoint=["sleep", "infinity"],
                name=f"{self.name}-{name}",
                network=self.name,
                detach=True,
                init=True,
                cap_add=["SYS_ADMIN", "NET_ADMIN"],
                security_opt=["apparmor=unconfined"],
                labels={"hpadmin.test": "bare"},
            )
            container.reload()
            self.addresses[name] = container.attrs["NetworkSettings"]["Networks"][self.name]["IPAddress"]
        for name in names:
            self.tell(name)

    def tell(self, name: str) -> None:
        """Put facts, bundle and key on a machine."""
        groups = (("head", "Controller", None), ("work", "Compute", "p"))
        request = labs.request(
            *((group, "ml.c5.xlarge", 1, kind, partition) for group, kind, partition in groups)
        )
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
            for number, (group, _, _) in enumerate(groups, start=1)
        ]
        config = {"ClusterConfig": {"ClusterName": "test"}, "InstanceGroups": instances}
        files = {f"/opt/ml/bundle/{file}": (text.encode(), 0o644) for file, text in self.bundle.items()}
        if self.legacy:
            # Where HyperPod puts it; no node of a legacy cluster sees its request.
            form = {
                "version": "1.0.0",
                "workload_manager": "slurm",
                "controller_group": "head",
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
        done = self.runner(name).run(["cat", STATE], timeout=30)
        found: dict[str, object] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def log(self, name: str) -> str:
        """Return what the lifecycle said so far."""
        return self.run(name, "cat", "/var/log/provision/provisioning.log")

    def wait(self, name: str, status: str, timeout: float = 240) -> None:
        """Wait for a status in the record."""
        labs.wait_until(lambda: self.state(name).get("status") == status, timeout, f"{name} is {status}")

    def remove(self) -> None:
        """Remove everything."""
        for name in self.addresses:
            with contextlib.suppress(docker.errors.NotFound):
                self.client.containers.get(f"{self.name}-{name}").remove(force=True, v=True)
        self.network.remove()


@contextlib.contextmanager
def bare(
    *names: str, lifecycle: str = "profile: container\n", users: str = "", legacy: bool = False
) -> Iterator[Bare]:
    """Machines that are switched on, removed at the end."""
    client = connect()
    machines = Bare(client, image.ensure_node(client), lifecycle=lifecycle, users=users, legacy=legacy)
    try:
        machines.start(*names)
        yield machines
    finally:
        machines.remove()


def nothing_half_done(machines: Bare, name: str) -> None:
    """No temporary file of ours is left on a machine."""
    left = machines.run(name, "find", "/", "-xdev", "-name", "*hpadmin-new*", "-o", "-name", ".hpadmin-*")
    assert left == ""


def test_a_controller_killed_in_the_middle_of_every_stage_becomes_a_controller() -> None:
    stages = (
        "identity",
        "users",
        "ssh",
        "authentication",
        "configuration",
        "accounting",
        "controller",
        "associations",
    )
    with bare("head-1", lifecycle="profile: container\naccounting: true\n", users="ann,2001\n") as machines:
        machines.runner("head-1").put(
            "/root/kill.py", (Path(__file__).parent / "kill_at_stages.py").read_text()
        )
        machines.detached("head-1", f"{PYTHON} -u /root/kill.py {' '.join(stages)}", output="/root/killed")

        def lines_so_far() -> list[str] | None:
            lines = machines.run("head-1", "cat", "/root/killed").splitlines()
            return lines if lines and lines[-1].isdigit() else None

        lines = labs.wait_until(lines_so_far, 900, "a kill in every stage and an end")
        assert lines[-1] == "0", machines.log("head-1")
        assert sum(line.endswith("killed") for line in lines) >= 5, lines
        assert machines.state("head-1")["status"] == "done"
        assert "|ann" in machines.run("head-1", "sacctmgr", "-nP", "show", "assoc", "format=account,user")
        assert "UP" in machines.run("head-1", "scontrol", "ping")
        nothing_half_done(machines, "head-1")
        second = machines.on_create("head-1")
        assert second.returncode == 0
        assert not [
            line for line in second.stdout.splitlines() if " done in " in line and " 0 changes" not in line
        ]


def test_nodes_wait_for_a_controller_that_is_late_and_daemons_that_died_come_back() -> None:
    accounting = "profile: container\naccounting: true\n"
    with bare("head-1", "work-1", lifecycle=accounting) as machines:
        machines.begin("work-1")
        labs.wait_until(lambda: "does not answer" in machines.log("work-1"), 120, "the node waits")
        assert machines.state("work-1")["stage"] == "compute"
        assert machines.on_create("head-1").returncode == 0
        machines.wait("work-1", "done")
        node = machines.run("work-1", "hostname").strip()
        assert machines.run("head-1", "sinfo", "-h", "-n", node, "-o", "%T").strip() == "idle"

        # slurmdbd and its database die; whoever runs the lifecycle again finds them mended.
        machines.run("head-1", "pkill", "-KILL", "-x", "slurmdbd")
        machines.run("head-1", "service", "mariadb", "stop")
        assert machines.on_create("head-1").returncode == 0
        outcomes = {each["stage"]: each for each in machines.state("head-1")["stages"]}  # type: ignore[attr-defined]
        assert outcomes["accounting"]["changes"] == ["start mariadb", "start slurmdbd"]
        assert outcomes["controller"]["changes"] == []


def test_a_full_disk_is_named_and_nothing_half_written_stays() -> None:
    with bare("head-1") as machines:
        machines.run("head-1", "mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/etc/slurm")
        done = machines.on_create("head-1")
        assert done.returncode == 1
        assert "stage configuration failed: " in done.stdout.splitlines()[-1]
        assert "No space left on device" in done.stdout.splitlines()[-1]
        assert machines.state("head-1")["stage"] == "configuration"
        assert machines.run("head-1", "find", "/etc/slurm", "-type", "f") == ""
        machines.run("head-1", "umount", "/etc/slurm")
        assert machines.on_create("head-1").returncode == 0
        assert "UP" in machines.run("head-1", "scontrol", "ping")


def test_hostile_users_make_no_node_and_run_nothing() -> None:
    users = "ann,2001\n$(touch /tmp/pwned),2002\nbob;touch /tmp/pwned,2003\neve,0\nmal,2004,/etc/cron.d\n"
    with bare("head-1", users=users) as machines:
        done = machines.on_create("head-1")
        assert done.returncode == 1
        said = done.stdout
        assert "stage users failed: shared_users.txt is not a valid list of users" in said
        for line in (2, 3, 4, 5):
            assert f"shared_users.txt:{line}: " in said
        assert machines.runner("head-1").run(["test", "-e", "/tmp/pwned"], timeout=10).returncode == 1
        assert machines.runner("head-1").run(["id", "ann"], timeout=10).returncode == 1


def test_slurms_own_authentication_takes_munges_place() -> None:
    with bare("head-1", "work-1", lifecycle="profile: container\nauth: slurm\n") as machines:
        assert machines.on_create("head-1").returncode == 0
        assert machines.on_create("work-1").returncode == 0
        node = machines.run("work-1", "hostname")
        assert machines.run("head-1", "srun", "hostname") == node
        assert machines.run("work-1", "srun", "hostname") == node
        assert machines.runner("work-1").run(["pgrep", "-x", "munged"], timeout=10).returncode == 1
        assert machines.run("work-1", "stat", "-c", "%U %a", "/etc/slurm/slurm.key") == "slurm 600\n"


def test_the_legacy_form_alone_makes_the_same_cluster() -> None:
    shown: list[str] = []
    for legacy in (False, True):
        with bare("head-1", "work-1", legacy=legacy) as machines:
            assert machines.on_create("head-1").returncode == 0
            assert machines.on_create("work-1").returncode == 0
            name = machines.run("work-1", "hostname").strip()
            address = machines.addresses["work-1"]
            text = machines.run("head-1", "cat", "/etc/slurm/slurm.conf")
            own = [machines.run("head-1", "hostname").strip(), machines.addresses["head-1"], name, address]
            for number, value in enumerate(own):
                text = text.replace(value, f"<{number}>")
            # The older form knows no strategy: Managed is what a request that names none means, too.
            shown.append(text)
            assert machines.run("head-1", "sinfo", "-h", "-p", "p", "-o", "%N %T").strip() == f"{name} idle"
    assert shown[0] == shown[1]
