"""Where am I: the right instance, or an error that says what was compared."""

from __future__ import annotations

import copy
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.slurm.command import Completed
from lifecycle import facts
from lifecycle.__main__ import find_situation, forget_slurm, main
from lifecycle.machine import Machine
from lifecycle.step import Transient
from tests.unit.lifecycle.support import Hands, Recorder, me

LINKS = [
    {"addr_info": [{"family": "inet", "local": "127.0.0.1"}]},
    {"addr_info": [{"family": "inet", "local": "10.0.0.3"}, {"family": "inet", "local": "172.17.0.1"}]},
    {"addr_info": []},
]


def config(*instances: tuple[str, str], **members: Any) -> dict[str, Any]:
    """`resource_config.json` with (group, address) each."""
    groups: dict[str, list[dict[str, str]]] = {}
    for group, address in instances:
        entries = groups.setdefault(group, [])
        entries.append(
            {
                "InstanceName": f"{group}-{len(entries) + 1}",
                "CustomerIpAddress": address,
                "InstanceId": f"i-{address.replace('.', '')}",
            }
        )
    return {
        "ClusterConfig": {"ClusterName": "c"},
        "InstanceGroups": [
            {"Name": name, "InstanceType": "ml.c5.large", "Instances": entries}
            for name, entries in groups.items()
        ],
        **members,
    }


CLUSTER = config(("head", "10.0.0.1"), ("work", "10.0.0.3"))
REQUEST: dict[str, Any] = {
    "ClusterName": "c",
    "InstanceGroups": [
        {
            "InstanceGroupName": name,
            "InstanceType": "ml.c5.large",
            "InstanceCount": 1,
            "ExecutionRole": "arn:aws:iam::111122223333:role/r",
            "SlurmConfig": slurm,
        }
        for name, slurm in (
            ("head", {"NodeType": "Controller"}),
            ("work", {"NodeType": "Compute", "PartitionNames": ["p"]}),
        )
    ],
}
LEGACY: dict[str, Any] = {
    "version": "1.0.0",
    "workload_manager": "slurm",
    "controller_group": "head",
    "worker_groups": [{"instance_group_name": "work", "partition_name": "p"}],
}


def host(tmp_path: Path, links: Any = LINKS) -> Machine:
    return Machine(
        tmp_path, Recorder(lambda argv, stdin: Completed(argv, 0, json.dumps(links), "")), owner=me
    )


def bundle(tmp_path: Path, resource: Any = CLUSTER, **files: Any) -> tuple[Path, Path]:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, content in (files or {"request.json": REQUEST}).items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    path = tmp_path / "resource_config.json"
    path.write_text(resource if isinstance(resource, str) else json.dumps(resource))
    return folder, path


def test_own_addresses_without_loopback(tmp_path: Path) -> None:
    assert facts.own_addresses(host(tmp_path).runner) == ("10.0.0.3", "172.17.0.1")


