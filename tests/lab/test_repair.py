"""Real faults on real nodes with real jobs: each node comes back by one repair, and jobs elsewhere never notice.

The agent is the lab's own, on its controller, as on a real cluster. It is killed with -9 in the middle of a
replacement, slurmctld is restarted while four nodes are broken, and an agent on the host stands by.
`benchmarks/bench_repair.py` makes the table of docs/node-repair.md from the same faults.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpadmin.lab.cluster import Lab
from hpadmin.slurm.commands import CommandReader
from tests.support import labs
from tests.support.faults import FAULTS

pytestmark = pytest.mark.lab

LIFECYCLE = "profile: container\nagent: true\nhealth_check: true\nslurm:\n  health_check_interval: 10\n"
KINDS = {fault.name: fault for fault in FAULTS}
PATIENCE = 420.0
"""Seconds for a node to come back: a tenth of it on a quiet machine."""
LOG = "/var/log/hpadmin-agent.log"


@dataclass
class Site:
    """A lab that looks after itself, seen from its host."""

    lab: Lab
    controller: str = "controller-1"

    def run(self, *argv: str, timeout: float = 120) -> str:
        """Run a command on the controller; return what it printed."""
        return self.lab.runner(self.controller).run(argv, timeout=timeout).check().stdout

    @property
    def reader(self) -> CommandReader:
        return CommandReader(self.lab.runner(self.controller))

    def hosts(self) -> list[str]:
        return sorted(node.name for node in self.reader.nodes())

    def story(self, *nodes: str) -> dict[str, list[Mapping[str, Any]]]:
        """What the agent's journal tells of each node."""
        shown = json.loads(self.run("hpadmin", "node", "show", *nodes, "--last", "1000", "-o", "json"))[
            "nodes"
        ]
        return {node["name"]: node["events"] for node in shown}

    def kinds(self, node: str) -> list[str]:
        return [event["kind"] for event in self.story(node)[node]]

    def asked(self, node: str) -> int:
        """How often the provider was asked: a request that left no trace never reached it, and is made again."""
        events = self.story(node)[node]
        unheard = [event for event in events if event["text"] == "no trace of the request"]
        return self.kinds(node).count("asking") - len(unheard)

    def lives(self, pid: str) -> bool:
        """Whether the controller has a process of that number."""
        return self.lab.runner(self.controller).run(["kill", "-0", pid], timeout=120).returncode == 0

    def in_service(self, node: str) -> bool:
        found = self.reader.node(node)
        return found is not None and found.state.schedulable

    def reason(self, node: str) -> str:
        found = self.reader.node(node)
        assert found is not None
        return found.reason

    def returned(self, node: str, before: int = 0) -> bool:
        """Whether the node is back after one more repair than `before`."""
        return self.in_service(node) and self.kinds(node).count("repaired") == before + 1

    def instance(self, node: str) -> str:
        return self.lab.node(node).instance.instance_id

    def bystander(self, node: str) -> int:
        job = labs.submit(self.lab, "-p", "gpu", "-w", node, "--gres", "gpu:1", "--wrap", "sleep 3600")
        labs.wait_for_state(self.lab, job, "RUNNING", timeout=PATIENCE)
        return job

    def undisturbed(self, job: int) -> None:
        assert labs.job_field(self.lab, job, "JobState") == "RUNNING"
        assert labs.job_field(self.lab, job, "Restarts") == "0"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    source = labs.request(
        ("controller", "ml.c5.xlarge", 1, "Controller", None),
        ("workers", "ml.g5.12xlarge", 5, "Compute", "gpu"),
    )
    with labs.running_lab(source, lifecycle=LIFECYCLE) as lab:
        made = Site(lab)
        labs.wait_until(
            lambda: all('"passed"' in node.extra for node in made.reader.nodes()),
            180,
            "a report from every node",
        )
        yield made


@pytest.fixture(autouse=True)
def _told(site: Site) -> Iterator[None]:
    """What the agent said, for whoever looks into a test that failed."""
    yield
    sys.stderr.write(site.run("tail", "-n", "200", LOG))


def test_four_faults_at_once_and_slurmctld_restarted(site: Site) -> None:
    """kill, pause, a GPU that is gone and an Xid, each on a node of its own; a job runs on the fifth."""
    *broken, quiet = site.hosts()
    kinds = ["kill", "pause", "GPU device gone", "Xid 79 in the kernel log"]
    victims = dict(zip(broken, kinds, strict=True))
    job = site.bystander(quiet)
    before = {node: site.instance(node) for node in victims}
    for node, kind in victims.items():
        KINDS[kind].inject(site.lab, node)
    labs.wait_until(lambda: "asking" in site.kinds(broken[0]), PATIENCE, "the first repair is under way")
    site.run("service", "slurmctld", "restart")
    for node, kind in victims.items():
        labs.wait_until(partial(site.returned, node), PATIENCE, f"{node} back after {kind}")
    site.undisturbed(job)
    for node, events in site.story(*victims).items():
        assert [event["kind"] for event in events].count("asking") == 1, f"{node}: one repair, not two"
        assert site.reason(node).startswith("hpadmin: returned: rebooted")
    assert before == {node: site.instance(node) for node in victims}
    labs.login(site.lab, "scancel", str(job))


