from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.slurm.command import Completed
from hpadmin.topology.graph import BlockTopology, FlatTopology, TreeTopology
from hpadmin.topology.live import from_running, parse_topology
from hpadmin.topology.offline import folder_reader, from_configuration
from hpadmin.topology.placement import Planner, Request
from hpadmin.topology.release import Release

OLD, NEW = Release(24, 11), Release(26, 5)

CONF = b"""\
ClusterName=t
NodeName=DEFAULT CPUs=8 Gres=gpu:h100:4
NodeName=b[1-2] Feature=x
NodeName=a[1-2] Weight=5 State=DRAIN
NodeName=pad-1 State=FUTURE
PartitionName=all Nodes=ALL Default=YES
PartitionName=fast Nodes=b[1-2] OverSubscribe=EXCLUSIVE ExclusiveTopo=YES
TopologyPlugin=topology/block
"""
TOPOLOGY = b"BlockName=u1 Nodes=b[1-2]\nBlockName=u2 Nodes=a[1-2],pad-1\nBlockSizes=2\n"


def test_a_configuration_folder() -> None:
    snapshot = from_configuration(folder_reader({"slurm.conf": CONF, "topology.conf": TOPOLOGY}), OLD)
    assert snapshot.names == ("b1", "b2", "a1", "a2"), "24.11 keeps the order of the lines with blocks"
    assert [node.usable for node in snapshot.nodes] == [True, True, False, False]
    assert snapshot.nodes[0].gres == {"gpu": 4, "gpu:h100": 4}
    assert snapshot.nodes[2].weight == 5
    everyone, fast = snapshot.partitions
    assert everyone.default
    assert everyone.nodes == {"b1", "b2", "a1", "a2"}
    assert (fast.whole, fast.exclusive_topo) == (True, True)
    assert Planner(snapshot).place(Request(2)).nodes == ("b1", "b2")


def test_nodes_are_sorted_by_name_from_25_05() -> None:
    yaml = b"- {topology: t, block: {block_sizes: [2], blocks: [{block: u1, nodes: 'a[1-2]'}]}}\n"
    conf = CONF.replace(b"Default=YES", b"Default=YES Topology=t")
    snapshot = from_configuration(folder_reader({"slurm.conf": conf, "topology.yaml": yaml}), NEW)
    assert snapshot.names == ("a1", "a2", "b1", "b2")
    assert snapshot.topologies.partition_topology == {"all": "t"}


