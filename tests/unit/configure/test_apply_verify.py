"""What counts as a Slurm that runs the files on disk, and what does not."""

from __future__ import annotations

import dataclasses

import pytest

from hpadmin.configure.layout import Layout, layout
from hpadmin.configure.live import Live
from hpadmin.configure.verify import answering, misfits, shortfall, topology_shortfall, waiting
from hpadmin.slurm.reader import NodeInfo, PartitionInfo
from hpadmin.slurm.states import NodeState

CONF = "ClusterName=c\nNodeName=n[1-2] CPUs=4 Gres=gpu:2\nPartitionName=dev Nodes=ALL\n"
INTENT: Layout = layout({"slurm.conf": CONF}, (24, 11))
STARTED = {"n1": 100.0, "n2": 100.0}


def node(
    name: str, state: str = "IDLE", started: float = 200, gres: str = "gpu:2(S:0)", reason: str = ""
) -> NodeInfo:
    return NodeInfo(name, NodeState.parse(state), gres=gres, slurmd_start_time=started, reason=reason)


def live(*nodes: NodeInfo, hash_value: str = "Match", **partitions: str) -> Live:
    return Live(
        release=(24, 11),
        settings={"HASH_VAL": hash_value},
        nodes={each.name: each for each in nodes},
        partitions={
            name: PartitionInfo(name, "UP", members, default=False)
            for name, members in (partitions or {"dev": "n[1-2]"}).items()
        },
        jobs=(),
        reservations=(),
    )


GOOD = live(node("n1"), node("n2", "MIXED"))


def test_a_slurm_that_is_what_the_files_say_lacks_nothing() -> None:
    assert shortfall(GOOD, INTENT, STARTED).words == ""


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (
            dataclasses.replace(GOOD, settings={"HASH_VAL": "Different Ours=0x1"}),
            "does not run the slurm.conf on disk",
        ),
        (live(node("n1")), "slurmctld does not know n2"),
        (live(node("n1"), node("n2"), node("n3")), "slurmctld still has n3"),
        (live(node("n1"), node("n2", gres="gpu:1")), "slurmctld has other GRES for n2"),
        (live(node("n1"), node("n2"), dev="n1"), "partition dev has other nodes in slurmctld: n1"),
        (live(node("n1"), node("n2"), dev="n[1-2]", old="n1"), "slurmctld still has partition old"),
        (live(node("n1"), node("n2"), old="n1"), "slurmctld does not know partition dev"),
        (live(node("n1"), node("n2", started=100)), "n2 did not come back"),
        (live(node("n1"), node("n2", "UNKNOWN", started=0)), "n2 did not come back"),
        (live(node("n1"), node("n2", "IDLE+NOT_RESPONDING")), "n2 did not come back"),
    ],
)
def test_what_may_yet_come_is_pending(now: Live, words: str) -> None:
    found = shortfall(now, INTENT, STARTED)
    assert words in found.words
    assert found.faults == ()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("IDLE+DRAIN+INVALID_REG", "n2 does not fit its configuration: Low CPUs"),
        ("DOWN", "n2 went down: Low CPUs"),
    ],
)
def test_what_waiting_does_not_mend_is_a_fault(state: str, words: str) -> None:
    found = shortfall(live(node("n1"), node("n2", state, reason="Low CPUs")), INTENT, STARTED)
    assert found.faults == (words,)


@pytest.mark.parametrize(
    ("state", "started"), [("DOWN+FAIL", 100), ("DOWN", 200), ("IDLE+FAIL+NOT_RESPONDING", 200)]
)
@pytest.mark.parametrize("reason", ["hpadmin: replace: the host does not answer", "Action:Replace"])
def test_a_node_that_is_given_up_meanwhile_is_no_fault_of_the_files(
    state: str, started: int, reason: str
) -> None:
    """Its host may die at any time: going back to the old files would take the other changes with it."""
    found = shortfall(live(node("n1"), node("n2", state, started=started, reason=reason)), INTENT, STARTED)
    assert found.words == ""
    foreign = live(node("n1"), node("n2", state, started=started, reason="bad PSU"))
    assert shortfall(foreign, INTENT, STARTED).words != ""


def test_a_node_that_did_not_answer_before_is_waited_for_by_nobody() -> None:
    silent = node("n2", "DOWN+NOT_RESPONDING", started=0)
    now = live(node("n1"), silent)
    assert answering(now) == {"n1": 200}
    assert shortfall(now, INTENT, {"n1": 100}).words == ""
    assert waiting(now, INTENT) == ("n2",)


def test_a_new_node_with_less_than_configured_is_remarked() -> None:
    now = live(node("n1"), node("n2", "IDLE+DRAIN+INVALID_REG", reason="Low CPUs"))
    assert misfits(now, frozenset({"n2"})) == ("n2 does not fit its configuration: Low CPUs",)
    assert misfits(now, frozenset({"n1"})) == ()


def test_nodes_that_registered_themselves_are_nobodys_mistake() -> None:
    now = live(node("n1"), node("n2"), node("d1", "IDLE+DYNAMIC_NORM", gres=""), dev="n[1-2],d1")
    assert shortfall(now, INTENT, STARTED).words == ""


def test_without_hashes_nothing_is_said_about_them() -> None:
    now = dataclasses.replace(GOOD, settings={"HASH_VAL": "Different", "DebugFlags": "NO_CONF_HASH"})
    assert shortfall(now, INTENT, STARTED).words == ""
    assert (
        shortfall(
            dataclasses.replace(GOOD, settings={"HASH_VAL": "Different"}), INTENT, STARTED, hashed=False
        ).words
        == ""
    )


def test_partitions_kept_in_memory_on_purpose_are_not_compared() -> None:
    kept = layout({"slurm.conf": CONF + "ReconfigFlags=KeepPartInfo\n"}, (24, 11))
    assert shortfall(live(node("n1"), node("n2"), other="n1"), kept, STARTED).words == ""


TOPOLOGY = "BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[5-8]\nBlockSizes=4\n"
SHOWN = (
    "BlockName=b1 BlockIndex=0 Nodes=n[1-4] BlockSize=4\n"
    "BlockName=b2 BlockIndex=1 Nodes=n[5-8] BlockSize=4\n"
    "AggregatedBlock=b[1-2] BlockIndex=2 Nodes=n[1-8] BlockSize=8\n"
)


def test_topology_is_compared_by_what_each_block_holds() -> None:
    assert topology_shortfall(SHOWN, {"topology.conf": TOPOLOGY}.get) == ()
    moved = TOPOLOGY.replace("n[1-4]", "n[1-5]").replace("BlockName=b2", "BlockName=b3")
    assert topology_shortfall(SHOWN, {"topology.conf": moved}.get) == (
        "BlockName=b1 has other nodes in slurmctld: n[1-4]",
        "slurmctld has no BlockName=b3",
    )


def test_switches_are_compared_too() -> None:
    said = "SwitchName=s0 Level=1 Nodes=n[1-2] Switches=s1\nSwitchName=s1 Level=0 LinkSpeed=1 Nodes=n[1-2]\n"
    tree = "SwitchName=s0 Switches=s1\nSwitchName=s1 Nodes=n[1-2]\n"
    assert topology_shortfall(said, {"topology.conf": tree}.get) == ()
    assert topology_shortfall(said, {"topology.conf": tree.replace("2]", "3]")}.get) != ()
