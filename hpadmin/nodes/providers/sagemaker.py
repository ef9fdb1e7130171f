"""SageMaker HyperPod: the cluster's own API, through boto3.

Requests that change something are sent once: botocore's retries could reboot a node twice when an answer is lost.
Requests that only read are retried. The list of nodes is kept for `refresh` seconds, because a cluster of
thousands needs dozens of calls for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from hpadmin.errors import InvalidInput, Problem
from hpadmin.nodes.provider import (
    Answer,
    Condition,
    Outcome,
    ProviderError,
    ProviderInstance,
    Repair,
)
from hpadmin.nodes.providers import take
from hpadmin.slurm.command import Runner

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

MAX_IDS = 25
"""NodeIds of one BatchRebootClusterNodes or BatchReplaceClusterNodes."""

_CONDITIONS = {
    "Running": Condition.RUNNING,
    "Failure": Condition.FAILED,
    "Pending": Condition.STARTING,
    "SystemUpdating": Condition.STARTING,
    "DeepHealthCheckInProgress": Condition.STARTING,
    "ShuttingDown": Condition.STOPPING,
}
_ANSWERS = {
    "InstanceIdNotFound": Answer.GONE,
    "InstanceIdInUse": Answer.BUSY,
    "InvalidInstanceStatus": Answer.LATER,
    "InternalServerError": Answer.LOST,
}
_THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottledException",
        "RequestThrottled",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "SlowDown",
        "PriorRequestNotComplete",
        "EC2ThrottledException",
    }
)
"""What AWS services say when they are asked too much (botocore.retries.standard)."""
_TURNED_DOWN = _THROTTLED | {"ConflictException", "ResourceInUse"}
"""Nothing was done, for a reason that passes."""
_PASSING = _TURNED_DOWN | {"ServiceUnavailable", "InternalFailure", "InternalServerError"}
_UNREADABLE = (LookupError, TypeError, AttributeError, ValueError)
"""What an answer of another form leads to, here and in botocore: a proxy's page, for example."""
_CREDENTIALS = frozenset(
    {
        "ExpiredTokenException",
        "ExpiredToken",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "AccessDeniedException",
    }
)


