"""Changes that Slurm accepts and that end jobs are refused first; slurmctld itself agrees on which jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.slurm import sandbox
from tests.slurm.apply.cluster import NODES, Cluster, files, wait

pytestmark = pytest.mark.slurm

PLAIN = "CPUs=4 RealMemory=100"
SMALL = "CPUs=2 RealMemory=100"
# Not in the order of their names: with topology/block slurmctld's table has the order of the lines.
SHAPES = {"n1": SMALL, "n2": PLAIN, "n3": PLAIN, "n4": PLAIN, "n5": PLAIN}
PARTITIONS = {"dev": "ALL Default=YES", "spare": "n[3-5]", "idle": "n5"}
EXTRA = "TopologyPlugin=topology/block\n"
TOPOLOGY = b"BlockName=b1 Nodes=n[1-5]\nBlockSizes=5\n"
GPUS = {"n4": 4, "n5": 4}
LAST = "submitted-last"
"""Name of the job that comes after all others."""


def configuration(
    shapes: dict[str, str] | None = None,
    partitions: dict[str, str] | None = None,
    gres: dict[str, int] | None = None,
    topology: bytes = TOPOLOGY,
    extra: str = EXTRA,
) -> dict[str, bytes]:
    made = files(shapes or SHAPES, partitions=partitions or PARTITIONS, gres=gres or GPUS, extra=extra)
    return {**made, "topology.conf": topology}


@dataclass(frozen=True)
class Jobs:
    """What is in the queue."""

    across: int
    """Runs on n1 and n2, whose shapes differ."""
    gpu: int
    """Runs on n4 with GPUs."""
    spare: int
    """Runs on n3 in the partition spare."""
    wants: int
    """Waits, held, for n5 by name."""
    either: int
    """Waits, held, in dev or idle."""


@pytest.fixture(scope="module")
def busy(running: Cluster) -> tuple[Cluster, Jobs]:
    running.start(configuration(), NODES[:5])
    jobs = Jobs(
        across=running.submit("-N2", "-w", "n1,n2", "-n2"),
        gpu=running.submit("-w", "n4", "--gres=gpu:2"),
        spare=running.submit("-p", "spare", "-w", "n3"),
        wants=running.submit("--hold", "-w", "n5", run=False),
        either=running.submit("--hold", "-p", "dev,idle", "-J", LAST, run=False),
    )
    # slurmctld writes its state down every few seconds; the throw-away one starts from there. A file that is
    # younger than the last job need not hold it: its writing may have begun before.
    wait(
        lambda: running.sh(f"grep -c {LAST} /var/spool/slurmctld/job_state || true").strip() not in ("", "0"),
        "slurmctld wrote its jobs down",
    )
    return running, jobs


def without(names: str, table: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in table.items() if name not in names.split()}


EDGES: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "a node goes under a running job": (
        lambda: configuration(
            without("n3", SHAPES),
            {**PARTITIONS, "spare": "n[4-5]"},
            topology=TOPOLOGY.replace(b"n[1-5]", b"n[1-2,4-5]").replace(b"=5", b"=4"),
        ),
        "spare",
    ),
    "a node goes that a waiting job asks for": (
        lambda: configuration(
            without("n5", SHAPES),
            {"dev": "ALL Default=YES", "spare": "n[3-4]", "idle": "n4"},
            {"n4": 4},
            b"BlockName=b1 Nodes=n[1-4]\nBlockSizes=4\n",
        ),
        "wants",
    ),
    "a partition goes with a running job": (
        lambda: configuration(partitions=without("spare", PARTITIONS)),
        "spare",
    ),
    "a partition goes that a waiting job could use": (
        lambda: configuration(partitions=without("idle", PARTITIONS)),
        "either",
    ),
    "two lines change places": (
        lambda: configuration(dict(sorted(SHAPES.items(), key=lambda item: item[0] == "n1"))),
        "across",
    ),
    "a node gets other cores": (lambda: configuration({**SHAPES, "n2": SMALL}), "across"),
    "a node in use loses GPUs": (lambda: configuration(gres={"n4": 2, "n5": 4}), "gpu"),
    "a node in use loses all GPUs": (lambda: configuration(gres={"n5": 4}), "gpu"),
}


@pytest.mark.parametrize("edge", EDGES)
def test_what_would_end_jobs_is_refused_and_slurmctld_agrees_which(
    busy: tuple[Cluster, Jobs], edge: str
) -> None:
    cluster, jobs = busy
    make, victim = EDGES[edge]
    wanted = make()
    expected = {getattr(jobs, victim)}
    plan = cluster.plan(wanted)
    assert {int(stake.name) for stake in plan.stakes} == expected
    assert {job for change in plan.changes for job in change.affects_jobs} == expected
    assert {change.requires for change in plan.changes if change.affects_jobs} == {"drain nodes"}
    judged = sandbox.check(
        cluster.inside,
        wanted,
        conf_dir=str(cluster.conf_dir),
        beside=True,
        state="/var/spool/slurmctld",
    )
    assert judged.accepted, "Slurm itself has nothing against it"
    assert {doomed.job_id for doomed in judged.jobs} == expected, "these it would end"
    before = cluster.on_disk()
    with pytest.raises(OperationFailed, match=rf"nothing was written:\n  job {expected.pop()} "):
        cluster.apply(wanted)
    assert cluster.on_disk() == before
    assert cluster.history.revisions() == ()


def test_after_all_these_refusals_every_job_is_as_it_was(busy: tuple[Cluster, Jobs]) -> None:
    cluster, jobs = busy
    states = [cluster.job_state(job) for job in (jobs.across, jobs.gpu, jobs.spare, jobs.wants, jobs.either)]
    assert states == ["RUNNING", "RUNNING", "RUNNING", "PENDING", "PENDING"]


def test_more_gpus_under_a_job_are_refused_too(busy: tuple[Cluster, Jobs]) -> None:
    cluster, jobs = busy
    plan = cluster.plan(configuration(gres={"n4": 3, "n5": 4}))
    assert [int(stake.name) for stake in plan.stakes] == [jobs.gpu]


def test_a_reservation_that_would_lose_nodes_is_told(busy: tuple[Cluster, Jobs]) -> None:
    cluster, _ = busy
    cluster.sh(
        "scontrol create reservation ReservationName=kept Nodes=n5 Users=root StartTime=now Duration=60"
    )
    try:
        make, _ = EDGES["a node goes that a waiting job asks for"]
        costs = {stake.name: stake.reason for stake in cluster.plan(make()).stakes}
    finally:
        cluster.sh("scontrol delete ReservationName=kept")
    assert costs["kept"] == "loses n5"


def test_what_the_admin_allows_by_name_goes_and_nothing_else(busy: tuple[Cluster, Jobs]) -> None:
    cluster, jobs = busy
    make, _ = EDGES["a partition goes with a running job"]
    closed = cluster.apply(make(), allowed=frozenset({str(jobs.spare)}))
    assert closed is not None
    assert closed.allowed_losses == (str(jobs.spare),)
    assert cluster.job_state(jobs.spare) != "RUNNING"
    assert [cluster.job_state(job) for job in (jobs.across, jobs.gpu)] == ["RUNNING", "RUNNING"]
