"""Every topology that we render is loaded by a real slurmctld without a word; the broken ones are refused by
both."""

from __future__ import annotations

import json

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.model import Cluster
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.topology.choose import choose
from hpadmin.topology.live import parse_topology
from hpadmin.topology.read import read_conf
from hpadmin.topology.release import Release
from tests.slurm.topology.record import ORACLE
from tests.support.box import Box
from tests.unit.topology.clusters import P5, cluster, node, p5s, plain, ultraservers

pytestmark = pytest.mark.slurm

CLUSTERS = {
    "full ultraservers": cluster(ultraservers(18, 18, 18), train=["gb200"]),
    "short ultraservers": cluster(ultraservers(18, 16, 1), train=["gb200"]),
    "spare nodes": cluster(ultraservers(17, 17), train=["gb200"]),
    "scaled down": cluster(ultraservers(4, 4, 3), train=["gb200"]),
    "aggregates": cluster(ultraservers(4, 4, 4, 4, start=2, layers=True), train=["gb200"]),
    "a server is missing": cluster(ultraservers(4, 4, 4, 4, 4, start=3, layers=True), train=["gb200"]),
    "tree": cluster(p5s(9, leaves=3), train=["p5"]),
    "tree with unlabelled": cluster(
        [*p5s(6), node("ip-10-9-0-1", "p5", P5), node("ip-10-9-0-2", "p5", P5)], train=["p5"]
    ),
    "several tops": cluster(p5s(4) + ultraservers(2, 2), train=["p5"]),
    "everything": cluster(
        ultraservers(4, 4) + p5s(4) + plain(2), gb200=["gb200"], p5=["p5"], cpu=["cpu"], both=["gb200", "p5"]
    ),
    "flat": cluster(plain(3), cpu=["cpu"]),
    "no labels": cluster(p5s(3, labelled=False), train=["p5"]),
}


SIZES = {"a server is missing": (4, 8)}
"""BlockSizes that are given and not inferred."""


def load(machine: Box, files: dict[str, str]) -> dict[str, object]:
    machine.put("/tmp/oracle.py", ORACLE.read_text())
    done = machine.run(["python3", "/tmp/oracle.py"], stdin=json.dumps({"load": files}) + "\n", timeout=180)
    answer: dict[str, object] = json.loads(done.check().stdout)
    return answer


def slurm_conf(model: Cluster, settings: dict[str, str], topologies: dict[str, str], padding: str) -> str:
    lines = [f"NodeName={fold([one.name for one in model.computes])} CPUs=4 State=CLOUD"]
    if padding:
        lines.append(f"NodeName={padding} CPUs=4 State=FUTURE")
    for name, groups in {**model.partitions, "dev": ()}.items():
        members = [one.name for one in model.computes if name == "dev" or one.instance.group in groups]
        own = f" Topology={topologies[name]}" if name in topologies else ""
        lines.append(
            f"PartitionName={name} Nodes={fold(members)} Default={'YES' if name == 'dev' else 'NO'}{own}"
        )
    lines += [f"{key}={value}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", CLUSTERS)
def test_loads_without_a_warning(slurm: Box, release: str, name: str) -> None:
    model = CLUSTERS[name]
    choice = choose(model, release, block_sizes=SIZES.get(name))
    text = slurm_conf(
        model, dict(choice.settings), dict(choice.partition_topology), fold(choice.placeholders)
    )
    loaded = load(slurm, {**choice.files, "slurm.conf": text})
    complaints = loaded["complaints"]
    assert loaded["up"], complaints
    assert isinstance(complaints, list)
    # With several topologies Slurm tells of each which nodes belong to the others: that is what they are for.
    several = len(choice.topologies.topologies) > 1
    allowed = (
        ("Blocks lack access to", "switches lack access to", "no switch can reach all nodes")
        if several
        else ()
    )
    assert [line for line in complaints if not any(word in line for word in allowed)] == []


def test_slurm_knows_what_we_wrote(slurm24: Box) -> None:
    model = CLUSTERS["short ultraservers"]
    choice = choose(model, "24.11")
    text = slurm_conf(model, dict(choice.settings), {}, fold(choice.placeholders))
    loaded = load(slurm24, {**choice.files, "slurm.conf": text})
    known = parse_topology(str(loaded["topology"]), ())
    ours = choice.topologies.default.topology
    assert {block.name: sorted(block.nodes) for block in getattr(known.default.topology, "blocks", ())} == {
        block.name: sorted(block.nodes) for block in getattr(ours, "blocks", ())
    }


BROKEN = {
    "short block": ("BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[5-7]\nBlockSizes=4\n", "block", True),
    "block without nodes": ("BlockName=b1 Nodes=n[1-4]\nBlockName=b2\nBlockSizes=4\n", "block", True),
    "no power of two": (
        "BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[5-8]\nBlockSizes=4,12\n",
        "block",
        True,
    ),
    "descending sizes": ("BlockName=b1 Nodes=n[1-8]\nBlockSizes=8,4\n", "block", True),
    "block twice": ("BlockName=b1 Nodes=n[1-4]\nBlockName=b1 Nodes=n[5-8]\nBlockSizes=4\n", "block", True),
    "node in two blocks": (
        "BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[4-8]\nBlockSizes=4\n",
        "block",
        False,
    ),
    "unknown node": ("BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[5-9]\nBlockSizes=4\n", "block", False),
    "bad host list": ("BlockName=b1 Nodes=n[4-1]\nBlockSizes=4\n", "block", True),
    "unknown key": ("BlockName=b1 Nodes=n[1-8] Colour=red\nBlockSizes=4\n", "block", True),
    "switch twice": ("SwitchName=s1 Nodes=n[1-4]\nSwitchName=s1 Nodes=n[5-8]\n", "tree", True),
    "unknown child": ("SwitchName=s1 Nodes=n[1-8]\nSwitchName=top Switches=s[1-2]\n", "tree", True),
    "cycle": (
        "SwitchName=s1 Nodes=n[1-8]\nSwitchName=a Switches=b\nSwitchName=b Switches=a\n",
        "tree",
        True,
    ),
    "nodes and switches": (
        "SwitchName=s1 Nodes=n[1-4]\nSwitchName=top Switches=s1 Nodes=n[5-8]\n",
        "tree",
        True,
    ),
    "node on two switches": (
        "SwitchName=s1 Nodes=n[1-4]\nSwitchName=s2 Nodes=n[4-8]\nSwitchName=top Switches=s[1-2]\n",
        "tree",
        False,
    ),
}
"""topology.conf, its plugin, and whether slurmctld 24.11 dies of it (else it starts and misplaces jobs)."""


@pytest.mark.parametrize("name", BROKEN)
def test_broken_topologies_are_refused(slurm24: Box, name: str) -> None:
    text, plugin, deadly = BROKEN[name]
    nodes = expand("n[1-8]")
    with pytest.raises(InvalidInput) as refused:
        read_conf(text, "topology.conf", Release(24, 11), nodes)
    assert refused.value.problems
    conf = (
        f"NodeName=n[1-8] CPUs=4 State=CLOUD\nPartitionName=all Nodes=ALL\nTopologyPlugin=topology/{plugin}\n"
    )
    loaded = load(slurm24, {"topology.conf": text, "slurm.conf": conf})
    assert loaded["up"] is not deadly, loaded["complaints"]
