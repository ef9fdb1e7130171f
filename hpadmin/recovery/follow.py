"""Asking Slurm for as long as it takes: what a person waits for must not end because slurmctld was restarted.

patience = Patience(900, say)
seen = patience.ask(lambda: observe_slurm(reader, at=time.time()))
patience.follow(progress)        # True when every node came back
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hpadmin.errors import OperationFailed
from hpadmin.recovery.journal import LostLeadership
from hpadmin.recovery.operate import Progress
from hpadmin.slurm.command import slurmctld_is_away

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an interval without an answer may be, and how it is told."""

    limit: float
    """Seconds; a slurmctld that is restarted, reconfigured or replaced by its standby is back long before."""
    say: Callable[[str], None]
    pause: float = 2.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def ask(
        self,
        question: Callable[[], Answer],
        *,
        passing: Callable[[OperationFailed], bool] = lambda error: slurmctld_is_away(error.message),
    ) -> Answer:
        """Return the answer, asked for again and again while it fails with what is `passing`.

        That there is none is said once, and once that there is again. Raises OperationFailed with the last
        failure after `limit` seconds without an answer, and at once with one that is not passing.
        """
        since: float | None = None
        while True:
            try:
                answer = question()
            except LostLeadership:
                raise
            except OperationFailed as error:
                if not passing(error):
                    raise
                if since is None:
                    since = self.clock()
                    self.say(f"no answer, waiting for one: {error.message}")
                if self.clock() - since >= self.limit:
                    raise OperationFailed(
                        f"no answer for {self.limit:g} s: {error.message}",
                        hint="what was ordered stays ordered: run the same command again to go on following it",
                    ) from error
                self.sleep(self.pause)
            else:
                if since is not None:
                    self.say("answers come again")
                return answer

    def follow(self, look: Callable[[], Sequence[Progress]], tell: Callable[[Progress], None]) -> bool:
        """Tell every change of what `look` shows until all nodes are done or failed; return whether all are done.

        Whatever fails on the way is passing: the order stands, and nothing is lost by looking again.
        """
        said: dict[str, str] = {}
        while True:
            states = self.ask(look, passing=lambda _: True)
            for state in states:
                if said.get(state.node) != state.text:
                    said[state.node] = state.text
                    tell(state)
            if all(state.done or state.failed for state in states):
                return all(state.done for state in states)
            self.sleep(self.pause)
