"""Applications to a running Slurm with jobs on it: what goes well, what goes wrong, and what is left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from hpadmin.configure.apply import Order, apply, plan_rollback, recover
from hpadmin.configure.history import Result
from hpadmin.configure.service import FENCE_REASON
from hpadmin.errors import DriftBlocks, OperationFailed
from hpadmin.model import Strategy
from tests.slurm.apply.cluster import NODES, Cluster, files, wait

pytestmark = pytest.mark.slurm

PLAIN = dict.fromkeys(NODES, "CPUs=4 RealMemory=100")


def nodes(*names: str) -> dict[str, bytes]:
    return files({name: PLAIN[name] for name in names}, partitions={"dev": "ALL Default=YES", "p2": "n2"})


FOUR = nodes("n1", "n2", "n3", "n4")
THREE = nodes("n1", "n2", "n3")


@pytest.fixture(scope="module")
def started(running: Cluster) -> Cluster:
    running.start(FOUR)
    return running


@pytest.fixture
def cluster(started: Cluster) -> Iterator[tuple[Cluster, int]]:
    """The cluster with `FOUR` applied and a job on n1, which must outlive whatever happens."""
    started.apply(FOUR)
    job = started.submit("-w", "n1")
    yield started, job
    try:
        wait(started.answers, "slurmctld answers")
        assert started.job_state(job) == "RUNNING"
        assert started.history.unfinished() is None
        assert not list(started.conf_dir.glob(".*hpadmin*"))
    finally:
        started.cancel_all()


def raising_at(name: str, act: Callable[[], object]) -> Callable[[str], None]:
    """A step hook that does something just before the step `name`."""

    def step(now: str) -> None:
        if now == name:
            act()

    return step


def assert_runs(cluster: Cluster, wanted: dict[str, bytes]) -> None:
    assert cluster.on_disk() == wanted
    assert cluster.look().runs_the_files
    assert set(cluster.states()) == {
        line.split()[0].partition("=")[2]
        for line in wanted["slurm.conf"].decode().splitlines()
        if "NodeName=" in line
    }


def test_a_node_and_a_partition_come_and_go_under_a_running_job(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    wider = nodes(*NODES[:5])
    wider["slurm.conf"] += b"PartitionName=new Nodes=n[4-5]\n"
    applied = slurm.apply(wider, sandbox=True)
    assert applied is not None
    assert (applied.result, applied.waiting_nodes) == (Result.APPLIED, ("n5",))
    slurm.start_nodes("n5")
    slurm.await_idle(NODES[1:5])
    applied = slurm.apply(FOUR, sandbox=True)
    assert applied is not None
    assert (applied.result, applied.waiting_nodes) == (Result.APPLIED, ())
    assert applied.fence.nodes == ("n5",)
    assert applied.fence.partitions == (("new", "UP"),)
    assert_runs(slurm, FOUR)
    assert slurm.plan(FOUR).changes == ()


def test_gres_come_to_an_idle_node_and_go_again(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    made = files({name: PLAIN[name] for name in NODES[:4]}, gres={"n3": 4})
    wanted = {**made, "slurm.conf": made["slurm.conf"] + b"PartitionName=p2 Nodes=n2\n"}
    for configuration, gres in ((wanted, "gpu:4"), (FOUR, "")):
        slurm.apply(configuration)
        slurm.await_idle(("n3",))
        assert slurm.look().nodes["n3"].gres == gres


def test_gpus_that_a_node_does_not_have_are_taken_back(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    wanted = files({name: PLAIN[name] for name in NODES[:4]}, gres={"n3": 4})
    wanted["gres.conf"] = b"NodeName=n3 Name=gpu File=/dev/fakegpu[0-1]\n"
    with pytest.raises(
        OperationFailed, match=r"n3 does not fit its configuration: gres/gpu count .*in place"
    ):
        slurm.apply(wanted)
    assert_runs(slurm, FOUR)
    slurm.await_idle(("n2", "n3", "n4"))


def test_what_slurmctld_refuses_is_not_written(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    bad = {**FOUR, "slurm.conf": FOUR["slurm.conf"] + b"PartitionName=q Nodes=n9\n"}
    with pytest.raises(OperationFailed, match=r"slurmctld would not start with these files(.|\n)*n9"):
        slurm.apply(bad, sandbox=True)
    unreadable = {**FOUR, "slurm.conf": FOUR["slurm.conf"] + b"SlurmctldTimout=1\n"}
    with pytest.raises(OperationFailed, match=r"Slurm cannot read these files(.|\n)*SlurmctldTimout"):
        slurm.apply(unreadable)
    assert_runs(slurm, FOUR)


def test_what_only_the_running_slurmctld_refuses_is_taken_back(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    bad = {**FOUR, "slurm.conf": FOUR["slurm.conf"] + b"PartitionName=q Nodes=n9\n"}
    with pytest.raises(
        OperationFailed, match="refused the configuration: fatal: Invalid node names in partition q"
    ):
        slurm.apply(bad)
    assert_runs(slurm, FOUR)
    assert slurm.history.revisions()[-1].result is Result.RESTORED


def test_without_slurmctld_nothing_is_written_but_by_name(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    slurm.stop_slurmctld()
    with pytest.raises(OperationFailed, match=r"slurmctld does not answer.*nothing was written"):
        apply(slurm.history, slurm.plan(THREE, blind=True), slurm.inside, Order(sandbox=False))
    assert slurm.on_disk() == FOUR
    commented = {**FOUR, "cgroup.conf": b"#\nCgroupPlugin=disabled\n"}
    written = apply(
        slurm.history,
        slurm.plan(commented, blind=True),
        slurm.inside,
        Order(sandbox=False, reconfigure=False),
    )
    assert written is not None
    assert written.result is Result.WRITTEN
    slurm.sh("slurmctld")
    slurm.await_idle(("n2", "n3", "n4"))
    slurm.apply(FOUR)


def test_slurmctld_dies_before_it_is_told(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    die = raising_at("reconfigure", slurm.stop_slurmctld)
    with pytest.raises(OperationFailed, match="the files from before are in place"):
        slurm.apply(THREE, step=die)
    assert slurm.on_disk() == FOUR
    slurm.sh("slurmctld")
    slurm.await_idle(("n2", "n3"))
    assert slurm.look().nodes["n4"].reason == FENCE_REASON
    recover(slurm.history, slurm.inside)
    slurm.await_idle(("n2", "n3", "n4"))
    assert_runs(slurm, FOUR)


def test_a_slurmd_that_hangs_on_the_way_undoes_the_change(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    hang = raising_at("reconfigure", lambda: slurm.sh("kill -STOP $(cat /run/slurmd-n2.pid)"))
    try:
        with pytest.raises(
            OperationFailed, match=r"n2 did not come back with the new configuration.*in place"
        ):
            slurm.apply(THREE, step=hang, timeout=20)
        assert slurm.on_disk() == FOUR
    finally:
        slurm.sh("kill -CONT $(cat /run/slurmd-n2.pid)")
    slurm.await_idle(("n2", "n3", "n4"))
    assert_runs(slurm, FOUR)


def test_where_going_back_would_end_a_job_the_new_files_stay(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    larger = nodes(*NODES[:5])
    started = []

    def job_on_the_new_node_and_trouble_on_another() -> None:
        slurm.start_nodes("n5")
        slurm.await_idle(("n5",))
        started.append(slurm.submit("-w", "n5"))
        slurm.sh("scontrol update nodename=n2 state=down reason=broken")

    trouble = raising_at("verify", job_on_the_new_node_and_trouble_on_another)
    with pytest.raises(
        OperationFailed, match=r"n2 went down: broken; going back would end job .*the new files stay"
    ):
        slurm.apply(larger, step=trouble)
    assert_runs(slurm, larger)
    assert slurm.job_state(started[0]) == "RUNNING"
    assert slurm.history.revisions()[-1].result is Result.KEPT
    slurm.sh(f"scancel {started[0]}; scontrol update nodename=n2 state=resume")
    slurm.await_idle(("n2", "n5"))


def test_a_slurmd_that_was_dead_before_does_not_stand_in_the_way(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    slurm.sh("kill -KILL $(cat /run/slurmd-n2.pid); scontrol update nodename=n2 state=down reason=dead")
    applied = slurm.apply(THREE)
    assert applied is not None
    assert applied.waiting_nodes == ("n2",)
    slurm.start_nodes("n2")
    slurm.await_idle(("n2", "n3"))
    assert_runs(slurm, THREE)


def test_two_at_once_the_second_is_told_and_changes_nothing(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster

    def second() -> None:
        with pytest.raises(
            OperationFailed, match=rf"is being changed already: apply by .* pid {os.getpid()}"
        ):
            slurm.apply(nodes("n1", "n2"))

    plan = slurm.plan(THREE)
    apply(slurm.history, plan, slurm.inside, Order(sandbox=False, step=raising_at("reconfigure", second)))
    assert_runs(slurm, THREE)


def test_a_file_that_moved_since_the_plan_stops_it(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    plan = slurm.plan(THREE)
    edited = FOUR["slurm.conf"] + b"# by hand\n"
    (slurm.conf_dir / "slurm.conf").write_bytes(edited)
    with pytest.raises(OperationFailed, match=r"changed since the plan was made: slurm\.conf"):
        apply(slurm.history, plan, slurm.inside, Order(sandbox=False))
    assert slurm.on_disk() == {**FOUR, "slurm.conf": edited}


def test_each_strategy_with_manual_edits_and_the_way_back(cluster: tuple[Cluster, int]) -> None:
    slurm, _ = cluster
    path = slurm.conf_dir / "slurm.conf"

    def edit() -> bytes:
        edited = FOUR["slurm.conf"] + b"# ours\nPrologFlags=Alloc\nPartitionName=site Nodes=n4\n"
        path.write_bytes(edited)
        return edited

    edited = edit()
    with pytest.raises(DriftBlocks, match="manual change"):
        slurm.apply(THREE, Strategy.MANAGED)
    assert path.read_bytes() == edited
    larger = nodes(*NODES[:5])
    slurm.apply(larger, Strategy.MERGE)
    assert b"# ours\nPrologFlags=Alloc\nPartitionName=site Nodes=n4\n" in path.read_bytes()
    assert set(slurm.states()) == set(NODES[:5])
    assert "site" in slurm.look().partitions
    slurm.apply(FOUR, Strategy.OVERWRITE)
    assert_runs(slurm, FOUR)
    target, plan = plan_rollback(slurm.history, None, slurm.look())
    back = apply(
        slurm.history, plan, slurm.inside, Order(command=f"rollback to {target.number}", sandbox=False)
    )
    assert back is not None
    assert back.command == f"rollback to {back.number - 2}"
    assert "site" in slurm.look().partitions
    assert slurm.history.base() == larger


def die_at(slurm: Cluster, wanted: dict[str, bytes], name: str) -> None:
    """Apply in a process of its own that kills itself just before the step `name`."""
    plan = slurm.plan(wanted)
    process = os.fork()
    if process == 0:
        try:
            order = Order(sandbox=False, step=raising_at(name, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            apply(slurm.history, plan, slurm.inside, order)
        finally:
            os._exit(1)  # a fork of pytest must never come back to it
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status)


@pytest.mark.parametrize(
    ("step", "result"),
    [
        ("look at the jobs", Result.RESTORED),
        ("publish slurm.conf", Result.RESTORED),
        ("record that all is published", Result.RESTORED),
        ("reconfigure", Result.APPLIED),
        ("verify", Result.APPLIED),
        ("open the fence", Result.APPLIED),
    ],
)
def test_killed_on_the_way_the_next_run_completes_or_undoes_it(
    cluster: tuple[Cluster, int], step: str, result: Result
) -> None:
    slurm, _ = cluster
    wanted = {**THREE, "cgroup.conf": b"# told\nCgroupPlugin=disabled\n"}
    die_at(slurm, wanted, step)
    assert slurm.answers()
    ended = recover(slurm.history, slurm.inside)
    assert ended is not None
    assert ended.result is result
    assert_runs(slurm, wanted if result is Result.APPLIED else FOUR)
    live = slurm.look()
    assert not any(node.state.draining for node in live.nodes.values())
    assert {partition.state for partition in live.partitions.values()} == {"UP"}


def test_a_file_outside_of_the_folder_is_judged_as_a_copy_and_changes_where_it_lies(
    cluster: tuple[Cluster, int],
) -> None:
    slurm, _ = cluster
    beside, conf = slurm.conf_dir.parent / "beside.conf", slurm.conf_dir / "slurm.conf"

    def asking(seconds: int) -> dict[str, bytes]:
        return {**FOUR, "slurm.conf": FOUR["slurm.conf"] + b"KillWait=%d\n" % seconds}

    slurm.apply(asking(31))
    beside.write_text("KillWait=31\n")
    site = FOUR["slurm.conf"] + b"Include ../beside.conf\n"
    conf.write_bytes(site)
    seen = []
    closed = slurm.apply(
        asking(32),
        Strategy.MERGE,
        step=raising_at("stage ../beside.conf", lambda: seen.append(beside.read_text())),
    )
    assert closed is not None
    assert closed.result is Result.APPLIED
    assert seen == ["KillWait=31\n"]
    assert (beside.read_text(), conf.read_bytes()) == ("KillWait=32\n", site)
    assert "KillWait                = 32" in slurm.sh("scontrol show config")
    slurm.apply(FOUR)
    beside.unlink()
