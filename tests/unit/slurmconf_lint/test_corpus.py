"""The lint against the files of real sites: what slurmctld 24.11 takes has no errors, what kills it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpadmin.slurmconf.lint import Severity, lint_files

CORPUS = Path(__file__).parents[2] / "data" / "corpus"
ANSWERS: dict[str, Any] = json.loads((Path(__file__).parent / "corpus.json").read_text())
OF_SLURMD = {"gres-not-in-gres-conf", "gres-type-missing"}
"""What slurmctld cannot see: the sites' gres.conf is not with the files."""


def errors(name: str) -> list[str]:
    content = (CORPUS / "slurm" / name).read_bytes()
    found = lint_files({"slurm.conf": content, "cgroup.conf": b"CgroupPlugin=disabled\n"})
    return [str(f) for f in found if f.severity is Severity.ERROR and f.code not in OF_SLURMD]


def test_every_file_is_recorded() -> None:
    assert sorted(ANSWERS) == sorted(path.name for path in (CORPUS / "slurm").glob("*.conf"))


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_real_file(name: str) -> None:
    found = errors(name)
    if ANSWERS[name]["accepted"]:
        assert not found
    else:
        assert found, ANSWERS[name]["said"]


@pytest.mark.parametrize("path", sorted((CORPUS / "topology").glob("*.conf")), ids=lambda path: path.name)
def test_a_real_topology_file(path: Path) -> None:
    """Topologies come without their nodes: only what is wrong in the file itself can be found."""
    found = lint_files({"topology.conf": path.read_bytes()})
    errors = {finding.code for finding in found if finding.severity is Severity.ERROR}
    assert errors <= ({"switch-circle"} if path.name == "Azure+cyclecloud-slurm-5.conf" else set())
