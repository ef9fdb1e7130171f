"""Nodes that join a job come from the blocks of those it has lost."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpadmin.recovery.resume import joining
from hpadmin.recovery.resume.joining import Share, shares
from hpadmin.slurm.hostlist import expand
from hpadmin.topology.graph import Block, BlockTopology

BLOCKS = BlockTopology((Block("b1", tuple(expand("n[1-4]"))), Block("b2", tuple(expand("n[5-8]")))), (4,))
ALL = expand("n[1-10]")  # n9 and n10 are in no block


def test_its_example() -> None:
    assert doctest.testmod(joining).failed == 0


@pytest.mark.parametrize(
    ("held", "lost", "need", "expected"),
    [
        ("n[1-2]", "n3", 1, {"b1": (1, "n[5-10]")}),
        ("n[1-2,5-6]", "n[3,7]", 2, {"b1": (1, "n[5-10]"), "b2": (1, "n[1-4,9-10]")}),
        ("n1", "n[2-3]", 2, {"b1": (2, "n[5-10]")}),
        # Spares took the place of one: the block that still has more of the job comes first.
        ("n[5-7]", "n[1,8]", 1, {"b2": (1, "n[1-4,9-10]")}),
        ("n9", "n10", 1, {"": (1, "n[1-8]")}),
        # Slurm took a node before anybody knew which.
        ("n[1-2]", "", 1, {"": (1, "n[5-10]")}),
    ],
)
def test_each_lost_node_is_followed_by_one_of_its_block(
    held: str, lost: str, need: int, expected: dict[str, tuple[int, str]]
) -> None:
    found = shares(BLOCKS, held=expand(held), lost=expand(lost) if lost else [], need=need, among=ALL)
    assert {each.block: (each.need, each.excluded) for each in found} == {
        block: (count, tuple(expand(excluded))) for block, (count, excluded) in expected.items()
    }


@given(st.sets(st.sampled_from(ALL), min_size=2), st.data())
def test_as_many_join_as_are_needed_and_the_job_keeps_its_shape(job: set[str], data: st.DataObject) -> None:
    lost = data.draw(st.lists(st.sampled_from(sorted(job)), min_size=1, max_size=len(job) - 1, unique=True))
    found = shares(BLOCKS, held=job - set(lost), lost=lost, need=len(lost), among=ALL)
    assert sum(each.need for each in found) == len(lost)
    home = {node: block.name for block in BLOCKS.blocks for node in block.nodes}
    for each in found:
        able = set(ALL) - set(each.excluded)
        assert {home.get(node, "") for node in able} == {each.block}
        assert each.need == sum(home.get(node, "") == each.block for node in lost)


def test_without_blocks_nothing_is_excluded() -> None:
    assert Share(2).excluded == ()
