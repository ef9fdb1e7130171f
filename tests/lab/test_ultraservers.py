"""The sample scenarios of the topology guide, on two UltraServers of four nodes: which block each node came from.

The guide's blocks have 18 nodes; here N18 is N4, N36 is N8, N24 is N6 and a segment of 12 one of 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from hpadmin.lab.cluster import Lab
from tests.support import labs

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labs.running_lab(labs.example("ultraservers.json"), ultraserver_nodes=4) as running:
        yield running


@pytest.fixture(autouse=True)
def _empty_queue(lab: Lab) -> Iterator[None]:
    yield
    labs.login(lab, "scancel", "-u", "root")
    labs.wait_until(
        lambda: (
            not labs.login(lab, "squeue", "-h").stdout.strip()
            and set(lab.slurm_states().values()) == {"idle"}
        ),
        120,
        "an empty queue and idle nodes",
    )


def blocks_of(lab: Lab, nodes: list[str]) -> Counter[str | None]:
    """How many of `nodes` each UltraServer gave."""
    home = {node.instance.hostname: node.instance.ultraserver for node in lab.nodes()}
    return Counter(home[name] for name in nodes)


def run(lab: Lab, *arguments: str) -> Counter[str | None]:
    """Start a job that stays, and tell which blocks its nodes are from."""
    job = labs.submit(lab, "-p", "training", *arguments, "--wrap", "sleep 600")
    labs.wait_for_state(lab, job, "RUNNING")
    return blocks_of(lab, labs.nodes_of(lab, job))


def test_slurm_knows_the_blocks(lab: Lab) -> None:
    said = labs.login(lab, "scontrol", "show", "topology").stdout
    assert said.count("BlockName=") >= 2
    assert "BlockSize=4" in said


def test_every_node_knows_those_it_shares_memory_with(lab: Lab) -> None:
    computes = [node.instance for node in lab.nodes() if node.role == "compute"]
    for instance in computes:
        said = (
            lab.runner(instance.name).run(["cat", "/etc/nvidia-imex/nodes_config.cfg"], timeout=120).check()
        )
        assert said.stdout.split() == [
            one.address for one in computes if one.ultraserver == instance.ultraserver
        ]
    assert "SwitchType" in (config := labs.login(lab, "scontrol", "show", "config").stdout)
    assert "switch/nvidia_imex" in config


def test_a_whole_block(lab: Lab) -> None:
    assert sorted(run(lab, "-N4").values()) == [4]


def test_two_blocks(lab: Lab) -> None:
    assert sorted(run(lab, "-N8").values()) == [4, 4]


def test_one_block_and_a_part_of_another(lab: Lab) -> None:
    assert sorted(run(lab, "-N6").values()) == [2, 4]


def test_segments_split_evenly(lab: Lab) -> None:
    assert sorted(run(lab, "-N6", "--segment=3").values()) == [3, 3]


def test_a_segment_that_no_block_can_hold_is_refused_where_it_is_submitted(lab: Lab) -> None:
    compute = next(node.instance.name for node in lab.nodes() if node.role == "compute")
    impossible = ["sbatch", "-p", "training", "-N8", "--segment=5", "--wrap", "true"]
    # A login node has its configuration from sackd, a compute node from slurmd; users submit from both.
    for said in (labs.login(lab, *impossible, check=False), lab.runner(compute).run(impossible, timeout=60)):
        assert said.returncode != 0
        assert (
            "hpadmin: this job could never start: a segment of 5 is larger than the planning block"
            in said.stderr
        )
        assert "this would work: -N8 --segment=4" in said.stderr
    assert labs.login(lab, "squeue", "-h").stdout == ""


def test_exclusive_topo_keeps_others_out_of_the_block(lab: Lab) -> None:
    alone = run(lab, "-N3", "--exclusive=topo")
    assert sorted(alone.values()) == [3]
    other = run(lab, "-N2")
    assert set(other) == set(
        blocks_of(lab, [n.instance.hostname for n in lab.nodes() if n.role == "compute"])
    ) - set(alone)


def test_a_job_that_fits_no_free_block_waits(lab: Lab) -> None:
    run(lab, "-N3", "--exclusive=topo")
    waiting = labs.submit(lab, "-p", "training", "-N8", "--wrap", "sleep 600")
    labs.wait_until(
        lambda: labs.job_field(lab, waiting, "Reason") == "Resources", 60, "the job waits for resources"
    )


def test_a_gpu_job_sees_the_gpus_of_an_ultraserver_node(lab: Lab) -> None:
    said = labs.login(
        lab, "srun", "-p", "training", "-N1", "--gres=gpu:4", "printenv", "CUDA_VISIBLE_DEVICES"
    )
    assert said.stdout.strip() == "0,1,2,3"
