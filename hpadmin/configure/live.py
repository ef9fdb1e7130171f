"""The running Slurm as a change of configuration meets it: nodes, partitions, queue, reservations, in one look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpadmin.slurm import hostlist
from hpadmin.slurm.command import Completed, Runner
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.reader import JobInfo, NodeInfo, PartitionInfo, ReservationInfo
from hpadmin.slurm.states import NodeFlag
from hpadmin.slurm.text import Unreadable


@dataclass(frozen=True, slots=True)
class WithConf:
    """A Runner whose commands read the slurm.conf of one folder, whatever the environment says."""

    runner: Runner
    conf_dir: Path

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """See `Runner.run`."""
        settings = {**(env or {}), "SLURM_CONF": str(self.conf_dir / "slurm.conf")}
        return self.runner.run(argv, timeout=timeout, stdin=stdin, env=settings)


@dataclass(frozen=True, slots=True)
class LiveJob:
    """A job that has not ended."""

    info: JobInfo
    nodes: tuple[str, ...]
    """Its allocation; empty while it waits."""
    required: tuple[str, ...]
    """Nodes that it asked for by name (``-w``)."""

    @property
    def partitions(self) -> tuple[str, ...]:
        """Those it may run in; the one it runs in once it runs."""
        return tuple(self.info.partition.split(","))


@dataclass(frozen=True, slots=True)
class Live:
    """One look at a running Slurm."""

    release: tuple[int, int]
    settings: Mapping[str, str]
    """``scontrol show config``."""
    nodes: Mapping[str, NodeInfo]
    """In the order of slurmctld's node table."""
    partitions: Mapping[str, PartitionInfo]
    jobs: tuple[LiveJob, ...]
    reservations: tuple[ReservationInfo, ...]

    @property
    def version(self) -> str:
        """The release in words, such as 24.11."""
        return f"{self.release[0]}.{self.release[1]:02}"

    @property
    def runs_the_files(self) -> bool:
        """slurmctld's slurm.conf is, byte for byte, the one on disk (`HASH_VAL` of ``scontrol show config``)."""
        return self.settings.get("HASH_VAL", "").startswith("Match")

    @property
    def hashes(self) -> bool:
        """slurmctld tells the hash of its slurm.conf at all."""
        return "NO_CONF_HASH" not in self.settings.get("DebugFlags", "").upper()


def dynamic(node: NodeInfo) -> bool:
    """Tell whether a node registered itself (``slurmd -Z``, ``scontrol create``): no file names it."""
    return bool(node.state.flags & {NodeFlag.DYNAMIC_NORM, NodeFlag.DYNAMIC_FUTURE})


def look(runner: Runner, *, timeout: float = 60) -> Live:
    """Read everything that a change of configuration may touch.

    Raises OperationFailed when slurmctld does not answer, or an answer cannot be read whole.
    """
    reader = CommandReader(runner, timeout)
    settings = reader.configuration()
    required = _required_nodes(runner, timeout)
    nodes = {node.name: node for node in reader.nodes()}
    jobs = tuple(
        LiveJob(info, _expand(info.nodes), _expand(required.get(info.job_id, "")))
        for info in reader.jobs()
        if not info.state.ended
    )
    return Live(
        release=_release(settings.get("SLURM_VERSION", "")),
        settings=settings,
        nodes=nodes,
        partitions={partition.name: partition for partition in reader.partitions()},
        jobs=jobs,
        reservations=reader.reservations(),
    )


def _release(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise Unreadable(f"scontrol show config tells no release: {version!r}")
    return int(found[1]), int(found[2])


def _required_nodes(runner: Runner, timeout: float) -> dict[int, str]:
    """The nodes that jobs ask for by name, by job id."""
    command = [
        "env",
        "-u",
        "SQUEUE_STATES",
        "-u",
        "SQUEUE_USERS",
        "-u",
        "SQUEUE_PARTITION",
        "-u",
        "SQUEUE_ACCOUNT",
    ]
    done = runner.run([*command, "squeue", "-a", "-h", "-o", "%A|%n"], timeout=timeout).check()
    found = {}
    for line in done.stdout.splitlines():
        job, bar, nodes = line.partition("|")
        if not bar or not job.isdigit():
            raise Unreadable(f"squeue printed a line that is no job: {line[:120]!r}")
        if nodes not in ("", "(null)"):
            found[int(job)] = nodes
    return found


def _expand(text: str) -> tuple[str, ...]:
    return tuple(hostlist.expand(text)) if text else ()
