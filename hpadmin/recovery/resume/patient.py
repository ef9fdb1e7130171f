"""Commands that wait for a slurmctld which is away, without keeping anything else of the supervisor's from its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hpadmin.slurm.command import Completed, Runner, slurmctld_is_away

OUTAGE_SECONDS = 600.0
"""A slurmctld that does not answer is waited for so long: it may be restarting, or its standby taking over."""
BESIDE_SECONDS = 0.02
"""Between two looks at a command while srun runs."""


def sleep(seconds: float) -> bool:
    """Wait; True, as nothing else is awaited meanwhile."""
    time.sleep(seconds)
    return True


@dataclass(frozen=True)
class Patient:
    """A `Runner` that tries again while slurmctld is away, as long as `wait` says that it is worth it.

    While something is `busy` meanwhile, `wait` has its turns during a command as well: one whose slurmctld is away
    takes long to say so.
    """

    runner: Runner
    wait: Callable[[float], bool] = sleep
    busy: Callable[[], bool] = lambda: False
    pause: float = 2.0

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        deadline = time.monotonic() + OUTAGE_SECONDS
        while True:
            if self.busy():
                done = self._beside(lambda: self.runner.run(argv, timeout=timeout, stdin=stdin, env=env))
            else:
                done = self.runner.run(argv, timeout=timeout, stdin=stdin, env=env)
            away = done.returncode != 0 and slurmctld_is_away(done.stderr)
            if not away or time.monotonic() > deadline or not self.wait(self.pause):
                return done

    def _beside(self, command: Callable[[], Completed]) -> Completed:
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(command)
            while not working.done():
                self.wait(BESIDE_SECONDS)
            return working.result()
