"""The topology as people see it: lines, data, and the picture of a cluster of 16 UltraServers under load."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from hpadmin.topology.graph import (
    Block,
    BlockTopology,
    FlatTopology,
    NamedTopology,
    Switch,
    TopologySet,
    TreeTopology,
)
from hpadmin.topology.picture import page, picture
from hpadmin.topology.placement import JobView, NodeView, PartitionView, Planner, Request, Snapshot
from hpadmin.topology.release import Release
from hpadmin.topology.show import as_data, as_lines
from hpadmin.topology.units import Condition, condition, overviews

SVG = "{http://www.w3.org/2000/svg}"


def under_load() -> Snapshot:
    """16 UltraServers with jobs placed by the model itself, broken nodes and a job that wants a block alone."""
    dice = random.Random(7)
    blocks = tuple(
        Block(f"us-{one:02}", tuple(f"ip-10-1-{one}-{slot}" for slot in range(10, 28)))
        for one in range(1, 17)
    )
    nodes = [NodeView(name, cpus=144, gres={"gpu": 4}) for block in blocks for name in block.nodes]
    states = ["IDLE+DRAIN"] * 5 + ["DOWN+NOT_RESPONDING"] * 3 + ["IDLE+MAINTENANCE+REBOOT_REQUESTED"]
    for position, state in zip(dice.sample(range(len(nodes)), len(states)), states, strict=True):
        nodes[position] = replace(nodes[position], usable=False, state=state, reason="Action:Replace")
    topologies = TopologySet((NamedTopology("ultraservers", BlockTopology(blocks, (18,)), True),))
    everyone = PartitionView("dev", frozenset(node.name for node in nodes), default=True)
    snapshot = Snapshot(tuple(nodes), topologies, Release(24, 11), (everyone,))
    wanted = [(36, 18), (24, 12), (16, 0), (9, 0), (4, 0), (48, 16), (12, 4), (7, 0), (1, 0), (2, 0), (30, 0)]
    for number, (size, segment) in enumerate([*wanted, (8, 8)]):
        alone = number == len(wanted)
        placed = Planner(snapshot).place(Request(size, segment, exclusive_topo=alone, whole=True))
        assert placed.result == "starts"
        job = JobView(str(4100 + number), frozenset(placed.nodes), f"user{number}", True, alone, "dev")
        snapshot = replace(snapshot, jobs=(*snapshot.jobs, job))
    return snapshot


def test_the_picture_of_16_ultraservers_under_load() -> None:
    snapshot = under_load()
    svg = picture(snapshot, "gb200-prod")
    root = ElementTree.fromstring(svg)
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    cells = [title for title in titles if title.startswith("ip-10-1-")]
    assert len(cells) == 16 * 18
    seen = Counter(title.split(" · ")[1] for title in cells)
    expected = Counter(cell.condition.value for unit in overviews(snapshot)[0].units for cell in unit.cells)
    assert seen == expected
    assert seen["in use"] == 197
    assert seen["blocked"] == 10
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    assert [f"us-{one:02}" for one in range(1, 17)] == [text for text in texts if text.startswith("us-")]
    assert sum(1 for text in texts if text.startswith("41") and " nodes in " in text) == 12
    width, height = int(root.get("width", "0")), int(root.get("height", "0"))
    for box in root.iter(f"{SVG}rect"):
        right = int(box.get("x", "0")) + int(box.get("width", "0"))
        bottom = int(box.get("y", "0")) + int(box.get("height", "0"))
        assert right <= width
        assert bottom <= height


def test_jobs_are_outlined_in_colours_of_their_own() -> None:
    root = ElementTree.fromstring(picture(under_load()))
    outlines = {
        (box.get("stroke"), box.get("stroke-dasharray"))
        for box in root.iter(f"{SVG}rect")
        if box.get("stroke-width") == "2"
    }
    assert len(outlines) == 12


def test_the_same_cluster_makes_the_same_picture() -> None:
    assert picture(under_load()) == picture(under_load())


def test_names_cannot_break_out_of_the_picture() -> None:
    evil = "a'><script>x</script>"
    block = BlockTopology((Block("b", ("n1",)),), (1,))
    snapshot = Snapshot(
        (NodeView("n1", reason=evil),),
        TopologySet((NamedTopology("t", block, True),)),
        Release(24, 11),
        (),
        (JobView("1", frozenset({"n1"}), evil),),
    )
    ElementTree.fromstring(picture(snapshot, evil))
    assert "<script>" not in page(snapshot, evil)


def test_lines_group_nodes_by_state_and_job() -> None:
    lines = list(as_lines(under_load()))
    assert lines[0] == "ultraservers: topology/block, BlockSizes=18, Slurm 24.11"
    assert lines[1].startswith("288 nodes: 72 idle, 10 blocked, 197 in use, 5 drained, 3 down, 1 held back")
    assert any("in use" in line and "job 4100 (user0)" in line for line in lines)
    assert any("drained" in line and "Action:Replace" in line for line in lines)


def test_data_has_every_node_once() -> None:
    data = as_data(under_load())
    [topology] = data["topologies"]
    names = [node["name"] for unit in topology["units"] for node in unit["nodes"]]
    assert len(names) == len(set(names)) == 288
    assert topology["block_sizes"] == [18]
    assert topology["cluster_default"] is True
    assert len(data["jobs"]) == 12


def test_a_tree_shows_its_switches() -> None:
    tree = TreeTopology(
        (Switch("top", children=("l1", "l2")), Switch("l1", ("n1", "n2")), Switch("l2", ("n3",)))
    )
    nodes = tuple(NodeView(f"n{one}") for one in range(1, 5))
    snapshot = Snapshot(nodes, TopologySet((NamedTopology("default", tree, True),)), Release(24, 11))
    lines = list(as_lines(snapshot))
    assert "├─ top" in lines
    assert "│  ├─ l1  2 of 2 free" in lines
    assert "└─ (no place)  1 of 1 free" in lines
    ElementTree.fromstring(picture(snapshot))


def test_a_flat_cluster_is_shown_in_rows() -> None:
    names = tuple(f"n{one}" for one in range(1, 41))
    topologies = TopologySet((NamedTopology("default", FlatTopology(names), True),))
    snapshot = Snapshot(tuple(NodeView(name) for name in names), topologies, Release(26, 5))
    assert [len(unit.cells) for unit in overviews(snapshot)[0].units] == [18, 18, 4]
    ElementTree.fromstring(picture(snapshot))


@pytest.mark.parametrize(
    ("state", "jobs", "expected"),
    [
        ("IDLE", 0, Condition.IDLE),
        ("IDLE+CLOUD+POWERED_DOWN", 0, Condition.IDLE),
        ("ALLOCATED", 1, Condition.BUSY),
        ("MIXED", 0, Condition.SHARED),
        ("ALLOCATED+DRAIN", 1, Condition.DRAINING),
        ("IDLE+DRAIN", 0, Condition.DRAINED),
        ("DOWN+DRAIN", 0, Condition.DOWN),
        ("DOWN*", 0, Condition.DOWN),
        ("IDLE+BLOCKED", 0, Condition.BLOCKED),
    ],
)
def test_conditions(state: str, jobs: int, expected: Condition) -> None:
    running = [JobView(str(one), frozenset({"n"})) for one in range(jobs)]
    assert condition(NodeView("n", state=state), running) is expected


def test_words_that_no_terminal_takes_are_spelt_out() -> None:
    reason = "fan\x1b[2J\nbroken\x00 \udce4\u202e"
    block = BlockTopology((Block("b", ("n1",)),), (1,))
    snapshot = Snapshot(
        (NodeView("n1", state="DOWN", usable=False, reason=reason),),
        TopologySet((NamedTopology("t", block, True),)),
        Release(24, 11),
    )
    spelt = r"fan\x1b[2J\nbroken\x00 \udce4\u202e"
    assert any(line.endswith(spelt) for line in as_lines(snapshot))
    assert all(line.isprintable() for line in as_lines(snapshot))
    titles = [title.text or "" for title in ElementTree.fromstring(picture(snapshot)).iter(f"{SVG}title")]
    assert any(spelt in title for title in titles)
    page(snapshot, reason).encode()
