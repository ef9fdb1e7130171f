"""Placement cases with known answers, and what it says when there is none."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.topology.advise import Alternatives, alternatives, fragmentation
from hpadmin.topology.graph import Block, BlockTopology, FlatTopology, NamedTopology, TopologySet
from hpadmin.topology.offline import from_topology_text, parse_gres, requested_gres, with_busy, with_down
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
        (
            Request(24, 12),
            "ultraserver1-[0-8]",
            "pending",
            "1 of 2 segments fit; a segment of 12 fits in no block",
        ),
        (Request(19), "ultraserver1-[0-17]", "pending", "not usable are 18 in use"),
        (
            Request(18, exclusive_topo=True, exclude=("ultraserver1-0",)),
            "ultraserver2-0",
            "pending",
            "not usable are 1 excluded, 1 in use, 17 kept apart by exclusive use of blocks",
        ),
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
    others = alternatives(planner, request).found
    assert [(one.nodes, one.segment) for one in others] == [(24, 0), (24, 8), (24, 6), (24, 4)]
    for one in others:
        assert planner.place(Request(one.nodes, one.segment)).result == "starts"
        assert one.options in (f"-N{one.nodes}", f"-N{one.nodes} --segment={one.segment}")


def test_alternatives_with_fewer_nodes() -> None:
    planner = guide("ultraserver1-[0-8],ultraserver2-[0-5]")
    assert (12, 0) in [(one.nodes, one.segment) for one in alternatives(planner, Request(13)).found]


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


def limited(facts: Mapping[str, object], enforce: bool = False, release: str = "24.11") -> Planner:
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
    placed = limited(facts, release=release).place(Request(nodes, partition="p"))
    assert placed.result == result
    assert placed.slurm_says.startswith(says)
    assert why in placed.why


@pytest.mark.parametrize(("facts", "nodes"), [({"max_nodes": 2}, 3), ({"min_nodes": 3}, 2), ({}, 5)])
def test_enforced_limits_refuse_the_job(facts: dict[str, object], nodes: int) -> None:
    placed = limited(facts, enforce=True).place(Request(nodes, partition="p"))
    assert (placed.result, placed.slurm_says) == ("rejected", "Node count specification invalid")


def test_without_a_default_partition_a_job_must_name_one() -> None:
    placed = limited({}).place(Request(1))
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
        limited({}).place(request_)
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


def test_a_required_node_that_is_down_is_waited_for_before_its_gres_are_looked_at() -> None:
    wanted = Request(1, partition="all", nodelist=("n1",), gres={"gpu": 5})
    placed = [Planner(snapshot).place(wanted) for snapshot in (flat(), with_down(flat(), ["n1"]))]
    assert [(one.result, one.slurm_says) for one in placed] == [
        ("rejected", "Requested node configuration is not available"),
        ("pending", "ReqNodeNotAvail"),
    ]


def test_nodes_that_are_up_come_before_those_that_must_boot() -> None:
    """Whatever their weights are."""
    boots = {"n1": 2, "n2": 1, "n3": 2, "n4": 0}
    nodes = tuple(NodeView(name, boot=boot, weight=9 if boot == 0 else 1) for name, boot in boots.items())
    planner = Planner(replace(flat(), nodes=nodes))
    placed = [planner.place(Request(count, whole=True)).nodes for count in (1, 2, 3)]
    assert placed == [("n4",), ("n2", "n4"), ("n1", "n2", "n4")]


@pytest.mark.parametrize(("release", "node"), [("24.11", "n2"), ("26.05", "n1")])
def test_more_gpus_come_first_but_not_for_a_job_of_one_node_on_26_05(release: str, node: str) -> None:
    nodes = tuple(NodeView(f"n{one}", gres={"gpu": gpus}) for one, gpus in ((1, 2), (2, 4), (3, 2), (4, 4)))
    planner = Planner(replace(flat(), nodes=nodes, release=Release.parse(release)))
    assert planner.place(Request(1, whole=True, gres={"gpu": 1})).nodes == (node,)
    assert planner.place(Request(2, whole=True, gres={"gpu": 1})).nodes == ("n2", "n4")


def test_down_nodes_are_not_used_and_keep_nobody_out() -> None:
    snapshot = with_down(guide().snapshot, ["ultraserver2-0"])
    alone = Planner(snapshot).place(Request(17, exclusive_topo=True))
    assert (alone.result, alone.blocks) == ("starts", ("us2",))
    assert "ultraserver2-0" not in alone.nodes
    with pytest.raises(InvalidInput, match="--down"):
        with_down(snapshot, ["nope"])


def _mixed(release: str, drained: str, jobs: tuple[JobView, ...]) -> Snapshot:
    """Three blocks of three nodes, of which the first is lighter and larger; at most two blocks hold six nodes."""
    names = [f"n{number}" for number in range(1, 10)]
    blocks = tuple(Block(f"b{one}", tuple(names[3 * one : 3 * one + 3])) for one in range(3))
    nodes = [
        NodeView(
            name,
            usable=name not in expand(drained),
            cpus=2 if number % 3 else 4,
            weight=5 if number % 3 else 1,
        )
        for number, name in enumerate(names)
    ]
    nodes = [replace(one, cpus_used=sum(one.name in job.nodes for job in jobs)) for one in nodes]
    topologies = TopologySet((NamedTopology("default", BlockTopology(blocks, (3, 12)), True),))
    return Snapshot(tuple(nodes), topologies, Release.parse(release), (), jobs)


@pytest.mark.parametrize(("release", "alone"), [("24.11", "pending"), ("26.05", "rejected")])
def test_nodes_that_are_kept_apart_now_count_among_those_that_are_up(release: str, alone: str) -> None:
    """Seen on both slurmctlds. For 26.05 all nine nodes together cannot take the job (the light ones lie in three
    blocks), the six that are up can: a job that shares one of them makes it wait, one that has it whole gets it
    refused. 24.11 tries again without the smallest nodes, and finds room among the nine."""
    shared = (JobView("1", frozenset({"n2"}), whole=False),)
    waits = Planner(_mixed(release, "n[4-6]", shared)).place(Request(6, exclusive_topo=True))
    assert waits.result == "pending"
    whole = (JobView("1", frozenset({"n2"})),)
    assert Planner(_mixed(release, "n[4-6]", whole)).place(Request(6, exclusive_topo=True)).result == alone


def test_says_which_nodes_a_job_cannot_use() -> None:
    planner = Planner(with_down(with_busy(flat(), ["n2"]), ["n3"]))
    wanted = Request(3, partition="all", whole=True)
    assert planner.place(wanted).why.endswith("not usable are 1 down or drained, 2 in use")
    wanted = Request(2, partition="two", constraint="big", gres={"gpu": 5}, exclude=("n3",))
    assert planner.place(wanted).why.endswith("not usable are 2 not in partition two, 2 without the GRES")


def test_consolidated_segments_say_what_they_must_be_within() -> None:
    text = "".join(f"BlockName=b{one} Nodes=n{one}[1-2]\n" for one in range(4)) + "BlockSizes=2,4\n"
    planner = Planner(with_busy(from_topology_text(text, "t", Release(26, 5)), ["n01", "n21"]))
    why = planner.place(Request(4, 2, consolidate_segments=True)).why
    assert "all 4 nodes must be within 2 neighbouring blocks" in why
    assert why.endswith("the most that are free there is 3")


def test_says_it_of_all_nodes_and_not_of_those_that_the_last_try_was_left_with() -> None:
    """Slurm tries again without the node of the fewest CPUs: then no block has more than one free node."""
    text = "".join(f"BlockName={one} Nodes={one}[1-3]\n" for one in "abc") + "BlockSizes=3\n"
    snapshot = with_busy(from_topology_text(text, "t", Release(24, 11)), ["a3", "b2", "b3", "c2", "c3"])
    nodes = tuple(replace(node, cpus=1 if node.name == "a1" else 8) for node in snapshot.nodes)
    placed = Planner(replace(snapshot, nodes=nodes)).place(Request(3, whole=True))
    assert placed.why == "a job of 3 nodes fits in no block: the most that one has free is 2"


def random_cluster(dice: random.Random) -> Planner:
    release = dice.choice([Release(24, 11), Release(26, 5)])
    base, count = dice.randint(1, 4), dice.randint(1, 9)
    names = [[f"n{block}-{slot}" for slot in range(base)] for block in range(count)]
    sizes = (base, *(base << level for level in sorted(dice.sample([1, 2, 3], dice.randint(0, 2)))))
    blocks = tuple(Block(f"b{number}", tuple(nodes)) for number, nodes in enumerate(names))
    topologies = TopologySet((NamedTopology("default", BlockTopology(blocks, sizes), True),))
    everyone = [name for nodes in names for name in nodes]
    snapshot = Snapshot(tuple(NodeView(name) for name in everyone), topologies, release)
    return Planner(with_busy(snapshot, dice.sample(everyone, dice.randint(0, len(everyone) // 2))))


def test_sizes_that_numbers_alone_rule_out_never_start() -> None:
    dice = random.Random(5)
    ruled_out = 0
    for _ in range(60):
        planner = random_cluster(dice)
        possible = planner.screen(Request(1))
        for nodes in range(1, len(planner.snapshot.nodes) + 1):
            for segment in [0, *(size for size in range(1, nodes + 1) if nodes % size == 0)]:
                wanted = Request(nodes, segment)
                if not possible(wanted):
                    ruled_out += 1
                    assert planner.start(wanted) is None, (planner.snapshot, wanted)
    assert ruled_out > 500


def test_no_other_size_is_said_only_when_there_is_none() -> None:
    dice = random.Random(6)
    for _ in range(60):
        planner = random_cluster(dice)
        wanted = Request(len(planner.snapshot.nodes) + 1)
        sizes = [nodes for nodes in range(1, wanted.nodes) if planner.start(Request(nodes)) is not None]
        others = alternatives(planner, wanted)
        assert not others.cut_off
        assert [one.nodes for one in others.found] == sizes[-1:]


def test_a_job_of_any_size_is_answered() -> None:
    planner = guide("ultraserver1-0")
    others = alternatives(planner, Request(10**11, 9))
    assert [(one.nodes, one.segment) for one in others.found] == [(27, 9)]
    assert not others.cut_off


def test_a_search_that_was_cut_off_says_so() -> None:
    """Numbers alone would let 64 sizes and more start; the node list's neighbours are what stands in the way."""
    text = "BlockName=a Nodes=a[1-200]\nBlockName=b Nodes=b[1-200]\nBlockSizes=200\n"
    planner = Planner(from_topology_text(text, "t", Release(24, 11)))
    request = Request(100, nodelist=("a1", "b1"))
    assert planner.place(request).result == "rejected"
    assert alternatives(planner, request) == Alternatives((), cut_off=True)


@pytest.mark.parametrize("text", ["gpu:-3", "gres/gpu:8", "a:b:c:d", "gpu:", ":8", "gpu:8:h100", "gpu 8"])
def test_gres_that_cannot_be_asked_for(text: str) -> None:
    with pytest.raises(InvalidInput, match="generic resources that cannot be read"):
        requested_gres(text)


def test_gres_that_are_asked_for() -> None:
    assert requested_gres("gpu:h100:2,nvme:1K") == {"gpu": 2, "gpu:h100": 2, "nvme": 1024}
    assert requested_gres("none") == requested_gres("") == {}
