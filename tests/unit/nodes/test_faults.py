"""The fault table, on lines that real kernels wrote."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hpadmin.nodes.faults import FaultAction, Finding, gravest, kernel_findings, table

LINES = tomllib.loads((Path(__file__).parent / "kernel_lines.toml").read_text())["line"]


@pytest.mark.parametrize("line", LINES, ids=[f"{entry['source']}: {entry['code']}" for entry in LINES])
def test_real_lines(line: dict[str, str]) -> None:
    found = kernel_findings([line["text"]])
    if line["action"] == "none":
        assert not found
    else:
        assert [(each.code, each.action.value) for each in found] == [(line["code"], line["action"])]
        assert found[0].text


def test_every_entry_has_a_source() -> None:
    known = {"hyperpod", "nvidia", "gpud", "slurm", "neuron", "site"}
    assert {fault.source for fault in table().values()} <= known
    assert all(fault.text for fault in table().values())


@pytest.mark.parametrize(
    ("numbers", "action"),
    [
        ((64,), FaultAction.REPLACE),
        ((46, 48, 62, 74, 79, 95, 109, 136, 140, 143, 158), FaultAction.REBOOT),
        ((63, 92), FaultAction.MONITOR),
        ((13, 31, 119, 120), FaultAction.NONE),
    ],
)
def test_the_public_decision_table_of_hyperpod(numbers: tuple[int, ...], action: FaultAction) -> None:
    assert {table()[f"xid-{number}"].action for number in numbers} == {action}


def test_xid_154_does_what_the_driver_asks_for() -> None:
    line = "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to {}"
    asked = kernel_findings([line.format("0x2 (Node Reboot Required)")])
    assert asked[0].action is FaultAction.REBOOT
    assert kernel_findings([line.format("0x0 (None)")])[0].action is FaultAction.MONITOR
    over = line.replace("0x0 (None)", "0x1 (GPU Reset Required)").format("0x0 (None)")
    assert kernel_findings([over])[0].action is FaultAction.MONITOR


def test_an_unknown_xid_is_watched() -> None:
    [found] = kernel_findings(["NVRM: Xid (PCI:0000:01:00): 999, something new"])
    assert (found.code, found.action) == ("xid-999", FaultAction.MONITOR)


def test_the_gravest_finding_decides() -> None:
    a, b, c = (Finding(x, action, "") for x, action in zip("abc", list(FaultAction)[1:], strict=True))
    assert gravest([a, c, b]) is c
    assert gravest([]) is None
