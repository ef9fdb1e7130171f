"""The guide's complete CreateCluster example runs on real Slurm: nodes, GRES, partitions, jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from hpadmin.lab.cluster import Lab
from tests.support import labs
from tests.support.daemonlogs import complains

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labs.running_lab(labs.example("guide.json")) as running:
        yield running


def by_group(lab: Lab, group: str) -> set[str]:
    return {node.instance.hostname for node in lab.nodes() if node.instance.group == group}


def test_every_node_is_idle_with_the_gres_of_its_type(lab: Lab) -> None:
    said = labs.login(lab, "sinfo", "-h", "-N", "-p", "dev", "-o", "%N|%T|%G|%c").stdout.splitlines()
    rows = {name: rest for name, *rest in (line.split("|") for line in said)}
    assert set(rows) == by_group(lab, "gpu-compute") | by_group(lab, "cpu-compute")
    for name in by_group(lab, "gpu-compute"):
        assert rows[name] == ["idle", "gpu:a100:8", "96"]
    for name in by_group(lab, "cpu-compute"):
        assert rows[name] == ["idle", "(null)", "72"]


def test_partitions_are_those_of_the_request_and_dev(lab: Lab) -> None:
    said = labs.login(lab, "sinfo", "-h", "-N", "-o", "%P|%N").stdout.split()
    members: dict[str, set[str]] = {}
    for line in said:
        partition, node = line.split("|")
        members.setdefault(partition, set()).add(node)
    assert members == {
        "dev*": by_group(lab, "gpu-compute") | by_group(lab, "cpu-compute"),
        "gpu-training": by_group(lab, "gpu-compute"),
        "cpu-preprocessing": by_group(lab, "cpu-compute"),
    }


def test_a_gpu_job_sees_its_gpus(lab: Lab) -> None:
    said = labs.login(
        lab, "srun", "-p", "gpu-training", "-N2", "--gres=gpu:a100:4", "sh", "-c",
        'echo "$(hostname) $CUDA_VISIBLE_DEVICES"',
    )  # fmt: skip
    rows = dict(line.split() for line in said.stdout.splitlines())
    assert set(rows) <= by_group(lab, "gpu-compute")
    assert len(rows) == 2
    assert set(rows.values()) == {"0,1,2,3"}


def test_a_job_runs_on_every_node_of_dev(lab: Lab) -> None:
    everyone = by_group(lab, "gpu-compute") | by_group(lab, "cpu-compute")
    said = labs.login(lab, "srun", f"-N{len(everyone)}", "hostname", timeout=300)
    assert set(said.stdout.split()) == everyone


def test_no_daemon_complains_about_our_files(lab: Lab) -> None:
    complaints = {}
    for node in lab.nodes():
        logs = lab.runner(node.instance.name).run(
            ["sh", "-c", "cat /var/log/slurm/slurmctld.log /var/log/slurm/slurmd.log 2>/dev/null"], timeout=30
        )
        found = [line for line in logs.stdout.splitlines() if complains(line)]
        if found:
            complaints[node.instance.name] = found
    assert complaints == {}


def test_status_tells_every_node(lab: Lab) -> None:
    from click.testing import CliRunner

    from admin_cli.root import root

    done = CliRunner().invoke(
        root, ["lab", "status", "--name", lab.name, "-o", "json"], standalone_mode=False
    )
    nodes = json.loads(done.stdout)["nodes"]
    assert {node["role"] for node in nodes} == {"controller", "login", "compute"}
    assert {node["status"] for node in nodes} == {"ready"}
    assert len(nodes) == 14
