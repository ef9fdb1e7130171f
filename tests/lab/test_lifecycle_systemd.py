"""Nodes whose machines boot with systemd, as instances do: their daemons are units, and come back with the machine."""

from __future__ import annotations

from functools import partial

import pytest

from tests.support import labs
from tests.support.bare import Bare, bare

pytestmark = [pytest.mark.lab, pytest.mark.unsettled]

LIFECYCLE = "profile: container\naccounting: true\nrest: true\n"
DAEMONS = {
    "head-1": ("munge", "ssh", "mariadb", "slurmdbd", "slurmctld", "slurmrestd"),
    "door-1": ("munge", "ssh", "sackd"),
    "work-1": ("munge", "ssh", "slurmd"),
}
FOREIGN = {
    "head-1": ("slurmd", "sackd"),
    "door-1": ("slurmctld", "slurmdbd", "slurmd"),
    "work-1": ("slurmctld", "slurmdbd", "sackd"),
}


def units(machines: Bare, name: str, word: str, of: tuple[str, ...]) -> list[str]:
    """What ``systemctl is-active`` or ``is-enabled`` says of units."""
    return machines.runner(name).run(["systemctl", word, *of], timeout=60).stdout.split()


def test_daemons_are_units_that_come_back_with_the_machine() -> None:
    with bare(*DAEMONS, lifecycle=LIFECYCLE, users="ann,2001\n", systemd=True) as machines:
        for name in DAEMONS:
            labs.wait_until(partial(machines.run, name, "ls", "/run/systemd/private"), 120, "systemd")
            done = machines.on_create(name, timeout=600)
            assert done.returncode == 0, done.stdout
        for name, daemons in DAEMONS.items():
            assert units(machines, name, "is-active", daemons) == ["active"] * len(daemons), name
            assert units(machines, name, "is-enabled", daemons) == ["enabled"] * len(daemons), name
            assert "active" not in units(machines, name, "is-active", FOREIGN[name]), name
            assert "enabled" not in units(machines, name, "is-enabled", FOREIGN[name]), name
            # Scripts of System V are for machines without systemd.
            assert "hpadmin" not in machines.run(name, "sh", "-c", "cat /etc/init.d/*")
        node = machines.run("work-1", "hostname").strip()
        assert machines.run("door-1", "srun", "-D", "/", "hostname").strip() == node
        for name in DAEMONS:
            second = machines.on_create(name)
            assert second.returncode == 0
            assert not [
                line
                for line in second.stdout.splitlines()
                if " done in " in line and " 0 changes" not in line
            ]

        # The controller takes in a change of the inventory by itself.
        stale = machines.state("head-1")
        machines.tell("head-1")
        labs.wait_until(lambda: machines.state("head-1") != stale, 120, "the lifecycle runs again")
        machines.wait("head-1", "done")

        # All of it ends and starts anew but the kernel: its container's engine would take the host's name away.
        before = machines.run("work-1", "systemctl", "show", "-p", "UserspaceTimestamp")
        machines.run("work-1", "systemctl", "soft-reboot")

        def back() -> bool:
            booted = machines.run("work-1", "systemctl", "show", "-p", "UserspaceTimestamp")
            state = machines.run("head-1", "sinfo", "-h", "-n", node, "-o", "%T").strip()
            return booted != before and state == "idle" and machines.runs("work-1", "slurmd")

        labs.wait_until(back, 180, "the node is back")
        # A slurmd that has just begun can let the first launch wait for longer than MessageTimeout.
        labs.wait_until(
            lambda: machines.run("door-1", "srun", "-D", "/", "hostname").strip() == node, 120, "a job there"
        )
