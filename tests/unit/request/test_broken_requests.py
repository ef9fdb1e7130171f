"""Broken requests, each with exactly the problems that it must be told, in order."""

from __future__ import annotations

import json

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.request import Source, read
from tests.unit.request.edits import CONTROLLER, CPU, GPU, GUIDE, LOGIN, Edit, drop, group, guide, put, rename

NAME = "[a-zA-Z0-9](-*[a-zA-Z0-9])*"
PATH = "/[a-zA-Z0-9._/-]+"
LUSTRE = f"{GPU}/InstanceStorageConfigs/0/FsxLustreConfig"
LUSTRE_PATH = "InstanceGroups[2].InstanceStorageConfigs[0].FsxLustreConfig"
OPENZFS = {"FsxOpenZfsConfig": {"DnsName": "fs-0abc987654321.fsx.us-west-2.amazonaws.com"}}
DATABASE = {
    "Endpoint": "db.example.internal",
    "SecretArn": "arn:aws:secretsmanager:us-west-2:111122223333:secret:slurm",
}

Expected = list[tuple[str, str]]

SHAPES: dict[str, tuple[list[Edit], Expected]] = {
    "wrong type of a count": (
        [put(f"{GPU}/InstanceCount", "eight")],
        [("InstanceGroups[2].InstanceCount", "must be a whole number, got 'eight'")],
    ),
    "a fraction of an instance": (
        [put(f"{GPU}/InstanceCount", 1.5)],
        [("InstanceGroups[2].InstanceCount", "must be a whole number, got 1.5")],
    ),
    "a boolean is no number": (
        [put(f"{GPU}/InstanceCount", True)],
        [("InstanceGroups[2].InstanceCount", "must be a whole number, got true")],
    ),
    "negative count": (
        [put(f"{GPU}/InstanceCount", -1)],
        [("InstanceGroups[2].InstanceCount", "must be at least 0, got -1")],
    ),
    "count above the limit": (
        [put(f"{GPU}/InstanceCount", 6759)],
        [("InstanceGroups[2].InstanceCount", "must be at most 6758, got 6759")],
    ),
    "three threads a core": (
        [put(f"{GPU}/ThreadsPerCore", 3)],
        [("InstanceGroups[2].ThreadsPerCore", "must be at most 2, got 3")],
    ),
    "groups are no list": (
        [put("InstanceGroups", {"a": 1})],
        [("InstanceGroups", "must be a list, got an object")],
    ),
    "a group is no object": (
        [put(GPU, "gpu-compute")],
        [("InstanceGroups[2]", "must be an object, got 'gpu-compute'")],
    ),
    "no groups at all": (
        [put("InstanceGroups", []), drop("Tags")],
        [
            ("InstanceGroups", "must have at least 1 item, got 0"),
            ("InstanceGroups", "Cluster ml-training-cluster has no InstanceGroup with Controller node type."),
        ],
    ),
    "no cluster name": ([drop("ClusterName")], [("ClusterName", "is required")]),
    "no role": ([drop(f"{CPU}/ExecutionRole")], [("InstanceGroups[3].ExecutionRole", "is required")]),
    "a role of somebody else's form": (
        [put(f"{CPU}/ExecutionRole", "arn:aws:iam::12345:role/HyperPodRole")],
        [
            (
                "InstanceGroups[3].ExecutionRole",
                "'arn:aws:iam::12345:role/HyperPodRole' does not match "
                r"arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
            )
        ],
    ),
    "digits that are not ASCII": (
        [put(f"{CPU}/ExecutionRole", "arn:aws:iam::١١١١٢٢٢٢٣٣٣٣:role/HyperPodRole")],
        [
            (
                "InstanceGroups[3].ExecutionRole",
                "'arn:aws:iam::١١١١٢٢٢٢٣٣٣٣:role/HyperPodRole' does not match "
                r"arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
            )
        ],
    ),
    "cluster name of 64 characters": (
        [put("ClusterName", "c" * 64)],
        [("ClusterName", "must have at most 63 characters, got 64")],
    ),
    "cluster name that ends in a dash": (
        [put("ClusterName", "cluster-")],
        [("ClusterName", f"'cluster-' does not match {NAME}")],
    ),
    "pattern needs the whole value": (
        [put("ClusterName", "good bad")],
        [("ClusterName", f"'good bad' does not match {NAME}")],
    ),
    "null": ([put("NodeRecovery", None)], [("NodeRecovery", "is null: leave it out or give it a value")]),
    "unknown node type": (
        [put(f"{LOGIN}/SlurmConfig/NodeType", "login")],
        [
            (
                "InstanceGroups[1].SlurmConfig.NodeType",
                "must be one of Controller, Login, Compute; got 'login'",
            )
        ],
    ),
    "unknown strategy": (
        [put("Orchestrator/Slurm/SlurmConfigStrategy", "Replace")],
        [
            (
                "Orchestrator.Slurm.SlurmConfigStrategy",
                "must be one of Overwrite, Managed, Merge; got 'Replace'",
            )
        ],
    ),
    "unknown instance type": (
        [put(f"{GPU}/InstanceType", "ml.p5.48xlrge")],
        [
            (
                "InstanceGroups[2].InstanceType",
                "'ml.p5.48xlrge' is not among the 209 known values; did you mean ml.p5.48xlarge?",
            )
        ],
    ),
    "unknown member with a neighbour": (
        [rename(f"{GPU}/InstanceStorageConfigs", "InstanceStorageConfig")],
        [
            (
                "InstanceGroups[2].InstanceStorageConfig",
                "is not a member of ClusterInstanceGroupSpecification; did you mean InstanceStorageConfigs?",
            )
        ],
    ),
    "unknown member without one": (
        [put("Colour", "blue")],
        [("Colour", "is not a member of CreateClusterRequest")],
    ),
    "member in the wrong case": (
        [rename(f"{LUSTRE}/MountName", "mountName")],
        [
            (
                f"{LUSTRE_PATH}.mountName",
                "is not a member of ClusterFsxLustreConfig; did you mean MountName?",
            ),
            (f"{LUSTRE_PATH}.MountName", "is required"),
        ],
    ),
    "a union with two members": (
        [put(f"{GPU}/InstanceStorageConfigs/0/EbsVolumeConfig", {"VolumeSizeInGB": 500})],
        [
            (
                "InstanceGroups[2].InstanceStorageConfigs[0]",
                "must have exactly one of EbsVolumeConfig, FsxLustreConfig, FsxOpenZfsConfig; "
                "got FsxLustreConfig and EbsVolumeConfig",
            )
        ],
    ),
    "a union with none": (
        [put(f"{GPU}/InstanceStorageConfigs/0", {})],
        [
            (
                "InstanceGroups[2].InstanceStorageConfigs[0]",
                "must have exactly one of EbsVolumeConfig, FsxLustreConfig, FsxOpenZfsConfig; got none",
            )
        ],
    ),
    "two partitions for a group": (
        [put(f"{GPU}/SlurmConfig/PartitionNames", ["a", "b"])],
        [("InstanceGroups[2].SlurmConfig.PartitionNames", "must have at most 1 item, got 2")],
    ),
    "six security groups": (
        [put("VpcConfig/SecurityGroupIds", ["sg-1", "sg-2", "sg-3", "sg-4", "sg-5", "sg-6"])],
        [("VpcConfig.SecurityGroupIds", "must have at most 5 items, got 6")],
    ),
    "a tag that is not text": (
        [put("Tags/0/Value", "semi;colon")],
        [("Tags[0].Value", r"'semi;colon' does not match ([\p{L}\p{Z}\p{N}_.:/=+\-@]*)")],
    ),
    "a tag in a script that has letters, and a symbol that is none": (
        [put("Tags/0/Value", "Überprüfung 研究 ✓")],
        [("Tags[0].Value", r"'Überprüfung 研究 ✓' does not match ([\p{L}\p{Z}\p{N}_.:/=+\-@]*)")],
    ),
    "not a time": (
        [
            put(
                f"{GPU}/AutoPatchConfig",
                {"PatchingStrategy": "WhenIdle", "PatchSchedule": {"NextPatchDate": "soon"}},
            )
        ],
        [
            (
                "InstanceGroups[2].AutoPatchConfig.PatchSchedule.NextPatchDate",
                "must be a time (ISO 8601), got 'soon'",
            )
        ],
    ),
    "a label's key": (
        [put(f"{GPU}/KubernetesConfig", {"Labels": {"-bad": "x"}})],
        [
            (
                'InstanceGroups[2].KubernetesConfig.Labels["-bad"]',
                "'-bad' does not match ([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
                "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
            )
        ],
    ),
    "true in quotes": (
        [
            put(
                f"{CPU}/InstanceStorageConfigs/-",
                {"EbsVolumeConfig": {"VolumeSizeInGB": 500, "RootVolume": "true"}},
            )
        ],
        [
            (
                "InstanceGroups[3].InstanceStorageConfigs[1].EbsVolumeConfig.RootVolume",
                "must be true or false, got 'true'",
            )
        ],
    ),
    "several at once": (
        [
            put("ClusterName", "bad name"),
            put(f"{CONTROLLER}/InstanceCount", "1"),
            put(f"{GPU}/InstanceType", 7),
            put("NodeRecovery", "Manual"),
        ],
        [
            ("ClusterName", f"'bad name' does not match {NAME}"),
            ("InstanceGroups[0].InstanceCount", "must be a whole number, got '1'"),
            ("InstanceGroups[2].InstanceType", "must be a string, got 7"),
            ("NodeRecovery", "must be one of Automatic, None; got 'Manual'"),
        ],
    ),
}

