"""topology/block: the node that joins a job comes from the block of the one that it lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.slurm.resume.cluster import Cluster, cluster
from tests.slurm.resume.test_resume_live import STEP

pytestmark = pytest.mark.slurm

BLOCKS = """\
BlockName=b1 Nodes=n[1-3]
BlockName=b2 Nodes=n[4-6]
BlockSizes=3
"""


SETTINGS = """\
TopologyPlugin=topology/block
PartitionName=shared Nodes=n[1-6] MaxTime=INFINITE
"""


@pytest.fixture(scope="module")
def blocks() -> Iterator[Cluster]:
    with cluster(SETTINGS, {"topology.conf": BLOCKS}) as running:
        yield running


def test_the_node_that_joins_is_of_the_same_block(blocks: Cluster) -> None:
    slurm = blocks
    # The third node of the job's block is at work until the other block alone has idle nodes.
    busy = slurm.submit("busy", "sleep 600", "-N1", "-w", "n3")
    slurm.wait_state(busy, "RUNNING")
    job = slurm.submit("train", STEP % 600, "--auto-resume=1", "-N2", "-w", "n[1-2]")
    slurm.wait_output("train", "start 0", times=2)
    slurm.kill_node("n2")
    slurm.wait_output("train", "Waiting for 1 node(s) of block b1 to join the job", 240)
    idle = slurm.sh("sinfo -h -t idle -p dev -N -o %N").stdout.split()
    assert {"n4", "n5", "n6"} <= set(idle), "the other block is idle"
    assert slurm.nodes_of(job) == ["n1"]
    slurm.as_user("scancel", str(busy)).check()
    text = slurm.wait_output("train", "exit 0\n", 240)
    assert sorted(re.findall(r"start 1 of 2 on (\S+)", text)) == ["n1", "n3"]


def test_a_job_that_holds_its_blocks_alone_goes_through_the_queue(blocks: Cluster) -> None:
    """Slurm gives nodes of its block to no other job, and so not to the one that would join it."""
    blocks.heal()
    options = ("--auto-resume=1", "-N2", "-p", "shared", "--exclusive=topo")
    job = blocks.submit("alone", STEP % 600, *options)
    blocks.wait_output("alone", "start 0", times=2)
    blocks.kill_node(blocks.nodes_of(job)[1])
    text = blocks.wait_output("alone", "exit 0\n", 240)
    assert "holds the block for itself" in blocks.jobs()[job]["reason"]
    assert len(re.findall(r"start 1 of 2 on (\S+)", text)) == 2
    assert blocks.jobs()[job]["last_action"] == "REQUEUE"
