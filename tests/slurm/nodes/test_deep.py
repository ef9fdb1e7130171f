"""Deep checks as jobs in a reservation of their own, on real Slurm: never on a busy node, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.nodes.deep import DeepCheck, DeepResult, DeepRun, load
from hpadmin.nodes.external import External
from hpadmin.nodes.faults import FaultAction
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.recovery.observe import jobs_by_node
from hpadmin.slurm.control import NewState
from hpadmin.slurm.states import JobState
from tests.slurm.nodes.cluster import Cluster, cluster
from tests.support.labs import wait_until

pytestmark = pytest.mark.slurm

RESULT = 'echo "HEALTH_CHECK_RESULT:$SLURMD_NODENAME:{}"'


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster(count=3) as running:
        yield running


def shell(name: str, script: str, *, form: str = "result-line", timeout: float = 240) -> External:
    return External(name, ("sh", "-c", script), form, FaultAction.REPLACE, timeout)


def run(slurm: Cluster, names: list[str], *checks: DeepCheck) -> dict[str, DeepResult]:
    made = DeepRun(slurm.reader, slurm.control, slurm.box, checks, lambda _: None)
    return {result.node: result for result in made.run(names, jobs_by_node(slurm.reader.jobs()))}


def clean(slurm: Cluster) -> None:
    assert slurm.reader.reservations() == ()
    wait_until(lambda: not slurm.reader.jobs(), 240, "no job is left")


def test_idle_nodes_pass_and_are_free_again(slurm: Cluster) -> None:
    results = run(slurm, ["n1", "n2"], DeepCheck(shell("stress", RESULT.format("Passed:none:ok"))))
    assert all(result.passed for result in results.values())
    clean(slurm)
    wait_until(lambda: slurm.state("n1") == "IDLE", 240, "n1 idle")


def test_a_busy_node_is_skipped_and_its_job_undisturbed(slurm: Cluster) -> None:
    job = int(slurm.sh("sbatch", "--parsable", "-D", "/tmp", "-w", "n1", "--wrap", "sleep 600"))
    wait_until(lambda: slurm.reader.jobs()[0].state is JobState.RUNNING, 240, "the job runs")
    results = run(slurm, ["n1", "n2"], DeepCheck(shell("stress", RESULT.format("Passed:none:ok"))))
    assert results["n1"].skipped == f"is busy: job {job}"
    assert results["n2"].passed
    assert slurm.reader.jobs()[0].state is JobState.RUNNING
    # Slurm refuses by itself where a job was quicker than we.
    made = DeepRun(slurm.reader, slurm.control, slurm.box, (), lambda _: None)
    with pytest.raises(OperationFailed, match="busy"), made._isolated(["n1"]):
        pass
    slurm.sh("scancel", str(job))
    clean(slurm)


def test_one_bad_node_of_a_check_over_all_is_marked_alone(slurm: Cluster) -> None:
    script = (
        f'if [ "$SLURMD_NODENAME" = n2 ]; then {RESULT.format("Failed:reboot:bandwidth 30 of 80")}; '
        f"else {RESULT.format('Passed:none:ok')}; fi"
    )
    results = run(slurm, ["n1", "n2", "n3"], DeepCheck(shell("nccl", script), together=True))
    assert [name for name, result in results.items() if not result.passed] == ["n2"]
    node = slurm.reader.node("n2")
    assert node is not None
    assert node.state.failing
    assert node.reason == "hpadmin: replace: external: deep check: nccl: bandwidth 30 of 80"
    report = HealthReport.read(node.extra)
    assert report is not None
    assert (report.verdict, report.action) == (Verdict.FAILED, "replace")
    assert run(slurm, ["n2"], DeepCheck(shell("again", "true")))["n2"].skipped == "is IDLE+FAIL"
    slurm.control.set_state(["n2"], NewState.RESUME, "hpadmin: returned: test")
    clean(slurm)


def test_a_check_that_hangs_ends_and_leaves_nothing(slurm: Cluster) -> None:
    results = run(slurm, ["n3"], DeepCheck(shell("hang", "sleep 600", form="exit", timeout=3)))
    assert not results["n3"].passed
    assert [each.text for each in results["n3"].findings] == ["hang: did not end within 3 s"]
    clean(slurm)
    slurm.control.set_state(["n3"], NewState.RESUME, "hpadmin: returned: test")


def test_a_check_that_did_not_begin_says_nothing_of_its_node(slurm: Cluster) -> None:
    """srun fails for many reasons: none of them makes a node one that is to be replaced."""
    missing = External("missing", ("/opt/no-such-check",), "exit", FaultAction.REPLACE, 30)
    skipped = run(slurm, ["n1"], DeepCheck(missing))["n1"].skipped
    assert skipped.startswith("missing did not begin there: ")
    assert "/opt/no-such-check is no program there" in skipped  # before or after srun's own words
    slurm.sh("scontrol", "update", "PartitionName=dev", "State=DOWN")
    try:
        results = run(slurm, ["n1"], DeepCheck(shell("stress", "exit 1", form="exit", timeout=2)))
    finally:
        slurm.sh("scontrol", "update", "PartitionName=dev", "State=UP")
    assert results["n1"].skipped.startswith("stress did not begin there: ")
    assert results["n1"].findings == ()
    assert not results["n1"].passed
    clean(slurm)
    wait_until(lambda: slurm.state("n1") == "IDLE", 240, "n1 idle, and not out of service")


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(
        '[[deep]]\nname="dcgm-4"\ncommand=["dcgmi","diag","-r","4","-j"]\nform="dcgmi"\ntimeout=10800\n'
    )
    [check] = load(path)
    assert (check.check.name, check.check.timeout, check.together) == ("dcgm-4", 10800, False)
    path.write_text('[[deep]]\nname="x"\ncommand="ls"\ntogether=1\n[other]\n')
    with pytest.raises(InvalidInput) as caught:
        load(path)
    assert sorted(problem.path for problem in caught.value.problems) == [
        "deep[0].command",
        "deep[0].together",
        "other",
    ]
    path.write_text("")
    with pytest.raises(InvalidInput, match="not valid"):
        load(path)
    with pytest.raises(InvalidInput, match="is not there"):
        load(tmp_path / "none.toml")
