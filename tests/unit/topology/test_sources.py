from __future__ import annotations

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.topology.blocks import plan_blocks
from hpadmin.topology.graph import (
    Block,
    BlockTopology,
    FlatTopology,
    Location,
    NetworkGraph,
    Switch,
    TreeTopology,
)
from hpadmin.topology.release import Release
from hpadmin.topology.sources import (
    from_ec2,
    from_recorded,
    from_sagemaker,
    from_topology,
    merge,
    with_places,
)
from hpadmin.topology.tree import plan_tree
from tests.unit.topology.clusters import cluster, node

NAMES = {"i-1": "n1", "i-2": "n2"}


def test_sagemaker_tells_ultraservers() -> None:
    graph = from_sagemaker(
        [
            {"InstanceId": "i-1", "UltraServerInfo": {"Id": "us-a"}},
            {"InstanceId": "i-2"},
            {"InstanceId": "i-3", "UltraServerInfo": {"Id": "us-b"}},
        ],
        NAMES,
    )
    assert graph.locations == (Location("n1", domain="us-a"), Location("n2"))


def test_ec2_tells_network_nodes() -> None:
    graph = from_ec2(
        [{"InstanceId": "i-2", "NetworkNodes": ["nn-a", "nn-b", "nn-c"]}, {"InstanceId": "i-9"}], NAMES
    )
    assert graph.locations == (Location("n2", ("nn-a", "nn-b", "nn-c")),)


def test_merged_facts_fill_each_other() -> None:
    servers = from_sagemaker([{"InstanceId": "i-1", "UltraServerInfo": {"Id": "us-a"}}], NAMES)
    network = from_ec2([{"InstanceId": "i-1", "NetworkNodes": ["nn-a"]}], NAMES)
    assert merge(servers, network).locations == (Location("n1", ("nn-a",), "us-a"),)


def test_blocks_come_back_in_their_order() -> None:
    blocks = BlockTopology((Block("z", ("n3", "n4")), Block("a", ("n1", "n2"))), (2,))
    again = plan_blocks(from_topology(blocks), Release(24, 11), sizes=(2,))
    assert again.topology == blocks


def test_a_tree_of_ours_takes_more_nodes_without_a_place() -> None:
    first = plan_tree(NetworkGraph((Location("a", ("t",)), Location("b", ("t", "x")), Location("c"))))
    again = from_topology(first.topology)
    more = NetworkGraph((*again.locations, Location("d"), Location("e", ("network-root", "t"))))
    assert sorted(plan_tree(more).topology.nodes) == ["a", "b", "c", "d", "e"]


def test_a_tree_comes_back() -> None:
    tree = TreeTopology(
        (Switch("top", children=("l1", "l2")), Switch("l1", ("n1",)), Switch("l2", ("n2", "n3")))
    )
    assert plan_tree(from_topology(tree)).topology == tree
    assert from_topology(FlatTopology(("n1",))).locations == (Location("n1"),)


def test_recorded_answers_fill_a_cluster() -> None:
    plain = cluster([node(name, "g", "ml.p5.48xlarge") for name in ("n1", "n2")])
    names = {one.instance.instance_id: one.name for one in plain.computes}
    answers = [
        {"Instances": [{"InstanceId": "i-n1", "NetworkNodes": ["nn-a", "nn-b"]}, {"InstanceId": "i-other"}]},
        {"NodeDetails": {"InstanceId": "i-n2", "UltraServerInfo": {"Id": "us-a"}}},
        {"ClusterNodeSummaries": [{"InstanceId": "i-n1", "UltraServerInfo": {"Id": "us-b"}}]},
    ]
    filled = with_places(plain, from_recorded(answers, names))
    places = [(one.instance.network_layers, one.instance.ultraserver) for one in filled.computes]
    assert places == [(("nn-a", "nn-b"), "us-b"), ((), "us-a")]
    assert with_places(filled, from_recorded({"Instances": []}, names)) == filled


@pytest.mark.parametrize("document", [None, {}, [{"Instances": ["i-1"]}], {"ClusterNodeSummaries": {}}])
def test_other_documents_are_no_answers(document: object) -> None:
    with pytest.raises(InvalidInput, match="network facts cannot be read"):
        from_recorded(document, NAMES)
