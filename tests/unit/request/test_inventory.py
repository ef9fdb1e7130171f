"""resource_config.json: as HyperPod writes it, older, broken, and joined with a request."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from hpadmin import request
from hpadmin.errors import InvalidInput
from hpadmin.model import Cluster
from hpadmin.request import NodeNames, Source, build, read, read_inventory
from tests.unit.request.edits import EXAMPLES, GPU, GUIDE, Edit, drop, guide, put

INVENTORY: dict[str, Any] = json.loads((EXAMPLES / "guide.resource_config.json").read_text())
FIRST = "InstanceGroups/2/Instances/0"
FIRST_PATH = "InstanceGroups[2].Instances[0]"


def inventory(*edits: Edit) -> Source:
    made = copy.deepcopy(INVENTORY)
    for edit in edits:
        edit(made)
    return Source(json.dumps(made), "resource_config.json")


def problems_of(*edits: Edit) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        read_inventory(inventory(*edits))
    return [(problem.path, problem.message) for problem in caught.value.problems]


def cluster(*edits: Edit, body: Any = GUIDE, names: NodeNames = NodeNames.ADDRESS) -> Cluster:
    wanted = read(Source(json.dumps(body), "request.json"))
    return build(wanted, read_inventory(inventory(*edits)), names)


def build_problems(
    *edits: Edit, body: Any = GUIDE, names: NodeNames = NodeNames.ADDRESS
) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        cluster(*edits, body=body, names=names)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_as_hyperpod_writes_it() -> None:
    found = read_inventory(inventory())
    assert (found.cluster_name, found.primary_controller) == ("ml-training-cluster", "10.1.1.10")
    assert len(found.instances) == 14
    instance = found.instances[2]
    assert (instance.name, instance.group, instance.address) == ("gpu-compute-1", "gpu-compute", "10.1.2.3")
    assert instance.network_layers == ("nn-6fe9d8a965d34d181", "nn-0b53107754517bf0e", "nn-424c855d4ad825aa4")


def test_older_forms() -> None:
    older = [drop("ClusterType"), drop("SlurmConfig"), drop("ClusterConfig/ClusterArn")]
    older += [drop(f"InstanceGroups/2/Instances/{index}/InstanceLabel") for index in range(8)]
    older += [drop(f"InstanceGroups/2/Instances/{index}/AgentIpAddress") for index in range(8)]
    found = cluster(*older)
    assert found.notes == ()
    assert {node.instance.network_layers for node in found.computes} == {()}


def test_the_guides_cluster() -> None:
    found = request.load(EXAMPLES / "guide.json", inventory=EXAMPLES / "guide.resource_config.json")
    assert [node.name for node in found.controllers] == ["ip-10-1-1-10"]
    assert [node.name for node in found.logins] == ["ip-10-1-1-20"]
    assert [node.name for node in found.computes] == [
        *(f"ip-10-1-2-{number}" for number in range(3, 11)),
        *(f"ip-10-1-3-{number}" for number in range(3, 7)),
    ]
    gpu = found.computes[0]
    assert (gpu.cpus, gpu.hardware.accelerator, gpu.hardware.accelerator_count) == (96, "a100", 8)
    assert found.partitions == {"gpu-training": ("gpu-compute",), "cpu-preprocessing": ("cpu-compute",)}
    assert found.arn.endswith("cluster/abcdefghijkl")
    assert found.notes == ()


def test_threads_per_core_changes_the_cpus() -> None:
    found = cluster(body=guide(put(f"{GPU}/ThreadsPerCore", 1)))
    assert (found.computes[0].cpus, found.computes[0].threads_per_core) == (48, 1)


def test_names_after_instances_are_ordered_as_numbers() -> None:
    renamed = put(f"{FIRST}/InstanceName", "gpu-compute-10")
    found = cluster(renamed, names=NodeNames.INSTANCE)
    assert [node.name for node in found.computes[:8]] == [
        *(f"gpu-compute-{number}" for number in range(2, 9)),
        "gpu-compute-10",
    ]


def test_the_order_of_the_inventory_does_not_matter() -> None:
    turned = copy.deepcopy(INVENTORY)
    turned["InstanceGroups"].reverse()
    for group in turned["InstanceGroups"]:
        group["Instances"].reverse()
    wanted = read(Source(json.dumps(GUIDE), "request.json"))
    assert build(wanted, read_inventory(Source(json.dumps(turned), "r.json"))) == cluster()


def test_host_names_that_ec2_gave() -> None:
    found = cluster(put(f"{FIRST}/PrivateDnsHostname", "i-0abc.us-west-2.compute.internal"))
    assert "i-0abc" in [node.name for node in found.computes]


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([put(f"{FIRST}/UltraServerInfo", {"Id": "us-1", "Type": "ml.u-p6e-gb200x72"})], "us-1"),
        ([put(f"{FIRST}/InstanceLabel/ultraserver-id", "us-2")], "us-2"),
        (
            [
                put(f"{FIRST}/UltraServerInfo", {"Id": "us-1"}),
                put(f"{FIRST}/InstanceLabel/ultraserver-id", "us-2"),
            ],
            "us-1",
        ),
        ([put(f"{FIRST}/UltraServerInfo", None)], None),
    ],
)
def test_ultraservers(edits: list[Edit], expected: str | None) -> None:
    assert read_inventory(inventory(*edits)).instances[2].ultraserver == expected


def test_the_primary_controller_comes_first() -> None:
    second = {**INVENTORY["InstanceGroups"][0]["Instances"][0]}
    second |= {"InstanceName": "controller-2", "CustomerIpAddress": "10.1.1.9", "InstanceId": "i-2"}
    found = cluster(put("InstanceGroups/0/Instances/-", second))
    assert [node.instance.name for node in found.controllers] == ["controller-1", "controller-2"]
    assert [str(note) for note in found.notes] == ["controller: has 2 instances, 1 were requested"]


def test_what_differs_from_the_request_is_noted() -> None:
    stranger = {"Name": "old", "InstanceType": "ml.c5.large", "Instances": [{
        "InstanceName": "old-1", "CustomerIpAddress": "10.1.9.9", "InstanceId": "i-9"}]}  # fmt: skip
    found = cluster(drop(FIRST), put("InstanceGroups/-", stranger))
    assert [str(note) for note in found.notes] == [
        "old: 1 instances of this group are left out: the request has no such group",
        "gpu-compute: has 7 instances, 8 were requested",
    ]
    assert len(found.computes) == 11


def test_an_inventory_of_another_type_is_noted() -> None:
    found = cluster(put("InstanceGroups/3/InstanceType", "ml.c5.large"))
    assert [str(note) for note in found.notes] == [
        "cpu-compute: 4 of its instances are ml.c5.large, ml.c5.18xlarge was requested",
    ]


ARN = "arn:aws:sagemaker:us-west-2:111122223333:cluster/"


def update(*groups: int, name: str = "ml-training-cluster", **members: Any) -> Any:
    """An UpdateCluster body of some of the guide's groups."""
    return {"ClusterName": name, "InstanceGroups": [GUIDE["InstanceGroups"][i] for i in groups], **members}


