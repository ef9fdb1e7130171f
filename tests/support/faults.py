"""Breaking nodes of a lab as hardware does, and reading off what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpadmin.lab.cluster import Lab

XID = "kernel: NVRM: Xid (PCI:0000:01:00): 79, pid=71039, name=Media, GPU has fallen off the bus."
"""A line that a real kernel wrote (NVIDIA/open-gpu-kernel-modules #1010)."""


@dataclass(frozen=True)
class FaultKind:
    """One way to break a node, and what hpadmin does about it."""

    name: str
    inject: Callable[[Lab, str], object]
    action: str
    """``reboot`` or ``replace``."""


def _on_controller(lab: Lab, *argv: str) -> None:
    lab.runner(lab.controller().instance.name).run(argv, timeout=120).check()


def _gpu_gone(lab: Lab, node: str) -> None:
    lab.runner(node).run(["rm", "/dev/nvidia2"], timeout=120).check()


def _xid(lab: Lab, node: str) -> None:
    lab.runner(node).run(["tee", "-a", "/var/log/kern.log"], stdin=f"{XID}\n", timeout=120).check()


FAULTS = (
    FaultKind("kill", lambda lab, node: lab.fault(node, "kill"), "reboot"),
    FaultKind("pause", lambda lab, node: lab.fault(node, "pause"), "reboot"),
    FaultKind("GPU device gone", _gpu_gone, "reboot"),
    FaultKind("Xid 79 in the kernel log", _xid, "reboot"),
    FaultKind("disconnect", lambda lab, node: lab.fault(node, "disconnect"), "replace"),
    FaultKind(
        "Action:Replace",
        lambda lab, node: _on_controller(
            lab, "scontrol", "update", f"NodeName={node}", "State=fail", "Reason=Action:Replace"
        ),
        "replace",
    ),
)
"""All but `hpadmin node reboot`, which is a command."""


def break_node(lab: Lab, node: str, kind: str) -> None:
    """Do the fault of that name to a node."""
    next(fault for fault in FAULTS if fault.name == kind).inject(lab, node)
