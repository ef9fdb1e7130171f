"""What the lab's instances are told about themselves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest

from hpadmin import request
from hpadmin.errors import InvalidInput
from hpadmin.lab.facts import LabInstance, allocate, replacement, resource_config
from hpadmin.model import Group, NodeType

SUBNET = "10.200.0.0/20"


def group(name: str, instance_type: str, count: int, node_type: NodeType = NodeType.COMPUTE) -> Group:
    return Group(name=name, node_type=node_type, instance_types=(instance_type,), count=count)


def ids() -> Callable[[], str]:
    counter = itertools.count(1)
    return lambda: f"i-{next(counter):017x}"


def make(
    groups: list[Group], existing: tuple[LabInstance, ...] = (), **options: int
) -> tuple[LabInstance, ...]:
    return allocate(
        groups, existing, SUBNET, ultraserver_nodes=options.get("ultraserver_nodes"), new_id=ids()
    )


CONTROLLER = group("controller", "ml.c5.xlarge", 1, NodeType.CONTROLLER)


def test_addresses_follow_the_request_so_that_node_names_fold() -> None:
    instances = make([CONTROLLER, group("workers", "ml.g5.12xlarge", 3)])
    assert [(i.name, i.address, i.hostname) for i in instances] == [
        ("controller-1", "10.200.0.10", "ip-10-200-0-10"),
        ("workers-1", "10.200.0.11", "ip-10-200-0-11"),
        ("workers-2", "10.200.0.12", "ip-10-200-0-12"),
        ("workers-3", "10.200.0.13", "ip-10-200-0-13"),
    ]


def test_what_exists_keeps_its_facts_when_a_group_grows_shrinks_or_goes() -> None:
    before = make([CONTROLLER, group("a", "ml.c5.large", 2), group("b", "ml.c5.large", 2)])
    grown = make([CONTROLLER, group("a", "ml.c5.large", 3), group("b", "ml.c5.large", 1)], before)
    known = {i.name: i for i in before}
    assert [i.name for i in grown] == ["controller-1", "a-1", "a-2", "a-3", "b-1"]
    assert all(i == known[i.name] for i in grown if i.name in known)
    assert grown[3].address not in {i.address for i in before}


def test_another_instance_type_is_another_machine() -> None:
    before = make([group("a", "ml.c5.large", 1)])
    after = make([group("a", "ml.c5.xlarge", 1)], before)
    assert after[0].instance_type == "ml.c5.xlarge"
    assert after[0].address != before[0].address


def test_a_replacement_keeps_its_names_and_nothing_else() -> None:
    instances = make([CONTROLLER, group("gpus", "ml.p6e-gb200.36xlarge", 4)], ultraserver_nodes=2)
    old = instances[2]
    new = replacement(old, [i for i in instances if i != old], SUBNET, instance_id="i-new")
    assert (new.name, new.hostname, new.ultraserver) == (old.name, old.hostname, old.ultraserver)
    assert new.instance_id == "i-new"
    assert new.address == "10.200.0.15"


def test_no_newcomer_gets_the_host_name_that_a_replaced_instance_keeps() -> None:
    instances = make([group("a", "ml.c5.large", 2)])
    moved = replacement(instances[0], instances[1:], SUBNET, instance_id="i-new")
    grown = make([group("a", "ml.c5.large", 3)], (moved, instances[1]))
    assert len({i.hostname for i in grown}) == 3
    assert len({i.address for i in grown}) == 3


def test_ultraservers_are_filled_one_after_the_other() -> None:
    instances = make([group("us", "ml.p6e-gb200.36xlarge", 5)], ultraserver_nodes=2)
    assert [i.ultraserver for i in instances] == ["us-us-1", "us-us-1", "us-us-2", "us-us-2", "us-us-3"]
    real = make([group("us", "ml.p6e-gb200.36xlarge", 19)])
    assert [i.ultraserver for i in real[17:]] == ["us-us-1", "us-us-2"]


def test_devices_are_those_of_the_type() -> None:
    instances = make(
        [group("a", "ml.p5.48xlarge", 1), group("b", "ml.trn1.32xlarge", 1), group("c", "ml.c5.large", 1)]
    )
    assert [i.devices for i in instances] == ["nvidia:8", "neuron:16", ""]


def test_facts_survive_the_label_they_are_kept_in() -> None:
    for instance in make(
        [CONTROLLER, group("us", "ml.p6e-gb200.36xlarge", 1), group("p", "ml.p5.48xlarge", 1)]
    ):
        assert LabInstance.from_json(instance.to_json()) == instance


def test_resource_config_is_an_inventory_that_the_request_reader_takes() -> None:
    instances = make([CONTROLLER, group("us", "ml.p6e-gb200.36xlarge", 4), group("p", "ml.p5.48xlarge", 1)],
                     ultraserver_nodes=2)  # fmt: skip
    text = resource_config("lab", instances)
    inventory = request.read_inventory(request.Source(text, "lab"))
    assert [(i.name, i.address, i.hostname, i.ultraserver) for i in inventory.instances] == [
        (i.name, i.address, i.hostname, i.ultraserver) for i in instances
    ]
    assert inventory.instances[-1].network_layers == ("nn-spine-1", "nn-p", "nn-p-1")
    assert json.loads(text)["SlurmConfig"]["PrimaryControllerIp"] == "10.200.0.10"


def test_a_full_network_says_so() -> None:
    with pytest.raises(InvalidInput, match=r"10\.200\.0\.0/28 has no address left"):
        allocate([group("a", "ml.c5.large", 20)], (), "10.200.0.0/28", ultraserver_nodes=None, new_id=ids())
