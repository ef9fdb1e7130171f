"""A throw-away slurmctld starts on every rendered tree and has nothing to complain about."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hpadmin.configure import desired
from hpadmin.configure.options import RenderOptions
from hpadmin.model import Cluster
from hpadmin.slurm.sandbox import Severity, check
from tests.support.box import Box, box
from tests.unit.configure.clusters import CASES, cluster

pytestmark = pytest.mark.slurm

KEY = {"slurm.key": os.urandom(1024)}
WITHOUT_MUNGE = {"AuthType": "auth/slurm", "CredType": "cred/slurm"}
NO_DATABASE = "Even though we are collecting accounting information you have asked for it not to be stored"
"""The throw-away slurmctld is never given a database."""


@pytest.fixture(scope="module")
def host() -> Iterator[Box]:
    with box("24.11", capabilities=("SYS_ADMIN", "NET_ADMIN")) as running:
        yield running


@pytest.fixture(scope="module")
def later_host() -> Iterator[Box]:
    with box("26.05", capabilities=("SYS_ADMIN", "NET_ADMIN")) as running:
        yield running


def complaints(host: Box, made: Cluster, options: RenderOptions) -> list[str]:
    """What slurmctld says against a rendered tree; it must start."""
    files = {name: text.encode() for name, text in desired.render(made, options).items()}
    verdict = check(host, files | KEY, overrides=WITHOUT_MUNGE, timeout=120)
    found = verdict.said(Severity.FATAL, Severity.ERROR, Severity.WARNING)
    assert verdict.accepted, [message.text for message in verdict.messages]
    return [message.text for message in found if not message.text.startswith(NO_DATABASE)]


@pytest.mark.parametrize("name", CASES)
def test_every_golden_tree_is_accepted_without_a_word(host: Box, name: str) -> None:
    assert complaints(host, CASES[name].make(), CASES[name].options) == []


@pytest.mark.parametrize("tracking", ["cgroup", "linuxproc"])
def test_both_ways_to_track_processes(host: Box, tracking: str) -> None:
    options = replace(RenderOptions(), process_tracking=tracking)  # type: ignore[arg-type]
    assert complaints(host, CASES["guide"].make(), options) == []


@pytest.mark.parametrize(
    "name", ["guide_in_containers", "ultraservers", "ultraservers_mixed", "guide_with_accounting"]
)
def test_a_later_release(later_host: Box, name: str) -> None:
    options = replace(CASES[name].options, release="26.05")
    # With several topologies Slurm tells of each which nodes belong to the others: that is what they are for.
    partial = ("Blocks lack access to", "switches lack access to", "no switch can reach all nodes")
    said = complaints(later_host, CASES[name].make(), options)
    assert [line for line in said if not any(words in line for words in partial)] == []


SIXTEEN_THOUSAND = (
    ("a", "ml.p5.48xlarge", 6000),
    ("b", "ml.p5.48xlarge", 6000),
    ("c", "ml.c5.18xlarge", 4000),
)


def test_sixteen_thousand_nodes_are_read_in_well_under_a_second(host: Box) -> None:
    made = cluster(SIXTEEN_THOUSAND)
    assert len(made.computes) == 16000
    files = desired.render(made)
    assert len(files["slurm.conf"].splitlines()) < 200
    host.write_tree("/tmp/large", files)
    host.put("/tmp/large/slurm.key", KEY["slurm.key"], mode=0o600)
    seconds = []
    for _ in range(5):
        start = time.monotonic()
        host.run(
            ["scontrol", "show", "hostnames", "x"], timeout=60, env={"SLURM_CONF": "/tmp/large/slurm.conf"}
        ).check()
        seconds.append(time.monotonic() - start)
    # The quickest of five: what the file costs, not what else runs here; docker exec itself is in it.
    assert min(seconds) < 0.8
    assert complaints(host, made, RenderOptions()) == []
