"""Speaking to many hosts at once, and never to more than this process may have connections (getrlimit(2))."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TypeVar

Target = TypeVar("Target")

_SHARE = 4
"""Of all descriptors, so small a part goes into connections: two for a host, and as many for everything else."""


def rounds(targets: Mapping[str, Target]) -> Iterator[dict[str, Target]]:
    """Yield the targets in parts that can be spoken to at once, with up to two connections each.

    With the 1,024 descriptors that a service is given these are 256; `allow_many` makes one part of any cluster.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    at_once = len(targets) if soft == resource.RLIM_INFINITY else max(1, soft // _SHARE)
    rest = iter(targets.items())
    while part := dict(islice(rest, at_once)):
        yield part


def allow_many() -> None:
    """Let this process have as many descriptors open as it may; more than 1,024 trouble only who uses select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
