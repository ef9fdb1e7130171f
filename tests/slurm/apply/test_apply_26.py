"""The newest release does as the one that everything else is tested with."""

from __future__ import annotations

import pytest

from hpadmin.configure.history import Result
from hpadmin.errors import OperationFailed
from tests.slurm.apply.cluster import NODES, cluster, files

pytestmark = pytest.mark.slurm

PLAIN = dict.fromkeys(NODES, "CPUs=4 RealMemory=100")


def test_26_05_is_planned_for_applied_to_and_verified_like_24_11() -> None:
    with cluster("26.05") as slurm:
        slurm.start(files())
        assert slurm.look().release == (26, 5)
        job = slurm.submit("-w", "n1")
        applied = slurm.apply(files({name: PLAIN[name] for name in NODES[:3]}), sandbox=True)
        assert applied is not None
        assert (applied.result, applied.waiting_nodes, applied.detail) == (Result.APPLIED, (), "")
        with pytest.raises(OperationFailed, match=rf"nothing was written:\n  job {job} "):
            slurm.apply(files({name: PLAIN[name] for name in NODES[1:3]}))
        wrong = files({name: PLAIN[name] for name in NODES[:3]}, partitions={"dev": "ALL", "q": "n9"})
        for sandbox, said in (
            (True, "slurmctld would not start with these files"),
            (False, "refused the configuration"),
        ):
            with pytest.raises(OperationFailed, match=rf"{said}(.|\n)*Invalid node names in partition q"):
                slurm.apply(wrong, sandbox=sandbox)
        assert slurm.look().runs_the_files
        assert slurm.job_state(job) == "RUNNING"