def test_an_inventory_of_another_cluster_is_refused() -> None:
    assert build_problems(put("ClusterConfig/ClusterName", "other")) == [
        ("ClusterName", "the request is for 'ml-training-cluster', the inventory of 'other'")
    ]
    of_all = update(0, 1, 2, 3, name=f"{ARN}zzzzzzzzzzzz")
    assert build_problems(body=of_all) == [
        (
            "ClusterName",
            f"the request is for '{ARN}zzzzzzzzzzzz', the inventory of '{ARN}abcdefghijkl'",
        )
    ]
    assert cluster(body={**of_all, "ClusterName": f"{ARN}abcdefghijkl"}).name == "ml-training-cluster"
    own_arn = read(
        Source(json.dumps(update(2, name=f"{ARN}zzzzzzzzzzzz")), "update.json"),
        current=Source(json.dumps(GUIDE), "current.json"),
    )
    with pytest.raises(InvalidInput, match="cluster/zzzzzzzzzzzz', the inventory of"):
        build(own_arn, read_inventory(inventory()))


def test_a_cluster_has_a_name() -> None:
    assert build_problems(drop("ClusterConfig"), body=update(0, 1, 2, 3, name=f"{ARN}abcdefghijkl")) == [
        (
            "ClusterName",
            "is not known: the request has the cluster's ARN, and the inventory no ClusterConfig.ClusterName",
        )
    ]


