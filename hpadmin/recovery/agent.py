"""The agent: look, decide, act, again and again; one at a time in a cluster.

    with leadership(state_dir):
        agent = Agent(reader, control, provider, journal, settings.policy)
        agent.cycle()

Several agents may stand by, on one host or on several controllers that share the state directory
(`hpadmin.recovery.leadership`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from hpadmin.errors import HpadminError, OperationFailed
from hpadmin.nodes.provider import Provider
from hpadmin.recovery.act import Actor
from hpadmin.recovery.book import Book
from hpadmin.recovery.decide import decide
from hpadmin.recovery.journal import Journal
from hpadmin.recovery.observe import Observation, observe_slurm, with_instances
from hpadmin.recovery.policy import Policy
from hpadmin.recovery.probe import Prober
from hpadmin.slurm.control import SlurmControl
from hpadmin.slurm.reader import SlurmReader

log = logging.getLogger(__name__)

_ROUNDS = 6
"""Looks in one cycle: as long as deeds change something, the next phase need not wait for the next cycle."""
_LOOK_BACK = 7 * 86400
"""Seconds of closed repairs that `decide` is shown."""
HOLD = 10.0
"""Seconds that repairs stand back for from the moment in which a part begins to hurry: within them a requeued job is to
run, and probes and providers take seconds where hosts are dead. A repair takes minutes."""
_KEEP = 90 * 86400
"""Seconds that closed repairs and events are kept."""


class Part(Protocol):
    """Something that works on the same picture in the agent's cycle, such as the resumption of jobs."""

    def cycle(self, seen: Observation) -> None:
        """Do whatever there is to do now, without waiting for anything. Raises OperationFailed."""
        ...

    @property
    def hurried(self) -> bool:
        """Somebody waits for the next cycle."""
        ...


@dataclass
class Agent:
    """One agent that leads. The journal holds all that must not be forgotten; nothing here does."""

    reader: SlurmReader
    control: SlurmControl
    provider: Provider
    journal: Journal
    policy: Policy
    clock: Callable[[], float] = time.time
    prober: Prober | None = None
    parts: Sequence[Part] = ()
    only: frozenset[str] | None = None
    """Work on these nodes alone, and leave the others as if they were not there; None for all."""
    hold: float = HOLD
    """0: repairs wait for nobody."""
    seen: Observation | None = field(default=None, init=False)
    """The last picture; for metrics."""
    _hurried_since: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.journal.lead()
        self._actor = Actor(self.reader, self.control, self.provider, self.journal, self.policy, self.clock)

    def cycle(self) -> None:
        """Look, let the parts work, then decide and act, until nothing more is to be done at once.

        The parts come first, at every look: people wait for the jobs that they resume, they need neither the provider
        nor the probes, which take seconds when hosts are dead, and a host that a repair has brought back looks as if
        no job had ever lost it. While they are in a hurry, repairs stand back for `hold` seconds, then make one step a
        cycle. A Slurm that does not answer, or a journal that cannot be read, is told to the log; the next cycle looks
        again.
        """
        for _ in range(_ROUNDS):
            seen = self._look()
            if seen is None:
                return
            for part in self.parts:
                self._let_work(part, seen)
            if self._stands_back():
                return
            self.seen = self._complete(seen)
            book = self._book()
            if book is None:
                return
            if not self._actor.perform(decide(self.seen, book, self.policy)) or self.hurried:
                return

    def _stands_back(self) -> bool:
        if not self.hurried:
            self._hurried_since = None
            return False
        now = self.clock()
        if self._hurried_since is None:
            self._hurried_since = now
        return 0 <= now - self._hurried_since < self.hold  # a clock that was set back holds nobody

    def _look(self) -> Observation | None:
        try:
            return observe_slurm(self.reader, at=self.clock(), protected=self.policy.protected)
        except OperationFailed as error:
            log.warning("Slurm cannot be read", extra={"error": error.message})
            return None

    @property
    def hurried(self) -> bool:
        """The next cycle is to come soon, because somebody waits for it."""
        return any(part.hurried for part in self.parts)

    def _let_work(self, part: Part, seen: Observation) -> None:
        try:
            part.cycle(seen)
        except HpadminError as error:
            log.error(
                "a part of the cycle failed", extra={"part": type(part).__name__, "error": error.message}
            )

    def _book(self) -> Book | None:
        try:
            book = self.journal.book(since=self.clock() - _LOOK_BACK)
        except OperationFailed as error:
            log.error("nothing is decided without the journal", extra={"error": error.message})
            return None
        if self.only is None:
            return book
        mine = {name: record for name, record in book.open.items() if name in self.only}
        return replace(book, open=mine, suspects={}, notices={})

    def _complete(self, seen: Observation) -> Observation:
        seen = with_instances(seen, self.provider)
        if self.only is not None:
            nodes = {name: node for name, node in seen.nodes.items() if name in self.only}
            return replace(seen, nodes=nodes)
        return seen if self.prober is None else self.prober.complete(seen)

    def forget(self) -> None:
        """Drop what is too old to matter."""
        self.journal.forget_before(self.clock() - _KEEP)
