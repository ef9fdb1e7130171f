"""How a machine stands, by what it printed, and by its files as the engine sends them."""

from __future__ import annotations

import tarfile

import pytest

from hpadmin.lab.machine import archive, joining, unpack

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