RULES: dict[str, tuple[list[Edit], Expected]] = {
    "a name too long for slurmdbd's tables": (
        [put("ClusterName", "c" * 41), put("Orchestrator/Slurm", {"AccountingDatabase": DATABASE})],
        [
            (
                "ClusterName",
                "must have at most 40 characters with accounting, got 41: "
                "slurmdbd names tables after it, and a table's name has at most 64",
            )
        ],
    ),
    "no controller": (
        [drop(CONTROLLER)],
        [
            ("InstanceGroups", "Cluster ml-training-cluster has no InstanceGroup with Controller node type."),
            (
                "InstanceGroups[1].InstanceStorageConfigs[0].FsxLustreConfig",
                "FSx filesystems need an instance group whose SlurmConfig has NodeType Controller",
            ),
        ],
    ),
    "two controllers": (
        [put("InstanceGroups/-", group("second", "Controller"))],
        [
            (
                "InstanceGroups",
                "2 Controller Groups found: SlurmConfig for InstanceGroups may only have one Controller Group.",
            )
        ],
    ),
    "three controllers": (
        [
            put("InstanceGroups/-", group("second", "Controller")),
            put("InstanceGroups/-", group("third", "Controller")),
        ],
        [
            (
                "InstanceGroups",
                "3 Controller Groups found: SlurmConfig for InstanceGroups may only have one Controller Group.",
            )
        ],
    ),
    "a controller group of two": (
        [put(f"{CONTROLLER}/InstanceCount", 2)],
        [
            (
                "InstanceGroups[0].InstanceCount",
                "must be 1 for a Controller group, got 2; several controllers need the legacy "
                "provisioning_parameters.json",
            )
        ],
    ),
    "a controller group of none": (
        [put(f"{CONTROLLER}/InstanceCount", 0)],
        [("InstanceGroups[0].InstanceCount", "must be 1 for a Controller group, got 0")],
    ),
    "two login groups": (
        [put("InstanceGroups/-", group("login-two", "Login"))],
        [("InstanceGroups[4].SlurmConfig.NodeType", "only one instance group may be Login, and 'login' is")],
    ),
    "a group without a role": (
        [drop(f"{CPU}/SlurmConfig")],
        [("InstanceGroups[3].SlurmConfig", "is required, as other instance groups have it")],
    ),
    "no SlurmConfig at all": (
        [drop(f"{place}/SlurmConfig") for place in (CONTROLLER, LOGIN, GPU, CPU)],
        [
            ("InstanceGroups", "Cluster ml-training-cluster has no InstanceGroup with Controller node type."),
            (LUSTRE_PATH, "FSx filesystems need an instance group whose SlurmConfig has NodeType Controller"),
        ],
    ),
    "compute without a partition": (
        [drop(f"{GPU}/SlurmConfig/PartitionNames")],
        [
            (
                "InstanceGroups[2].SlurmConfig.PartitionNames",
                "is required for NodeType Compute: one partition name",
            )
        ],
    ),
    "compute with an empty list of partitions": (
        [put(f"{GPU}/SlurmConfig/PartitionNames", [])],
        [
            (
                "InstanceGroups[2].SlurmConfig.PartitionNames",
                "is required for NodeType Compute: one partition name",
            )
        ],
    ),
    "login with a partition": (
        [put(f"{LOGIN}/SlurmConfig/PartitionNames", ["login"])],
        [
            (
                "InstanceGroups[1].SlurmConfig.PartitionNames",
                "Partitions can only be assigned to Compute node types",
            )
        ],
    ),
    "controller with a partition": (
        [put(f"{CONTROLLER}/SlurmConfig/PartitionNames", ["head"])],
        [
            (
                "InstanceGroups[0].SlurmConfig.PartitionNames",
                "Partitions can only be assigned to Compute node types",
            )
        ],
    ),
    "a partition that Slurm keeps for itself": (
        [put(f"{GPU}/SlurmConfig/PartitionNames", ["Default"])],
        [
            (
                "InstanceGroups[2].SlurmConfig.PartitionNames[0]",
                "'Default' cannot be a partition: slurm.conf keeps that name for default values",
            )
        ],
    ),
    "both a type and requirements": (
        [put(f"{CPU}/InstanceRequirements", {"InstanceTypes": ["ml.c5.large"]})],
        [
            (
                "InstanceGroups[3]",
                "must have exactly one of InstanceType and InstanceRequirements, got both",
            )
        ],
    ),
    "neither a type nor requirements": (
        [drop(f"{CPU}/InstanceType")],
        [
            (
                "InstanceGroups[3]",
                "must have exactly one of InstanceType and InstanceRequirements, got neither",
            )
        ],
    ),
    "a type listed twice": (
        [
            drop(f"{CPU}/InstanceType"),
            put(f"{CPU}/InstanceRequirements", {"InstanceTypes": ["ml.c5.large", "ml.c5.large"]}),
        ],
        [("InstanceGroups[3].InstanceRequirements.InstanceTypes[1]", "ml.c5.large is listed twice")],
    ),
    "minimum above the count": (
        [put(f"{GPU}/MinInstanceCount", 9)],
        [("InstanceGroups[2].MinInstanceCount", "must be at most InstanceCount (8), got 9")],
    ),
    "two groups of one name": (
        [put(f"{CPU}/InstanceGroupName", "gpu-compute")],
        [("InstanceGroups[3].InstanceGroupName", "'gpu-compute' is taken by InstanceGroups[2]")],
    ),
    "two tags of one key": (
        [put("Tags/-", {"Key": "Project", "Value": "Other"})],
        [("Tags[1].Key", "'Project' is taken by Tags[0]")],
    ),
    "EKS": (
        [
            put(
                "Orchestrator",
                {"Eks": {"ClusterArn": "arn:aws:eks:us-west-2:111122223333:cluster/my-cluster"}},
            )
        ],
        [
            (
                "Orchestrator.Eks",
                "hpadmin configures Slurm clusters; a cluster orchestrated by EKS runs Kubernetes instead",
            )
        ],
    ),
    "two orchestrators": (
        [
            put(
                "Orchestrator/Eks",
                {"ClusterArn": "arn:aws:eks:us-west-2:111122223333:cluster/my-cluster"},
            )
        ],
        [
            (
                "Orchestrator.Eks",
                "hpadmin configures Slurm clusters; a cluster orchestrated by EKS runs Kubernetes instead",
            ),
            ("Orchestrator", "must have exactly one of Eks and Slurm, got both"),
        ],
    ),
    "no orchestrator in its place": (
        [put("Orchestrator", {})],
        [("Orchestrator", "must have exactly one of Eks and Slurm, got neither")],
    ),
    "FSx without a VPC": (
        [drop("VpcConfig")],
        [("VpcConfig", "FSx filesystems are in your VPC, which only a cluster with VpcConfig can reach")],
    ),
    "two Lustre filesystems in a group": (
        [put(f"{GPU}/InstanceStorageConfigs/-", GUIDE["InstanceGroups"][2]["InstanceStorageConfigs"][0])],
        [
            (
                "InstanceGroups[2].InstanceStorageConfigs[1].FsxLustreConfig",
                "an instance group can have at most one FsxLustreConfig",
            )
        ],
    ),
    "two OpenZFS filesystems in a group": (
        [put(f"{CPU}/InstanceStorageConfigs", [OPENZFS, OPENZFS])],
        [
            (
                "InstanceGroups[3].InstanceStorageConfigs[1].FsxOpenZfsConfig",
                "an instance group can have at most one FsxOpenZfsConfig",
            )
        ],
    ),
    "two filesystems at one place": (
        [put(f"{GPU}/InstanceStorageConfigs/-", OPENZFS), put(f"{LUSTRE}/MountPath", "/home")],
        [
            (
                "InstanceGroups[2].InstanceStorageConfigs[1].FsxOpenZfsConfig.MountPath",
                "/home is the mount path of the group's FsxLustreConfig already",
            )
        ],
    ),
    "a mount path that climbs": (
        [put(f"{LUSTRE}/MountPath", "/fsx/../etc")],
        [(f"{LUSTRE_PATH}.MountPath", "'/fsx/../etc' has an empty, '.' or '..' part")],
    ),
    "a strategy under continuous provisioning": (
        [put("NodeProvisioningMode", "Continuous")],
        [
            (
                "Orchestrator.Slurm.SlurmConfigStrategy",
                "must be absent with NodeProvisioningMode Continuous, which always merges",
            )
        ],
    ),
    "an accounting database without its secret": (
        [put("Orchestrator/Slurm/AccountingDatabase", {"Endpoint": "db.example.internal"})],
        [("Orchestrator.Slurm.AccountingDatabase.SecretArn", "is required")],
    ),
    "shape and rule together": (
        [put(f"{GPU}/InstanceCount", "8"), put("InstanceGroups/-", group("second", "Controller"))],
        [
            ("InstanceGroups[2].InstanceCount", "must be a whole number, got '8'"),
            (
                "InstanceGroups",
                "2 Controller Groups found: SlurmConfig for InstanceGroups may only have one Controller Group.",
            ),
        ],
    ),
    "an unreadable role says nothing of all roles": (
        [put(f"{CONTROLLER}/SlurmConfig/NodeType", "Head")],
        [("InstanceGroups[0].SlurmConfig.NodeType", "must be one of Controller, Login, Compute; got 'Head'")],
    ),
    "update's member in a creation": (
        [put("InstanceGroupsToDelete", ["cpu-compute"]), put("Tags", [])],
        [
            ("VpcConfig", "is a member of CreateCluster and not of this operation"),
            ("Tags", "is a member of CreateCluster and not of this operation"),
            (
                "InstanceGroupsToDelete[0]",
                "'cpu-compute' is InstanceGroups[3] as well: change a group or delete it",
            ),
        ],
    ),
}

