from __future__ import annotations

from dataclasses import replace

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.model import Cluster
from hpadmin.topology.choose import choose
from hpadmin.topology.graph import BlockTopology, TreeTopology
from hpadmin.topology.read import read_conf, read_yaml
from hpadmin.topology.release import Release
from tests.unit.topology.clusters import P5, ULTRASERVER, cluster, node, p5s, plain, ultraservers


def test_ultraservers_are_blocks_of_18() -> None:
    choice = choose(cluster(ultraservers(18, 18), train=["gb200"]), "24.11")
    assert choice.plugin == "topology/block"
    assert choice.files == {
        "topology.conf": "BlockName=us-01 Nodes=ip-10-1-1-[1-18]\n"
        "BlockName=us-02 Nodes=ip-10-1-2-[1-18]\nBlockSizes=18\n"
    }
    assert choice.settings == {"TopologyPlugin": "topology/block", "SwitchType": "switch/nvidia_imex"}
    assert choice.placeholders == ()


def test_imex_domains_are_the_ultraservers() -> None:
    choice = choose(cluster(ultraservers(2, 1)), "24.11")
    assert [(domain.name, domain.nodes) for domain in choice.imex_domains] == [
        ("us-01", ("ip-10-1-1-1", "ip-10-1-1-2")),
        ("us-02", ("ip-10-1-2-1",)),
    ]
    assert choice.imex_domains[0].nodes_config == "10.1.1.1\n10.1.1.2\n"


def test_short_blocks_are_padded_before_25_05_and_left_short_after() -> None:
    model = cluster(ultraservers(18, 16))
    old, new = choose(model, "24.11"), choose(model, "25.05")
    assert old.placeholders == ("pad-us-02-1", "pad-us-02-2")
    assert "BlockName=us-02 Nodes=ip-10-1-2-[1-16],pad-us-02-[1-2]" in old.files["topology.conf"]
    assert new.placeholders == ()
    assert "nodes: ip-10-1-2-[1-16]\n" in new.files["topology.yaml"]


@pytest.mark.parametrize(
    ("sizes", "spares", "given", "expected"),
    [
        ((18, 18), 0, None, (18,)),
        ((18, 18), 1, None, (17,)),
        ((17, 17), 0, None, (17,)),
        ((17, 17), 1, None, (17,)),
        ((4, 4, 3), 0, None, (4,)),
        ((18, 18, 18, 18), 0, (16, 32), (16, 32)),
    ],
)
def test_block_sizes(
    sizes: tuple[int, ...], spares: int, given: tuple[int, ...] | None, expected: tuple[int, ...]
) -> None:
    choice = choose(cluster(ultraservers(*sizes)), "24.11", block_sizes=given, spares=spares)
    topology = choice.topologies.default.topology
    assert isinstance(topology, BlockTopology)
    assert topology.sizes == expected


@pytest.mark.parametrize(
    ("sizes", "wanted", "spares", "expected"),
    [
        ((18, 17), 36, 0, 18),
        ((17, 17), 36, 0, 18),
        ((17, 16), 36, 1, 17),
        ((17, 16), 34, 0, 17),
        ((5,), 36, 0, 18),
        ((17, 2), 20, 0, 18),
        ((4, 3), 8, 0, 4),
        ((10,), 10, 0, 10),
    ],
)
def test_nodes_that_are_missing_just_now_do_not_change_the_base(
    sizes: tuple[int, ...], wanted: int, spares: int, expected: int
) -> None:
    choice = choose(cluster(ultraservers(*sizes), {"gb200": wanted}), "24.11", spares=spares)
    topology = choice.topologies.default.topology
    assert isinstance(topology, BlockTopology)
    assert topology.sizes == (expected,)
    assert {len(block.nodes) for block in topology.blocks} == {expected}, "padded where short"


def test_more_spares_than_an_ultraserver_has_are_refused() -> None:
    with pytest.raises(InvalidInput, match="more spares"):
        choose(cluster(ultraservers(18)), "24.11", spares=18)


def test_a_node_that_would_get_no_place_is_refused() -> None:
    """The block of a node outside of UltraServers has the name of an UltraServer."""
    nodes = [
        *ultraservers(18),
        node("a", "gb200", ULTRASERVER),
        node("b", "gb200", ULTRASERVER, ultraserver="single-a"),
    ]
    with pytest.raises(InvalidInput, match="Slurm would not take"):
        choose(cluster(nodes), "26.05")


def test_network_layers_become_levels_where_they_hold_powers_of_two() -> None:
    choice = choose(cluster(ultraservers(4, 4, 4, 4, start=2, layers=True)), "24.11")
    assert choice.files["topology.conf"].endswith("BlockSizes=4,8\n")
    odd = choose(cluster(ultraservers(4, 4, 4, start=1, layers=True)), "24.11")
    assert odd.files["topology.conf"].endswith("BlockSizes=4\n")


@pytest.mark.parametrize("sizes", [(18, 54), (18, 9), (0,), (18, 18), ()])
def test_given_sizes_that_slurm_refuses(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput):
        choose(cluster(ultraservers(18)), "24.11", block_sizes=sizes)


def test_mixed_cluster_is_refused_blocks_on_24_11() -> None:
    choice = choose(cluster([*ultraservers(18), *p5s(2)], us=["gb200"], p5=["p5"]), "24.11")
    assert choice.plugin == "topology/default"
    assert choice.files == {}
    assert "topology/block is refused" in choice.warnings[0]
    assert "partition of their own" in choice.warnings[0]
    assert "multi-cluster" in choice.warnings[0]
    assert choice.settings["SwitchType"] == "switch/nvidia_imex"


