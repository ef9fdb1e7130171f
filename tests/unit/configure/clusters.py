"""Named clusters that the tests of rendering share, unit tests and those on real Slurm alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpadmin import request
from hpadmin.configure.options import CONTAINER, RenderOptions
from hpadmin.model import Cluster
from hpadmin.request import NodeNames, Source

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DATABASE = {
    "Endpoint": "accounting.example.internal",
    "Port": 3307,
    "SecretArn": "arn:aws:secretsmanager:us-west-2:111122223333:secret:slurm-abcdef",
}

Groups = tuple[tuple[str, str, int], ...]
"""Compute groups: name, instance type, instances."""


def example(name: str, names: NodeNames = NodeNames.ADDRESS) -> Cluster:
    """Return one of the clusters of examples/."""
    return request.load(
        EXAMPLES / f"{name}.json", inventory=EXAMPLES / f"{name}.resource_config.json", names=names
    )


def cluster(
    groups: Groups,
    *,
    ultraservers: Mapping[str, int] | None = None,
    name: str = "test",
    **members: Any,
) -> Cluster:
    """Return a cluster of compute groups; `ultraservers` gives the nodes of an UltraServer for a group."""
    body = {"ClusterName": name, "InstanceGroups": [_group("controller", "ml.c5.xlarge", 1)], **members}
    inventory = {"ClusterConfig": {"ClusterName": name, "ClusterArn": _ARN}, "InstanceGroups": [_CONTROLLER]}
    total = 0
    for number, (group, instance_type, count) in enumerate(groups):
        body["InstanceGroups"].append(_group(group, instance_type, count))
        instances = []
        for index in range(count):
            total += 1
            place = f"10.{2 + 40 * number + index // 62500}.{index // 250 % 250}.{index % 250 + 1}"
            entry: dict[str, Any] = {
                "InstanceName": f"{group}-{index + 1}",
                "CustomerIpAddress": place,
                "InstanceId": f"i-{total:08x}",
            }
            if size := (ultraservers or {}).get(group):
                entry["UltraServerInfo"] = {"Id": f"{group}-us{index // size + 1}"}
            instances.append(entry)
        inventory["InstanceGroups"].append(  # type: ignore[attr-defined]
            {"Name": group, "InstanceType": instance_type, "Instances": instances}
        )
    wanted = request.read(Source(json.dumps(body), "request.json"))
    return request.build(
        wanted, request.read_inventory(Source(json.dumps(inventory), "resource_config.json"))
    )


_ARN = "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdefghijkl"
_CONTROLLER = {
    "Name": "controller",
    "InstanceType": "ml.c5.xlarge",
    "Instances": [
        {"InstanceName": "controller-1", "CustomerIpAddress": "10.1.1.10", "InstanceId": "i-ffffffff"}
    ],
}


def _group(name: str, instance_type: str, count: int) -> dict[str, Any]:
    slurm = (
        {"NodeType": "Controller"}
        if name == "controller"
        else {"NodeType": "Compute", "PartitionNames": [name]}
    )
    return {
        "InstanceGroupName": name,
        "InstanceType": instance_type,
        "InstanceCount": count,
        "SlurmConfig": slurm,
        "ExecutionRole": "arn:aws:iam::111122223333:role/HyperPodRole",
    }


@dataclass(frozen=True, slots=True)
class Case:
    """A cluster and how it is rendered."""

    make: Callable[[], Cluster]
    options: RenderOptions = field(default_factory=RenderOptions)


CASES: dict[str, Case] = {
    "guide": Case(lambda: example("guide")),
    "guide_in_containers": Case(lambda: example("guide"), replace(CONTAINER, auth="slurm")),
    "guide_with_instance_names": Case(lambda: example("guide", NodeNames.INSTANCE)),
    "guide_with_accounting": Case(
        lambda: example("guide"),
        RenderOptions(accounting=True, spank_plugins=("optional /opt/slurm/lib/auto_resume.so",)),
    ),
    "external_database": Case(
        lambda: cluster(
            (("gpu", "ml.p5.48xlarge", 2),),
            NodeProvisioningMode="Continuous",
            Orchestrator={"Slurm": {"AccountingDatabase": DATABASE}},
        ),
        RenderOptions(storage_user="admin", storage_password=r"pa#ss\word with 'blanks'"),
    ),
    "ultraservers": Case(lambda: example("ultraservers")),
    "ultraservers_of_18_with_a_spare": Case(
        lambda: cluster((("us", "ml.p6e-gb200.36xlarge", 36),), ultraservers={"us": 18}),
        RenderOptions(spares=1),
    ),
    "ultraservers_short": Case(
        lambda: cluster((("us", "ml.p6e-gb200.36xlarge", 35),), ultraservers={"us": 18})
    ),
    "ultraservers_mixed": Case(
        lambda: cluster(
            (("us", "ml.p6e-gb200.36xlarge", 4), ("cpu", "ml.c5.18xlarge", 2)), ultraservers={"us": 2}
        )
    ),
    "neuron_gpu_and_cpu": Case(
        lambda: cluster(
            (
                ("trn", "ml.trn1.32xlarge", 3),
                ("gpu", "ml.p5.48xlarge", 2),
                ("small", "ml.g6.xlarge", 1),
                ("cpu", "ml.c6g.medium", 2),
            )
        ),
        RenderOptions(device_files={"small": ("/dev/nvidia0",)}, return_to_service=1),
    ),
    "no_instances_yet": Case(lambda: cluster((("gpu", "ml.p5.48xlarge", 0), ("cpu", "ml.c5.large", 0)))),
}
"""Every case has a tree of its name below golden/."""
