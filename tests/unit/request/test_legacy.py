"""provisioning_parameters.json beside a request without SlurmConfig."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpadmin import request
from hpadmin.errors import InvalidInput
from hpadmin.request import Source, read
from hpadmin.request.legacy import FILE_NAME
from tests.unit.request.edits import CONTROLLER, CPU, EXAMPLES, GPU, GUIDE, LOGIN, Edit, drop, guide, put

FORM: dict[str, Any] = {
    "version": "1.0.0",
    "workload_manager": "slurm",
    "controller_group": "controller",
    "login_group": "login",
    "worker_groups": [
        {"instance_group_name": "gpu-compute", "partition_name": "ml.p4d.24xlarge"},
        {"instance_group_name": "cpu-compute", "partition_name": "dev"},
    ],
    "fsx_dns_name": "fs-0abc123def456789.fsx.us-west-2.amazonaws.com",
    "fsx_mountname": "abcdefgh",
}

CONFIGURATIONS = {
    "slurm_database_secret_arn": "arn:aws:secretsmanager:us-west-2:111122223333:secret:slurm",
    "slurm_database_endpoint": "db.example.internal",
    "slurm_shared_directory": "/fsx/slurm",
}

WITHOUT_SLURM = [drop("Orchestrator")]
WITHOUT_SLURM += [drop(f"{place}/SlurmConfig") for place in (CONTROLLER, LOGIN, GPU, CPU)]
WITHOUT_SLURM += [drop(f"{place}/InstanceStorageConfigs") for place in (GPU, CPU)]


def form(*edits: Edit) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(FORM))
    for edit in edits:
        edit(made)
    return made


def load(legacy: object, *edits: Edit) -> request.Request:
    body = Source(json.dumps(guide(*WITHOUT_SLURM, *edits)), "request.json")
    text = legacy if isinstance(legacy, str) else json.dumps(legacy)
    return read(body, legacy_source=Source(text, FILE_NAME))


def problems_of(legacy: object, *edits: Edit) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        load(legacy, *edits)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_the_legacy_form_means_what_the_api_means() -> None:
    found = load(form())
    assert [(g.name, g.node_type.value, g.partition) for g in found.groups] == [
        ("controller", "Controller", None),
        ("login", "Login", None),
        ("gpu-compute", "Compute", "ml.p4d.24xlarge"),
        ("cpu-compute", "Compute", None),
    ]
    assert {(fs.kind, fs.mount_path, fs.mount_name) for g in found.groups for fs in g.filesystems} == {
        ("lustre", "/fsx", "abcdefgh")
    }


def test_the_legacy_example_is_the_guides_cluster() -> None:
    old = request.load_request(EXAMPLES / "legacy" / "cluster.json")
    new = request.load_request(EXAMPLES / "guide.json")
    roles = [(g.name, g.node_type, g.instance_types, g.count, g.partition) for g in new.groups]
    assert [(g.name, g.node_type, g.instance_types, g.count, g.partition) for g in old.groups] == roles


def test_openzfs_and_no_login_group() -> None:
    edits = [drop("login_group"), put("fsx_openzfs_dns_name", "fs-0abc987654321.fsx.us-west-2.amazonaws.com")]
    found = load(form(*edits), drop(LOGIN))
    assert [fs.mount_path for fs in found.groups[0].filesystems] == ["/fsx", "/home"]
    assert [g.node_type.value for g in found.groups] == ["Controller", "Compute", "Compute"]


def test_several_controllers() -> None:
    found = load(form(put("slurm_configurations", CONFIGURATIONS)), put(f"{CONTROLLER}/InstanceCount", 2))
    assert found.groups[0].count == 2


def test_the_file_beside_the_request_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(guide(*WITHOUT_SLURM)))
    with pytest.raises(InvalidInput, match="no InstanceGroup with Controller node type"):
        request.load_request(path)
    (tmp_path / FILE_NAME).write_text(json.dumps(FORM))
    assert request.load_request(path).groups[2].partition == "ml.p4d.24xlarge"
    elsewhere = tmp_path / "form.json"
    elsewhere.write_text(json.dumps(form(put("worker_groups/0/partition_name", "other"))))
    assert request.load_request(path, legacy=elsewhere).groups[2].partition == "other"


def test_both_forms_at_once(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(json.dumps(GUIDE))
    (tmp_path / FILE_NAME).write_text(json.dumps(FORM))
    with pytest.raises(InvalidInput) as caught:
        request.load_request(tmp_path / "request.json")
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [
        (
            "Orchestrator",
            "The LifeCycleConfig cannot include both a SLURM Orchestrator Config and a "
            "provisioning_parameters.json file simultaneously.",
        )
    ]


def test_continuous_provisioning_has_no_legacy_form() -> None:
    assert problems_of(form(), put("NodeProvisioningMode", "Continuous")) == [
        (
            "NodeProvisioningMode",
            "Continuous needs SlurmConfig in the instance groups instead of provisioning_parameters.json",
        )
    ]


def test_storage_in_the_request_needs_the_api_form() -> None:
    storage = GUIDE["InstanceGroups"][2]["InstanceStorageConfigs"]
    assert problems_of(form(), put(f"{GPU}/InstanceStorageConfigs", storage)) == [
        (
            "InstanceGroups[2].InstanceStorageConfigs[0].FsxLustreConfig",
            "FSx filesystems need an instance group whose SlurmConfig has NodeType Controller",
        )
    ]


def test_its_filesystems_need_the_clusters_own_vpc() -> None:
    assert problems_of(form(), drop("VpcConfig")) == [
        ("VpcConfig", "FSx filesystems are in your VPC, which only a cluster with VpcConfig can reach")
    ]


@pytest.mark.parametrize("nothing", [None, ""])
def test_what_says_nothing_is_absent(nothing: str | None) -> None:
    none = [put(key, nothing) for key in ("login_group", "fsx_dns_name", "fsx_mountname")]
    found = load(form(*none), drop(LOGIN), drop("VpcConfig"))
    assert not any(group.filesystems for group in found.groups)


class TestUpdates:
    """An update of a cluster whose roles are in the legacy form."""

    CURRENT = guide(*WITHOUT_SLURM)

    def update(
        self, *groups: dict[str, Any], own: object = None, current: Any = None, **members: Any
    ) -> request.Request:
        body = {"ClusterName": "ml-training-cluster", "InstanceGroups": list(groups), **members}
        return read(
            Source(json.dumps(body), "update.json"),
            legacy_source=Source(json.dumps(own), FILE_NAME) if own else None,
            current=Source(json.dumps(current or self.CURRENT), "current.json"),
            current_legacy_source=Source(json.dumps(FORM), FILE_NAME),
        )

    def test_the_roles_are_those_of_the_current_form(self, tmp_path: Path) -> None:
        more = {**self.CURRENT["InstanceGroups"][2], "InstanceCount": 16}
        found = self.update(more, InstanceGroupsToDelete=["cpu-compute"])
        assert [(g.name, g.node_type.value, g.count, g.partition) for g in found.groups] == [
            ("controller", "Controller", 1, None),
            ("login", "Login", 1, None),
            ("gpu-compute", "Compute", 16, "ml.p4d.24xlarge"),
        ]
        assert [fs.mount_path for fs in found.groups[2].filesystems] == ["/fsx"]

    def test_the_form_lies_beside_the_current_request(self, tmp_path: Path) -> None:
        more = {**self.CURRENT["InstanceGroups"][2], "InstanceCount": 16}
        old, update = tmp_path / "old" / "request.json", tmp_path / "update.json"
        old.parent.mkdir()
        old.write_text(json.dumps(self.CURRENT))
        old.with_name(FILE_NAME).write_text(json.dumps(FORM))
        update.write_text(json.dumps({"ClusterName": "ml-training-cluster", "InstanceGroups": [more]}))
        assert request.load_request(update, current=old).groups[2].count == 16

    def test_a_new_group_has_its_role_in_a_new_form(self) -> None:
        more = {**self.CURRENT["InstanceGroups"][3], "InstanceGroupName": "more"}
        own = form(put("worker_groups/-", {"instance_group_name": "more", "partition_name": "p"}))
        assert self.update(more, own=own).groups[4].partition == "p"
        with pytest.raises(InvalidInput, match="'more' is neither controller_group, login_group nor"):
            self.update(more)

    def test_slurm_config_moves_the_cluster_away_from_the_form(self) -> None:
        changed = {**GUIDE["InstanceGroups"][2], "InstanceCount": 16}
        found = self.update(changed)
        assert [(g.name, g.partition) for g in found.groups[2:]] == [
            ("gpu-compute", "gpu-training"),
            ("cpu-compute", None),
        ]
        with pytest.raises(InvalidInput, match="cannot include both a SLURM Orchestrator Config"):
            self.update(changed, own=FORM)

    def test_a_cluster_that_left_the_form_does_not_come_back(self) -> None:
        with pytest.raises(
            InvalidInput, match=r"update\.json(.|\n)*cannot include both a SLURM Orchestrator"
        ):
            self.update(self.CURRENT["InstanceGroups"][2], own=FORM, current=GUIDE)

    def test_several_controllers_stay(self) -> None:
        two = guide(*WITHOUT_SLURM, put(f"{CONTROLLER}/InstanceCount", 2))
        own = form(put("slurm_configurations", CONFIGURATIONS))
        found = self.update(two["InstanceGroups"][2], own=own, current=two)
        assert found.groups[0].count == 2

    def test_alone_an_update_need_not_have_every_group_of_the_form(self) -> None:
        body = {"ClusterName": "ml-training-cluster", "InstanceGroups": self.CURRENT["InstanceGroups"][2:3]}
        found = read(
            Source(json.dumps(body), "update.json"),
            legacy_source=Source(json.dumps(FORM), FILE_NAME),
            update=True,
        )
        assert [(g.name, g.partition) for g in found.groups] == [("gpu-compute", "ml.p4d.24xlarge")]
        assert not found.complete


BROKEN: dict[str, tuple[list[Edit], list[tuple[str, str]]]] = {
    "version": ([put("version", "2.0.0")], [("version", "must be '1.0.0', got '2.0.0'")]),
    "version as a number": ([put("version", 1)], [("version", "must be '1.0.0', got 1")]),
    "workload manager": (
        [put("workload_manager", "pbs")],
        [("workload_manager", "must be 'slurm', got 'pbs'")],
    ),
    "missing members": (
        [drop("version"), drop("worker_groups")],
        [("version", "is required"), ("worker_groups", "is required")],
    ),
    "unknown member": (
        [put("worker_group", [])],
        [("worker_group", "is unknown; did you mean worker_groups?")],
    ),
    "unknown group": (
        [put("controller_group", "controler")],
        [("controller_group", "the request has no instance group 'controler'; did you mean controller?")],
    ),
    "a group twice": (
        [put("worker_groups/1/instance_group_name", "gpu-compute")],
        [
            (
                "worker_groups[1].instance_group_name",
                "instance group 'gpu-compute' is worker_groups[0].instance_group_name already",
            )
        ],
    ),
    "a group without a role": (
        [drop("worker_groups/1")],
        [
            (
                "worker_groups",
                "instance group 'cpu-compute' is neither controller_group, login_group nor one of worker_groups",
            )
        ],
    ),
    "workers are no list": ([put("worker_groups", "gpu")], [("worker_groups", "must be a list, got 'gpu'")]),
    "a worker is no object": (
        [put("worker_groups/0", 3)],
        [("worker_groups[0]", "must be an object, got 3")],
    ),
    "a worker without a partition": (
        [drop("worker_groups/0/partition_name")],
        [("worker_groups[0].partition_name", "is required")],
    ),
    "a partition that is null": (
        [put("worker_groups/0/partition_name", None)],
        [("worker_groups[0].partition_name", "must be a string, got null")],
    ),
    "members of another type that say nothing": (
        [
            put("login_group", 0),
            put("fsx_dns_name", []),
            put("fsx_mountname", False),
            put("fsx_openzfs_dns_name", {}),
        ],
        [
            ("login_group", "must be a string, got 0"),
            ("fsx_dns_name", "must be a string, got a list"),
            ("fsx_mountname", "must be a string, got false"),
            ("fsx_openzfs_dns_name", "must be a string, got an object"),
        ],
    ),
    "a partition that is no name": (
        [put("worker_groups/0/partition_name", "a\nInclude /etc/passwd")],
        [
            (
                "worker_groups[0].partition_name",
                "'a\\nInclude /etc/passwd' does not match [A-Za-z0-9][A-Za-z0-9._-]{0,1023}",
            )
        ],
    ),
    "a reserved partition": (
        [put("worker_groups/0/partition_name", "DEFAULT")],
        [
            (
                "worker_groups[0].partition_name",
                "'DEFAULT' cannot be a partition: slurm.conf keeps that name for default values",
            )
        ],
    ),
    "half a filesystem": ([drop("fsx_mountname")], [("fsx_mountname", "is required with fsx_dns_name")]),
    "the other half": ([drop("fsx_dns_name")], [("fsx_dns_name", "is required with fsx_mountname")]),
    "a filesystem that is a command": (
        [put("fsx_dns_name", "$(reboot)"), put("fsx_mountname", "a b")],
        [
            ("fsx_dns_name", "'$(reboot)' is not a host name"),
            ("fsx_mountname", "'a b' is not a mount name of FSx for Lustre"),
        ],
    ),
    "several controllers need a shared directory": (
        [put("slurm_configurations", {"slurm_database_endpoint": 3})],
        [
            ("slurm_configurations.slurm_database_endpoint", "must be a string, got 3"),
            ("slurm_configurations.slurm_database_secret_arn", "is required"),
            ("slurm_configurations.slurm_shared_directory", "is required"),
        ],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_forms(case: str) -> None:
    edits, expected = BROKEN[case]
    assert problems_of(form(*edits)) == [(f"{FILE_NAME}:{path}", message) for path, message in expected]


def test_several_controllers_without_their_configuration() -> None:
    assert problems_of(form(), put(f"{CONTROLLER}/InstanceCount", 2)) == [
        (
            f"{FILE_NAME}:controller_group",
            "instance group 'controller' has 2 instances, which needs slurm_configurations",
        )
    ]


def test_a_form_that_is_no_object() -> None:
    assert problems_of([]) == [(FILE_NAME, "must be an object, got a list")]


def test_problems_of_both_files_are_told_together() -> None:
    assert problems_of(form(put("version", "2")), put(f"{GPU}/InstanceCount", "8")) == [
        ("InstanceGroups[2].InstanceCount", "must be a whole number, got '8'"),
        (f"{FILE_NAME}:version", "must be '1.0.0', got '2'"),
    ]
