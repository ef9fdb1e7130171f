"""Fixtures that several areas share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.box import Box, box


@pytest.fixture(scope="session")
def slurm_box() -> Iterator[Box]:
    """One container of Slurm 24.11 for the whole run; leave it as you found it."""
    with box("24.11") as running:
        yield running


@pytest.fixture(scope="session")
def slurm_box_26() -> Iterator[Box]:
    """One container of Slurm 26.05 for the whole run; leave it as you found it."""
    with box("26.05") as running:
        yield running
