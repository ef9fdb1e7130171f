"""The snapshot of a running Slurm: what it says of nodes, jobs and topology, and what is planned on it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from hpadmin.slurm.hostlist import expand
from hpadmin.topology.graph import BlockTopology
from hpadmin.topology.live import from_running
from hpadmin.topology.offline import ReadFile, from_configuration
from hpadmin.topology.placement import Planner, Request, Snapshot
from hpadmin.topology.show import as_lines
from tests.slurm.topology.oracle import SLURM_CONF
from tests.slurm.topology.record import ORACLE
from tests.support.box import Box, box

pytestmark = pytest.mark.slurm

ROOT = "/run/oracle"
NODES = """\
NodeName=a[1-4] CPUs=4 State=CLOUD Feature=fast Gres=gpu:2
NodeName=b[1-4] CPUs=4 State=CLOUD Weight=5
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
PartitionName=some Nodes=b[1-4] MaxTime=INFINITE ExclusiveTopo=YES
PartitionName=whole Nodes=ALL OverSubscribe=EXCLUSIVE
PartitionName=both Nodes=b[1-4] OverSubscribe=EXCLUSIVE ExclusiveTopo=true
TopologyPlugin=topology/block
"""
EXCLUSIVE = """\
PartitionName=nobody Nodes=ALL OverSubscribe=EXCLUSIVE Exclusive=NO
PartitionName=node Nodes=ALL Exclusive=NODE
PartitionName=user Nodes=ALL OverSubscribe=EXCLUSIVE Exclusive=user
PartitionName=topo Nodes=ALL OverSubscribe=NO Exclusive=TOPO
PartitionName=twice Nodes=ALL ExclusiveTopo=YES Exclusive=USER
PartitionName=shared Nodes=ALL Exclusive=USER
"""
"""What 26.05 reads besides."""
CONF = "BlockName=us1 Nodes=a[1-4]\nBlockName=us2 Nodes=b[1-4]\nBlockSizes=4\n"
YAML = """\
- topology: ultraservers
  cluster_default: true
  block: {block_sizes: [4], blocks: [{block: us1, nodes: 'a[1-4]'}, {block: us2, nodes: 'b[1-4]'}]}
"""


def until(machine: Box, argv: list[str], expected: str) -> None:
    """Wait until the command prints `expected`."""
    deadline = time.monotonic() + 240
    while expected not in (said := machine.run(argv, timeout=120).stdout):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def submit(machine: Box, args: list[str]) -> dict[str, str]:
    """Ask the slurmctld in `machine` for an allocation; one that starts stays."""
    code = "import json, sys, oracle; print(json.dumps(oracle.submit({'args': sys.argv[1:]})))"
    done = machine.run(
        ["python3", "-c", code, *args],
        timeout=240,
        env={"PYTHONPATH": "/tmp", "ORACLE_CONF": "/etc/slurm"},
    )
    answer: dict[str, str] = json.loads(done.check().stdout)
    return answer


@pytest.fixture(scope="module", params=["24.11", "26.05"])
def running(request: pytest.FixtureRequest) -> Iterator[Box]:
    """A slurmctld with two blocks and three jobs: one on whole nodes, one that shares, one alone in its block."""
    with box(request.param) as machine:
        machine.run(["mkdir", "-p", f"{ROOT}/state", f"{ROOT}/spool", "/etc/slurm"], timeout=120).check()
        machine.run(
            ["sh", "-c", "head -c 1024 /dev/urandom >/etc/slurm/slurm.key; chmod 600 /etc/slurm/slurm.key"],
            timeout=120,
        ).check()
        more = EXCLUSIVE if request.param == "26.05" else ""
        machine.put("/etc/slurm/slurm.conf", SLURM_CONF.format(root=ROOT) + NODES + more)
        name, text = ("topology.conf", CONF) if request.param == "24.11" else ("topology.yaml", YAML)
        machine.put(f"/etc/slurm/{name}", text)
        machine.run(["slurmctld", "-c"], timeout=240).check()
        until(machine, ["scontrol", "ping"], "is UP")
        machine.run(
            ["scontrol", "update", "NodeName=a4", "State=drain", "Reason=broken fan"], timeout=30
        ).check()
        machine.put("/tmp/oracle.py", ORACLE.read_text())
        for args in (["--exclusive", "-w", "a1"], ["-w", "a2", "--gres=gpu:1"], ["-p", "some", "-w", "b1"]):
            assert submit(machine, ["-N1", *args])["result"] == "starts"
        yield machine


def reader(machine: Box) -> ReadFile:
    def read(name: str) -> bytes | None:
        done = machine.run(["cat", f"/etc/slurm/{name}"], timeout=120)
        return done.stdout.encode() if done.returncode == 0 else None

    return read


def snapshot_of(machine: Box) -> Snapshot:
    return from_running(machine, lambda folder: reader(machine))


def test_nodes_jobs_and_partitions(running: Box) -> None:
    snapshot = snapshot_of(running)
    assert snapshot.names == (*expand("a[1-4]"), *expand("b[1-4]"))
    nodes = {node.name: node for node in snapshot.nodes}
    assert (nodes["a1"].cpus_used, nodes["a2"].cpus_used, nodes["a3"].cpus_used) == (4, 1, 0)
    assert (nodes["a2"].gres.get("gpu"), nodes["a2"].gres_used.get("gpu")) == (2, 1)
    assert (nodes["a4"].usable, nodes["a4"].reason) == (False, "broken fan")
    assert nodes["b1"].weight == 5
    assert nodes["a1"].features == {"fast"}
    assert sorted((sorted(job.nodes), job.whole, job.partition) for job in snapshot.jobs) == [
        (["a1"], True, "all"),
        (["a2"], False, "all"),
        (["b1"], snapshot.release.has_exclusive_partitions, "some"),
    ]
    assert [one.name for one in snapshot.partitions if one.default] == ["all"]
    topology = snapshot.topologies.default.topology
    assert isinstance(topology, BlockTopology)
    assert [block.name for block in topology.blocks] == ["us1", "us2"]
    assert any("broken fan" in line for line in as_lines(snapshot))


def test_partitions_that_share_nothing_are_read_from_files_as_slurmctld_reads_them(running: Box) -> None:
    live = snapshot_of(running)
    told = {one.name: (one.whole, one.exclusive_topo) for one in live.partitions}
    files = from_configuration(reader(running), live.release)
    assert {one.name: (one.whole, one.exclusive_topo) for one in files.partitions} == told
    new = live.release.has_exclusive_partitions
    assert told["all"] == (False, False)
    assert told["whole"] == (True, False)
    assert told["both"] == (True, True)
    assert told["some"] == (new, True)


WANTED = [
    (["-N2"], Request(2)),
    (["-N2", "--exclusive"], Request(2, whole=True)),
    (["-N1", "--exclusive=topo"], Request(1, exclusive_topo=True)),
    (["-N2", "-p", "some"], Request(2, partition="some")),
    (["-N1", "--gres=gpu:2"], Request(1, gres={"gpu": 2})),
    (["-N1", "-C", "fast"], Request(1, constraint="fast")),
    (["-N4"], Request(4)),
    (["-N9"], Request(9)),
]


def test_plans_agree_with_slurm(running: Box) -> None:
    """One after the other: jobs that start stay, so that each plan reads another state."""
    for args, wanted in WANTED:
        planned = Planner(snapshot_of(running)).place(wanted)
        real = submit(running, args)
        assert planned.result == real["result"], (args, real, planned)
        assert list(planned.nodes) == expand(real.get("nodes", "")), (args, real, planned)
