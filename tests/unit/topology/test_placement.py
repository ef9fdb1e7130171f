"""Placement cases with known answers, and what it says when there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.topology.advise import alternatives, fragmentation
from hpadmin.topology.graph import Block, BlockTopology, FlatTopology, NamedTopology, TopologySet
from hpadmin.topology.offline import from_topology_text, parse_gres, with_busy, with_down
from hpadmin.topology.placement import JobView, NodeView, PartitionView, Planner, Request, Snapshot
from hpadmin.topology.placement.features import matches, names_in
from hpadmin.topology.release import Release

GUIDE = "BlockName=us1 Nodes=ultraserver1-[0-17]\nBlockName=us2 Nodes=ultraserver2-[0-17]\nBlockSizes=18\n"


def guide(busy: str = "", release: str = "24.11") -> Planner:
    snapshot = from_topology_text(GUIDE, "topology.conf", Release.parse(release))
    return Planner(with_busy(snapshot, expand(busy)))


def test_slurms_choice_on_eight_blocks_of_four() -> None:
    """A sequence run on slurmctld 24.11.5: jobs of 1, 3, 2, 5 and 6 nodes, one after the other."""
    names = [f"n{number:02}" for number in range(1, 33)]
    blocks = tuple(Block(f"b{one}", tuple(names[4 * one : 4 * one + 4])) for one in range(8))
    topologies = TopologySet((NamedTopology("default", BlockTopology(blocks, (4, 8, 16, 32)), True),))
    jobs: list[JobView] = []
    found = []
    for nodes in (1, 3, 2, 5, 6):
        snapshot = Snapshot(
            tuple(NodeView(name) for name in names), topologies, Release(24, 11), (), tuple(jobs)
        )
        placed = Planner(snapshot).place(Request(nodes, whole=True))
        jobs.append(JobView(str(nodes), frozenset(placed.nodes)))
        found.append(fold(placed.nodes))
    assert found == ["n29", "n[30-32]", "n[25-26]", "n[17,21-24]", "n[09-10,13-16]"]


@pytest.mark.parametrize(
    ("nodes", "segment", "blocks"),
    [(18, 0, 1), (36, 0, 2), (24, 0, 2), (24, 12, 2), (18, 9, 1), (24, 8, 2)],
)
def test_the_guides_examples(nodes: int, segment: int, blocks: int) -> None:
    placed = guide().place(Request(nodes, segment))
    assert placed.result == "starts"
    assert len(placed.nodes) == nodes
    assert len(placed.blocks) == blocks


def test_a_whole_block_for_a_job_alone() -> None:
    assert guide("ultraserver1-0").place(Request(12, exclusive_topo=True)).blocks == ("us2",)
    waiting = guide("ultraserver[1-2]-0").place(Request(12, exclusive_topo=True))
    assert waiting.result == "pending"


@pytest.mark.parametrize(
    ("wanted", "busy", "result", "why"),
    [
        (Request(24, 20), "", "rejected", "a segment of 20 is larger than the planning block of 18 nodes"),
        (Request(24, 7), "", "rejected", "24 nodes are no multiple of the segment of 7"),
        (Request(37), "", "rejected", "37 nodes are needed and 36 are usable"),
        (Request(24, 12), "ultraserver1-[0-8]", "pending", "a segment of 12 fits in no block"),
        (Request(18), "ultraserver[1-2]-0", "pending", "18 nodes fits in no block"),
        (
            Request(4, 2, nodelist=("ultraserver1-0",)),
            "",
            "rejected",
            "more than one segment is not supported before Slurm 25.11",
        ),
        (Request(2, nodelist=("ultraserver1-0", "ultraserver2-0")), "", "rejected", "do not share a block"),
    ],
)
def test_says_what_stands_in_the_way(wanted: Request, busy: str, result: str, why: str) -> None:
    placed = guide(busy).place(wanted)
    assert (placed.result, placed.nodes) == (result, ())
    assert why in placed.why


def test_alternatives_would_really_start() -> None:
    planner = guide("ultraserver1-[0-8]")
    request = Request(24, 12)
    others = alternatives(planner, request)
    assert [(one.nodes, one.segment) for one in others] == [(24, 0), (24, 8), (24, 6), (24, 4)]
    for one in others:
        assert planner.place(Request(one.nodes, one.segment)).result == "starts"
        assert one.options in (f"-N{one.nodes}", f"-N{one.nodes} --segment={one.segment}")


def test_alternatives_with_fewer_nodes() -> None:
    planner = guide("ultraserver1-[0-8],ultraserver2-[0-5]")
    assert (12, 0) in [(one.nodes, one.segment) for one in alternatives(planner, Request(13))]


def test_fragmentation_left() -> None:
    planner = guide("ultraserver1-[0-8]")
    placed = planner.place(Request(4))
    left = fragmentation(planner, placed, Request(4))
    assert left is not None
    assert left.free_nodes == (27, 23)
    assert left.whole_blocks == (1, 1)
    assert left.largest == (18, 18)


def flat(**facts: object) -> Snapshot:
    nodes = tuple(
        NodeView(
            f"n{one}",
            cpus=8,
            features=frozenset({"fast"} if one < 3 else {"big"}),
            gres={"gpu": 4, "gpu:h100": 4},
            gres_used={"gpu": 3, "gpu:h100": 3} if one == 1 else {},
            cpus_used=2 if one == 1 else 0,
        )
        for one in range(1, 5)
    )
    names = frozenset(node.name for node in nodes)
    return Snapshot(
        nodes,
        TopologySet((NamedTopology("default", FlatTopology(tuple(sorted(names))), True),)),
        Release(24, 11),
        (PartitionView("all", names, default=True), PartitionView("two", frozenset({"n3", "n4"}))),
    )


@pytest.mark.parametrize(
    ("wanted", "nodes"),
    [
        (Request(1, constraint="fast", gres={"gpu:h100": 2}), ("n2",)),
        (Request(2, partition="two"), ("n3", "n4")),
        (Request(1, constraint="fast&big"), ()),
        (Request(2, exclude=("n2", "n3"), whole=True), ()),
        (Request(1, gres={"gpu": 5}), ()),
        (Request(1, constraint="missing"), ()),
    ],
)
def test_features_gres_and_partitions(wanted: Request, nodes: tuple[str, ...]) -> None:
    assert Planner(flat()).place(wanted).nodes == nodes


def test_unknown_names_are_refused() -> None:
    planner = Planner(flat())
    for request in (Request(1, partition="none"), Request(1, nodelist=("n9",)), Request(1, exclude=("n9",))):
        with pytest.raises(InvalidInput):
            planner.place(request)
    with pytest.raises(InvalidInput):
        with_busy(flat(), ["n9"])


@pytest.mark.parametrize(
    ("expression", "features", "expected"),
    [
        ("a", {"a"}, True),
        ("a&b", {"a"}, False),
        ("a|b&c", {"a"}, False),
        ("a|(b&c)", {"a"}, True),
        ("(a|b)&c", {"b", "c"}, True),
        ("a,b", {"a", "b"}, True),
    ],
)
def test_feature_expressions(expression: str, features: set[str], expected: bool) -> None:
    assert matches(expression, frozenset(features)) is expected


@pytest.mark.parametrize("expression", ["a&", "(a", "a)", "[a|b]", "a*2", "&", "()"])
def test_feature_expressions_that_cannot_be_planned(expression: str) -> None:
    with pytest.raises(InvalidInput):
        matches(expression, frozenset({"a"}))


def test_names_in_an_expression() -> None:
    assert names_in("a&(b|c)") == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu:h100:8(S:0-1)", {"gpu": 8, "gpu:h100": 8}),
        ("gpu:4,nvme:1K", {"gpu": 4, "nvme": 1024}),
        ("gpu", {"gpu": 1}),
        ("gpu:a100:2(IDX:0-1),gpu:h100:1(IDX:2)", {"gpu": 3, "gpu:a100": 2, "gpu:h100": 1}),
        ("(null)", {}),
        ("", {}),
    ],
)
def test_gres(text: str, expected: dict[str, int]) -> None:
    assert parse_gres(text) == expected


def limited(enforce: bool = False, release: str = "24.11", **facts: object) -> Planner:
    """Four nodes; partition ``p`` with these facts has them all, and no partition is the default."""
    whole = replace(flat(), release=Release.parse(release), enforce_part_limits=enforce)
    names = frozenset(whole.names)
    return Planner(replace(whole, partitions=(replace(PartitionView("p", names), **facts),)))  # type: ignore[arg-type]


@pytest.mark.parametrize("release", ["24.11", "26.05"])
@pytest.mark.parametrize(
    ("facts", "nodes", "result", "says", "why"),
    [
        ({"max_nodes": 2}, 3, "pending", "PartitionConfig", "no job of more than 2 nodes (MaxNodes)"),
        ({"max_nodes": 2}, 2, "starts", "", ""),
        ({"min_nodes": 3}, 2, "pending", "PartitionConfig", "no job of fewer than 3 nodes (MinNodes)"),
        ({"state": "DOWN", "max_nodes": 2}, 3, "pending", "PartitionDown", "in state DOWN"),
        ({"state": "INACTIVE"}, 1, "rejected", "Required partition not available", "in state INACTIVE"),
        ({"state": "DRAIN"}, 1, "rejected", "Required partition not available", "in state DRAIN"),
    ],
)
def test_limits_and_state_of_a_partition(
    release: str, facts: dict[str, object], nodes: int, result: str, says: str, why: str
) -> None:
    placed = limited(release=release, **facts).place(Request(nodes, partition="p"))
    assert placed.result == result
    assert placed.slurm_says.startswith(says)
    assert why in placed.why


@pytest.mark.parametrize(("facts", "nodes"), [({"max_nodes": 2}, 3), ({"min_nodes": 3}, 2), ({}, 5)])
def test_enforced_limits_refuse_the_job(facts: dict[str, object], nodes: int) -> None:
    placed = limited(enforce=True, **facts).place(Request(nodes, partition="p"))
    assert (placed.result, placed.slurm_says) == ("rejected", "Node count specification invalid")


def test_without_a_default_partition_a_job_must_name_one() -> None:
    placed = limited().place(Request(1))
    assert (placed.result, placed.nodes) == ("rejected", ())
    assert placed.slurm_says == "No partition specified or system default partition"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(1, partition="p,q"), "--partition: expected one partition"),
        (Request(1, partition="p", exclude=("nope",)), "--exclude: nope is not a node"),
        (
            Request(2, 1, partition="p", spread_segments=True),
            "--spread-segments: is no option of Slurm 24.11",
        ),
        (Request(2, 1, partition="p", consolidate_segments=True), "--consolidate-segments: is no option"),
    ],
)
def test_what_cannot_be_asked_says_which_option(request_: Request, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        limited().place(request_)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "ultraservers: {us1: 'a[1-18]', us2: 'b[1-17]'}\nblock_sizes: [18]\n",
        "BlockName=us1 Nodes=a[1-18]\nBlockName=us2 Nodes=b[1-17],pad-us2-1\nBlockSizes=18\n",
    ],
)
def test_nodes_that_pad_a_block_are_never_used(text: str) -> None:
    snapshot = from_topology_text(text, "file", Release(24, 11))
    assert len(snapshot.nodes) == 35
    assert Planner(snapshot).place(Request(36, 18)).result == "rejected"
    assert Planner(snapshot).place(Request(34, 17)).result == "starts"


def test_down_nodes_are_not_used_and_keep_nobody_out() -> None:
    snapshot = with_down(guide().snapshot, ["ultraserver2-0"])
    alone = Planner(snapshot).place(Request(17, exclusive_topo=True))
    assert (alone.result, alone.blocks) == ("starts", ("us2",))
    assert "ultraserver2-0" not in alone.nodes
    with pytest.raises(InvalidInput, match="--down"):
        with_down(snapshot, ["nope"])
