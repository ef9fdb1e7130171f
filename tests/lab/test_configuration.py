"""The configuration of a real cluster changes, under each strategy, with manual edits, while jobs run on it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.configured import CONF, Configured, configured
from tests.support import labs

pytestmark = pytest.mark.lab

EDITS = {
    0: "# ours\\nPrologFlags=Alloc\\nPartitionName=site Nodes={node}\\n",
    3: "# ours\\nKillWait=31\\nPartitionName=other Nodes={node}\\n",
}
"""What somebody appends to slurm.conf before which change."""


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Configured, list[int]]]:
    """The lab with a job on each node of the group `steady`, which outlive everything."""
    with configured() as made:
        jobs = [
            labs.submit(made.lab, "-p", "steady", "-w", host, "--wrap", "sleep 7200")
            for host in made.hosts("steady")
        ]
        for job in jobs:
            labs.wait_for_state(made.lab, job, "RUNNING")
        yield made, jobs


@pytest.fixture
def steady(site: tuple[Configured, list[int]]) -> Iterator[Configured]:
    """The lab, as its own request has it; afterwards the jobs still run, and slurmctld answered all the time."""
    made, jobs = site
    done = made.apply(made.ask(strategy="Overwrite"))
    assert done.returncode == 0, done.stderr
    with made.watched() as failed:
        yield made
    assert failed == []
    assert [labs.job_field(made.lab, job, "JobState") for job in jobs] == ["RUNNING"] * len(jobs)
    assert [labs.job_field(made.lab, job, "Restarts") for job in jobs] == ["0"] * len(jobs)
    made.settle()
    assert made.runs_the_files()


@pytest.mark.parametrize("strategy", ["Managed", "Merge", "Overwrite"])
def test_groups_partitions_and_gres_change_under_running_jobs(steady: Configured, strategy: str) -> None:
    host = steady.hosts("steady")[0]
    every = len(steady.lab.slurm_states())
    changes = [
        ("the group extra goes", {"groups": ("controller", "steady", "gpu")}, every - 2),
        ("the group extra comes", {}, every),
        ("a partition is renamed", {"partitions": {"extra": "late"}}, every),
        ("a node gets fewer GPUs", {"types": {"gpu": "ml.g5.xlarge"}, "gpus": 1}, every),
        ("a node gets its GPUs back", {}, every),
    ]
    for position, (what, ask, count) in enumerate(changes):
        words = steady.ask(strategy=strategy, **ask)  # type: ignore[arg-type]
        if position in EDITS:
            steady.sh(f"printf '{EDITS[position].format(node=host)}' >> {CONF}/slurm.conf")
        if strategy == "Managed" and position in EDITS:
            before = steady.files()
            blocked = steady.apply(words)
            assert blocked.returncode == 4, blocked.stderr
            assert steady.files() == before
            assert "Overwrite" in blocked.stderr
            steady.sh(f"sed -i '/^# ours$/,$d' {CONF}/slurm.conf")
        planned = steady.config("plan", *words, "-o", "json")
        assert planned.returncode == 3, (what, planned.stderr)
        assert json.loads(planned.stdout)["stakes"] == []
        done = steady.apply(words)
        assert done.returncode == 0, (what, done.stderr)
        assert json.loads(done.stdout)["revision"]["result"] == "applied"
        steady.settle()
        assert len(steady.lab.slurm_states()) == count, what
        text = steady.sh(f"cat {CONF}/slurm.conf")
        assert ("PrologFlags=Alloc" in text) == (strategy == "Merge"), what
        again = steady.config("plan", *words)
        assert again.returncode == 0, (what, again.stdout)


def test_what_would_end_a_running_job_is_refused_first(steady: Configured) -> None:
    host = steady.hosts("steady")[0]
    before = steady.files()
    for ask in (
        {"groups": ("controller", "gpu", "extra")},
        {"partitions": {"steady": "renamed"}},
        {"types": {"steady": "ml.c5.9xlarge"}},
    ):
        words = steady.ask(strategy="Overwrite", **ask)
        stakes = json.loads(steady.config("plan", *words, "-o", "json").stdout)["stakes"]
        assert len(stakes) == 2
        refused = steady.apply(words)
        assert refused.returncode == 1
        assert "nothing was written" in refused.stderr
        assert "--allow-job-loss" in refused.stderr
    assert steady.files() == before
    assert host in steady.lab.slurm_states()


def test_drift_history_and_the_way_back(steady: Configured) -> None:
    words = steady.ask(strategy="Overwrite", groups=("controller", "steady", "gpu"))
    before = steady.files()
    assert steady.apply(words).returncode == 0
    assert steady.config("drift").returncode == 0
    steady.sh(f"sed -i 's/^SlurmdTimeout=.*/SlurmdTimeout=77/' {CONF}/slurm.conf")
    drifted = steady.config("drift", "-o", "json")
    assert drifted.returncode == 4
    (finding,) = json.loads(drifted.stdout)["drift"]
    assert (finding["setting"], finding["found"], finding["owner"]) == ("SlurmdTimeout", "77", "none")
    back = steady.config("rollback", "--yes")
    assert back.returncode == 0, back.stderr
    assert steady.files() == before
    last = steady.history()[-1]
    assert last["command"].startswith("rollback to ")
    assert last["lost"] == ["SlurmdTimeout: 77"]


KILLED = {"publish slurm.conf": "restored", "reconfigure": "applied", "open the fence": "applied"}


@pytest.mark.parametrize("step", KILLED)
def test_killed_on_the_way_the_next_command_completes_or_undoes_it(steady: Configured, step: str) -> None:
    words = steady.ask(strategy="Overwrite", groups=("controller", "steady", "gpu"))
    before = steady.files()
    killed = steady.acting(step, "kill -KILL $PPID", words)
    assert killed.returncode == 137, killed.stderr
    # The next run is for something else; what the killed one began is brought to its end first.
    done = steady.apply(steady.ask(strategy="Overwrite"))
    assert done.returncode == 0, done.stderr
    assert f"had not been completed: {KILLED[step]}" in done.stderr
    assert steady.files() == before
    results = [revision["result"] for revision in steady.history()]
    assert "unfinished" not in results


def test_a_disk_that_is_full_and_a_file_that_cannot_be_replaced_leave_what_was(steady: Configured) -> None:
    words = steady.ask(strategy="Overwrite", groups=("controller", "steady", "gpu"))
    before = steady.files()
    steady.sh(
        f"cp -a {CONF} /tmp/conf; mount -t tmpfs -o size=128k tmpfs {CONF}; cp -a /tmp/conf/. {CONF}/; "
        f"dd if=/dev/zero of={CONF}/ballast bs=1k count=200 2>/dev/null || true"
    )
    try:
        full = steady.apply(words)
        assert full.returncode == 1
        assert "No space left on device" in full.stderr
        steady.sh(f"rm {CONF}/ballast")
        assert steady.files() == before
    finally:
        steady.unmount(CONF)
        steady.sh("rm -rf /tmp/conf")
    steady.sh(f"mount --bind {CONF}/slurm.conf {CONF}/slurm.conf")
    try:
        busy = steady.apply(words)
        assert busy.returncode == 1
        assert "slurm.conf cannot be written" in busy.stderr
    finally:
        steady.unmount(f"{CONF}/slurm.conf")
    assert steady.files() == before