class SageMaker:
    """One HyperPod cluster, named by its name or ARN."""

    name = "sagemaker"

    def __init__(
        self,
        cluster: str,
        *,
        reading: SageMakerClient,
        changing: SageMakerClient,
        refresh: float = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reading` may retry, `changing` must not; `refresh` is seconds."""
        self._cluster = cluster
        self._reading = reading
        self._changing = changing
        self._refresh = refresh
        self._clock = clock
        self._known: tuple[float, tuple[ProviderInstance, ...]] | None = None
        self._recovery: tuple[float, bool] | None = None

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> SageMaker:
        """Make one from agent.toml: cluster, and optionally region, profile, endpoint, refresh, timeout."""
        got = take(settings, cluster=str, region="", profile="", endpoint="", refresh=60.0, timeout=20.0)
        region = got["region"] or _region_of(got["cluster"])
        try:
            session = boto3.session.Session(profile_name=got["profile"] or None, region_name=region or None)
            clients: list[SageMakerClient] = [
                session.client(
                    "sagemaker",
                    endpoint_url=got["endpoint"] or None,
                    config=Config(
                        connect_timeout=got["timeout"],
                        read_timeout=got["timeout"],
                        retries={"total_max_attempts": attempts, "mode": "standard"},
                    ),
                )
                for attempts in (4, 1)
            ]
        except BotoCoreError as error:
            raise ProviderError(f"SageMaker cannot be used: {error}", transient=False) from error
        except ValueError as error:
            raise InvalidInput(
                "the provider's settings are not valid", [Problem("provider.endpoint", str(error))]
            ) from error
        return SageMaker(got["cluster"], reading=clients[0], changing=clients[1], refresh=got["refresh"])

    def instances(self) -> tuple[ProviderInstance, ...]:
        if self._known is not None and self._clock() - self._known[0] < self._refresh:
            return self._known[1]
        asked = self._clock()
        try:
            pages = self._reading.get_paginator("list_cluster_nodes").paginate(
                ClusterName=self._cluster, PaginationConfig={"PageSize": 100}
            )
            found = tuple(_instance(node) for page in pages for node in page["ClusterNodeSummaries"])
        except (BotoCoreError, ClientError) as error:
            raise _error(error, "ListClusterNodes") from error
        except _UNREADABLE as error:
            raise _unreadable("ListClusterNodes") from error
        self._known = (asked, found)
        return found

    def node_recovery(self) -> bool:
        if self._recovery is None or self._clock() - self._recovery[0] >= max(self._refresh, 300):
            try:
                cluster = self._reading.describe_cluster(ClusterName=self._cluster)
            except (BotoCoreError, ClientError) as error:
                raise _error(error, "DescribeCluster") from error
            except _UNREADABLE as error:
                raise _unreadable("DescribeCluster") from error
            if (
                "ClusterStatus" not in cluster
            ):  # which each answer has: one that is none tells nothing of NodeRecovery
                raise _unreadable("DescribeCluster")
            self._recovery = (self._clock(), cluster.get("NodeRecovery", "Automatic") != "None")
        return self._recovery[1]

    def repair(self, action: Repair, instance_ids: Sequence[str]) -> Mapping[str, Outcome]:
        self._known = None
        outcomes: dict[str, Outcome] = {}
        unique = list(dict.fromkeys(instance_ids))
        for start in range(0, len(unique), MAX_IDS):
            outcomes |= self._repair_batch(action, unique[start : start + MAX_IDS])
        return outcomes

    def _repair_batch(self, action: Repair, ids: Sequence[str]) -> dict[str, Outcome]:
        call: Callable[..., Mapping[str, Any]] = (
            self._changing.batch_reboot_cluster_nodes
            if action is Repair.REBOOT
            else self._changing.batch_replace_cluster_nodes
        )
        try:
            return _outcomes(ids, call(ClusterName=self._cluster, NodeIds=list(ids)))
        except ClientError as error:
            return dict.fromkeys(ids, _outcome(error))
        except NoConnectionError as error:
            return dict.fromkeys(ids, Outcome(Answer.LATER, type(error).__name__, str(error)))
        except HTTPClientError as error:
            # Time ran out, or the connection broke: the request may have arrived.
            return dict.fromkeys(ids, Outcome(Answer.LOST, type(error).__name__, str(error)))
        except BotoCoreError as error:
            return dict.fromkeys(ids, Outcome(Answer.REFUSED, type(error).__name__, str(error)))
        except _UNREADABLE:
            return dict.fromkeys(ids, Outcome(Answer.LOST, message="the answer cannot be read"))

    def runner(self, node: str) -> Runner | None:
        return None


def _outcomes(ids: Iterable[str], answer: Mapping[str, Any]) -> dict[str, Outcome]:
    accepted = set(answer.get("Successful") or ())
    failed = {item.get("NodeId"): item for item in answer.get("Failed") or ()}
    outcomes = {}
    for instance in ids:
        if instance in failed:
            code, message = (failed[instance].get(key, "") for key in ("ErrorCode", "Message"))
            outcomes[instance] = Outcome(_ANSWERS.get(code, Answer.REFUSED), code, message)
        elif instance in accepted:
            outcomes[instance] = Outcome(Answer.ACCEPTED)
        else:
            outcomes[instance] = Outcome(Answer.LOST, message="the answer does not mention this instance")
    return outcomes


def _outcome(error: ClientError) -> Outcome:
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "")
    if code in _TURNED_DOWN:
        return Outcome(Answer.LATER, code, message)
    if code in _PASSING:
        return Outcome(Answer.LOST, code, message)
    if code in _CREDENTIALS:
        # New credentials may come by themselves (an instance role): nothing was done, and it may work later.
        return Outcome(Answer.REFUSED, code, message)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Outcome(Answer.LOST if status >= 500 else Answer.REFUSED, code, message)


def _error(error: BotoCoreError | ClientError, what: str) -> ProviderError:
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        hint = "renew the credentials, or check the role's rights" if code in _CREDENTIALS else ""
        return ProviderError(f"{what}: {error}", transient=code in _PASSING or status >= 500, hint=hint)
    return ProviderError(f"{what}: {error}", transient=isinstance(error, HTTPClientError | NoConnectionError))


def _unreadable(what: str) -> ProviderError:
    return ProviderError(
        f"{what}: the answer is none of SageMaker's",
        transient=True,
        hint="is another server at this endpoint, or a proxy?",
    )


def _instance(node: Mapping[str, Any]) -> ProviderInstance:
    status = node["InstanceStatus"]
    launched = node.get("LaunchTime")
    return ProviderInstance(
        instance_id=node["InstanceId"],
        node=node.get("PrivateDnsHostname", "").partition(".")[0],
        condition=_CONDITIONS.get(status["Status"], Condition.UNKNOWN),
        group=node["InstanceGroupName"],
        instance_type=node["InstanceType"],
        launched=launched.timestamp() if isinstance(launched, datetime) else 0,
        message=status.get("Message", ""),
    )


def _region_of(cluster: str) -> str:
    """The region in a cluster's ARN; empty for a plain name."""
    parts = cluster.split(":")
    return parts[3] if len(parts) == 6 and parts[0] == "arn" else ""
