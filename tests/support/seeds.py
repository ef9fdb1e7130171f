"""Where the random cases of a test on real Slurm begin."""

from __future__ import annotations

import os
import secrets


def seed(first: int, count: int = 1_000_000) -> int:
    """A new one of `count` seeds from `first` on each time; where changes are judged (``CI``), always `first`.

    A change must not be refused for a case that the change before it was spared, as with hypothesis
    (tests/conftest.py). What is found by hand belongs into the recordings, or becomes a test.
    """
    return first if os.environ.get("CI") else first + secrets.randbelow(count)
