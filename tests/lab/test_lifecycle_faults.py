"""What goes wrong while a node is made: each fault ends in a working node, or in a failure that names its cause."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import labs
from tests.support.bare import PYTHON, Bare, bare

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent


def nothing_half_done(machines: Bare, name: str) -> None:
    """No temporary file of ours is left on a machine, nor on the file systems that it mounts."""
    left = machines.run(
        name, "find", "/", "(", "-path", "/proc", "-o", "-path", "/sys", ")", "-prune", "-o",
        "(", "-name", "*hpadmin-new*", "-o", "-name", ".hpadmin-*", ")", "-print",
    )  # fmt: skip
    assert left == ""


def kill_everywhere(machines: Bare, name: str, places: tuple[int, int], *stages: str) -> dict[str, int]:
    """Kill a machine's lifecycle at these places of each stage, let it finish; return the kills by stage.

    No run may fail but by its kill, what killed runs left behind is gone in the end, a further run changes nothing.
    """
    machines.runner(name).put("/root/kill.py", (HERE / "kill_at_stages.py").read_text())
    machines.detached(
        name, f"{PYTHON} -u /root/kill.py {places[0]} {places[1]} {' '.join(stages)}", output="/root/killed"
    )

    def both_lines() -> list[str] | None:
        lines = machines.run(name, "cat", "/root/killed").splitlines()
        return lines if len(lines) == 2 else None

    kills, status = labs.wait_until(both_lines, 7200, f"kills on {name} and an end")
    last = machines.run(name, "sh", "-c", "tail -n 1 /root/killed-at")
    assert status == "0", f"{kills} {status}, last killed at {last}\n{machines.log(name)[-8000:]}"
    assert machines.state(name)["status"] == "done"
    nothing_half_done(machines, name)
    second = machines.on_create(name)
    assert second.returncode == 0
    assert not [
        line for line in second.stdout.splitlines() if " done in " in line and " 0 changes" not in line
    ]
    found: dict[str, int] = json.loads(kills)
    return found


def test_nodes_killed_in_the_middle_of_every_stage_become_nodes() -> None:
    everywhere = ("identity", "storage", "users", "ssh", "authentication", "logs", "submission")
    controller = ("tokens", "configuration", "accounting", "controller", "associations", "rest")
    lifecycle = "profile: container\naccounting: true\nrest: true\n"
    names = ("head-1", "door-1", "work-1")
    with bare(*names, lifecycle=lifecycle, users="ann,2001\n", home=True) as machines:
        machines.serve()
        for name, stages in zip(names, (controller, (*everywhere, "login"), ("compute",)), strict=True):
            kills = kill_everywhere(machines, name, (2, 2), *stages)
            assert all(kills[stage] for stage in stages), (name, kills)
        node = machines.run("work-1", "hostname").strip()
        assert machines.run("door-1", "srun", "-D", "/", "hostname").strip() == node
        assert "|ann" in machines.run("head-1", "sacctmgr", "-nP", "show", "assoc", "format=account,user")
        keys = machines.run("door-1", "cat", "/home/ann/.ssh/authorized_keys").splitlines()
        assert sum(line.startswith("ssh-ed25519 ") for line in keys) == 1
        assert machines.run("work-1", "ssh-keygen", "-y", "-f", "/home/ann/.ssh/id_ed25519").strip() in keys


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
        assert machines.outcome("head-1", "accounting")["changes"] == ["start mariadb", "start slurmdbd"]
        assert machines.outcome("head-1", "controller")["changes"] == []


def test_a_file_server_that_cannot_be_reached_is_waited_for() -> None:
    with bare("head-1", users="ann,2001\n", home=True) as machines:
        machines.begin("head-1")
        labs.wait_until(lambda: "cannot be mounted on /home" in machines.log("head-1"), 120, "the node waits")
        assert machines.state("head-1")["stage"] == "storage"
        # Nobody's home was made below the mount point in the meantime.
        assert machines.run("head-1", "ls", "/home") == ""
        machines.serve()
        machines.wait("head-1", "done")
        assert machines.outcome("head-1", "storage")["attempts"] > 1
        assert machines.run("head-1", "stat", "-f", "-c", "%T", "/home").strip() in ("nfs", "fuseblk", "fuse")
        assert machines.run("head-1", "ls", "/home").split() == ["ann"]


LOCK = """
import fcntl, os, signal
lock = os.open("/var/lib/dpkg/lock-frontend", os.O_RDWR | os.O_CREAT, 0o640)
fcntl.lockf(lock, fcntl.LOCK_EX)
print(os.getpid(), flush=True)
signal.pause()
"""
"""What apt does while it works. Prints its process id once it has the lock, and keeps it."""


def test_packages_are_installed_although_somebody_else_holds_apts_lock() -> None:
    with bare("work-1", lifecycle="profile: container\ncontainers: true\n") as machines:
        plugin = "usr/lib/x86_64-linux-gnu/slurm/spank_pyxis.so"
        for package, file in (("enroot", "usr/bin/enroot"), ("nvslurm-plugin-pyxis", plugin)):
            control = f"Package: {package}\nVersion: 1\nArchitecture: all\nMaintainer: t\nDescription: t\n"
            folders = (f"/tmp/{package}/DEBIAN", f"/tmp/{package}/{file.rpartition('/')[0]}")
            machines.run("work-1", "mkdir", "-p", *folders, "/opt/ml/bundle/packages")
            machines.run("work-1", "touch", f"/tmp/{package}/{file}")
            machines.runner("work-1").put(f"/tmp/{package}/DEBIAN/control", control)
            machines.run("work-1", "dpkg-deb", "--build", f"/tmp/{package}", "/opt/ml/bundle/packages")
        machines.runner("work-1").put("/root/lock.py", LOCK)
        machines.detached("work-1", f"{PYTHON} /root/lock.py", output="/root/lock")
        holder = labs.wait_until(lambda: machines.run("work-1", "cat", "/root/lock").strip(), 240, "the lock")
        machines.begin("work-1")
        labs.wait_until(lambda: machines.state("work-1").get("stage") == "containers", 60, "the stage")
        labs.wait_until(lambda: machines.runs("work-1", "apt-get"), 240, "apt-get waits")
        assert not machines.installed("work-1", "enroot")
        machines.run("work-1", "kill", holder)
        labs.wait_until(lambda: machines.state("work-1").get("stage") == "compute", 120, "the next stage")
        assert machines.installed("work-1", "enroot")
        assert machines.installed("work-1", "nvslurm-plugin-pyxis")
        assert machines.outcome("work-1", "containers")["status"] == "done"
        # The package's folder is not that of this machine's Slurm.
        own = f"/{plugin}".replace("/slurm/", "/slurm-wlm/")
        assert machines.run("work-1", "readlink", own) == f"/{plugin}\n"


def test_a_full_disk_is_named_and_nothing_half_written_stays() -> None:
    with bare("head-1") as machines:
        machines.run("head-1", "mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/etc/slurm")
        done = machines.on_create("head-1")
        assert done.returncode == 1
        assert "stage configuration failed: " in done.stdout.splitlines()[-1]
        assert "No space left on device" in done.stdout.splitlines()[-1]
        assert machines.state("head-1")["stage"] == "configuration"
        assert machines.run("head-1", "find", "/etc/slurm", "-type", "f") == ""
        # Commands of Slurm's look into the folder when they start: for moments it is in use.
        labs.wait_until(lambda: machines.unmounted("head-1", "/etc/slurm"), 120, "the folder is unmounted")
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
        assert machines.runner("head-1").run(["test", "-e", "/tmp/pwned"], timeout=120).returncode == 1
        assert machines.runner("head-1").run(["id", "ann"], timeout=120).returncode == 1


def test_slurms_own_authentication_takes_munges_place() -> None:
    with bare("head-1", "work-1", lifecycle="profile: container\nauth: slurm\n") as machines:
        assert machines.on_create("head-1").returncode == 0
        assert machines.on_create("work-1").returncode == 0
        node = machines.run("work-1", "hostname")
        assert machines.run("head-1", "srun", "hostname") == node
        assert machines.run("work-1", "srun", "hostname") == node
        assert machines.runner("work-1").run(["pgrep", "-x", "munged"], timeout=120).returncode == 1
        assert machines.run("work-1", "stat", "-c", "%U %a", "/etc/slurm/slurm.key") == "slurm 600\n"


def test_the_legacy_form_alone_makes_the_same_cluster() -> None:
    shown: list[str] = []
    for legacy in (False, True):
        with bare("head-1", "work-1", legacy=legacy) as machines:
            assert machines.on_create("head-1").returncode == 0
            address = machines.addresses["work-1"]
            name = f"ip-{address.replace('.', '-')}"
            text = machines.run("head-1", "cat", "/etc/slurm/slurm.conf")
            own = [machines.run("head-1", "hostname").strip(), machines.addresses["head-1"], name, address]
            for number, value in enumerate(own):
                text = text.replace(value, f"<{number}>")
            # The older form knows no strategy: Managed is what a request that names none means, too.
            shown.append(text)
            if legacy:
                assert machines.on_create("work-1").returncode == 0
                said = machines.run("head-1", "sinfo", "-h", "-p", "p", "-o", "%N %T").strip()
                assert said == f"{name} idle"
    assert shown[0] == shown[1]