@pytest.fixture(autouse=True)
def with_ip(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' machines have ip(8), whatever runs them."""
    monkeypatch.setattr("shutil.which", lambda name: f"/sbin/{name}")


def test_a_host_without_ip_knows_the_address_that_it_sends_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    runner = host(tmp_path).runner
    found = facts.own_addresses(runner)
    assert all(ipaddress.IPv4Address(address) for address in found)
    assert runner.calls == []  # type: ignore[attr-defined]  # a Recorder


def test_output_that_is_no_address_list_is_an_error(tmp_path: Path) -> None:
    broken = Machine(tmp_path, Recorder(lambda argv, stdin: Completed(argv, 0, "what?", "")))
    with pytest.raises(OperationFailed, match="no addresses that can be understood"):
        facts.own_addresses(broken.runner)


def test_a_node_finds_itself_by_any_of_its_addresses(tmp_path: Path) -> None:
    folder, path = bundle(tmp_path)
    found = find_situation(host(tmp_path), Hands().clock(), folder, path)
    assert (found.name, found.role.value, found.group.name) == ("ip-10-0-0-3", "Compute", "work")
    assert found.conf_server == "10.0.0.1"


def test_the_legacy_form_gives_the_same_node(tmp_path: Path) -> None:
    api = bundle(tmp_path)
    new = find_situation(host(tmp_path), Hands().clock(), *api)
    (api[0] / "request.json").unlink()
    (api[0] / "provisioning_parameters.json").write_text(json.dumps(LEGACY))
    old = find_situation(host(tmp_path), Hands().clock(), *api)
    assert (old.node, old.role, old.cluster.partitions) == (new.node, new.role, new.cluster.partitions)


def test_the_legacy_form_has_its_filesystems_without_a_request(tmp_path: Path) -> None:
    form = {**LEGACY, "fsx_dns_name": "fs-0a.fsx.us-west-2.amazonaws.com", "fsx_mountname": "abcdefgh"}
    found = find_situation(
        host(tmp_path), Hands().clock(), *bundle(tmp_path, **{"provisioning_parameters.json": form})
    )
    assert [fs.mount_path for fs in found.group.filesystems] == ["/fsx"]


def test_the_legacy_form_may_name_a_group_that_has_no_instances_now(tmp_path: Path) -> None:
    workers = [*LEGACY["worker_groups"], {"instance_group_name": "gone", "partition_name": "q"}]
    folder, path = bundle(tmp_path, **{"provisioning_parameters.json": {**LEGACY, "worker_groups": workers}})
    here = find_situation(host(tmp_path), Hands().clock(), folder, path)
    assert list(here.cluster.partitions) == ["p"]


def test_an_older_inventory_without_the_clusters_name_is_no_request(tmp_path: Path) -> None:
    nameless = {name: value for name, value in CLUSTER.items() if name != "ClusterConfig"}
    folder, path = bundle(tmp_path, nameless, **{"provisioning_parameters.json": LEGACY})
    with pytest.raises(InvalidInput) as error:
        find_situation(host(tmp_path), Hands().clock(), folder, path)
    assert str(error.value) == (
        f"{path} does not say what the cluster is called: it has no ClusterConfig.ClusterName"
    )
    assert error.value.hint == "put the cluster's request into the bundle as request.json"


def test_a_mark_of_the_byte_order_is_passed_over(tmp_path: Path) -> None:
    mark = "\ufeff"
    folder, path = bundle(
        tmp_path, mark + json.dumps(CLUSTER), **{"provisioning_parameters.json": mark + json.dumps(LEGACY)}
    )
    assert find_situation(host(tmp_path), Hands().clock(), folder, path).name == "ip-10-0-0-3"


def test_what_is_nested_too_deeply_is_an_error(tmp_path: Path) -> None:
    deep = "[" * 200_000
    folder, path = bundle(tmp_path, deep)
    with pytest.raises(InvalidInput, match=r"resource_config.json is not valid JSON: nested too deeply"):
        find_situation(host(tmp_path), Hands().clock(), folder, path)
    (folder / "request.json").unlink()
    (folder / "provisioning_parameters.json").write_text(deep)
    path.write_text(json.dumps(CLUSTER))
    with pytest.raises(InvalidInput, match="nested too deeply"):
        find_situation(host(tmp_path), Hands().clock(), folder, path)


def test_a_stale_file_is_waited_for_and_then_survived(tmp_path: Path) -> None:
    folder, path = bundle(tmp_path, config(("head", "10.0.0.1"), ("work", "10.0.0.9")))
    hands = Hands()
    clock = hands.clock()

    def sleep(seconds: float) -> None:
        hands.time += seconds
        if hands.time > 10:
            path.write_text(json.dumps(CLUSTER))

    found = find_situation(host(tmp_path), type(clock)(clock.now, sleep, clock.draw), folder, path)
    assert found.name == "ip-10-0-0-3"


def test_a_half_written_file_is_waited_for(tmp_path: Path) -> None:
    folder, path = bundle(tmp_path, json.dumps(CLUSTER)[:40])
    hands = Hands()
    clock = hands.clock()

    def sleep(seconds: float) -> None:
        hands.time += seconds
        path.write_text(json.dumps(CLUSTER))

    assert find_situation(host(tmp_path), type(clock)(clock.now, sleep, clock.draw), folder, path)


def test_a_node_that_is_not_in_the_file_says_what_was_compared(tmp_path: Path) -> None:
    folder, path = bundle(tmp_path, config(("head", "10.0.0.1"), ("work", "10.0.0.9")))
    with pytest.raises(OperationFailed) as error:
        find_situation(host(tmp_path), Hands().clock(), folder, path)
    assert (
        str(error.value)
        == f"stage facts failed: this instance is not in {path}: it has 10.0.0.3, 172.17.0.1, "
        "the file has 10.0.0.1, 10.0.0.9"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is not a usable inventory\n  must be an object\n  InstanceGroups: must be a list"),
        ('{"InstanceGroups": 3}', "is not a usable inventory\n  InstanceGroups: must be a list"),
        (
            json.dumps(config(("head", "10.0.0.1\nSlurmUser=root"))),
            "is not a usable inventory\n"
            "  InstanceGroups[0].Instances[0].InstanceId: 'i-10001\\nSlurmUser=root' "
            "has characters that a Slurm file cannot carry\n"
            "  InstanceGroups[0].Instances[0].CustomerIpAddress: '10.0.0.1\\nSlurmUser=root' is not an IPv4 address",
        ),
        (
            json.dumps({**CLUSTER, "ClusterType": "Eks"}),
            "is not a usable inventory\n  ClusterType: must be Slurm, got 'Eks'",
        ),
        (
            json.dumps(config(("head", "10.0.0.3"), ("work", "10.0.0.3"))),
            "gives addresses of this machine to more than one instance: head-1 (10.0.0.3), work-1 (10.0.0.3)",
        ),
    ],
)
def test_a_file_that_is_whole_and_wrong_is_not_waited_for(tmp_path: Path, text: str, said: str) -> None:
    folder, path = bundle(tmp_path, text)
    hands = Hands()
    with pytest.raises(InvalidInput) as error:
        find_situation(host(tmp_path), hands.clock(), folder, path)
    assert str(error.value) == f"{path} {said}"
    assert hands.slept == []


