"""Let both readers look at one real cluster at the same moment, and keep what Slurm and pyslurm told them.

    python -m tests.slurm.nodes.record_readers PYSLURM

PYSLURM is a folder with the package `pyslurm`, built in a container of the image for Slurm 24.11
(``apt-get install gcc python3-dev libslurm-dev cython3``, ``setup.py build_ext --inplace``). The cluster's nodes
and jobs carry awkward text on purpose. Where the two readers differ nothing is written.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

from hpadmin.slurm import text
from hpadmin.slurm.states import JobState
from tests.slurm.nodes.cluster import Cluster, cluster
from tests.support.labs import wait_until
from tests.unit.slurm.recording import RECORDED

FOLDER = RECORDED / "24.11-both"
_PLACE = "/opt/pyslurm"
_COMPARE = Path(__file__).with_name("in_box_readers.py").read_text()


def awkward(slurm: Cluster) -> None:
    """Bring nodes and jobs into states that are easily misread."""
    slurm.sh("scontrol", "update", "node=n1", "state=fail", "reason=Action:Replace")
    slurm.sh("scontrol", "update", "node=n2", "state=drain", "reason=first line [x@y]\nsecond")
    extra = 'extra={"hpadmin":{"health":"passed"}}'
    slurm.sh("scontrol", "update", "node=n3", "comment=one\ntwo", extra, "instanceid=i-0123456789abcdef0")
    slurm.sh("scontrol", "update", "node=n4", "activefeatures=b")
    slurm.control.reserve("deep", ["n6"], minutes=60, flags=["MAINT"])
    submit = ("sbatch", "-D", "/tmp", "-o", "/dev/null")
    slurm.sh(*submit, "-w", "n[3-4]", "--gres=gpu:1", "-J", "na|me\nx", "--wrap", "sleep 3000")
    slurm.sh(*submit, "-w", "n5", "--exclusive", "--array=1-5%1", "--wrap", "sleep 3000")
    slurm.sh(*submit, "-N9", "-p", "dev", "--begin=now+1day", "--wrap", "sleep 3000", check=False)
    slurm.sh(*submit, "-w", "n1", "--gres=gpu:2", "--begin=now+1day", "--wrap", "sleep 3000")
    slurm.sh(*submit, "--hold", "--wrap", "sleep 3000")
    slurm.sh(*submit, "-w", "n4", "--wrap", "false")
    slurm.sh("scontrol", "update", "node=n4", "comment=x")

    def settled() -> bool:
        jobs = slurm.reader.jobs()
        running = sum(job.state is JobState.RUNNING for job in jobs)
        return running == 2 and not any(job.state is JobState.COMPLETING for job in jobs)

    wait_until(settled, 60, "two jobs run")


def main() -> None:
    built = Path(sys.argv[1])
    with cluster("24.11", count=6) as slurm:
        awkward(slurm)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(built / "pyslurm", f"{_PLACE.lstrip('/')}/pyslurm")
        slurm.box.client.api.put_archive(slurm.box.container, "/", buffer.getvalue())
        done = slurm.box.run(["python3", "-c", _COMPARE], timeout=120, env={"PYTHONPATH": _PLACE})
        sys.stderr.write(done.stderr)
        told = json.loads(done.check().stdout)
        FOLDER.mkdir(exist_ok=True)
        printed = {
            "nodes.txt": ("scontrol", "-d", "-o", "show", "nodes"),
            "jobs.txt": ("squeue", "-a", "-h", "-o", text.JOB_FORMAT),
            "config.txt": ("scontrol", "show", "config"),
            "partitions.txt": ("scontrol", "-a", "-o", "show", "partitions"),
        }
        for name, command in printed.items():
            output = slurm.box.run(list(command), timeout=60, env={"SLURM_TIME_FORMAT": "%s"}).check().stdout
            (FOLDER / name).write_text(output)
        (FOLDER / "pyslurm.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
