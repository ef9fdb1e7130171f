"""The facts of Slurm's own block-topology tests: same inputs, same answers.

test_150_1 and test_150_2 (placement), test_150_9 (topology.yaml files that slurmctld refuses), and the figures of its
unit test of fragmentation.
"""

from __future__ import annotations

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.topology.advise import slurm_fragmentation
from hpadmin.topology.graph import Block, BlockTopology, NamedTopology, TopologySet
from hpadmin.topology.placement import JobView, NodeView, Planner, Request, Snapshot
from hpadmin.topology.read import read_yaml
from hpadmin.topology.release import Release

NAMES = [f"node{number}" for number in range(1, 9)]
BLOCKS = BlockTopology((Block("b1", tuple(NAMES[:4])), Block("b2", tuple(NAMES[4:]))), (4, 8))


def cluster(release: str, *jobs: JobView) -> Planner:
    return Planner(
        Snapshot(
            tuple(NodeView(name) for name in NAMES),
            TopologySet((NamedTopology("default", BLOCKS, True),)),
            Release.parse(release),
            (),
            jobs,
        )
    )


def submit(release: str, jobs: list[JobView], request: Request) -> str:
    placement = cluster(release, *jobs).place(request)
    if placement.result == "starts":
        jobs.append(JobView(str(len(jobs)), frozenset(placement.nodes)))
    return placement.result


@pytest.mark.parametrize("release", ["24.11", "26.05"])
def test_a_third_job_finds_no_block(release: str) -> None:
    jobs: list[JobView] = []
    assert [submit(release, jobs, Request(nodes, whole=True)) for nodes in (2, 3, 3)] == [
        "starts",
        "starts",
        "pending",
    ]


def test_the_third_job_waits_for_a_topology_unit() -> None:
    jobs: list[JobView] = []
    submit("26.05", jobs, Request(2, whole=True))
    submit("26.05", jobs, Request(3, whole=True))
    waiting = cluster("26.05", *jobs).place(Request(3, whole=True))
    assert waiting.slurm_says == "No suitable topology unit found"


@pytest.mark.parametrize("release", ["24.11", "26.05"])
def test_a_job_of_several_blocks_fits_beside_another(release: str) -> None:
    jobs: list[JobView] = []
    assert submit(release, jobs, Request(3, whole=True)) == "starts"
    assert submit(release, jobs, Request(5, whole=True)) == "starts"


@pytest.mark.parametrize("release", ["24.11", "26.05"])
def test_segments_must_divide_the_job(release: str) -> None:
    assert submit(release, [], Request(4, 2, whole=True)) == "starts"
    assert submit(release, [], Request(5, 2, whole=True)) == "rejected"


@pytest.mark.parametrize(
    ("nodes", "segment", "listed", "expected"),
    [
        (4, 2, "1 2 3 4", "starts"),
        (4, 2, "1 2 5 6", "starts"),
        (6, 3, "1 2 3 4 5 6 7 8", "starts"),
        (6, 3, "1 2 3 5 6 7", "starts"),
        (6, 3, "1 2 3 4 5 6", "rejected"),
        (6, 3, "1 2 3 4 5", "rejected"),
    ],
)
def test_segments_with_a_node_list(nodes: int, segment: int, listed: str, expected: str) -> None:
    nodelist = tuple(f"node{number}" for number in listed.split())
    placement = cluster("26.05").place(Request(nodes, segment, whole=True, nodelist=nodelist))
    assert placement.result == expected