class TestUpdates:
    """An UpdateCluster body names only what it changes."""

    def refusal(self, body: Any) -> InvalidInput:
        wanted = read(Source(json.dumps(body), "update.json"), update=True)
        with pytest.raises(InvalidInput) as caught:
            build(wanted, read_inventory(inventory()))
        return caught.value

    def test_alone_it_does_not_take_the_nodes_of_other_groups(self) -> None:
        refusal = self.refusal(update(0, 2))
        assert [str(problem) for problem in refusal.problems] == [
            "login: has 1 instances in the inventory, and no SlurmConfig in the update",
            "cpu-compute: has 4 instances in the inventory, and no SlurmConfig in the update",
        ]
        assert "give --current, the request that the cluster has now" in refusal.hint

    @pytest.mark.parametrize("body", [update(2), update(1, 2, 3)])
    def test_without_the_controller_it_is_not_told_that_there_is_none(self, body: Any) -> None:
        assert self.refusal(body).problems[0].path == "controller"

    def test_what_it_deletes_it_need_not_name(self) -> None:
        wanted = read(Source(json.dumps(update(0, 2, 3, InstanceGroupsToDelete=["login"])), "update.json"))
        found = build(wanted, read_inventory(inventory()))
        assert (len(found.computes), found.logins) == (12, ())

    def test_with_the_current_request_the_others_stay(self) -> None:
        wanted = read(
            Source(json.dumps(update(2)), "update.json"), current=Source(json.dumps(GUIDE), "current.json")
        )
        assert len(build(wanted, read_inventory(inventory())).computes) == 12

    def test_a_current_request_that_is_itself_such_an_update_does_not_tell_all(self) -> None:
        wanted = read(
            Source(json.dumps(update(2)), "update.json"),
            current=Source(json.dumps(update(0, InstanceGroupsToDelete=["old"])), "current.json"),
        )
        with pytest.raises(InvalidInput, match="does not say what the whole cluster is"):
            build(wanted, read_inventory(inventory()))

    def test_what_it_leaves_open_of_the_orchestrator_is_noted(self) -> None:
        wanted = read(Source(json.dumps(update(0, 1, 2, 3)), "update.json"), update=True)
        assert [str(note) for note in build(wanted, read_inventory(inventory())).notes] == [
            "Orchestrator: is not in the update, so defaults are taken; with --current, what the cluster has now"
        ]


@pytest.mark.parametrize("name", ["all", "DEFAULT"])
def test_node_names_that_are_keywords(name: str) -> None:
    assert build_problems(put(f"{FIRST}/InstanceName", name), names=NodeNames.INSTANCE) == [
        (name, f"{name!r} cannot be a node: slurm.conf reads it as a keyword")
    ]


