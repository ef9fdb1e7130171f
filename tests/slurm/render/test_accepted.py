"""A throw-away slurmctld starts on every rendered tree and has nothing to complain about."""

from __future__ import annotations

import os
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
    "name",
    [
        "guide_in_containers",
        "ultraservers",
        "ultraservers_mixed",
        "guide_with_accounting",
        "no_instances_yet",
    ],
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


def test_sixteen_thousand_nodes_are_a_file_of_few_lines(host: Box) -> None:
    made = cluster(SIXTEEN_THOUSAND)
    assert len(made.computes) == 16000
    assert len(desired.render(made)["slurm.conf"].splitlines()) < 200
    assert complaints(host, made, RenderOptions()) == []
