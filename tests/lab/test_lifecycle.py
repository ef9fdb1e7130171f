"""From bare containers to a cluster that people work on, and what its lifecycle promises about it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpadmin.lab.cluster import Lab
from tests.support import labs, secrets

pytestmark = pytest.mark.lab

ON_CREATE = "/opt/hpadmin/lifecycle/on_create.sh"
STATE = "/var/lib/hpadmin/lifecycle/state.json"
FILE_SYSTEM = "fs-0123456789abcdef0.fsx.us-west-2.amazonaws.com"


@dataclass(frozen=True)
class Site:
    """A lab, and the private key that ann logs in with."""

    lab: Lab
    key: Path

    def ssh(self, node: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as ann over SSH, from this host."""
        address = self.lab.node(node).instance.address
        options = (
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ConnectTimeout=20",
        )
        return subprocess.run(
            ["ssh", "-i", str(self.key), *(f"-o{option}" for option in options), f"ann@{address}", *command],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def run(self, node: str, *command: str, timeout: float = 300) -> str:
        """Run a command as root on a node; return what it printed."""
        return self.lab.runner(node).run(command, timeout=timeout).check().stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    key = tmp_path_factory.mktemp("keys") / "ann"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    source = labs.with_home(
        labs.request(
            ("controller", "ml.c5.xlarge", 1, "Controller", None),
            ("login", "ml.c5.xlarge", 1, "Login", None),
            ("gpu", "ml.g5.12xlarge", 1, "Compute", "train"),
            ("cpu", "ml.c5.xlarge", 1, "Compute", "prepare"),
        ),
        FILE_SYSTEM,
    )
    bundle = {
        "shared_users.txt": "ann,2001\nbob,2002,/fsx/bob\n",
        "ssh_keys/ann.pub": key.with_suffix(".pub").read_text(),
    }
    lifecycle = "profile: container\naccounting: true\nrest: true\n"
    with labs.running_lab(source, lifecycle=lifecycle, bundle=bundle) as lab:
        yield Site(lab, key)


NODES = ("controller-1", "login-1", "gpu-1", "cpu-1")


def test_a_user_logs_in_submits_and_finds_the_output_in_the_shared_home(site: Site) -> None:
    done = site.ssh(
        "login-1",
        "sbatch",
        "--parsable",
        "--wait",
        "-N2",
        "-o",
        "out",
        "--wrap",
        "'srun hostname; pwd; id -un'",
    )
    assert done.returncode == 0, done.stderr
    hosts = sorted(site.lab.node(name).instance.hostname for name in ("gpu-1", "cpu-1"))
    said = site.ssh("login-1", "cat", "out").stdout.splitlines()
    assert sorted(said[:2]) == hosts
    assert said[2:] == ["/home/ann", "ann"]


def test_users_cannot_log_in_elsewhere(site: Site) -> None:
    for node in ("controller-1", "cpu-1"):
        done = site.ssh(node, "true")
        assert done.returncode == 255
        assert "Permission denied" in done.stderr


def test_accounts_are_kept_in_a_real_database(site: Site) -> None:
    assert "mariadbd" in site.run("controller-1", "ps", "-eo", "comm")
    listed = site.run("controller-1", "sacctmgr", "-nP", "show", "assoc", "format=cluster,account,user")
    assert {"test|users|ann", "test|users|bob"} <= set(listed.splitlines())
    job = site.ssh(
        "login-1", "sbatch", "--parsable", "--wait", "-o", "/dev/null", "--wrap", "true"
    ).stdout.strip()
    labs.wait_until(
        lambda: (
            site.run("controller-1", "sacct", "-nXP", "-j", job, "-o", "user,account,state").strip()
            == "ann|users|COMPLETED"
        ),
        60,
        "the job is in the accounts",
    )


def test_users_see_their_own_jobs_alone(site: Site) -> None:
    job = site.ssh(
        "login-1", "sbatch", "--parsable", "-o", "/dev/null", "--wrap", "'sleep 300'"
    ).stdout.strip()
    # Those of the tests before may still be completing.
    squeue = ["squeue", "-h", "-t", "PD,R", "-o", "%A"]
    assert site.ssh("login-1", *squeue).stdout.split() == [job]
    assert site.run("login-1", "runuser", "-u", "bob", "--", *squeue).split() == []
    assert site.run("login-1", *squeue).split() == [job]
    site.ssh("login-1", "scancel", job)


def test_slurmrestd_answers_who_shows_a_token_and_nobody_else(site: Site) -> None:
    controller = site.lab.runner("controller-1")
    assert secrets.answers_of_slurmrestd(controller, secrets.token(controller)) == ["200", "401"]


SNAPSHOT = (
    *("find", "/", "-xdev", "("),
    *(
        "-path",
        "/proc",
        "-o",
        "-path",
        "/sys",
        "-o",
        "-path",
        "/dev",
        "-o",
        "-path",
        "/tmp",
        "-o",
        "-path",
        "/run",
    ),
    *("-o", "-path", "/var/log", "-o", "-path", "/var/lib/mysql", "-o", "-path", "/var/spool/slurmctld"),
    *(
        "-o",
        "-path",
        "/var/spool/slurmd",
        ")",
        "-prune",
        "-o",
        "-type",
        "f",
        "-not",
        "-path",
        "*/lifecycle/state.json",
    ),
    *("-printf", "%p|%T@|%C@|%m|%u|%s\\n"),
)
"""Every file with its times, mode, owner and size, without what daemons write all the time."""


def test_a_second_run_on_every_node_changes_nothing(site: Site) -> None:
    for node in NODES:
        before = set(site.run(node, *SNAPSHOT).splitlines())
        daemons = site.run(node, "ps", "-eo", "pid,lstart,comm", "--sort", "pid").splitlines()
        site.run(node, ON_CREATE)
        assert set(site.run(node, *SNAPSHOT).splitlines()) == before, node
        kept = set(site.run(node, "ps", "-eo", "pid,lstart,comm", "--sort", "pid").splitlines())
        lasting = {
            line for line in daemons if line.split()[-1] in ("slurmctld", "slurmd", "sackd", "munged", "sshd")
        }
        assert lasting <= kept, node
        outcomes = json.loads(site.run(node, "cat", STATE))["stages"]
        assert [outcome["changes"] for outcome in outcomes if outcome["changes"]] == [], node


def test_a_dry_run_says_nothing_to_do_and_does_nothing(site: Site) -> None:
    before = site.run("cpu-1", "cat", STATE)
    said = site.run("cpu-1", ON_CREATE, "--dry-run").splitlines()
    assert [line for line in said if "INFO compute: nothing to do" in line]
    assert all(line.endswith("nothing to do") for line in said[1:])
    assert site.run("cpu-1", "cat", STATE) == before


def test_no_secret_is_in_logs_processes_environments_or_files_that_others_can_read(site: Site) -> None:
    runner = site.lab.runner("controller-1")
    for node in NODES:
        count, places = secrets.shown(site.lab.runner(node))
        assert (count >= 3, places) == (True, "[]"), node
    # The database's password is the one that was made here; nobody comes in without it.
    password = site.run("controller-1", "cat", "/etc/hpadmin/database-password").strip()
    assert f'StoragePass="{password}"' in site.run("controller-1", "cat", "/etc/slurm/slurmdbd.conf")
    assert site.run("controller-1", "stat", "-c", "%a %U", "/etc/slurm/slurmdbd.conf") == "600 slurm\n"
    done = runner.run(["runuser", "-u", "slurm", "--", "mariadb", "-e", "SELECT 1"], timeout=60)
    assert "Access denied for user 'slurm'@'localhost' (using password: NO)" in done.stderr


def test_a_replaced_node_comes_back_while_a_job_runs_elsewhere(site: Site) -> None:
    job = site.ssh(
        "login-1", "sbatch", "--parsable", "-p", "train", "-o", "/dev/null", "--wrap", "'sleep 600'"
    ).stdout.strip()
    labs.wait_for_state(site.lab, int(job), "RUNNING")
    controller = site.run("controller-1", "pgrep", "-x", "-o", "slurmctld")
    old = site.lab.node("cpu-1").instance.address
    site.lab.replace("cpu-1")
    site.lab.wait_ready(timeout=300, say=lambda _: None)
    assert site.lab.node("cpu-1").instance.address != old
    assert labs.job_field(site.lab, int(job), "JobState") == "RUNNING"
    assert labs.job_field(site.lab, int(job), "Restarts") == "0"
    assert controller
    done = site.ssh("login-1", "srun", "-p", "prepare", "cat", "/home/ann/.ssh/id_ed25519.pub")
    assert done.stdout.startswith("ssh-ed25519 ")
    site.ssh("login-1", "scancel", job)


def test_a_machine_that_reboots_is_a_node_again(site: Site) -> None:
    host = site.lab.node("cpu-1").instance.hostname
    before = labs.slurmd_start(site.lab, host)
    site.lab.reboot("cpu-1")
    labs.wait_for_another_slurmd(site.lab, host, before)
    done = site.ssh("login-1", "srun", "-p", "prepare", "ls", "/home")
    assert done.stdout.split() == ["ann", "bob"]