def test_mixed_cluster_gets_both_later() -> None:
    choice = choose(cluster([*ultraservers(18), *p5s(2)], us=["gb200"], p5=["p5"]), "25.11")
    assert choice.plugin == "topology/tree"
    assert choice.partition_topology == {"us": "ultraservers"}
    kinds = {named.name: type(named.topology) for named in choice.topologies}
    assert kinds == {"network": TreeTopology, "ultraservers": BlockTopology}
    assert choice.topologies.default.name == "network"


def test_a_type_without_a_place_makes_the_default_flat() -> None:
    model = cluster([*ultraservers(4), *p5s(2), *plain(1)], us=["gb200"], p5=["p5"], cpu=["cpu"])
    choice = choose(model, "26.05")
    assert choice.plugin == "topology/flat"
    assert choice.partition_topology == {"us": "ultraservers", "p5": "network"}
    assert choice.files["topology.yaml"].startswith(
        "- topology: flat\n  cluster_default: true\n  flat: true\n"
    )


def test_partition_of_both_kinds_is_a_tree() -> None:
    model = cluster([*ultraservers(4), *p5s(2), *plain(1)], both=["gb200", "p5"], cpu=["cpu"])
    assert choose(model, "26.05").partition_topology == {"both": "network"}


def test_tree_of_network_nodes() -> None:
    choice = choose(cluster(p5s(4), train=["p5"]), "24.11")
    assert choice.files["topology.conf"] == (
        "SwitchName=nn-spine Switches=nn-leaf0,nn-leaf1\n"
        "SwitchName=nn-leaf0 Nodes=ip-10-2-0-[2,4]\n"
        "SwitchName=nn-leaf1 Nodes=ip-10-2-0-[1,3]\n"
    )


def test_every_node_is_on_some_switch() -> None:
    unlabelled = [node("ip-10-9-0-1", "p5", P5), node("ip-10-9-0-2", "p5", P5, layers=["nn-other"])]
    deep = node("ip-10-9-0-3", "p5", P5, layers=["nn-spine"])
    choice = choose(cluster([*p5s(4), *unlabelled, deep]), "24.11")
    text = choice.files["topology.conf"]
    topology = read_conf(text, "topology.conf", Release(24, 11)).default.topology
    assert isinstance(topology, TreeTopology)
    assert sorted(topology.nodes) == sorted(
        [*(f"ip-10-2-0-{one}" for one in range(1, 5)), *(f"ip-10-9-0-{one}" for one in range(1, 4))]
    )
    assert [switch.name for switch in topology.roots()] == ["network-root"]
    assert "SwitchName=network-unplaced Nodes=ip-10-9-0-1" in text
    assert "SwitchName=nn-spine-direct Nodes=ip-10-9-0-3" in text


@pytest.mark.parametrize(
    ("model", "release", "plugin"),
    [
        (cluster(plain(2)), "24.11", "topology/default"),
        (cluster(plain(2)), "25.05", "topology/flat"),
        (cluster([*p5s(2), *plain(1)]), "24.11", "topology/default"),
        (cluster(p5s(2, labelled=False)), "24.11", "topology/default"),
        (cluster(p5s(2, labelled=False)), "26.05", "topology/flat"),
        (cluster([]), "24.11", "topology/default"),
    ],
)
def test_flat_writes_no_file_and_says_why(model: Cluster, release: str, plugin: str) -> None:
    choice = choose(model, release)
    assert choice.plugin == plugin
    assert choice.files == {}
    assert choice.reasons


def test_an_ultraserver_node_without_id_is_a_block_of_its_own() -> None:
    stray = replace(ultraservers(1)[0], name="stray")
    stray = replace(stray, instance=replace(stray.instance, ultraserver=None))
    choice = choose(cluster([*ultraservers(2), stray]), "24.11")
    assert "BlockName=single-stray Nodes=stray,pad-single-stray-1" in choice.files["topology.conf"]


def test_a_network_node_with_two_parents_is_refused() -> None:
    nodes = [
        node("a", "p5", P5, layers=["top", "mid", "leaf"]),
        node("b", "p5", P5, layers=["top", "other", "leaf"]),
    ]
    with pytest.raises(InvalidInput, match="no tree"):
        choose(cluster(nodes), "24.11")


@pytest.mark.parametrize(
    "bad", ["us 1", "us,2", "us[1-2]", "us#1", "us\nBlockName=x", "-us", "u" * 65, "us-" + "9" * 19]
)
def test_names_that_would_change_the_file_are_refused(bad: str) -> None:
    nodes = [replace(one, instance=replace(one.instance, ultraserver=bad)) for one in ultraservers(2)]
    with pytest.raises(InvalidInput):
        choose(cluster(nodes), "24.11")


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="more than once"):
        choose(cluster([*plain(1), *plain(1)]), "24.11")


@pytest.mark.parametrize("release", ["24.11", "24.11.5", "25.05", "25.11.2", "26.05"])
def test_what_is_written_is_read_back(release: str) -> None:
    model = cluster([*ultraservers(4, 4), *p5s(4)], us=["gb200"], p5=["p5"])
    if not Release.parse(release).reads_yaml:
        model = cluster(ultraservers(4, 4))
    choice = choose(model, release)
    [(name, text)] = choice.files.items()
    read = read_yaml if name.endswith("yaml") else read_conf
    again = read(text, name, Release.parse(release))
    assert {one.name: one.topology for one in again} == {one.name: one.topology for one in choice.topologies}


@pytest.mark.parametrize("text", ["", "24", "x.y", "24.11; rm"])
def test_no_release(text: str) -> None:
    with pytest.raises(InvalidInput):
        choose(cluster([]), text)
