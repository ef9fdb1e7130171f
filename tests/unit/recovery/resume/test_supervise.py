"""What a step is told of a job that holds spares."""

from __future__ import annotations

import pytest

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
