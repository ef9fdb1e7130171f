"""One container with a real cluster for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.apply.cluster import Cluster, cluster


@pytest.fixture(scope="package")
def running() -> Iterator[Cluster]:
    """Started with `Cluster.start` by whoever uses it, on a fresh state."""
    with cluster() as ready:
        yield ready
