"""The readers' contract on real Slurm, in both releases, and what our changes to nodes really do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.nodes import reasons
from hpadmin.slurm.control import NewState
from hpadmin.slurm.reader import SlurmReader
from hpadmin.slurm.states import JobState
from tests.slurm.nodes.cluster import Cluster, cluster
from tests.support.labs import wait_until

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", params=["24.11", "26.05"])
def slurm(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster(request.param) as running:
        yield running


def test_nodes_and_jobs_with_awkward_text(slurm: Cluster) -> None:
    reader: SlurmReader = slurm.reader
    slurm.sh("scontrol", "update", "node=n1", "state=drain", "reason=first [x@y]\nsecond")
    slurm.sh(
        "scontrol",
        "update",
        "node=n2",
        "comment=one\ntwo",
        'extra={"a":"b c"}',
        "instanceid=i-0123456789abcdef0",
    )
    job = int(
        slurm.sh(
            "sbatch",
            "--parsable",
            "-D",
            "/tmp",
            "-w",
            "n2",
            "-J",
            "na|me\nx",
            "--gres=gpu:1",
            "--wrap",
            "sleep 600",
        )
    )
    wait_until(lambda: reader.jobs() and reader.jobs()[0].state is JobState.RUNNING, 240, "the job runs")
    nodes = {node.name: node for node in reader.nodes()}
    assert list(nodes) == ["n1", "n2", "n3"]
    assert (str(nodes["n1"].state), nodes["n1"].reason, nodes["n1"].reason_user) == (
        "IDLE+DRAIN",
        "first [x@y]\nsecond",
        "root",
    )
    assert abs(nodes["n1"].reason_time - time.time()) < 300
    assert (nodes["n2"].comment, nodes["n2"].extra) == ("one\ntwo", '{"a":"b c"}')
    assert nodes["n2"].instance_id == "i-0123456789abcdef0"
    assert nodes["n2"].state.allocated
    assert not nodes["n2"].state.drained
    assert reader.node("n2") == nodes["n2"]
    assert reader.node("n9") is None
    [info] = reader.jobs()
    assert (info.job_id, info.nodes, info.user, info.gres) == (job, "n2", "root", "gres/gpu:1")
    detail = reader.job(job)
    assert detail is not None
    assert (detail.name, detail.info.nodes, detail.requeue) == ("na|me\nx", "n2", True)
    assert reader.job(999999) is None
    slurm.sh("scancel", str(job))
    wait_until(lambda: not reader.jobs(), 240, "the job is gone")
    assert job in [each.job_id for each in reader.jobs(ended=True)]
    slurm.control.set_state(["n1"], NewState.RESUME, "x")


def test_the_callers_environment_hides_nothing(slurm: Cluster) -> None:
    job = slurm.sh("sbatch", "--parsable", "-D", "/tmp", "--wrap", "sleep 600").strip()
    command = f"SQUEUE_USERS=nobody SQUEUE_STATES=FAILED python3 -c '{_ASK}'"
    assert slurm.sh("sh", "-c", command).strip() == job
    slurm.sh("scancel", job)


_ASK = (
    "from hpadmin.slurm.commands import CommandReader; from hpadmin.slurm.command import Local;"
    "print(*[job.job_id for job in CommandReader(Local()).jobs()])"
)


def test_partitions_reservations_configuration(slurm: Cluster) -> None:
    slurm.control.reserve("deep", ["n3"], minutes=5, flags=["MAINT", "IGNORE_JOBS"])
    [reservation] = slurm.reader.reservations()
    assert (reservation.name, reservation.nodes, "MAINT" in reservation.flags) == ("deep", "n3", True)
    slurm.control.release_reservation("deep")
    assert slurm.reader.reservations() == ()
    assert [part.name for part in slurm.reader.partitions()] == ["dev"]
    release = ".".join(map(str, (slurm.reader.release()[0], f"{slurm.reader.release()[1]:02d}")))
    assert release == slurm.release


def test_fail_and_down_together_stick(slurm: Cluster) -> None:
    """ReturnToService=2 brings a node back that is only down; with FAIL it stays."""
    slurm.control.set_state(["n1"], NewState.FAIL, "hpadmin: replace(now) by alice: x")
    slurm.control.set_state(["n1"], NewState.DOWN, "hpadmin: replace(now) by alice: x")
    slurm.stop_slurmd("n1")
    before = slurm.reader.node("n1")
    assert before is not None
    time.sleep(1.1)  # SlurmdStartTime counts whole seconds
    slurm.slurmd("n1")

    def registered() -> bool:
        node = slurm.reader.node("n1")
        return (
            node is not None and node.slurmd_start_time > before.slurmd_start_time and node.state.responding
        )

    wait_until(registered, 240, "the new slurmd registered")
    node = slurm.reader.node("n1")
    assert node is not None
    assert node.state.failing
    assert node.state.kept_out
    slurm.control.set_state(["n1"], NewState.RESUME, "hpadmin: returned: replaced because of x")
    wait_until(lambda: slurm.state("n1") == "IDLE", 240, "n1 idle")
    node = slurm.reader.node("n1")
    assert node is not None
    # 26.05 forgets the Reason together with the state.
    assert reasons.is_returned(node.reason) if slurm.release == "24.11" else node.reason == ""


def test_a_running_job_survives_fail_and_not_down(slurm: Cluster) -> None:
    job = int(
        slurm.sh("sbatch", "--parsable", "-D", "/tmp", "-w", "n2", "--no-requeue", "--wrap", "sleep 600")
    )

    def state() -> JobState:
        detail = slurm.reader.job(job)
        assert detail is not None
        return detail.info.state

    wait_until(lambda: state() is JobState.RUNNING, 240, "the job runs")
    slurm.control.set_state(["n2"], NewState.FAIL, "hpadmin: reboot: x")
    node = slurm.reader.node("n2")
    assert node is not None
    assert state() is JobState.RUNNING
    assert node.state.kept_out
    assert not node.state.drained
    slurm.control.set_state(["n2"], NewState.DOWN, "hpadmin: reboot(now): x")
    wait_until(lambda: state() is JobState.NODE_FAIL, 240, "the job ended")
    slurm.control.set_state(["n2"], NewState.RESUME, "hpadmin: returned: x")
    wait_until(lambda: slurm.state("n2") == "IDLE", 240, "n2 idle")


def test_an_unknown_node_is_slurms_error(slurm: Cluster) -> None:
    with pytest.raises(OperationFailed, match="Invalid node name"):
        slurm.control.set_state(["nowhere"], NewState.FAIL, "hpadmin: hold: x")


def test_slurmctld_away_is_an_error_and_never_an_empty_answer(slurm: Cluster) -> None:
    """Last of all, as slurmctld is gone afterwards."""
    slurm.sh("pkill", "-F", "/run/slurmctld.pid")
    wait_until(
        lambda: slurm.box.run(["pgrep", "-x", "slurmctld"], timeout=120).returncode != 0,
        120,
        "slurmctld gone",
    )
    with pytest.raises(OperationFailed):
        slurm.reader.nodes()
    with pytest.raises(OperationFailed):
        slurm.reader.jobs()
