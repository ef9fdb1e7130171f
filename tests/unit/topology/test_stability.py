"""A changed inventory changes the lines of the touched blocks or switches, and no others."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from hpadmin.model import Node
from hpadmin.topology.check import check
from hpadmin.topology.choose import TopologyChoice, choose
from hpadmin.topology.graph import BlockTopology
from hpadmin.topology.release import Release
from tests.unit.topology.clusters import ULTRASERVER, cluster, node

LEVELS = re.compile(r"BlockSizes=.*| *- \d+")


def base(choice: TopologyChoice) -> int:
    topology = choice.topologies.default.topology
    assert isinstance(topology, BlockTopology)
    return topology.base


def inventory(dice: random.Random) -> list[Node]:
    nodes = []
    for server in range(1, dice.randint(3, 8)):
        spine = f"nn-{dice.randint(1, 3)}"
        for slot in range(dice.choice([18, 18, 18, 17, 16])):
            nodes.append(fresh(f"us-{server:02}", slot, spine))
    return nodes


def fresh(server: str, slot: int, spine: str) -> Node:
    return node(
        f"ip-10-{server[3:]}-0-{slot}",
        "gb200",
        ULTRASERVER,
        ultraserver=server,
        layers=("nn-top", spine, f"nn-{server}"),
    )


def change(dice: random.Random, nodes: list[Node]) -> tuple[list[Node], set[str]]:
    """A changed inventory and the UltraServers that it touches."""
    nodes = list(nodes)
    kind = dice.choice(["reorder", "replace", "lose", "gain", "add server", "remove server", "labels late"])
    victim = dice.randrange(len(nodes))
    server = nodes[victim].instance.ultraserver or ""
    spine = nodes[victim].instance.network_layers[1]
    if kind == "reorder":
        dice.shuffle(nodes)
        return nodes, set()
    if kind == "replace":
        nodes[victim] = fresh(server, 200 + dice.randrange(50), spine)
    elif kind == "lose":
        del nodes[victim]
    elif kind == "gain":
        nodes.insert(victim, fresh(server, 100, spine))
    elif kind == "add server":
        server = f"us-{dice.randint(20, 90)}"
        nodes += [fresh(server, slot, spine) for slot in range(18)]
    elif kind == "remove server":
        nodes = [one for one in nodes if one.instance.ultraserver != server]
    else:
        late = nodes[victim].instance
        nodes[victim] = replace(nodes[victim], instance=replace(late, network_layers=()))
        server = ""
    return nodes, {server} if server else set()


@pytest.mark.parametrize(
    ("release", "changes", "sizes"),
    [("24.11", 1000, [18]), ("24.11", 400, None), ("26.05", 150, [18]), ("26.05", 100, None)],
)
def test_only_the_touched_blocks_change(release: str, changes: int, sizes: list[int] | None) -> None:
    """With BlockSizes given, and inferred: then levels may come and go with the network, but never the base."""
    dice = random.Random(20_26)
    name = "topology.conf" if release == "24.11" else "topology.yaml"
    changed = 0
    for _ in range(changes):
        before = inventory(dice)
        after, touched = change(dice, before)
        if not after:
            continue
        wanted = {"gb200": 18 * len({one.instance.ultraserver for one in before})}
        planned = [choose(cluster(nodes, wanted), release, block_sizes=sizes) for nodes in (before, after)]
        assert [base(choice) for choice in planned] == [18, 18]
        old, new = (
            [line for line in choice.files[name].splitlines() if sizes or not LEVELS.fullmatch(line)]
            for choice in planned
        )
        lines = set(old) ^ set(new)
        changed += bool(lines)
        number = {one[3:] for one in touched}
        for line in lines:
            assert any(f"us-{one}" in line or f"ip-10-{one}-" in line for one in number), line
        untouched = [line for line in old if line in new]
        assert untouched == [line for line in new if line in old], "the order of the other lines changed"
    assert changed > changes / 2


@pytest.mark.parametrize("release", ["24.11", "26.05"])
def test_aggregates_stay_within_the_network_when_an_ultraserver_goes(release: str) -> None:
    """Four UltraServers below each of three spines, in aggregates of two and four."""
    dice = random.Random(3)
    whole = [
        fresh(f"us-{server:02}", slot, f"nn-{server // 4}") for server in range(12) for slot in range(18)
    ]
    for _ in range(20):
        gone = {f"us-{server:02}" for server in dice.sample(range(12), dice.randint(1, 3))}
        gone -= {"us-00", "us-04", "us-08"}
        after = [one for one in whole if one.instance.ultraserver not in gone]
        topology = choose(cluster(after), release, block_sizes=[18, 36, 72]).topologies.default.topology
        assert isinstance(topology, BlockTopology)
        assert check(topology, Release.parse(release)).errors == ()
        servers = [block.name for block in topology.blocks]
        for start in range(0, len(servers), 4):
            real = [name for name in servers[start : start + 4] if not name.startswith("gap-")]
            assert len({int(name[3:]) // 4 for name in real}) == 1, servers
        assert [name for name in servers if not name.startswith("gap-")] == sorted(
            {one.instance.ultraserver or "" for one in after}
        )


def test_order_of_the_inventory_does_not_matter_to_a_tree() -> None:
    dice = random.Random(7)
    nodes = [
        node(f"ip-10-2-0-{one}", "p5", "ml.p5.48xlarge", layers=("nn-a", f"nn-{one % 5}"))
        for one in range(40)
    ]
    texts = set()
    for _ in range(20):
        dice.shuffle(nodes)
        texts.add(choose(cluster(nodes), "24.11").files["topology.conf"])
    assert len(texts) == 1
