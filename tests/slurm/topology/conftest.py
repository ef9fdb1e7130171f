"""One container of each release for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.box import Box, box


@pytest.fixture(scope="session")
def slurm24() -> Iterator[Box]:
    with box("24.11") as machine:
        yield machine


@pytest.fixture(scope="session")
def slurm26() -> Iterator[Box]:
    with box("26.05") as machine:
        yield machine


@pytest.fixture(params=["24.11", "26.05"])
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def slurm(request: pytest.FixtureRequest, release: str) -> Box:
    machine: Box = request.getfixturevalue({"24.11": "slurm24", "26.05": "slurm26"}[release])
    return machine
