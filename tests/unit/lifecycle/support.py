"""A machine of files in a folder, with commands that are recorded instead of run, and a clock that only tests move."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpadmin.errors import OperationFailed
from hpadmin.model import (
    Cluster,
    Filesystem,
    Group,
    Hardware,
    Instance,
    Node,
    NodeType,
    Strategy,
)
from hpadmin.request import Source
from hpadmin.slurm.command import Completed
from lifecycle.machine import Machine, Owner
from lifecycle.retry import Clock
from lifecycle.secrets import NoSecrets, Secrets
from lifecycle.settings import Settings
from lifecycle.situation import Situation

Answer = Callable[[tuple[str, ...], str | None], Completed]


@dataclass(slots=True)
class Recorder:
    """A Runner that remembers commands and answers from a function."""

    answer: Answer = lambda argv, stdin: Completed(argv, 0, "", "")
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        self.calls.append(tuple(argv))
        return self.answer(tuple(argv), stdin)


def failing(argv: tuple[str, ...], stdin: str | None) -> Completed:
    raise OperationFailed(f"{argv[0]} did not end in time")


@dataclass(slots=True)
class Hands:
    """A clock's hands: sleeping moves them."""

    time: float = 0.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        return Clock(now=lambda: self.time, sleep=self._sleep, draw=lambda low, high: high)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def me(_: str) -> Owner:
    """Every system account is whoever runs the tests."""
    return Owner(os.getuid(), os.getgid())


def machine(root: Path, answer: Answer | None = None) -> tuple[Machine, Recorder]:
    """Return a machine whose files are below `root`, and what records its commands."""
    recorder = Recorder(answer) if answer else Recorder()
    (root / "proc").mkdir(exist_ok=True)
    return Machine(root, recorder, recorder, me, "host"), recorder


HARDWARE = Hardware("ml.c5.large", 2, 1, 2, 4096, "x86_64")


def node(name: str, group: str, address: str, hardware: Hardware = HARDWARE) -> Node:
    instance = Instance(name, group, hardware.instance_type, f"i-{name}", address)
    return Node(f"ip-{address.replace('.', '-')}", instance, hardware, 1)


def situation(
    root: Path,
    role: NodeType = NodeType.COMPUTE,
    *,
    settings: Settings | None = None,
    secrets: Secrets | None = None,
    filesystems: tuple[Filesystem, ...] = (),
) -> Situation:
    """Return the situation of one node of a cluster of three."""
    groups = (
        Group("head", NodeType.CONTROLLER, ("ml.c5.large",), 1, filesystems=filesystems),
        Group("door", NodeType.LOGIN, ("ml.c5.large",), 1, filesystems=filesystems),
        Group("work", NodeType.COMPUTE, ("ml.c5.large",), 1, partition="p", filesystems=filesystems),
    )
    nodes = {
        NodeType.CONTROLLER: node("head-1", "head", "10.0.0.1"),
        NodeType.LOGIN: node("door-1", "door", "10.0.0.2"),
        NodeType.COMPUTE: node("work-1", "work", "10.0.0.3"),
    }
    cluster = Cluster(
        "c",
        Strategy.MANAGED,
        groups,
        (nodes[NodeType.CONTROLLER],),
        (nodes[NodeType.LOGIN],),
        (nodes[NodeType.COMPUTE],),
        partitions={"p": ("work",)},
    )
    group = next(group for group in groups if group.node_type is role)
    return Situation(
        node=nodes[role],
        role=role,
        group=group,
        cluster=cluster,
        settings=settings or Settings(),
        secrets=secrets or NoSecrets(),
        bundle=root / "bundle",
        request=Source("{}", "request.json"),
        inventory=root / "resource_config.json",
        conf_dir="/etc/slurm",
    )