BLOCK = "  block: {block_sizes: [4], blocks: [{block: b1, nodes: 'node[1-4]'}]}\n"
BAD = {
    "root_not_list": ("topology/tree\n", "#/: Unexpected type string when expecting a list"),
    "block_not_dict": (
        "- topology: t\n  block: [{block_sizes: [4, 16]}, {blocks: [{block: b1, nodes: 'node[1-4]'}]}]\n",
        "#/block/: Rejecting list when dictionary expected",
    ),
    "block_blocks_not_list": (
        "- topology: t\n  block: {block_sizes: [4, 16], blocks: 'b1=node[1-4],b2=node[5-8]'}\n",
        "#/block/blocks/: Unexpected type string when expecting a list",
    ),
    "flat_bool_mutually_exclusive": (
        f"- topology: t\n{BLOCK}  flat: true\n",
        "#/flat/: Field flat is mutually exclusive",
    ),
    "flat_dict_mutually_exclusive": (
        f"- topology: t\n{BLOCK}  flat: {{alpha_step_rank: true}}\n",
        "#/flat/: Field flat is mutually exclusive",
    ),
    "ring_not_dict": (
        "- topology: t\n  ring: 'RingName=r1 Nodes=node[1-8]'\n",
        "#/ring/: Rejecting string when dictionary expected",
    ),
    "ring_mutually_exclusive": (
        f"- topology: t\n{BLOCK}  ring: {{rings: [{{ring: r1, nodes: 'node[1-8]'}}]}}\n",
        "#/ring/: Field ring is mutually exclusive",
    ),
    "ring_rings_not_list": (
        "- topology: t\n  ring: {rings: 'r1=node[1-8],r2=node[9-16]'}\n",
        "#/ring/rings/: Unexpected type string when expecting a list",
    ),
    "torus3d_not_dict": (
        "- topology: t\n  torus3d: '4x2x2'\n",
        "#/torus3d/: Rejecting string when dictionary expected",
    ),
    "torus3d_mutually_exclusive": (
        f"- topology: t\n{BLOCK}  torus3d: {{toruses: [{{name: p, nodes: 'node[1-16]',"
        " dims: {x: 4, y: 2, z: 2}}]}\n",
        "#/torus3d/: Field torus3d is mutually exclusive",
    ),
    "torus3d_toruses_not_list": (
        "- topology: t\n  torus3d: {toruses: 'pod1=node[1-16]'}\n",
        "#/torus3d/toruses/: Unexpected type string when expecting a list",
    ),
    "torus3d_placements_not_list": (
        "- topology: t\n  torus3d: {toruses: [{name: p, nodes: 'node[1-16]', dims: {x: 4, y: 2, z: 2},"
        " placements: 2x2x1}]}\n",
        "#/torus3d/toruses/placements/: Unexpected type string when expecting a list",
    ),
    "torus3d_regions_not_list": (
        "- topology: t\n  torus3d: {toruses: [{name: p, dims: {x: 4, y: 2, z: 2},"
        " regions: 'r1=node[1-8],r2=node[9-16]'}]}\n",
        "#/torus3d/toruses/regions/: Unexpected type string when expecting a list",
    ),
    "tree_not_dict": (
        "- topology: t\n  tree: 'SwitchName=s1 Nodes=node[1-16]'\n",
        "#/tree/: Rejecting string when dictionary expected",
    ),
    "tree_mutually_exclusive": (
        f"- topology: t\n{BLOCK}  tree: {{switches: [{{switch: s1, nodes: 'node[1-16]'}}]}}\n",
        "#/tree/: Field tree is mutually exclusive",
    ),
    "tree_switches_not_list": (
        "- topology: t\n  tree: {switches: 's1=node[1-8],s2=node[9-16]'}\n",
        "#/tree/switches/: Unexpected type string when expecting a list",
    ),
    "block_bad_options": (
        "- topology: t\n  block: {block_sizes: [4, 12], blocks: [{block: b1, nodes: 'node[1-4]'}]}\n",
        "BlockSizes: 12 is not the base block size 4 times a power of two",
    ),
    "flat_bad_options": ("- topology: t\n  flat: false\n", "#/: t has none of"),
    "ring_bad_options": (
        "- topology: t\n  ring: {rings: [{ring: ring0, nodes: 'node[1-17]'}]}\n",
        "Ring (ring0) is bigger than 16",
    ),
    "torus_bad_options": (
        "- topology: t\n  torus3d: {toruses: [{name: pod1, dims: {x: 4, y: 4, z: 2}, nodes: 'node[1-8]'}]}\n",
        "Torus3d (pod1) has invalid configuration",
    ),
    "tree_bad_options": (
        "- topology: t\n  tree: {switches: [{switch: sw_root, children: 's[1-3]'},"
        " {switch: s1, nodes: 'node[1-4]'}, {switch: s2, nodes: 'node[5-8]'}]}\n",
        "sw_root: has invalid child (s3)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_topology_yaml_is_refused(name: str) -> None:
    text, expected = BAD[name]
    with pytest.raises(InvalidInput) as refused:
        read_yaml(text, "topology.yaml", Release(26, 5))
    assert any(expected in str(problem) for problem in refused.value.problems), refused.value


@pytest.mark.parametrize(
    ("busy", "expected"),
    [(range(32), 160), ([], 0), ([0], 61), ([0, 1, 2], 63), ([0, 1, 2, 31], 92)],
)
def test_fragmentation(busy: list[int], expected: int) -> None:
    blocks = tuple(
        Block(f"b{number}", tuple(f"node{number * 4 + slot}" for slot in range(4))) for number in range(8)
    )
    free = [4 - sum(1 for node in busy if node // 4 == number) for number in range(8)]
    assert slurm_fragmentation(BlockTopology(blocks, (4, 8, 16, 32, 64)), free) == expected
