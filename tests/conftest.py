"""Fixtures that several areas share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.box import Box, box

# A slow machine is no finding, and a change is judged by the same cases each time; by hand, new ones are tried.
settings.register_profile("hpadmin", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("hpadmin"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "hpadmin")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """What a test blocks, every process of later tests would have blocked: they could not be told to end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    assert signal.pthread_sigmask(signal.SIG_SETMASK, before) == before, "the test has left signals blocked"


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