def test_a_cut_network_is_one_replacement(site: Site) -> None:
    """Nothing but the agent's own look notices it in time: SlurmdTimeout is 300 s here. Its job ends at once."""
    node, other = site.hosts()[3:5]
    done = len(site.kinds(node)), site.kinds(node).count("repaired")
    job, away = site.bystander(node), site.bystander(other)
    KINDS["disconnect"].inject(site.lab, node)
    labs.wait_for_state(site.lab, job, "PENDING", "NODE_FAIL", timeout=PATIENCE)
    labs.wait_until(lambda: site.returned(node, done[1]), PATIENCE, f"{node} back")
    events = site.story(node)[node][done[0] :]
    assert [event["text"].partition(" ")[0] for event in events if event["kind"] == "asking"] == ["replace"]
    site.undisturbed(away)
    labs.login(site.lab, "scancel", str(away), str(job))


def test_people_ask_and_the_agent_is_killed_in_the_middle(site: Site) -> None:
    """`Action:Replace` waits for a job; `hpadmin node reboot` follows to the end."""
    replaced, rebooted, other = site.hosts()[:3]
    before = {node: site.asked(node) for node in (replaced, rebooted)}
    job, away = site.bystander(replaced), site.bystander(other)
    old = site.instance(replaced)
    KINDS["Action:Replace"].inject(site.lab, replaced)
    labs.wait_until(
        lambda: site.kinds(replaced)[-1:] == ["drain"], PATIENCE, "the replacement waits for the job"
    )
    with tempfile.TemporaryFile("w+") as said:
        order = subprocess.Popen(
            ["docker", "exec", site.lab.controller().container, "hpadmin", "node", "reboot", rebooted, "--yes",
             "--reason", "kernel update"],
            stderr=said,
        )  # fmt: skip
        site.undisturbed(job)
        labs.login(site.lab, "scancel", str(job))
        # Its next machine has been made: the agent that did it goes, and nobody on the host takes part.
        labs.wait_until(lambda: site.instance(replaced) != old, PATIENCE, "another instance")
        # One that is about to die is one that runs, to the script that starts it.
        pid = site.run("cat", "/run/hpadmin-agent.pid").strip()
        site.run("kill", "-9", pid)
        labs.wait_until(lambda: not site.lives(pid), 120, "the agent is dead")
        site.run("service", "hpadmin-agent", "start")
        labs.wait_until(lambda: site.in_service(replaced), PATIENCE, f"{replaced} back")
        ended = order.wait(PATIENCE)
        said.seek(0)
        told = said.read()
        assert (ended, "back in service" in told) == (0, True), told + site.run("cat", LOG)
    site.undisturbed(away)
    for node, count in before.items():
        assert site.asked(node) == count + 1
    assert site.reason(replaced) == "hpadmin: returned: replaced because of Action:Replace"
    assert site.reason(rebooted) == "hpadmin: returned: rebooted because of kernel update"
    assert any("kernel update" in event["text"] for event in site.story(rebooted)[rebooted])
    labs.login(site.lab, "scancel", str(away))


def test_one_agent_leads(site: Site, tmp_path: Path) -> None:
    """An agent on the host stands by while the lab's own leads, leads while that rests, and lets go when it dies."""
    hpadmin = str(Path(sys.executable).with_name("hpadmin"))
    command = [hpadmin, "agent", "run", "--lab", site.lab.name, "--state-dir", str(tmp_path)]
    once = subprocess.run([*command, "--once"], capture_output=True, text=True, timeout=120, check=False)
    pid = site.run("cat", "/run/hpadmin-agent.pid").strip()
    host = site.lab.controller().instance.hostname
    assert once.returncode == 1
    assert f"another agent leads this cluster: pid {pid} on {host}" in once.stderr
    site.run("service", "hpadmin-agent", "stop")
    log = tmp_path / "agent.log"
    with log.open("wb") as out:
        outside = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        labs.wait_until(lambda: "this agent leads" in log.read_text(), 120, "the agent on the host leads")
        site.run("truncate", "-s", "0", LOG)
        site.run("service", "hpadmin-agent", "start")
        leader = f"another agent leads this cluster: pid {outside.pid} on {os.uname().nodename}"
        labs.wait_until(lambda: leader in site.run("cat", LOG), 120, "the lab's own stands by")
    finally:
        outside.send_signal(signal.SIGKILL)
        outside.wait(60)
    labs.wait_until(lambda: "this agent leads" in site.run("cat", LOG), 120, "the lab's own leads again")


def test_bad_orders_change_nothing(site: Site) -> None:
    def kept_out() -> list[tuple[str, bool, str]]:
        return [(node.name, node.state.kept_out, node.reason) for node in site.reader.nodes()]

    before = kept_out()
    words = ["node", "replace", site.hosts()[0], "nowhere", "i-0aaaaaaaaaaaaaaa1", "--yes"]
    bad = site.lab.runner(site.controller).run(["hpadmin", *words], timeout=120)
    assert bad.returncode == 2
    assert "nowhere: is no node of this cluster" in bad.stderr
    assert "i-0aaaaaaaaaaaaaaa1: is no instance of this cluster" in bad.stderr
    assert kept_out() == before