HOSTILE = {
    "a line of its own": "a\nPartitionName=evil Nodes=ALL",
    "an Include": "a\nInclude /etc/passwd",
    "a carriage return": "a\rb",
    "a line separator": "a\u2028b",
    "a null byte": "a\0b",
    "an escape sequence": "a\x1b[31mb",
    "a line end at the end": "abc\n",
    "a comment": "a#b",
    "a double quote": 'a"b',
    "a single quote": "a'b",
    "a backslash": "a\\",
    "a blank": "a b",
    "a second setting": "a=b",
    "a shell command": "a;reboot",
    "a substitution": "$(reboot)",
    "backticks": "`reboot`",
    "a pipe": "a|b",
    "a redirection": "a>b",
    "a host list": "a[1-9]",
    "a comma": "a,b",
    "a node list function": "feature{x}",
    "a template": "{{ cluster }}",
    "a path": "../../etc/passwd",
    "a letter that is none of ours": "ＡＢＣ",
}


def problems_of(body: object) -> Expected:
    """What reading `body` complains about."""
    with pytest.raises(InvalidInput) as caught:
        read(Source(json.dumps(body), "request.json"))
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("case", SHAPES)
def test_shapes(case: str) -> None:
    edits, expected = SHAPES[case]
    assert problems_of(guide(*edits)) == expected