BROKEN: dict[str, tuple[list[Edit], list[tuple[str, str]]]] = {
    "no groups": ([drop("InstanceGroups")], [("InstanceGroups", "must be a list")]),
    "another orchestrator": ([put("ClusterType", "Eks")], [("ClusterType", "must be Slurm, got 'Eks'")]),
    "no instances": (
        [drop("InstanceGroups/2/Instances")],
        [("InstanceGroups[2].Instances", "must be a list")],
    ),
    "an instance is no object": ([put(FIRST, "i-1")], [(FIRST_PATH, "must be an object")]),
    "no address": (
        [drop(f"{FIRST}/CustomerIpAddress")],
        [(f"{FIRST_PATH}.CustomerIpAddress", "missing, or not a string")],
    ),
    "an address that is none": (
        [put(f"{FIRST}/CustomerIpAddress", "10.1.2.300")],
        [(f"{FIRST_PATH}.CustomerIpAddress", "'10.1.2.300' is not an IPv4 address")],
    ),
    "an address with leading zeros": (
        [put(f"{FIRST}/CustomerIpAddress", "10.01.2.3")],
        [(f"{FIRST_PATH}.CustomerIpAddress", "'10.01.2.3' is not an IPv4 address")],
    ),
    "IPv6": (
        [put(f"{FIRST}/CustomerIpAddress", "fd00::1")],
        [(f"{FIRST_PATH}.CustomerIpAddress", "'fd00::1' is not an IPv4 address")],
    ),
    "an address with a setting behind": (
        [put(f"{FIRST}/CustomerIpAddress", "10.1.2.3\nInclude x")],
        [(f"{FIRST_PATH}.CustomerIpAddress", "'10.1.2.3\\nInclude x' is not an IPv4 address")],
    ),
    "a name with a bracket": (
        [put(f"{FIRST}/InstanceName", "gpu-[1-9]")],
        [(f"{FIRST_PATH}.InstanceName", "'gpu-[1-9]' has characters that a Slurm file cannot carry")],
    ),
    "a name with a line end": (
        [put(f"{FIRST}/InstanceName", "gpu-1\n")],
        [(f"{FIRST_PATH}.InstanceName", "'gpu-1\\n' has characters that a Slurm file cannot carry")],
    ),
    "a group's name": (
        [put("InstanceGroups/2/Name", "gpu compute")],
        [("InstanceGroups[2].Name", "'gpu compute' has characters that a Slurm file cannot carry")],
    ),
    "a host name": (
        [put(f"{FIRST}/PrivateDnsHostname", "bad_host.internal#")],
        [(f"{FIRST_PATH}.PrivateDnsHostname", "'bad_host.internal#' is not a host name")],
    ),
    "a network node": (
        [put(f"{FIRST}/InstanceLabel/network-node-layer-1", "nn-1,nn-2")],
        [
            (
                f"{FIRST_PATH}.InstanceLabel.network-node-layer-1",
                "'nn-1,nn-2' has characters that a Slurm file cannot carry",
            )
        ],
    ),
    "an UltraServer without its id": (
        [put(f"{FIRST}/UltraServerInfo", {"Type": "x"})],
        [(f"{FIRST_PATH}.UltraServerInfo.Id", "missing, or not a string")],
    ),
    "an UltraServer's id": (
        [put(f"{FIRST}/UltraServerInfo", {"Id": "us 1"})],
        [(f"{FIRST_PATH}.UltraServerInfo.Id", "'us 1' has characters that a Slurm file cannot carry")],
    ),
    "a cluster's name and ARN": (
        [put("ClusterConfig", {"ClusterName": "a b", "ClusterArn": "arn:aws:x\nStoragePass=y"})],
        [
            ("ClusterConfig.ClusterName", "'a b' has characters that a Slurm file cannot carry"),
            (
                "ClusterConfig.ClusterArn",
                "'arn:aws:x\\nStoragePass=y' has characters that a Slurm file cannot carry",
            ),
        ],
    ),
    "no type": (
        [drop("InstanceGroups/1/InstanceType")],
        [
            (
                "InstanceGroups[1].Instances[0].InstanceType",
                "missing here and in the group, or not a string",
            )
        ],
    ),
    "several at once": (
        [put(f"{FIRST}/InstanceId", ""), put("InstanceGroups/3/Name", 5), put("SlurmConfig", [1])],
        [
            ("SlurmConfig", "must be an object"),
            (f"{FIRST_PATH}.InstanceId", "missing, or not a string"),
            ("InstanceGroups[3].Name", "missing, or not a string"),
        ],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_inventories(case: str) -> None:
    edits, expected = BROKEN[case]
    assert problems_of(*edits) == expected


def test_an_inventory_that_is_no_object() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_inventory(Source("[]", "resource_config.json"))
    assert [str(problem) for problem in caught.value.problems] == [
        "must be an object",
        "InstanceGroups: must be a list",
    ]


def test_addresses_ids_and_names_are_used_once() -> None:
    same = INVENTORY["InstanceGroups"][2]["Instances"][1]
    assert build_problems(put(FIRST, same)) == [
        ("10.1.2.4", "is the CustomerIpAddress of several instances: gpu-compute-2, gpu-compute-2"),
        (same["InstanceId"], "is the InstanceId of several instances: gpu-compute-2, gpu-compute-2"),
        ("gpu-compute-2", "is the InstanceName of several instances: gpu-compute-2, gpu-compute-2"),
    ]


def test_node_names_are_used_once() -> None:
    host = put(f"{FIRST}/PrivateDnsHostname", "ip-10-1-2-4.ec2.internal")
    assert build_problems(host) == [
        ("ip-10-1-2-4", "is the node name of several instances: gpu-compute-1, gpu-compute-2")
    ]
    assert len(cluster(host, names=NodeNames.INSTANCE).computes) == 12
    other = put("InstanceGroups/2/Instances/1/PrivateDnsHostname", "ip-10-1-2-4")
    assert build_problems(host, other, names=NodeNames.INSTANCE) == [
        ("ip-10-1-2-4", "is the host name of several instances: gpu-compute-1, gpu-compute-2")
    ]


def test_a_type_that_the_catalog_does_not_know() -> None:
    found = build_problems(put("InstanceGroups/3/InstanceType", "ml.x9.large"))
    assert found[0] == ("cpu-compute-1", "the catalog does not know instance type 'ml.x9.large'")
    assert len(found) == 4


def test_a_request_without_instances_yet() -> None:
    found = cluster(*(put(f"InstanceGroups/{index}/Instances", []) for index in range(4)))
    assert (found.controllers, found.computes) == ((), ())
    assert found.notes[-1].message == "the inventory has no instance of the Controller group yet"
