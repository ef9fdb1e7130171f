"""Partitions that refuse a job or let it wait, nodes that are down: real slurmctlds and our model agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hpadmin.slurm.hostlist import expand
from hpadmin.topology.graph import BlockTopology
from hpadmin.topology.offline import folder_reader, from_configuration
from hpadmin.topology.placement import JobView, Planner, Snapshot
from hpadmin.topology.release import Release
from tests.slurm.topology.record import play
from tests.support.box import Box
from tests.unit.topology.replay import Tally, parse

pytestmark = pytest.mark.slurm

CONF = """\
NodeName=n[1-8] CPUs=4 State=CLOUD Feature=a NodeAddr=127.0.0.[1-8]
DownNodes=n8 State=DOWN Reason=fan
PartitionName=all Nodes=ALL MaxTime=INFINITE
PartitionName=most Nodes=ALL MaxNodes=2 MaxTime=INFINITE
PartitionName=least Nodes=ALL MinNodes=3 MaxTime=INFINITE
PartitionName=half Nodes=n[1-4] MaxNodes=2 MaxTime=INFINITE
PartitionName=alone Nodes=n[1-4] OverSubscribe=EXCLUSIVE MaxTime=INFINITE
PartitionName=down Nodes=ALL State=DOWN MaxNodes=2 MaxTime=INFINITE
PartitionName=inactive Nodes=ALL State=INACTIVE MaxTime=INFINITE
PartitionName=drain Nodes=ALL State=DRAIN MaxTime=INFINITE
TopologyPlugin=topology/block
"""
BLOCKS = "BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[5-8]\nBlockSizes=4\n"
YAML = """\
- topology: net
  cluster_default: true
  block: {block_sizes: [4], blocks: [{block: b1, nodes: 'n[1-4]'}, {block: b2, nodes: 'n[5-8]'}]}
"""
JOBS = [
    "-N1",
    "-N3 -p most",
    "-N9 -p most",
    "-N3 -p most -C nothing",
    "-N2 -p least",
    "-N3 -p half",
    "-N5 -p half",
    "-N2 -p half -w n5",
    "-N1 -p down",
    "-N3 -p down",
    "-N9 -p down",
    "-N1 -p inactive",
    "-N1 -p drain",
    "-N8 -p all --exclusive",
    "-N4 -p all --exclusive -w n8",
    "-N2 -p most --exclusive",
    "-N3 -p least --exclusive",
    "-N1 -p alone",
    "-N1 -p alone",
    "-N5 -p all --exclusive",
]


@pytest.mark.parametrize("enforce", ["NO", "ANY", "ALL"])
def test_partitions_as_slurmctld_sees_them(slurm: Box, release: str, enforce: str) -> None:
    files = {"slurm.conf": f"{CONF}EnforcePartLimits={enforce}\n"}
    files |= {"topology.conf": BLOCKS} if release == "24.11" else {"topology.yaml": YAML}
    steps: list[dict[str, Any]] = [{"op": "submit", "args": job.split()} for job in JOBS]
    [played] = play(slurm, [{"files": files, "steps": steps}])
    reader = folder_reader({name: text.encode() for name, text in files.items()})
    snapshot = from_configuration(reader, Release.parse(release))
    topology = snapshot.topologies.default.topology
    assert isinstance(topology, BlockTopology)
    home = {node: block.name for block in topology.blocks for node in block.nodes}
    tally = Tally()
    for job, step in zip(JOBS, played["steps"], strict=True):
        ours = Planner(snapshot).place(parse(job.split()))
        tally.add(f"{release} {enforce} {job}", step["outcome"], ours, home)
        if step["outcome"]["result"] == "starts":
            snapshot = _with_job(snapshot, job, step["outcome"]["nodes"])
    assert tally.disagreements == [], "\n".join(tally.disagreements)
    assert tally.started >= 3


def _with_job(snapshot: Snapshot, job: str, nodes: str) -> Snapshot:
    """The cluster with one more job, which has its nodes to itself (all jobs of this test that start do)."""
    return replace(snapshot, jobs=(*snapshot.jobs, JobView(job, frozenset(expand(nodes)))))
