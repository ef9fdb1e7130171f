"""One cluster for all tests of this folder; each test finds it healed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.resume.cluster import Cluster, cluster


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture
def slurm(shared_cluster: Cluster) -> Cluster:
    shared_cluster.heal()
    return shared_cluster