@pytest.mark.parametrize("case", RULES)
def test_rules(case: str) -> None:
    edits, expected = RULES[case]
    assert problems_of(guide(*edits)) == expected


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    ("place", "path", "pattern"),
    [
        ("ClusterName", "ClusterName", NAME),
        (f"{GPU}/InstanceGroupName", "InstanceGroups[2].InstanceGroupName", NAME),
        (f"{GPU}/SlurmConfig/PartitionNames/0", "InstanceGroups[2].SlurmConfig.PartitionNames[0]", NAME),
        (f"{LUSTRE}/MountName", f"{LUSTRE_PATH}.MountName", "([A-Za-z0-9_-]{1,8})"),
        (f"{LUSTRE}/MountPath", f"{LUSTRE_PATH}.MountPath", PATH),
    ],
)
def test_hostile_text_in_every_string_that_reaches_a_file(
    text: str, place: str, path: str, pattern: str
) -> None:
    expected = f"{text!r} does not match {pattern}"
    if any(not character.isprintable() for character in text):
        expected = f"{text!r} holds a line end or another control character"
    if place.endswith("MountName") and len(text) > 8:
        expected = f"must have at most 8 characters, got {len(text)}"
    assert problems_of(guide(put(place, text))) == [(path, expected)]


@pytest.mark.parametrize("text", [text for text in HOSTILE.values() if text.isprintable()])
def test_hostile_host_names(text: str) -> None:
    """The shape's pattern ends in ``.{4,253}``: whatever follows the first dot is the rule's to judge."""
    name = f"fs-0abc123def456789.{text}.example.com"
    assert problems_of(guide(put(f"{LUSTRE}/DnsName", name))) == [
        (f"{LUSTRE_PATH}.DnsName", f"{name!r} is not a host name")
    ]


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("Endpoint", "db.example.internal#", None),
        (
            "Endpoint",
            "db\nStoragePass=x",
            "'db\\nStoragePass=x' holds a line end or another control character",
        ),
        ("Name", 'acct"x', "'acct\"x' does not match [a-zA-Z0-9$_]+"),
        ("Name", "acct db", "'acct db' does not match [a-zA-Z0-9$_]+"),
        ("Port", 70000, "must be at most 65535, got 70000"),
    ],
)
def test_hostile_database(member: str, value: object, message: str | None) -> None:
    found = problems_of(guide(put("Orchestrator/Slurm/AccountingDatabase", DATABASE | {member: value})))
    assert [path for path, _ in found] == [f"Orchestrator.Slurm.AccountingDatabase.{member}"]
    if message:
        assert found[0][1] == message


def test_there_are_forty_and_more() -> None:
    assert len(SHAPES) + len(RULES) >= 40
