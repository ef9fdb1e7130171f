"""How a machine stands, by what it printed, and by its files as the engine sends them."""

from __future__ import annotations

import tarfile
from types import SimpleNamespace
from typing import Any

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.lab.machine import LABEL, archive, create_file_server, joining, unpack

FIRST = """\
2026-11-22 17:31:00,100 INFO this is ip-10-0-0-3, compute node of cluster c
2026-11-22 17:31:00,101 INFO identity: host name and hosts
2026-11-22 17:31:00,200 INFO   write /etc/hostname
2026-11-22 17:31:00,300 INFO identity: done in 0.2 s, 1 change
"""
WAITS = "2026-11-22 17:31:01,0 WARNING compute: the controller does not answer: x; trying again in 0.3 s\n"


@pytest.mark.parametrize(
    ("printed", "status"),
    [
        ("", None),  # nothing is known: the record is asked
        ("Starting\n", "joining"),
        (FIRST, "joining (identity)"),
        (FIRST + WAITS, "joining (compute)"),
        (FIRST + "on_create done\nOnCreate exited 0\n", None),
        (FIRST + "OnCreate exited 1\n", None),
        (FIRST + "OnCreate exited 0\nStarting\n", None),
    ],
)
def test_the_first_boot_tells_its_stage_until_it_is_over(printed: str, status: str | None) -> None:
    assert joining(printed) == status


def test_an_archive_that_ends_early_is_no_shorter_file() -> None:
    # What the engine sends where a file changes, or its container goes, while it is packed.
    whole = archive({"/etc/motd": (b"hello " * 200, 0o644)})
    assert unpack(whole) == {"etc/motd": b"hello " * 200}
    for length in (0, 100, 1100, 1600):
        with pytest.raises(tarfile.TarError):
            unpack(whole[:length])


@pytest.mark.parametrize(
    "labels", [{}, {LABEL: "lab"}, {LABEL: "other", "hpadmin.lab.file-system": "fs-0a.example"}]
)
def test_a_container_that_has_a_file_servers_name_is_not_started(labels: dict[str, str]) -> None:
    client: Any = SimpleNamespace(containers=SimpleNamespace(get=lambda name: SimpleNamespace(labels=labels)))
    with pytest.raises(
        OperationFailed, match=r"lab-fs-0a is there, and it is not lab lab's server of fs-0a.exa"
    ):
        create_file_server(client, "lab", "fs-0a.example", "image", "network")


def test_a_file_server_that_is_there_is_started() -> None:
    started: list[str] = []
    labels = {LABEL: "lab", "hpadmin.lab.file-system": "fs-0a.example"}

    def get(name: str) -> Any:
        return SimpleNamespace(labels=labels, start=lambda: started.append(name))

    client: Any = SimpleNamespace(containers=SimpleNamespace(get=get))
    create_file_server(client, "lab", "fs-0a.example", "image", "network")
    assert started == ["lab-fs-0a"]
