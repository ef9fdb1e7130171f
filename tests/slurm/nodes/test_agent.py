"""The agent against a real slurmctld, with machines that are processes: slurmctld and the agent go and come back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.nodes.provider import Answer, Condition, Outcome, ProviderInstance, Repair
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.recovery.agent import Agent
from hpadmin.recovery.book import Phase
from hpadmin.recovery.journal import Journal
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.command import Runner
from hpadmin.slurm.control import NewState
from hpadmin.slurm.states import JobState
from tests.slurm.nodes.cluster import Cluster, cluster
from tests.support.labs import wait_until

pytestmark = pytest.mark.slurm

POLICY = Policy(confirm_after=1, settle=3, reboot_within=120, replace_within=120, verify_within=60)


@dataclass
class Processes:
    """A provider whose machines are slurmds: a repair restarts one, a replacement also has another id."""

    slurm: Cluster
    name: str = "processes"
    ids: dict[str, str] = field(default_factory=dict)
    booted: dict[str, float] = field(default_factory=dict)
    done: list[tuple[Repair, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for index in range(1, self.slurm.count + 1):
            self.ids[f"n{index}"] = f"i-{index:08x}"

    def instances(self) -> tuple[ProviderInstance, ...]:
        return tuple(
            ProviderInstance(instance, node, Condition.RUNNING, booted=self.booted.get(node, 1))
            for node, instance in self.ids.items()
        )

    def node_recovery(self) -> bool:
        return True

    def repair(self, action: Repair, instance_ids: Sequence[str]) -> Mapping[str, Outcome]:
        outcomes = {}
        for instance in instance_ids:
            node = next((name for name, known in self.ids.items() if known == instance), None)
            if node is None:
                outcomes[instance] = Outcome(Answer.GONE)
                continue
            self.done.append((action, node))
            self.slurm.box.run(["pkill", "-F", f"/run/slurmd.{node}.pid"], timeout=120)
            if action is Repair.REPLACE:
                self.ids[node] = f"{instance[:-1]}f"
            self.booted[node] = time.time()
            time.sleep(1.1)  # SlurmdStartTime counts whole seconds
            self.slurm.slurmd(node)
            outcomes[instance] = Outcome(Answer.ACCEPTED)
        return outcomes

    def runner(self, node: str) -> Runner | None:
        return None


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster(count=3) as running:
        yield running


@dataclass
class Site:
    slurm: Cluster
    provider: Processes
    path: Path

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.path)
        self.agent = Agent(self.slurm.reader, self.slurm.control, self.provider, self.journal, POLICY)

    def until(self, phase: Phase, node: str, timeout: float = 300) -> None:
        def there() -> bool:
            self.agent.cycle()
            self.report()
            book = self.journal.book(since=0)
            record = book.open.get(node) or next((each for each in book.closed if each.node == node), None)
            return record is not None and record.phase is phase

        wait_until(there, timeout, f"{node} {phase.value}")

    def report(self) -> None:
        """What the check program does on each node: a verdict by the slurmd that runs now."""
        with contextlib.suppress(OperationFailed):
            for node in self.slurm.reader.nodes():
                old = HealthReport.read(node.extra)
                if node.state.responding and (old is None or not old.follows("", node.slurmd_start_time)):
                    merged = HealthReport(Verdict.PASSED, time.time()).merged_into(node.extra)
                    assert merged is not None
                    self.slurm.control.set_extra(node.name, merged)


@pytest.fixture
def site(slurm: Cluster, tmp_path: Path) -> Iterator[Site]:
    made = Site(slurm, Processes(slurm), tmp_path / "journal.sqlite")
    yield made
    made.journal.close()
    for node in slurm.reader.nodes():
        if node.state.kept_out:
            slurm.control.set_state([node.name], NewState.RESUME, "x")


def test_a_replacement_waits_for_its_job_over_restarts_of_everything(slurm: Cluster, site: Site) -> None:
    job = int(slurm.sh("sbatch", "--parsable", "-D", "/tmp", "-w", "n1", "--wrap", "sleep 600"))
    wait_until(lambda: slurm.reader.jobs()[0].state is JobState.RUNNING, 240, "the job runs")
    slurm.control.set_state(["n1"], NewState.FAIL, "Action:Replace")
    site.until(Phase.DRAIN, "n1")
    slurm.sh("pkill", "-F", "/run/slurmctld.pid")
    wait_until(
        lambda: slurm.box.run(["pgrep", "-x", "slurmctld"], timeout=120).returncode != 0,
        120,
        "slurmctld gone",
    )
    site.agent.cycle()  # Slurm does not answer: nothing happens
    site.journal.close()
    site.start()
    slurm.sh("slurmctld")
    # Just after a restart nodes are UNKNOWN: neither drained nor healthy.
    for _ in range(5):
        site.agent.cycle()
        assert site.provider.done == []
    wait_until(lambda: slurm.state("n1") == "MIXED+FAIL", 240, "n1 known again")
    site.until(Phase.DRAIN, "n1")
    slurm.sh("scancel", str(job))
    site.until(Phase.REPAIRED, "n1")
    assert site.provider.done == [(Repair.REPLACE, "n1")]
    wait_until(lambda: slurm.state("n1") == "IDLE", 240, "n1 idle")


def test_a_foreign_drain_stays(slurm: Cluster, site: Site) -> None:
    slurm.control.set_state(["n2"], NewState.DRAIN, "bad PSU")
    slurm.control.set_state(["n3"], NewState.FAIL, "action: reboot")
    for _ in range(3):
        site.agent.cycle()
    assert site.provider.done == []
    found = {node.name: node for node in slurm.reader.nodes()}
    assert (found["n2"].reason, str(found["n2"].state)) == ("bad PSU", "IDLE+DRAIN")
    assert "Action:Reboot was probably meant" in site.journal.book(since=0).notices["near-miss:n3"]


def test_now_ends_the_job_there_and_no_other(slurm: Cluster, site: Site) -> None:
    job = int(
        slurm.sh("sbatch", "--parsable", "-D", "/tmp", "-w", "n2", "--no-requeue", "--wrap", "sleep 600")
    )
    other = int(slurm.sh("sbatch", "--parsable", "-D", "/tmp", "-w", "n3", "--wrap", "sleep 600"))
    wait_until(
        lambda: all(each.state is JobState.RUNNING for each in slurm.reader.jobs()), 240, "both jobs run"
    )
    slurm.control.set_state(["n2"], NewState.FAIL, "hpadmin: reboot(now) by alice: kernel update")
    site.until(Phase.REPAIRED, "n2")
    assert site.provider.done == [(Repair.REBOOT, "n2")]
    ended, running = slurm.reader.job(job), slurm.reader.job(other)
    assert ended is not None
    assert running is not None
    assert ended.info.state is JobState.NODE_FAIL
    assert (running.info.state, running.restarts) == (JobState.RUNNING, 0)
    slurm.sh("scancel", str(other))
