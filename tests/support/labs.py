"""Real clusters in containers for the tests of tests/lab."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hpadmin.errors import OperationFailed
from hpadmin.lab.cluster import CONTAINER_PROFILE, Lab
from hpadmin.lab.network import MiscountedError
from hpadmin.request import Source, read_source
from hpadmin.slurm.command import Completed
from hpadmin.slurm.hostlist import expand

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Result = TypeVar("Result")


_UNATTENDED = ("agent", "health_check")
"""Settings of lifecycle.yaml that are off unless a test turns them on: nobody looks after its nodes but the test."""


def unattended(lifecycle: str = CONTAINER_PROFILE) -> str:
    """Return the lifecycle.yaml of a lab whose own agent and health checks are off, where it does not say otherwise."""
    return lifecycle + "".join(f"{name}: false\n" for name in _UNATTENDED if name not in lifecycle)


@contextlib.contextmanager
def running_lab(source: Source, *, lifecycle: str = CONTAINER_PROFILE, **options: Any) -> Iterator[Lab]:
    """Bring `source` up as a lab of its own and take it down at the end; what happens is printed to stderr.

    Where `lifecycle` does not say otherwise, the lab's own agent and its health checks are off.
    """
    lab = Lab.open(f"test-{uuid.uuid4().hex[:8]}")
    try:
        lab.up(source, say=_say, lifecycle=unattended(lifecycle), **options)
        yield lab
    finally:
        try:
            lab.down(say=_say)
        except MiscountedError as error:
            # All is gone but a network without containers, which nothing but the start of the engine removes.
            _say(f"{error.message}; {error.hint}")


def example(name: str) -> Source:
    """One of the requests in examples/."""
    return read_source(EXAMPLES / name)


def request(*groups: tuple[str, str, int, str, str | None], name: str = "test", **members: Any) -> Source:
    """A request of `groups`: name, instance type, count, node type, and partition for compute groups."""
    body = {
        "ClusterName": name,
        "InstanceGroups": [
            {
                "InstanceGroupName": group,
                "InstanceType": instance_type,
                "InstanceCount": count,
                "ExecutionRole": "arn:aws:iam::111122223333:role/test",
                "SlurmConfig": {"NodeType": node_type}
                | ({"PartitionNames": [partition]} if partition else {}),
            }
            for group, instance_type, count, node_type, partition in groups
        ],
        **members,
    }
    return Source(json.dumps(body, indent=2), "request.json")


def with_home(request: Source, file_system: str) -> Source:
    """Let every group of a request mount an OpenZFS file system on /home."""
    body = json.loads(request.text)
    for group in body["InstanceGroups"]:
        group["InstanceStorageConfigs"] = [{"FsxOpenZfsConfig": {"DnsName": file_system}}]
    body["VpcConfig"] = {
        "SecurityGroupIds": ["sg-0123456789abcdef0"],
        "Subnets": ["subnet-0123456789abcdef0"],
    }
    return Source(json.dumps(body), "request.json")


def login(lab: Lab, *argv: str, timeout: float = 300, check: bool = True) -> Completed:
    """Run a command on the lab's login node (on the controller where there is none)."""
    node = next((node for node in lab.nodes() if node.role == "login"), lab.controller())
    done = lab.runner(node.instance.name).run(argv, timeout=timeout)
    return done.check() if check else done


def submit(lab: Lab, *arguments: str) -> int:
    """Submit a job with ``sbatch --parsable`` and these arguments; return its id."""
    return int(
        login(lab, "sbatch", "--parsable", "-D", "/tmp", "-o", "/dev/null", *arguments).stdout.split(";")[0]
    )


def job_field(lab: Lab, job: int, name: str) -> str:
    """One field of ``scontrol show job``; empty when it is not there."""
    said = login(lab, "scontrol", "-o", "show", "job", str(job)).stdout
    return next((part.partition("=")[2] for part in said.split() if part.startswith(f"{name}=")), "")


def wait_for_state(lab: Lab, job: int, *states: str, timeout: float = 300) -> str:
    """Wait until job `job` is in one of `states`; return which."""

    def state() -> str | None:
        current = job_field(lab, job, "JobState")
        return current if current in states else None

    return wait_until(state, timeout, f"job {job} in {' or '.join(states)}")


def slurmd_start(lab: Lab, host: str) -> str:
    """When the slurmd that slurmctld knows of a node was started; one that is gone keeps its time."""
    said = login(lab, "scontrol", "-o", "show", "node", host).stdout
    return next(part for part in said.split() if part.startswith("SlurmdStartTime="))


def wait_for_another_slurmd(lab: Lab, host: str, before: str, timeout: float = 240) -> None:
    """Wait until a node is idle with another slurmd than the one that started at `before`.

    Its state alone says nothing: slurmctld has one that went away as idle until it misses it.
    """
    wait_until(
        lambda: slurmd_start(lab, host) != before and lab.slurm_states().get(host) == "idle",
        timeout,
        f"{host} is idle again",
    )


def nodes_of(lab: Lab, job: int) -> list[str]:
    """The host names that a job runs on."""
    return expand(job_field(lab, job, "NodeList"))


def wait_until(
    condition: Callable[[], Result | None], timeout: float, what: str, *, pause: float = 0.2
) -> Result:
    """Wait until `condition` gives something true, and return that; fail the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if result := condition():
                return result
            last = ""
        except OperationFailed as error:  # a node that is down just now, as the test wants it
            last = f" ({error})"
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for: {what}{last}")
        time.sleep(pause)


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
