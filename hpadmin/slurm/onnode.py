"""Running a command on a node through Slurm itself, for clusters whose provider gives no other way in.

>>> from hpadmin.slurm.command import Local
>>> runner = OnNode(Local(), "n1", ("gpu",))     # runner.run(["true"], timeout=30) is a job on n1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpadmin.slurm.command import Completed, Runner

_START_SECONDS = 20
"""A node that has no room for a small job is not waited for longer."""
_MEMORY = "512M"
"""Enough for a check and the tools it asks. Zero would be all that the node has: one with a job cannot give that."""


@dataclass(frozen=True, slots=True)
class OnNode:
    """A `Runner` whose commands are small jobs on one node, which takes jobs and has a CPU and some memory free."""

    runner: Runner
    """Where srun runs."""
    node: str
    partitions: tuple[str, ...]

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        words = [
            "srun",
            "--quiet",
            f"--nodelist={self.node}",
            f"--partition={','.join(self.partitions)}",
            *(
                "--nodes=1",
                "--ntasks=1",
                "--cpus-per-task=1",
                f"--mem={_MEMORY}",
                "--gres=none",
                "--oversubscribe",
            ),
            f"--immediate={_START_SECONDS}",
            f"--time={int(timeout / 60) + 1}",
            *("--chdir=/", "--mpi=none", "--job-name=hpadmin"),
            *argv,
        ]
        return self.runner.run(words, timeout=timeout + _START_SECONDS, stdin=stdin, env=env)
