"""Nodes whose machines boot with systemd, as instances do: their daemons are units, and come back with the machine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.support import labs, secrets
from tests.support.bare import Bare, bare

pytestmark = pytest.mark.lab

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
TOKEN = "/root/token"
"""A file of root's that holds a token, closed to others."""


@pytest.fixture(scope="module")
def machines() -> Iterator[Bare]:
    with bare(*DAEMONS, lifecycle=LIFECYCLE, users="ann,2001\n", systemd=True) as found:
        for name in DAEMONS:
            labs.wait_until(partial(found.run, name, "ls", "/run/systemd/private"), 120, "systemd")
            done = found.on_create(name, timeout=600)
            assert done.returncode == 0, done.stdout
        yield found


def units(machines: Bare, name: str, word: str, of: tuple[str, ...]) -> list[str]:
    """What ``systemctl is-active`` or ``is-enabled`` says of units."""
    return machines.runner(name).run(["systemctl", word, *of], timeout=60).stdout.split()


def hosts_of_a_job(machines: Bare) -> str:
    """Run ``hostname`` on a compute node, as a job from the login node."""
    return machines.run("door-1", "srun", "-D", "/", "hostname").strip()


@pytest.mark.parametrize("name", DAEMONS)
def test_a_nodes_daemons_are_units_and_those_of_others_are_off(machines: Bare, name: str) -> None:
    daemons = DAEMONS[name]
    assert units(machines, name, "is-active", daemons) == ["active"] * len(daemons)
    assert units(machines, name, "is-enabled", daemons) == ["enabled"] * len(daemons)
    assert "active" not in units(machines, name, "is-active", FOREIGN[name])
    assert "enabled" not in units(machines, name, "is-enabled", FOREIGN[name])
    # Scripts of System V are for machines without systemd.
    assert "hpadmin" not in machines.run(name, "sh", "-c", "cat /etc/init.d/*")


def test_they_run_jobs_and_a_second_run_of_their_lifecycle_changes_nothing(machines: Bare) -> None:
    assert hosts_of_a_job(machines) == machines.run("work-1", "hostname").strip()
    for name in DAEMONS:
        second = machines.on_create(name)
        assert second.returncode == 0, second.stdout
        assert not [
            line for line in second.stdout.splitlines() if " done in " in line and " 0 changes" not in line
        ]


def test_the_controller_takes_in_a_change_of_the_inventory_by_itself(machines: Bare) -> None:
    stale = machines.state("head-1")
    machines.tell("head-1")
    labs.wait_until(lambda: machines.state("head-1") != stale, 120, "the lifecycle runs again")
    machines.wait("head-1", "done")


def test_no_secret_is_in_the_journal_or_told_by_systemd(machines: Bare) -> None:
    head = machines.runner("head-1")
    token = secrets.token(head)
    head.put(TOKEN, token, mode=0o600)
    assert secrets.answers_of_slurmrestd(head, token) == ["200", "401"]
    for name in DAEMONS:
        count, places = secrets.shown(machines.runner(name), TOKEN)
        assert (count >= 3, places) == (True, "[]"), name
    # What is there would be found: with the password in the journal, and the token in a unit's environment.
    password = machines.run("head-1", "cat", "/etc/hpadmin/database-password")
    head.run(["systemd-cat"], stdin=password, timeout=60).check()
    machines.run("head-1", "systemctl", "set-environment", f"TOKEN={token}")
    _, places = secrets.shown(head, TOKEN)
    assert "'journalctl " in places
    assert "'systemctl show --all'" in places
    machines.run("head-1", "systemctl", "unset-environment", "TOKEN")


def test_a_node_is_back_after_a_boot(machines: Bare) -> None:
    node = machines.run("work-1", "hostname").strip()
    # All of it ends and starts anew but the kernel: its container's engine would take the host's name away.
    before = machines.run("work-1", "systemctl", "show", "-p", "UserspaceTimestamp")
    machines.run("work-1", "systemctl", "soft-reboot")

    def back() -> bool:
        booted = machines.run("work-1", "systemctl", "show", "-p", "UserspaceTimestamp")
        state = machines.run("head-1", "sinfo", "-h", "-n", node, "-o", "%T").strip()
        return booted != before and state == "idle" and machines.runs("work-1", "slurmd")

    labs.wait_until(back, 180, "the node is back")
    assert hosts_of_a_job(machines) == node