def test_topology_yaml_hides_topology_conf() -> None:
    files = {"slurm.conf": CONF, "topology.conf": TOPOLOGY, "topology.yaml": b"- {topology: t, flat: true}\n"}
    assert isinstance(from_configuration(folder_reader(files), NEW).topologies.default.topology, FlatTopology)
    assert isinstance(
        from_configuration(folder_reader(files), OLD).topologies.default.topology, BlockTopology
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no slurm.conf"),
        ({"slurm.conf": CONF}, "without a topology.conf"),
        (
            {"slurm.conf": CONF, "topology.conf": b"SwitchName=s Nodes=b[1-2]\n"},
            "TopologyPlugin=topology/block",
        ),
        ({"slurm.conf": CONF, "topology.conf": b"BlockName=b Nodes=zz\n"}, "Slurm would not take"),
    ],
)
def test_folders_that_slurm_would_not_take(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_configuration(folder_reader(files), OLD)


def test_a_partition_of_an_unknown_topology() -> None:
    files = {
        "slurm.conf": CONF.replace(b"Default=YES", b"Default=YES Topology=none"),
        "topology.yaml": b"- {topology: t, flat: true}\n",
    }
    with pytest.raises(InvalidInput, match="do not exist"):
        from_configuration(folder_reader(files), NEW)


BLOCKS = """\
BlockName=us1 BlockIndex=0 Nodes=n[1-4] BlockSize=4
BlockName=us2 BlockIndex=1 Nodes=n[5-8] BlockSize=4
AggregatedBlock=us[1-2] BlockIndex=2 Nodes=n[1-8] BlockSize=8
"""
SWITCHES = """\
SwitchName=s0 Level=0 LinkSpeed=1 Nodes=n[1-2]
SwitchName=s1 Level=0 LinkSpeed=1 Nodes=n[3-4]
SwitchName=top Level=1 LinkSpeed=1 Nodes=n[1-4] Switches=s[0-1]
"""


def test_scontrol_show_topology_of_blocks() -> None:
    topology = parse_topology(BLOCKS, ()).default.topology
    assert isinstance(topology, BlockTopology)
    assert [block.name for block in topology.blocks] == ["us1", "us2"]
    assert topology.sizes == (4, 8)


def test_scontrol_show_topology_of_switches() -> None:
    topology = parse_topology(SWITCHES, ()).default.topology
    assert isinstance(topology, TreeTopology)
    assert [(switch.name, switch.nodes, switch.children) for switch in topology.switches] == [
        ("s0", ("n1", "n2"), ()),
        ("s1", ("n3", "n4"), ()),
        ("top", (), ("s0", "s1")),
    ]


def test_no_topology_is_flat() -> None:
    assert isinstance(parse_topology("", ()).default.topology, FlatTopology)


def test_limits_of_partitions_and_down_nodes_are_read() -> None:
    conf = CONF + (
        b"PartitionName=big Nodes=ALL MinNodes=2 MaxNodes=3 State=DOWN\nEnforcePartLimits=ALL\n"
        b"DownNodes=b2 Reason=fan\n"
    )
    snapshot = from_configuration(folder_reader({"slurm.conf": conf, "topology.conf": TOPOLOGY}), OLD)
    everyone, _, big = snapshot.partitions
    assert (everyone.min_nodes, everyone.max_nodes, everyone.state) == (0, None, "UP")
    assert (big.min_nodes, big.max_nodes, big.state) == (2, 3, "DOWN")
    assert snapshot.enforce_part_limits
    b2 = snapshot.nodes[1]
    assert (b2.state, b2.usable, b2.reason) == ("DOWN", False, "fan")


def test_cloud_nodes_are_powered_down_until_a_job_wants_them() -> None:
    conf = b"NodeName=c1 State=CLOUD\nNodeName=n1 Weight=50\nPartitionName=p Nodes=ALL Default=YES\n"
    snapshot = from_configuration(folder_reader({"slurm.conf": conf}), OLD)
    assert {node.name: node.boot for node in snapshot.nodes} == {"c1": 2, "n1": 0}
    assert Planner(snapshot).place(Request(1)).nodes == ("n1",)


@pytest.mark.parametrize(
    ("state", "release", "boot"),
    [
        ("IDLE+CLOUD+POWERED_DOWN", OLD, 2),
        ("IDLE+CLOUD+POWERING_DOWN", NEW, 2),
        ("MIXED+CLOUD+POWERING_UP", OLD, 0),
        ("MIXED+CLOUD+POWERING_UP", NEW, 1),
        ("IDLE+CLOUD", NEW, 0),
    ],
)
def test_power_states_of_a_running_slurm(state: str, release: Release, boot: int) -> None:
    snapshot = from_running(Answers(state), lambda folder: folder_reader({}), release=release)
    assert [node.boot for node in snapshot.nodes] == [boot]


def test_limits_of_partitions_of_a_running_slurm() -> None:
    snapshot = from_running(Answers("IDLE"), lambda folder: folder_reader({}), release=OLD)
    [only] = snapshot.partitions
    assert (only.default, only.min_nodes, only.max_nodes, only.state) == (True, 1, 3, "DOWN")
    assert snapshot.enforce_part_limits


class Answers:
    """What the commands of a Slurm with one node in `state` print."""

    def __init__(self, state: str) -> None:
        self.state = state

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        asked = " ".join(argv)
        said = ""
        if asked.endswith("show config"):
            said = "Configuration data as of now\nClusterName = t\nSLURM_VERSION = 24.11.5\nEnforcePartLimits = ALL\n"
        elif asked.endswith("show nodes"):
            said = (
                "NodeName=n1 CPUAlloc=0 CPUEfctv=4 CPUTot=4 CPULoad=0.00 AvailableFeatures=(null) Gres=(null) "
                f"State={self.state} Weight=1 Partitions=p CurrentWatts=0 AveWatts=0\n"
            )
        elif asked.endswith("show partitions"):
            said = "PartitionName=p Default=YES MaxNodes=3 MinNodes=1 Nodes=n1 State=DOWN TotalNodes=1\n"
        return Completed(tuple(argv), 0, said, "")
