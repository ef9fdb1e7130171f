"""Nodes look at themselves now: a failed step is held, and cannot wait for Slurm's next health check.

slurmd runs HealthCheckProgram every HealthCheckInterval, minutes apart, while a program that lost its GPU ends at
once. Where the provider can run commands on nodes, the program of the configuration is run there, as slurmd would
run it; what it finds arrives in Slurm by its own hand. A node that cannot look, or not tell, is asked again while the
question is young: its last report is older than the failure. Where the provider cannot, that report counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from hpadmin.errors import OperationFailed
from hpadmin.nodes.healthcheck import SICK
from hpadmin.slurm.command import Runner

log = logging.getLogger(__name__)

_AT_ONCE = 64
_VERDICTS = (0, 1, SICK)
"""Exit codes of a check that came to an end: healthy, or not, which other checkers tell by 1. Others are errors, as
when slurmctld was not reached (`hpadmin.nodes.healthcheck`)."""


class Examiner(Protocol):
    """What has nodes look at themselves."""

    def examine(self, nodes: Iterable[str], configuration: Mapping[str, str]) -> Examination:
        """Let `nodes` look at themselves."""
        ...


@dataclass(frozen=True, slots=True)
class Examination:
    """What became of it. Nodes that nobody can ask are in neither: their last report counts."""

    done: frozenset[str] = frozenset()
    """They have, and their state is worth another look."""
    failed: frozenset[str] = frozenset()
    """They could not, or not tell: it is to be tried again."""


@dataclass(frozen=True, slots=True)
class OnNodes:
    """Runs the health check there. `runner` gives what runs commands on a node as root, None where nothing does."""

    runner: Callable[[str], Runner | None]
    seconds: float = 6
    """All of them together get so long."""

    def examine(self, nodes: Iterable[str], configuration: Mapping[str, str]) -> Examination:
        """See `Examiner`."""
        program = configuration.get("HealthCheckProgram", "")
        if not program.startswith("/"):
            return Examination()
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            looking = {pool.submit(self._examine, name, program): name for name in nodes}
            done, late = wait(looking, self.seconds)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if late:
            log.warning("nodes did not end their health check in time", extra={"nodes": len(late)})
        ended = {looking[each]: each.result() for each in done}
        return Examination(
            frozenset(name for name, looked in ended.items() if looked),
            frozenset(name for name, looked in ended.items() if looked is False)
            | {looking[each] for each in late},
        )

    def _examine(self, name: str, program: str) -> bool | None:
        """Tell whether a node has looked at itself; None where nobody can make it."""
        try:
            runner = self.runner(name)
            if runner is None:
                return None
            status = runner.run([program], timeout=self.seconds).returncode
        except OperationFailed as error:
            log.info("a node could not be examined", extra={"node": name, "error": error.message})
            return False
        if status not in _VERDICTS:
            log.info("a node could not be examined", extra={"node": name, "status": status})
        return status in _VERDICTS
