"""An HTTP server that speaks as much of SageMaker as a repair needs (JSON 1.1), and misbehaves on demand."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support import awsjson


@dataclass
class Fault:
    """What the next request of an operation meets instead of its answer."""

    code: str = ""
    """An error code, such as ``ThrottlingException``."""
    status: int = 400
    hang: float = 0
    """Seconds of silence before the connection is closed; the operation itself is done."""
    drop: bool = False
    """Do the operation, then close the connection without an answer."""
    instead: dict[str, Any] | None = None
    """Do the operation, and answer this."""
    cut_ids: int = 0
    """Leave so many ids out of both lists of the answer."""


@dataclass
class Cluster:
    """The state behind the server."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    recovery: str = "Automatic"
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Instance id to the code and message of its entry in `Failed`."""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    done: list[tuple[str, str]] = field(default_factory=list)
    """(operation, instance id) for everything that really happened."""
    page: int = 100
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, instance: str, host: str, status: str = "Running", group: str = "workers") -> None:
        self.nodes[instance] = {
            "InstanceGroupName": group,
            "InstanceId": instance,
            "InstanceType": "ml.p5.48xlarge",
            "LaunchTime": 1_700_000_000 + len(self.nodes),
            "InstanceStatus": {"Status": status, "Message": ""},
            "PrivateDnsHostname": f"{host}.us-west-2.compute.internal",
        }

    def answer(
        self, operation: str, request: dict[str, Any], fault: Fault | None
    ) -> tuple[int, dict[str, Any]]:
        if request.get("ClusterName") != "demo":
            return 400, {"__type": "ResourceNotFound", "Message": f"no cluster {request.get('ClusterName')}"}
        if fault and fault.code:
            return fault.status, {"__type": fault.code, "message": f"{fault.code} on demand"}
        match operation:
            case "DescribeCluster":
                return 200, {
                    "ClusterArn": "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdefghijkl",
                    "ClusterStatus": "InService",
                    "InstanceGroups": [],
                    "NodeRecovery": self.recovery,
                }
            case "ListClusterNodes":
                start = int(request.get("NextToken", "0"))
                found = list(self.nodes.values())
                page: dict[str, Any] = {"ClusterNodeSummaries": found[start : start + self.page]}
                if start + self.page < len(found):
                    page["NextToken"] = str(start + self.page)
                return 200, page
            case "BatchRebootClusterNodes" | "BatchReplaceClusterNodes":
                return self._batch(operation, request["NodeIds"], fault)
        return 400, {"__type": "UnknownOperationException", "message": operation}

    def _batch(self, operation: str, ids: list[str], fault: Fault | None) -> tuple[int, dict[str, Any]]:
        if not 1 <= len(ids) <= 25:
            return 400, {"__type": "ValidationException", "message": "NodeIds must have 1 to 25 members"}
        successful, failed = [], []
        for instance in ids:
            code, message = self.refused.get(instance, ("", ""))
            if instance not in self.nodes:
                code, message = "InstanceIdNotFound", f"{instance} is no instance of this cluster"
            if code:
                failed.append({"NodeId": instance, "ErrorCode": code, "Message": message})
            else:
                self.done.append((operation, instance))
                successful.append(instance)
        cut = fault.cut_ids if fault else 0
        return 200, {"Successful": successful[: len(successful) - cut], "Failed": failed}


@contextlib.contextmanager
def serving(cluster: Cluster) -> Iterator[str]:
    """Serve `cluster` on a free port; yields the endpoint's URL."""

    def answer(operation: str, request: dict[str, Any]) -> awsjson.Answer | None:
        with cluster.lock:
            cluster.requests.append((operation, request))
            queue = cluster.faults.get(operation, [])
            fault = queue.pop(0) if queue else None
            given = cluster.answer(operation, request, fault)
        if fault and fault.instead is not None:
            return 200, fault.instead
        if fault and (fault.hang or fault.drop):
            time.sleep(fault.hang)
            return None
        return given

    with awsjson.serving(answer) as url:
        yield url
