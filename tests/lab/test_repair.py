"""Real faults on real nodes with real jobs: each node comes back by one repair, and jobs elsewhere never notice.

The agent is the real command in a process of its own, watching the lab from outside; one test kills it with -9 in
the middle. `benchmarks/bench_repair.py` makes the table of docs/node-repair.md from the same faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from hpadmin.lab.cluster import Lab
from hpadmin.recovery.book import Phase
from hpadmin.recovery.journal import Event, Journal
from hpadmin.recovery.site import JOURNAL
from hpadmin.slurm.commands import CommandReader
from tests.support import labs
from tests.support.faults import FAULTS, FaultKind

pytestmark = [pytest.mark.lab, pytest.mark.unsettled]

LIFECYCLE = "profile: container\nhealth_check: true\nslurm:\n  health_check_interval: 10\n"
SETTINGS = """
interval = 1
[policy]
confirm_after = 2
unreachable_after = 6
reboot_within = 45
replace_within = 240
verify_within = 120
storm_nodes = 20
max_in_flight = 5
"""
KINDS = {fault.name: fault for fault in FAULTS}


@dataclass
class Watched:
    """A lab, and the agent that looks after it."""

    lab: Lab
    folder: Path
    agent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen([*self.command("agent", "run")], stdout=log, stderr=log)

    def command(self, *words: str) -> list[str]:
        options = [
            "--lab",
            self.lab.name,
            "--state-dir",
            str(self.folder),
            "--config",
            str(self.folder / "agent.toml"),
        ]
        return [str(Path(sys.executable).with_name("hpadmin")), *words, *options]

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.agent is not None:
            self.agent.send_signal(number)
            self.agent.wait(60)
            self.agent = None

    @property
    def reader(self) -> CommandReader:
        return CommandReader(self.lab.runner(self.lab.controller().instance.name))

    def events(self, node: str) -> tuple[Event, ...]:
        with contextlib.closing(Journal(self.folder / JOURNAL)) as journal:
            return journal.events(node, last=1000)

    def kinds(self, node: str) -> list[str]:
        return [event.kind for event in self.events(node)]

    def in_service(self, node: str) -> bool:
        found = self.reader.node(node)
        return found is not None and found.state.schedulable

    def repaired(self, node: str, *, times: int = 1) -> bool:
        return self.kinds(node).count(Phase.REPAIRED.value) == times and self.in_service(node)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    source = labs.request(
        ("controller", "ml.c5.xlarge", 1, "Controller", None),
        ("workers", "ml.g5.12xlarge", 5, "Compute", "gpu"),
    )
    with labs.running_lab(source, lifecycle=LIFECYCLE) as lab:
        watched = Watched(lab, tmp_path_factory.mktemp("agent"))
        (watched.folder / "agent.toml").write_text(SETTINGS)
        labs.wait_until(
            lambda: all('"passed"' in node.extra for node in watched.reader.nodes()),
            90,
            "a report from every node",
        )
        watched.start()
        try:
            yield watched
        finally:
            watched.stop()
            sys.stderr.write((watched.folder / "agent.log").read_text())


def reason(site: Watched, node: str) -> str:
    found = site.reader.node(node)
    assert found is not None
    return found.reason


def hosts(site: Watched) -> list[str]:
    return sorted(node.name for node in site.reader.nodes())


def bystander(site: Watched, node: str) -> int:
    job = labs.submit(site.lab, "-p", "gpu", "-w", node, "--gres", "gpu:1", "--wrap", "sleep 3600")
    labs.wait_for_state(site.lab, job, "RUNNING")
    return job


def undisturbed(site: Watched, job: int) -> None:
    assert labs.job_field(site.lab, job, "JobState") == "RUNNING"
    assert labs.job_field(site.lab, job, "Restarts") == "0"


def test_four_faults_at_once(site: Watched) -> None:
    """kill, pause, a GPU that is gone and an Xid, each on a node of its own; a job runs on the fifth."""
    victims = dict(
        zip(hosts(site), ["kill", "pause", "GPU device gone", "Xid 79 in the kernel log"], strict=False)
    )
    job = bystander(site, hosts(site)[4])
    before = {node.instance.hostname: node.instance.instance_id for node in site.lab.nodes()}
    for node, kind in victims.items():
        KINDS[kind].inject(site.lab, node)
    for node, kind in victims.items():
        labs.wait_until(partial(site.repaired, node), 240, f"{node} back after {kind}")
    undisturbed(site, job)
    for node in victims:
        assert site.kinds(node).count("asking") == 1, "one repair, not two"
        assert reason(site, node).startswith("hpadmin: returned: rebooted")
    assert before == {node.instance.hostname: node.instance.instance_id for node in site.lab.nodes()}
    labs.login(site.lab, "scancel", str(job))


def test_a_person_asks_for_a_replacement_and_a_reboot(site: Watched) -> None:
    """`Action:Replace` waits for a job; `hpadmin node reboot` follows to the end; the agent is killed meanwhile."""
    replaced, rebooted, other = hosts(site)[:3]
    job, away = bystander(site, replaced), bystander(site, other)
    old = site.lab.node(replaced).instance.instance_id
    KINDS["Action:Replace"].inject(site.lab, replaced)
    labs.wait_until(lambda: site.kinds(replaced)[-1] == "drain", 60, "the replacement waits for the job")
    done = subprocess.Popen(
        [*site.command("node", "reboot", rebooted, "--yes", "--reason", "kernel update")],
        stderr=subprocess.PIPE,
        text=True,
    )
    labs.wait_until(lambda: "asking" in site.kinds(rebooted)[-4:], 90, "the provider is asked for the reboot")
    site.stop(signal.SIGKILL)
    undisturbed(site, job)
    labs.login(site.lab, "scancel", str(job))
    site.start()
    labs.wait_until(lambda: site.lab.node(replaced).instance.instance_id != old, 120, "another instance")
    labs.wait_until(lambda: site.in_service(replaced), 240, f"{replaced} back")
    _, said = done.communicate(timeout=240)
    assert done.returncode == 0, said
    assert "back in service" in said
    undisturbed(site, away)
    assert site.kinds(replaced).count("asking") <= 2
    assert reason(site, replaced) == "hpadmin: returned: replaced because of Action:Replace"
    assert reason(site, rebooted) == "hpadmin: returned: rebooted because of kernel update"
    story = subprocess.run(
        site.command("node", "show", rebooted, "-o", "json"), capture_output=True, text=True, check=True
    )
    [shown] = json.loads(story.stdout)["nodes"]
    assert any("kernel update" in event["text"] for event in shown["events"])
    labs.login(site.lab, "scancel", str(away))


def test_a_cut_network(site: Watched) -> None:
    """Nothing but the agent's own look notices it in time: SlurmdTimeout is 300 s here. Its job ends at once."""
    node, other = hosts(site)[3:5]
    job, away = bystander(site, node), bystander(site, other)
    cut: FaultKind = KINDS["disconnect"]
    cut.inject(site.lab, node)
    labs.wait_for_state(site.lab, job, "PENDING", "NODE_FAIL", timeout=60)
    labs.wait_until(lambda: site.in_service(node), 300, f"{node} back")
    undisturbed(site, away)
    labs.login(site.lab, "scancel", str(away), str(job))


def test_two_agents(site: Watched) -> None:
    """A second agent stands by, and says who leads."""
    second = subprocess.run(
        site.command("agent", "run", "--once"), capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 1
    assert site.agent is not None
    assert f"another agent leads this cluster: pid {site.agent.pid} on {os.uname().nodename}" in second.stderr


def test_bad_orders_change_nothing(site: Watched) -> None:
    before = [(node.name, node.state.kept_out, node.reason) for node in site.reader.nodes()]
    bad = subprocess.run(
        site.command("node", "replace", hosts(site)[0], "nowhere", "i-0aaaaaaaaaaaaaaa1", "--yes"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert bad.returncode == 2
    assert "nowhere: is no node of this cluster" in bad.stderr
    assert "i-0aaaaaaaaaaaaaaa1: is no instance of this cluster" in bad.stderr
    assert [(node.name, node.state.kept_out, node.reason) for node in site.reader.nodes()] == before
