"""Nodes look at themselves now: a failed step is held, and cannot wait for Slurm's next health check.

slurmd runs HealthCheckProgram every HealthCheckInterval, minutes apart, while a program that lost its GPU ends at
once. Where the provider can run commands on nodes, the program of the configuration is run there, as slurmd would
run it; what it finds arrives in Slurm by its own hand. Where the provider cannot, the last report counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Runner

log = logging.getLogger(__name__)

_AT_ONCE = 64


class Examiner(Protocol):
    """What has nodes look at themselves."""

    def examine(self, nodes: Iterable[str], configuration: Mapping[str, str]) -> bool:
        """Let `nodes` look at themselves; True where any did, so that their state is worth another look."""
        ...


@dataclass(frozen=True, slots=True)
class OnNodes:
    """Runs the health check there. `runner` gives what runs commands on a node as root, None where nothing does."""

    runner: Callable[[str], Runner | None]
    seconds: float = 6
    """All of them together get so long: a node that takes longer is judged by its last report."""

    def examine(self, nodes: Iterable[str], configuration: Mapping[str, str]) -> bool:
        """See `Examiner`."""
        program = configuration.get("HealthCheckProgram", "")
        if not program.startswith("/"):
            return False
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            looking = [pool.submit(self._examine, name, program) for name in nodes]
            done, late = wait(looking, self.seconds)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if late:
            log.warning("nodes did not end their health check in time", extra={"nodes": len(late)})
        return any(each.result() for each in done)

    def _examine(self, name: str, program: str) -> bool:
        try:
            runner = self.runner(name)
            if runner is None:
                return False
            runner.run([program], timeout=self.seconds)
        except OperationFailed as error:
            log.info("a node could not be examined", extra={"node": name, "error": error.message})
            return False
        return True
