"""The SageMaker provider: real boto3 against a server of ours that misbehaves on demand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.nodes.provider import Answer, Condition, ProviderError, Repair
from hpadmin.nodes.providers import from_settings
from hpadmin.nodes.providers.sagemaker import SageMaker
from tests.support.sagemaker import Cluster, Fault, serving

A, B = "i-0123456789abcdef0", "i-0fedcba9876543210"


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.add(A, "ip-10-1-0-1")
    made.add(B, "ip-10-1-0-2", status="Failure")
    return made


@pytest.fixture
def provider(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMaker]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving(cluster) as url:
        yield SageMaker.from_settings(
            {"cluster": "demo", "region": "us-west-2", "endpoint": url, "refresh": 0.0, "timeout": 3.0}
        )


def sent(cluster: Cluster, operation: str) -> list[list[str]]:
    return [request["NodeIds"] for name, request in cluster.requests if name == operation]


def test_instances_over_several_pages(provider: SageMaker, cluster: Cluster) -> None:
    for index in range(25):
        cluster.add(f"i-{index:017x}", f"ip-10-2-0-{index}")
    cluster.page = 10
    found = {instance.node: instance for instance in provider.instances()}
    assert len(found) == 27
    assert found["ip-10-1-0-1"].instance_id == A
    assert found["ip-10-1-0-1"].condition is Condition.RUNNING
    assert found["ip-10-1-0-1"].launched == 1_700_000_000
    assert found["ip-10-1-0-2"].condition is Condition.FAILED


@pytest.mark.parametrize(
    ("status", "condition"),
    [
        ("Running", Condition.RUNNING),
        ("Failure", Condition.FAILED),
        ("Pending", Condition.STARTING),
        ("SystemUpdating", Condition.STARTING),
        ("DeepHealthCheckInProgress", Condition.STARTING),
        ("ShuttingDown", Condition.STOPPING),
        ("NotFound", Condition.UNKNOWN),
        ("OfALaterRelease", Condition.UNKNOWN),
    ],
)
def test_every_status(provider: SageMaker, cluster: Cluster, status: str, condition: Condition) -> None:
    cluster.nodes[A]["InstanceStatus"]["Status"] = status
    assert next(each for each in provider.instances() if each.instance_id == A).condition is condition


def test_the_list_is_kept_for_a_while_and_read_again_after_a_request(
    provider: SageMaker, cluster: Cluster
) -> None:
    provider._refresh = 1000
    provider.instances()
    provider.instances()
    assert [name for name, _ in cluster.requests] == ["ListClusterNodes"]
    provider.repair(Repair.REBOOT, [A])
    provider.instances()
    assert [name for name, _ in cluster.requests][-1] == "ListClusterNodes"


def test_at_most_25_ids_a_call(provider: SageMaker, cluster: Cluster) -> None:
    ids = [f"i-{index:017x}" for index in range(60)]
    for index, instance in enumerate(ids):
        cluster.add(instance, f"ip-10-2-0-{index}")
    outcomes = provider.repair(Repair.REPLACE, [*ids, ids[0]])
    assert [len(batch) for batch in sent(cluster, "BatchReplaceClusterNodes")] == [25, 25, 10]
    assert all(outcomes[instance].answer is Answer.ACCEPTED for instance in ids)
    assert len(cluster.done) == 60


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("InstanceIdNotFound", Answer.GONE),
        ("InvalidInstanceStatus", Answer.LATER),
        ("InstanceIdInUse", Answer.BUSY),
        ("InternalServerError", Answer.LOST),
    ],
)
def test_partial_failure_keeps_each_instances_own_code(
    provider: SageMaker, cluster: Cluster, code: str, answer: Answer
) -> None:
    cluster.refused[B] = (code, "Node has active replacement operation (started: 2026-05-21T08:22:48.103Z).")
    outcomes = provider.repair(Repair.REBOOT, [A, B])
    assert outcomes[A].answer is Answer.ACCEPTED
    assert (outcomes[B].answer, outcomes[B].code) == (answer, code)
    assert "active replacement" in outcomes[B].message


def test_an_id_of_another_cluster_is_gone(provider: SageMaker, cluster: Cluster) -> None:
    assert (
        provider.repair(Repair.REBOOT, ["i-0aaaaaaaaaaaaaaa1"])["i-0aaaaaaaaaaaaaaa1"].answer is Answer.GONE
    )
    assert not cluster.done


def test_throttled_changes_come_back_later_and_are_sent_once(provider: SageMaker, cluster: Cluster) -> None:
    cluster.faults["BatchRebootClusterNodes"] = [Fault("ThrottlingException")]
    assert provider.repair(Repair.REBOOT, [A])[A].answer is Answer.LATER
    assert len(cluster.requests) == 1
    assert provider.repair(Repair.REBOOT, [A])[A].answer is Answer.ACCEPTED


@pytest.mark.parametrize("code", ["ConflictException", "ResourceInUse", "SlowDown", "ThrottledException"])
def test_what_was_turned_down_for_a_while_was_not_done(
    provider: SageMaker, cluster: Cluster, code: str
) -> None:
    cluster.faults["BatchReplaceClusterNodes"] = [Fault(code)]
    assert provider.repair(Repair.REPLACE, [A])[A].answer is Answer.LATER
    assert not cluster.done


@pytest.mark.parametrize(
    "answer",
    [
        {},  # what botocore makes of a proxy's page, too
        {
            "ClusterNodeSummaries": [
                {"InstanceId": A, "InstanceGroupName": "w", "InstanceType": "ml.p5.48xlarge"}
            ]
        },
        {"ClusterNodeSummaries": "none"},
    ],
)
def test_an_answer_that_is_none_of_sagemakers_tells_nothing(
    provider: SageMaker, cluster: Cluster, answer: dict[str, Any]
) -> None:
    cluster.faults["ListClusterNodes"] = [Fault(instead=answer)]
    cluster.faults["DescribeCluster"] = [Fault(instead=answer)]
    with pytest.raises(ProviderError, match="ListClusterNodes: the answer is none of SageMaker's") as caught:
        provider.instances()
    assert caught.value.transient
    with pytest.raises(ProviderError, match="DescribeCluster: the answer is none of SageMaker's"):
        provider.node_recovery()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({}, Answer.LOST),
        ({"Failed": [{"ErrorCode": "InstanceIdInUse"}]}, Answer.LOST),
        ({"Failed": ["x"]}, Answer.LOST),
        ({"Failed": [{"NodeId": A, "ErrorCode": "InstanceIdInUse"}]}, Answer.BUSY),
    ],
)
def test_an_answer_to_a_request_that_cannot_be_read_is_lost(
    provider: SageMaker, cluster: Cluster, answer: dict[str, Any], expected: Answer
) -> None:
    cluster.faults["BatchReplaceClusterNodes"] = [Fault(instead=answer)]
    assert provider.repair(Repair.REPLACE, [A])[A].answer is expected


def test_throttled_reads_are_retried(provider: SageMaker, cluster: Cluster) -> None:
    cluster.faults["ListClusterNodes"] = [Fault("ThrottlingException"), Fault("ThrottlingException")]
    assert len(provider.instances()) == 2
    assert len(cluster.requests) == 3


def test_throttling_without_end_is_a_passing_error(provider: SageMaker, cluster: Cluster) -> None:
    cluster.faults["ListClusterNodes"] = [Fault("ThrottlingException")] * 10
    with pytest.raises(ProviderError, match="ThrottlingException") as caught:
        provider.instances()
    assert caught.value.transient


@pytest.mark.parametrize("fault", [Fault(hang=6), Fault(drop=True), Fault("InternalFailure", 500)])
def test_a_lost_answer_is_lost_and_nothing_is_sent_twice(
    provider: SageMaker, cluster: Cluster, fault: Fault
) -> None:
    cluster.faults["BatchReplaceClusterNodes"] = [fault]
    assert provider.repair(Repair.REPLACE, [A])[A].answer is Answer.LOST
    assert len(sent(cluster, "BatchReplaceClusterNodes")) == 1


def test_ids_that_the_answer_leaves_out_are_lost(provider: SageMaker, cluster: Cluster) -> None:
    cluster.faults["BatchRebootClusterNodes"] = [Fault(cut_ids=1)]
    outcomes = provider.repair(Repair.REBOOT, [A, B])
    assert [outcomes[A].answer, outcomes[B].answer] == [Answer.ACCEPTED, Answer.LOST]


@pytest.mark.parametrize(
    "code", ["ExpiredTokenException", "UnrecognizedClientException", "AccessDeniedException"]
)
def test_bad_credentials_are_refused_with_a_hint(provider: SageMaker, cluster: Cluster, code: str) -> None:
    cluster.faults["BatchRebootClusterNodes"] = [Fault(code)]
    cluster.faults["ListClusterNodes"] = [Fault(code)]
    outcome = provider.repair(Repair.REBOOT, [A])[A]
    assert (outcome.answer, outcome.code) == (Answer.REFUSED, code)
    with pytest.raises(ProviderError, match=code) as caught:
        provider.instances()
    assert not caught.value.transient
    assert "credentials" in caught.value.hint


def test_an_endpoint_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    provider = SageMaker.from_settings(
        {"cluster": "demo", "region": "us-west-2", "endpoint": "http://127.0.0.1:9", "timeout": 0.3}
    )
    assert provider.repair(Repair.REBOOT, [A])[A].answer is Answer.LATER
    with pytest.raises(ProviderError) as caught:
        provider.instances()
    assert caught.value.transient


def test_an_unknown_cluster_is_no_passing_error(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with serving(cluster) as url:
        provider = SageMaker.from_settings({"cluster": "other", "region": "us-west-2", "endpoint": url})
        with pytest.raises(ProviderError, match="no cluster other") as caught:
            provider.node_recovery()
    assert not caught.value.transient


def test_node_recovery(provider: SageMaker, cluster: Cluster) -> None:
    assert provider.node_recovery()
    provider._recovery = None
    cluster.recovery = "None"
    assert not provider.node_recovery()


def test_settings_are_checked_all_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        from_settings({"kind": "sagemaker", "endpoint": 3, "colour": "red"})
    assert sorted(problem.path for problem in caught.value.problems) == [
        "provider.cluster",
        "provider.colour",
        "provider.endpoint",
    ]
    with pytest.raises(InvalidInput) as caught:
        from_settings({"kind": "sagemaker", "cluster": "c", "timeout": 0, "refresh": -1})
    assert [str(problem) for problem in caught.value.problems] == [
        "provider.refresh: must be not negative and at most 86400 s, is -1",
        "provider.timeout: must be positive and at most 86400 s, is 0",
    ]
    with pytest.raises(InvalidInput, match=r"provider\.endpoint: Invalid endpoint: nonsense"):
        from_settings({"kind": "sagemaker", "cluster": "c", "region": "us-west-2", "endpoint": "nonsense"})
    with pytest.raises(InvalidInput, match="no provider 'ec2'"):
        from_settings({"kind": "ec2"})
    with pytest.raises(InvalidInput, match="no provider of nodes"):
        from_settings({})


def test_the_region_comes_from_the_arn() -> None:
    provider = SageMaker.from_settings(
        {"cluster": "arn:aws:sagemaker:eu-west-1:111122223333:cluster/abcdefghijkl"}
    )
    assert provider._reading.meta.region_name == "eu-west-1"
