"""The settings of the recovery agent that runs on a lab's controller, as on the controller of a real cluster."""

from __future__ import annotations

import json

from hpadmin.lab import machine

FILE = "agent.toml"
"""Its name in the lifecycle bundle (docs/lifecycle.md)."""


def bundle(lab: str) -> dict[str, str]:
    """Return the agent's part of the lifecycle bundle of `lab`; empty where the engine has no socket to give.

    Machines that are containers start within seconds, so the agent's patience is shorter than its defaults.
    """
    if machine.engine_socket() is None:
        return {}
    return {
        FILE: f"""# The agent of a lab: its provider is the container engine of the lab's host.
interval = 2

[provider]
kind = "docker"
lab = {json.dumps(lab)}
engine = "unix://{machine.ENGINE}"

[policy]
unreachable_after = 15
reboot_within = 300
replace_within = 900
"""
    }