def test_an_address_that_two_others_share_is_an_error_too(tmp_path: Path) -> None:
    folder, path = bundle(tmp_path, config(("head", "10.0.0.1"), ("work", "10.0.0.3"), ("work", "10.0.0.1")))
    with pytest.raises(InvalidInput) as error:
        find_situation(host(tmp_path), Hands().clock(), folder, path)
    assert str(error.value) == (
        "request and inventory do not make a cluster\n"
        "  10.0.0.1: is the CustomerIpAddress of several instances: head-1, work-2\n"
        "  i-10001: is the InstanceId of several instances: head-1, work-2"
    )


def test_a_group_that_the_request_does_not_have_is_an_error(tmp_path: Path) -> None:
    folder, path = bundle(tmp_path, config(("head", "10.0.0.1"), ("other", "10.0.0.3")))
    with pytest.raises(InvalidInput) as error:
        find_situation(host(tmp_path), Hands().clock(), folder, path)
    assert str(error.value) == (
        "instance other-1 is of group other, which the request does not have (it has head, work)"
    )
    assert error.value.hint == "the bundle's request is not the one that this instance was created from"


def test_a_role_that_there_is_not_is_an_error(tmp_path: Path) -> None:
    request = copy.deepcopy(REQUEST)
    request["InstanceGroups"][1]["SlurmConfig"]["NodeType"] = "Worker"
    folder, path = bundle(tmp_path, CLUSTER, **{"request.json": request})
    with pytest.raises(InvalidInput) as error:
        find_situation(host(tmp_path), Hands().clock(), folder, path)
    assert str(error.value) == (
        f"{folder}/request.json is not a valid CreateCluster request\n"
        "  InstanceGroups[1].SlurmConfig.NodeType: must be one of Controller, Login, Compute; got 'Worker'"
    )


def test_nothing_that_says_what_the_node_is_for(tmp_path: Path) -> None:
    folder, path = bundle(tmp_path, CLUSTER, **{"lifecycle.yaml": "{}"})
    with pytest.raises(InvalidInput, match=r"nothing in .* says what this node is for"):
        find_situation(host(tmp_path), Hands().clock(), folder, path)


def test_two_requests_are_one_too_many(tmp_path: Path) -> None:
    folder, path = bundle(tmp_path, CLUSTER, **{"request.json": REQUEST, "request.yaml": REQUEST})
    with pytest.raises(InvalidInput, match="more than one request"):
        find_situation(host(tmp_path), Hands().clock(), folder, path)


def test_a_machine_of_no_cluster_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(facts.RESOURCE_CONFIG_VARIABLE, raising=False)
    assert main(["--resource-config", str(tmp_path / "none.json")]) == 0


def test_missing_file_is_told_as_transient(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="does not exist"):
        facts.read(tmp_path / "none.json")


def test_nothing_of_the_callers_slurm_reaches_ours() -> None:
    environment = {
        "PATH": "/bin",
        "SLURM_JWT": "token",
        "SLURM_CONF": "/x",
        "SQUEUE_FORMAT": "%i",
        "HOME": "/",
    }
    forget_slurm(environment)
    assert environment == {"PATH": "/bin", "HOME": "/"}


def test_a_bundle_that_cannot_be_read_is_a_failure_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, path = bundle(tmp_path)
    (folder / "lifecycle.yaml").mkdir()
    monkeypatch.setattr("lifecycle.__main__.Machine", lambda: Machine(tmp_path, owner=me))
    (tmp_path / "run").mkdir()
    assert main(["--bundle", str(folder), "--resource-config", str(path)]) == 1
