"""A controller and a compute node of the guide's cluster, on the rendered files in one container."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from hpadmin.configure import desired, templates
from hpadmin.configure.options import CONTAINER
from hpadmin.slurm.command import Completed
from tests.support.box import Box, box
from tests.support.daemonlogs import complains
from tests.unit.configure.clusters import cluster, example

pytestmark = pytest.mark.slurm

CONTROLLER, GPU_NODE = "10.1.1.10", "ip-10-1-2-3"
PASSWORD = r"p#ss\word 'x' y"
OPTIONS = replace(CONTAINER, auth="slurm")


def run(host: Box, *argv: str) -> Completed:
    return host.run(argv, timeout=240).check()


def wait_for(what: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def log(host: Box, daemon: str) -> list[str]:
    """Errors and warnings of a daemon's log."""
    lines = run(host, "cat", f"/var/log/slurm/{daemon}.log").stdout.splitlines()
    return [line for line in lines if complains(line)]


@pytest.fixture(scope="module")
def host() -> Iterator[Box]:
    with box("24.11", hostname="ip-10-1-1-10", capabilities=("NET_ADMIN", "MKNOD", "SYS_ADMIN")) as running:
        # Nobody but this container answers to the cluster's addresses.
        run(running, "ip", "route", "del", "default")
        for address in (CONTROLLER, "10.1.2.3"):
            run(running, "ip", "address", "add", f"{address}/32", "dev", "lo")
        for index in range(8):
            run(running, "mknod", f"/dev/fakegpu{index}", "c", "1", "3")
        for folder in ("/var/spool/slurmctld", "/var/spool/slurmd", "/var/log/slurm"):
            run(running, "mkdir", "-p", folder)
        run(running, "chown", "slurm:", "/var/spool/slurmctld", "/var/log/slurm")
        files = desired.render(example("guide"), OPTIONS)
        # slurmdbd never prints its password; slurm.conf has the same grammar and prints MailDomain.
        files["slurm.conf"] += f"MailDomain={templates.secret(PASSWORD)}\n"
        running.write_tree("/etc/slurm", files)
        running.put("/etc/slurm/slurm.key", os.urandom(1024), mode=0o600)
        run(running, "chown", "slurm:", "/etc/slurm/slurm.key")
        run(running, "slurmctld", "-i")
        wait_for(lambda: running.run(["scontrol", "ping"], timeout=30).returncode == 0)
        run(running, "slurmd", "-N", GPU_NODE, "--conf-server", CONTROLLER)
        wait_for(lambda: node(running, GPU_NODE)["state"] == ["IDLE"])
        yield running


def node(host: Box, name: str) -> dict[str, list[str]]:
    found = json.loads(run(host, "scontrol", "--json", "show", "node", name).stdout)["nodes"][0]
    return {key: found[key] for key in ("state", "gres", "partitions", "features", "cpus", "real_memory")}


def test_the_node_registers_with_what_its_type_has(host: Box) -> None:
    assert node(host, GPU_NODE) == {
        "state": ["IDLE"],
        "gres": "gpu:a100:8",
        "partitions": ["dev", "gpu-training"],
        "features": ["gpu-compute", "ml.p4d.24xlarge"],
        "cpus": 96,
        "real_memory": 1120666,
    }


def test_partitions(host: Box) -> None:
    said = run(host, "sinfo", "--noheader", "-o", "%P %D %N").stdout.splitlines()
    assert sorted(said) == [
        "cpu-preprocessing 4 ip-10-1-3-[3-6]",
        "dev* 12 ip-10-1-2-[3-10],ip-10-1-3-[3-6]",
        "gpu-training 8 ip-10-1-2-[3-10]",
    ]


@pytest.mark.parametrize(
    ("asked", "seen"),
    [("--gres=gpu:2", "0,1"), ("--gres=gpu:a100:8", "0,1,2,3,4,5,6,7"), ("--gpus=1", "0")],
)
def test_a_job_sees_the_gpus_that_it_asked_for(host: Box, asked: str, seen: str) -> None:
    said = run(host, "srun", "-w", GPU_NODE, asked, "printenv", "CUDA_VISIBLE_DEVICES")
    assert said.stdout.strip() == seen


@pytest.mark.parametrize("feature", ["gpu-compute", "ml.p4d.24xlarge"])
def test_jobs_can_ask_for_a_group_or_a_type(host: Box, feature: str) -> None:
    said = run(host, "srun", "-C", feature, "-p", "gpu-training", "printenv", "SLURMD_NODENAME")
    assert said.stdout.strip() == GPU_NODE


def test_settings_that_hyperpod_has(host: Box) -> None:
    said = run(host, "scontrol", "show", "config").stdout
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    found = {key.strip(): value.strip() for key, value in found.items()}
    assert found["ResumeTimeout"] == "300 sec"
    assert found["UnkillableStepTimeout"] == "300 sec"
    assert found["SchedulerParameters"] == "permit_job_expansion,batch_sched_delay=1"
    assert found["SlurmctldParameters"] == "enable_configless"
    assert found["ReturnToService"] == "2"


def test_neither_daemon_has_a_word_against_the_files(host: Box) -> None:
    assert log(host, "slurmctld") == []
    assert log(host, "slurmd") == []


@pytest.mark.parametrize(
    ("instance_type", "name", "expected"),
    [
        ("ml.p5.48xlarge", "ip-10-2-0-1", ["Name=gpu Type=h100 Count=8 File=/dev/fakegpu[0-7]"]),
        ("ml.trn2.3xlarge", "ip-10-2-0-1", [
            "Name=gpu Type=trainium2 Count=1 File=/dev/fakegpu0",
            "Name=neuroncore Type=(null) Count=8 File=(null)",
        ]),
        ("ml.c5.large", "ip-10-2-0-1", []),
    ],
)  # fmt: skip
def test_what_slurmd_makes_of_gres_conf(
    host: Box, instance_type: str, name: str, expected: list[str]
) -> None:
    folder = f"/tmp/{instance_type}"
    host.write_tree(folder, desired.render(cluster((("group", instance_type, 2),)), OPTIONS))
    run(host, "cp", "-p", "/etc/slurm/slurm.key", folder)
    said = host.run(["slurmd", "-G", "-N", name, "-f", f"{folder}/slurm.conf"], timeout=240).check().stderr
    lines = [line.split("Gres ", 1)[1] for line in said.splitlines() if "Gres Name=" in line]
    fields = [dict(part.split("=", 1) for part in line.split()) for line in lines]
    wanted = ("Name", "Type", "Count", "File")
    assert [" ".join(f"{key}={each.get(key, '(null)')}" for key in wanted) for each in fields] == expected


def test_slurm_reads_an_escaped_password_as_it_was_given(host: Box) -> None:
    said = run(host, "scontrol", "show", "config").stdout
    domain = next(line for line in said.splitlines() if line.startswith("MailDomain "))
    assert domain.partition("= ")[2] == PASSWORD
