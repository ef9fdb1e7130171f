"""Which sruns are watched, and what a step is told of a job that holds spares."""

from __future__ import annotations

import pytest

from hpadmin.recovery.resume import supervise
from hpadmin.recovery.resume.supervise import _leaving_spares
from hpadmin.recovery.resume.watch import Launch


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"SLURM_NTASKS": "10", "SLURM_NPROCS": "10", "SLURM_NTASKS_PER_NODE": "2"}, "8"),
        ({"SLURM_NTASKS": "7", "SLURM_NPROCS": "7", "SLURM_NTASKS_PER_NODE": "2"}, "7"),
        ({"SLURM_NTASKS": "10", "SLURM_NPROCS": "10"}, "10"),
    ],
)
def test_spares_get_no_tasks(given: dict[str, str], expected: str) -> None:
    environment = {"SLURM_JOB_NUM_NODES": "5", "SLURM_NNODES": "5", **given}
    told = _leaving_spares(Launch("srun", ["srun"], environment, "/"), 1).environment
    assert (told["SLURM_JOB_NUM_NODES"], told["SLURM_NNODES"]) == ("4", "4")
    assert (told["SLURM_NTASKS"], told["SLURM_NPROCS"]) == (expected, expected)


def test_a_job_of_spares_alone_is_left_as_it_is() -> None:
    launch = Launch("srun", ["srun"], {"SLURM_JOB_NUM_NODES": "1"}, "/")
    assert _leaving_spares(launch, 1) is launch


def test_the_shell_of_salloc_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Under use_interactive_step it is an srun, and --auto-resume of the allocation is that srun's as well."""
    launched = list[Launch]()

    def plain(launch: Launch) -> int:
        launched.append(launch)
        return 7

    monkeypatch.setattr(supervise, "_plain", plain)
    monkeypatch.setattr(supervise, "_environment", lambda: {"SLURM_JOB_ID": "82"})
    shell = ["srun", "--interactive", "--preserve-env", "--pty", "bash"]
    assert supervise.main(["1", "0", "", "/usr/bin/srun", "--", *shell]) == 7
    assert launched[0].argv == shell
    assert capfd.readouterr().err == ""
