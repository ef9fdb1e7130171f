"""Sound requests of every form, and updates judged with and without the request before them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpadmin import request
from hpadmin.errors import InvalidInput
from hpadmin.model import Filesystem, NodeType, Strategy
from hpadmin.request import Source, read
from tests.unit.request.edits import CPU, EXAMPLES, GPU, GUIDE, LOGIN, drop, group, guide, put

OPENZFS = {"FsxOpenZfsConfig": {"DnsName": "fs-0abc987654321.fsx.us-west-2.amazonaws.com"}}


def source(body: object, origin: str = "request.json") -> Source:
    return Source(json.dumps(body), origin)


def problems_of(body: object, current: object = None, *, update: bool = True) -> list[tuple[str, str]]:
    before = source(current, "current.json") if current else None
    with pytest.raises(InvalidInput) as caught:
        read(source(body), current=before, update=update)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_the_guides_complete_example() -> None:
    found = request.load_request(EXAMPLES / "guide.json")
    assert (found.name, found.operation) == ("ml-training-cluster", "CreateCluster")
    assert found.strategy is Strategy.MANAGED
    assert [(g.name, g.node_type.value, g.count, g.partition) for g in found.groups] == [
        ("controller", "Controller", 1, None),
        ("login", "Login", 1, None),
        ("gpu-compute", "Compute", 8, "gpu-training"),
        ("cpu-compute", "Compute", 4, "cpu-preprocessing"),
    ]
    gpu = found.groups[2]
    lustre = Filesystem("lustre", "fs-0abc123def456789.fsx.us-west-2.amazonaws.com", "/fsx", "abcdefgh")
    assert gpu.filesystems == (lustre,)
    assert gpu.deep_health_checks == ("InstanceStress", "InstanceConnectivity")
    assert found.notes == ()


def test_yaml_and_json_give_the_same_request(tmp_path: Path) -> None:
    path = tmp_path / "guide.yaml"
    path.write_text(yaml.safe_dump(GUIDE))
    assert request.load_request(path) == request.load_request(EXAMPLES / "guide.json")


def test_default_mount_paths() -> None:
    body = guide(
        drop(f"{GPU}/InstanceStorageConfigs/0/FsxLustreConfig/MountPath"),
        put(f"{GPU}/InstanceStorageConfigs/-", OPENZFS),
    )
    assert [fs.mount_path for fs in read(source(body)).groups[2].filesystems] == ["/fsx", "/home"]


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([drop("Orchestrator")], Strategy.MANAGED),
        ([put("Orchestrator/Slurm", {})], Strategy.MANAGED),
        ([put("Orchestrator/Slurm/SlurmConfigStrategy", "Merge")], Strategy.MERGE),
        ([put("Orchestrator/Slurm/SlurmConfigStrategy", "Overwrite")], Strategy.OVERWRITE),
        ([drop("Orchestrator"), put("NodeProvisioningMode", "Continuous")], Strategy.MERGE),
    ],
)
def test_strategies(edits: list[Any], expected: Strategy) -> None:
    assert read(source(guide(*edits))).strategy is expected


def test_two_groups_may_share_a_partition_and_dev_is_no_partition_of_a_group() -> None:
    body = guide(
        put(f"{CPU}/SlurmConfig/PartitionNames", ["gpu-training"]),
        put(f"{GPU}/SlurmConfig/PartitionNames", ["dev"]),
    )
    assert [g.partition for g in read(source(body)).groups] == [None, None, None, "gpu-training"]


def test_groups_of_several_types() -> None:
    types = ["ml.g5.xlarge", "ml.g5.2xlarge"]
    body = guide(drop(f"{CPU}/InstanceType"), put(f"{CPU}/InstanceRequirements", {"InstanceTypes": types}))
    assert read(source(body)).groups[3].instance_types == tuple(types)


def test_database_and_recovery() -> None:
    database = {
        "Endpoint": "db.example.internal",
        "SecretArn": "arn:aws:secretsmanager:us-west-2:111122223333:secret:s",
    }
    body = guide(
        put("Orchestrator", {"Slurm": {"AccountingDatabase": database}}),
        put("NodeProvisioningMode", "Continuous"),
        put("NodeRecovery", "None"),
    )
    found = read(source(body))
    assert found.accounting_database is not None
    assert (found.accounting_database.port, found.node_recovery, found.notes) == (3306, False, ())


def test_notes_are_no_errors() -> None:
    database = {
        "Endpoint": "db.example.internal",
        "SecretArn": "arn:aws:secretsmanager:us-west-2:111122223333:secret:s",
    }
    body = guide(
        put("Orchestrator/Slurm/AccountingDatabase", database),
        put(f"{GPU}/InstanceType", "ml.p6e-gb200.36xlarge"),
        put(f"{CPU}/KubernetesConfig", {"Labels": {"a": "b"}}),
    )
    assert [str(note) for note in read(source(body)).notes] == [
        "Orchestrator.Slurm.AccountingDatabase: SageMaker takes this with NodeProvisioningMode Continuous only; "
        "hpadmin sets it up in any case",
        "InstanceGroups[2].ThreadsPerCore: ml.p6e-gb200.36xlarge has 1 thread a core, so Slurm gets 1",
        "InstanceGroups[3].KubernetesConfig: means nothing to Slurm and is left out",
    ]


@pytest.mark.parametrize("body", [None, [], "text", 7, True])
def test_a_request_is_an_object(body: object) -> None:
    shown = {"[]": "a list", "true": "true", "null": "nothing"}.get(json.dumps(body), repr(body))
    assert problems_of(body, update=False) == [("", f"must be an object, got {shown}")]


def test_a_file_that_is_empty() -> None:
    with pytest.raises(InvalidInput) as caught:
        read(Source("", "request.yaml"))
    assert [str(problem) for problem in caught.value.problems] == ["must be an object, got nothing"]


def test_duplicate_keys_are_problems() -> None:
    text = json.dumps(GUIDE).replace('"ClusterName"', '"ClusterName": "first", "ClusterName"', 1)
    with pytest.raises(InvalidInput) as caught:
        read(Source(text, "request.json"))
    assert [str(problem) for problem in caught.value.problems] == ["ClusterName: written more than once"]


class TestUpdates:
    """UpdateCluster bodies."""

    def body(self, *groups: dict[str, Any], **members: Any) -> dict[str, Any]:
        return {"ClusterName": "ml-training-cluster", "InstanceGroups": list(groups), **members}

    def test_by_itself_an_update_need_not_name_every_group(self) -> None:
        found = read(source(self.body(group("more", "Compute"))), update=True)
        assert (found.operation, [g.name for g in found.groups]) == ("UpdateCluster", ["more"])

    @pytest.mark.parametrize(
        "body",
        [
            {"ClusterName": "c", "InstanceGroupsToDelete": ["old"]},
            {"ClusterName": "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdefghijkl"},
        ],
    )
    def test_what_makes_a_body_an_update(self, body: dict[str, Any]) -> None:
        assert read(source(body)).operation == "UpdateCluster"

    def test_an_update_has_no_vpc(self) -> None:
        body = self.body(group("more", "Compute"), VpcConfig=GUIDE["VpcConfig"])
        assert problems_of(body) == [("VpcConfig", "is a member of CreateCluster and not of this operation")]

    def test_joined_with_the_current_request(self) -> None:
        gpu = {**GUIDE["InstanceGroups"][2], "InstanceCount": 16}
        body = self.body(gpu, group("more", "Compute"), InstanceGroupsToDelete=["cpu-compute"])
        found = read(source(body), current=source(GUIDE, "current.json"))
        assert [(g.name, g.count) for g in found.groups] == [
            ("controller", 1),
            ("login", 1),
            ("gpu-compute", 16),
            ("more", 1),
        ]
        assert found.body["VpcConfig"] == GUIDE["VpcConfig"]
        assert read(source(found.body)).groups == found.groups

    def test_node_type_is_immutable(self) -> None:
        changed = group("gpu-compute", "Login")
        message = "NodeType is immutable: 'gpu-compute' is Compute and cannot become Login"
        expected = ("InstanceGroups[0].SlurmConfig.NodeType", f"{message}; create a new instance group")
        assert expected in problems_of(self.body(changed), GUIDE)

    def test_the_controller_cannot_be_deleted(self) -> None:
        body = {"ClusterName": "ml-training-cluster", "InstanceGroupsToDelete": ["controller"]}
        expected = (
            "InstanceGroups",
            "Cluster ml-training-cluster has no InstanceGroup with Controller node type.",
        )
        assert expected in problems_of(body, GUIDE)

    def test_a_second_controller_or_login_group(self) -> None:
        body = self.body(group("second", "Controller"), group("login-two", "Login"))
        assert problems_of(body, GUIDE) == [
            (
                "InstanceGroups",
                "2 Controller Groups found: SlurmConfig for InstanceGroups may only have one Controller Group.",
            ),
            (
                "InstanceGroups[1].SlurmConfig.NodeType",
                "only one instance group may be Login, and 'login' is",
            ),
        ]

    def test_groups_to_delete(self) -> None:
        body = self.body(
            group("cpu-compute", "Compute"), InstanceGroupsToDelete=["cpu-compute", "nobody", "nobody"]
        )
        assert problems_of(body, GUIDE) == [
            (
                "InstanceGroupsToDelete[0]",
                "'cpu-compute' is InstanceGroups[0] as well: change a group or delete it",
            ),
            ("InstanceGroupsToDelete[1]", "the cluster has no instance group 'nobody'"),
            ("InstanceGroupsToDelete[2]", "the cluster has no instance group 'nobody'"),
            ("InstanceGroupsToDelete[2]", "'nobody' is listed twice"),
        ]

    def test_another_cluster(self) -> None:
        body = {**self.body(group("more", "Compute")), "ClusterName": "other"}
        expected = "the update is for 'other', the current request for 'ml-training-cluster'"
        assert problems_of(body, GUIDE) == [("ClusterName", expected)]

    def test_a_name_is_not_held_against_an_arn(self) -> None:
        arn = "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdefghijkl"
        body = self.body(*GUIDE["InstanceGroups"])
        found = read(source(body), current=source({**body, "ClusterName": arn}))
        assert (found.name, found.arn) == ("ml-training-cluster", arn)
        other = {**body, "ClusterName": arn.replace("abc", "xyz")}
        assert problems_of(other, {**body, "ClusterName": arn})[0][0] == "ClusterName"

    def test_another_strategy_leaves_the_database(self) -> None:
        database = {
            "Endpoint": "db.example.internal",
            "SecretArn": "arn:aws:secretsmanager:us-west-2:111122223333:secret:s",
        }
        current = guide(put("Orchestrator/Slurm/AccountingDatabase", database))
        body = self.body(group("more", "Compute"), Orchestrator={"Slurm": {"SlurmConfigStrategy": "Merge"}})
        found = read(source(body), current=source(current))
        assert found.strategy is Strategy.MERGE
        assert found.accounting_database is not None

    def test_a_broken_current_request_is_told_as_such(self) -> None:
        with pytest.raises(InvalidInput, match=r"current\.json is not a valid CreateCluster request"):
            read(
                source(self.body(group("more", "Compute"))),
                current=source(guide(drop(LOGIN), drop("VpcConfig")), "current.json"),
            )

    def test_slurm_is_configured_in_the_groups_too(self) -> None:
        bare = {key: value for key, value in group("more", "Compute").items() if key != "SlurmConfig"}
        body = self.body(bare, Orchestrator={"Slurm": {"SlurmConfigStrategy": "Merge"}})
        assert problems_of(body) == [
            ("InstanceGroups", "Update required to use SlurmConfig in InstanceGroups")
        ]

    def test_types_take_the_place_of_the_type_and_the_other_way_round(self) -> None:
        types = {"InstanceRequirements": {"InstanceTypes": ["ml.c5.18xlarge", "ml.c5.9xlarge"]}}
        cpu = {key: value for key, value in GUIDE["InstanceGroups"][3].items() if key != "InstanceType"}
        found = read(source(self.body({**cpu, **types})), current=source(GUIDE, "current.json"))
        assert found.groups[3].instance_types == ("ml.c5.18xlarge", "ml.c5.9xlarge")
        back = read(source(self.body({**cpu, "InstanceType": "ml.c5.large"})), current=source(found.body))
        assert back.groups[3].instance_types == ("ml.c5.large",)

    def test_names_twice_in_one_update(self) -> None:
        body = self.body(group("more", "Compute"), group("more", "Compute"))
        assert problems_of(body, GUIDE) == [
            ("InstanceGroups[1].InstanceGroupName", "'more' is taken by InstanceGroups[0]")
        ]


def test_node_types_are_the_models() -> None:
    assert [t.value for t in NodeType] == ["Controller", "Login", "Compute"]
