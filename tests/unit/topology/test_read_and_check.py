from __future__ import annotations

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.topology.check import check
from hpadmin.topology.graph import Block, BlockTopology, FlatTopology, Switch, TreeTopology
from hpadmin.topology.read import read_conf, read_text, read_yaml
from hpadmin.topology.release import Release

OLD, NEW = Release(24, 11), Release(26, 5)

REFUSED_CONF = {
    "": "neither a block nor a switch",
    "# nothing\n": "neither a block nor a switch",
    "BlockName=b1 Nodes=n[1-4]\nSwitchName=s Nodes=n5\n": "holds blocks and switches",
    "BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[4-7]\nBlockSizes=4\n": "node n4 is already in block b1",
    "BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[5-7]\nBlockSizes=4\n": "fewer than the base block size 4",
    "BlockName=b1 Nodes=n[1-4]\nBlockSizes=4,12\n": "12 is not the base block size 4 times a power of two",
    "BlockName=b1 Nodes=n[1-4]\nBlockSizes=4,x\n": "'x' is no number of nodes",
    "BlockName=b1 Nodes=n[1-4]\nBlockSizes=8,4\n": "does not ascend",
    "BlockName=b1 Nodes=n[1-4]\nBlockSizes=4,524288\n": "more than 2^15 base blocks",
    "BlockName=b1 Nodes=n[1-4]\nBlockName=b1 Nodes=n[5-8]\n": "block b1 is defined 2 times",
    "BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=unknown[1-4]\n": "unknown1 is no node of this cluster",
    "BlockName=b1 Nodes=n[4-1]\n": "Invalid hostlist",
    "BlockName=b1 Nodes=n[1-4] Colour=red\n": "colour is not known here",
    "NodeName=n1\n": "NodeName is not a key of topology.conf",
    "BlockName=b[1-2] Nodes=n[1-4]\n": "cannot be a block name",
    "SwitchName=s1 Nodes=n1\nSwitchName=s1 Nodes=n2\n": "switch s1 is defined 2 times",
    "SwitchName=s1 Nodes=n1 Switches=s2\nSwitchName=s2 Nodes=n2\n": "both child switches and nodes",
    "SwitchName=s1\n": "neither child switches nor nodes",
    "SwitchName=a Switches=b\nSwitchName=b Switches=a\nSwitchName=c Nodes=n1\n": "not a tree",
    "SwitchName=s1 Nodes=n1\nSwitchName=a Switches=s1\nSwitchName=b Switches=s1\n": "already below a",
    "SwitchName=s1 Nodes=n1\nSwitchName=a Switches=s[1-2]\n": "has invalid child (s2)",
}


@pytest.mark.parametrize("text", REFUSED_CONF)
def test_refused_topology_conf(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_conf(text, "topology.conf", OLD, {f"n{number}" for number in range(1, 9)})
    assert any(REFUSED_CONF[text] in problem.message for problem in refused.value.problems), str(
        refused.value
    )


def test_mistakes_name_their_line() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_conf(
            "# head\nBlockName=b1 Nodes=n[1-4]\n\nBlockName=b2 Nodes=n[4-8]\nBlockSizes=4\n", "t.conf", OLD
        )
    assert [str(problem) for problem in refused.value.problems] == [
        "t.conf:4: node n4 is already in block b1"
    ]


def test_gaps_are_fine_from_25_05() -> None:
    text = "BlockName=b1 Nodes=n[1-4]\nBlockName=b2\nBlockName=b3 Nodes=n5\nBlockSizes=4\n"
    topology = read_conf(text, "topology.conf", NEW).default.topology
    assert isinstance(topology, BlockTopology)
    assert [len(block.nodes) for block in topology.blocks] == [4, 0, 1]
    with pytest.raises(InvalidInput):
        read_conf(text, "topology.conf", OLD)


def test_coverage_is_a_warning() -> None:
    findings = check(BlockTopology((Block("b", ("n1",)),), (1,)), OLD, {"n1", "n2"})
    assert findings.errors == ()
    assert "lack access to 1 nodes: n2" in findings.warnings[0].message
    roots = TreeTopology((Switch("a", ("n1",)), Switch("b", ("n2",))))
    assert "no switch connects a, b" in check(roots, OLD).warnings[0].message


def test_several_topologies() -> None:
    text = (
        "- {topology: a, flat: true}\n"
        "- {topology: b, cluster_default: true, block: {block_sizes: [2], blocks: {block: x, nodes: 'n[1-2]'}}}\n"
        "- {topology: c, tree: {switches: [{switch: s, nodes: 'n[3-4]'}, {switch: t, children: s}]}}\n"
    )
    found = read_yaml(text, "topology.yaml", NEW)
    assert [named.name for named in found] == ["a", "b", "c"]
    assert found.default.name == "b"
    assert isinstance(found.topologies[0].topology, FlatTopology)


def test_yaml_that_is_none() -> None:
    with pytest.raises(InvalidInput, match=r"is no YAML"):
        read_yaml("a: [", "topology.yaml", NEW)


HAND = """\
ultraservers:
  us2: b[1-3]
  us1: a[1-3]
block_sizes: [3]
"""


def test_handwritten_facts_keep_their_order() -> None:
    topology = read_text(HAND, "facts.yaml", OLD).default.topology
    assert isinstance(topology, BlockTopology)
    assert [block.name for block in topology.blocks] == ["us2", "us1"]
    assert topology.sizes == (3,)


def test_handwritten_network() -> None:
    topology = read_text("network:\n  core:\n    r1: n[1-2]\n    r2: n[3-4]\n", "f", OLD).default.topology
    assert isinstance(topology, TreeTopology)
    assert [switch.name for switch in topology.switches] == ["core", "r1", "r2"]


@pytest.mark.parametrize(
    "text",
    [
        "ultraservers: {a: n1, b: n1}\n",
        "ultraservers: [n1]\n",
        "network: {r1: n1, r2: n1}\n",
        "network: {r1: 'n[2-1]'}\n",
        "ultraservers: {a: n1}\nblock_sizes: big\n",
        "ultraservers: {a: n1}\ncolour: red\n",
        "block_sizes: [18]\n",
    ],
)
def test_bad_facts(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_text(text, "facts.yaml", OLD)


@pytest.mark.parametrize(
    "text", ["ultraservers: {us1: 'a[1-2]', us1: 'b[1-2]'}\n", "- {topology: t, flat: true, flat: false}\n"]
)
def test_a_key_written_twice_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_text(text, "facts.yaml", Release(26, 5))
    assert "is written more than once" in str(caught.value)


def test_facts_that_slurm_would_not_take_are_refused() -> None:
    text = "ultraservers: {us1: 'a[1-2],pad-us2-1', us2: 'b1'}\nblock_sizes: [2]\n"
    with pytest.raises(InvalidInput, match="Slurm would not take"):
        read_text(text, "facts.yaml", Release(24, 11))
