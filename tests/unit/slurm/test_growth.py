"""Which settings let no node join a running job."""

from __future__ import annotations

import pytest

from hpadmin.slurm import growth


@pytest.mark.parametrize(
    ("flags", "found"),
    [("", []), ("Serial,ReportRunning", []), ("Contain", ["contain"]), ("Serial, X11", ["x11"])],
)
def test_prolog_flags(flags: str, found: list[str]) -> None:
    assert growth.at_allocation(flags) == found


@pytest.mark.parametrize(
    ("plugins", "found"),
    [
        ("", []),
        ("task/none", []),
        ("task/cgroup,task/affinity", ["task/affinity", "task/cgroup"]),
        ("affinity", ["affinity"]),
    ],
)
def test_task_plugins(plugins: str, found: list[str]) -> None:
    assert growth.binds_cores(plugins) == found
