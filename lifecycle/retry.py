"""Trying again, spread out: hundreds of nodes that start together must not knock together.

The delays follow "full jitter": each is drawn evenly between nothing and a bound that doubles up to a cap.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to keep trying. Times in seconds."""

    deadline: float = 0.0
    """No attempt starts later than this after the first; 0 tries once."""
    base: float = 1.0
    cap: float = 20.0

    def delays(self, draw: Callable[[float, float], float]) -> Iterator[float]:
        """Yield the pauses between attempts, without end; `draw` returns a number between its two arguments."""
        bound = self.base
        while True:
            yield draw(0.0, bound)
            bound = min(self.cap, bound * 2)


ONCE = Retry()

_LONGEST_PAUSE = 2.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance; tests replace both."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[float, float], float] = field(default=random.SystemRandom().uniform)

    def wait_until(self, condition: Callable[[], bool], timeout: float, *, every: float = 0.1) -> bool:
        """Ask `condition` until it holds or `timeout` seconds passed; return whether it holds.

        The pauses begin with `every` seconds and grow: what takes long is asked for less often.
        """
        end = self.now() + timeout
        while not condition():
            if self.now() >= end:
                return False
            self.sleep(every)
            every = min(every * 1.4, max(every, _LONGEST_PAUSE))
        return True
