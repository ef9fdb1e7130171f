"""Reading Slurm through its own commands: the default reader, there wherever Slurm is.

Polling uses the text forms (10,000 nodes: 0.1 s, where JSON takes 2 s and 23 MB); JSON is for one job.

>>> from hpadmin.slurm.command import Local
>>> reader = CommandReader(Local())     # reader.nodes() asks slurmctld
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hpadmin.slurm import jobjson, text
from hpadmin.slurm.command import Completed, Runner
from hpadmin.slurm.reader import JobDetail, JobInfo, NodeInfo, PartitionInfo, ReservationInfo

# squeue(1) and scontrol(1): settings in the environment of whoever calls us would hide jobs and nodes.
_FILTERS = (
    "SQUEUE_ACCOUNT",
    "SQUEUE_ARRAY",
    "SQUEUE_FEDERATION",
    "SQUEUE_LICENSES",
    "SQUEUE_LOCAL",
    "SQUEUE_NAMES",
    "SQUEUE_PARTITION",
    "SQUEUE_PRIORITY",
    "SQUEUE_QOS",
    "SQUEUE_SIB",
    "SQUEUE_SIBLING",
    "SQUEUE_SORT",
    "SQUEUE_STATES",
    "SQUEUE_USERS",
    "SCONTROL_FEDERATION",
    "SCONTROL_FUTURE",
    "SCONTROL_SIB",
    "SCONTROL_SIBLING",
    "SLURM_BITSTR_LEN",
    "SLURM_CLUSTERS",
)
CLEAN = ("env", *(word for name in _FILTERS for word in ("-u", name)))
"""What to put before one of Slurm's commands that lists: nothing in our caller's environment may filter it."""

LOCAL = {"SCONTROL_LOCAL": "1", "SQUEUE_LOCAL": "1"}
"""Settings of Slurm's commands for this cluster's jobs alone: without them each look at a single job asks slurmctld for
its federation as well (`slurm_load_job`, src/api/job_info.c)."""


@dataclass(frozen=True, slots=True)
class CommandReader:
    """A `SlurmReader` over Slurm's commands. `timeout` is seconds for each command."""

    runner: Runner
    timeout: float = 30.0

    def nodes(self) -> tuple[NodeInfo, ...]:
        return text.parse_nodes(self._ask("scontrol", "-d", "-o", "show", "nodes"))

    def node(self, name: str) -> NodeInfo | None:
        done = self._run("scontrol", "-d", "-o", "show", "node", name)
        if done.returncode != 0 and "not found" in done.stdout + done.stderr:
            return None
        found = text.parse_nodes(done.check().stdout)
        return next((node for node in found if node.name == name), None)

    def jobs(self, *, ended: bool = False) -> tuple[JobInfo, ...]:
        states = ["--states=all"] if ended else []
        return text.parse_jobs(self._ask("squeue", "-a", "-h", *states, "-o", text.JOB_FORMAT))

    def job(self, job_id: int) -> JobDetail | None:
        done = self.runner.run(
            [*CLEAN, "scontrol", "show", "job", str(job_id), "--json"], timeout=self.timeout, env=LOCAL
        )
        if done.returncode != 0 and "Invalid job id" in done.stderr + done.stdout:
            return None
        return jobjson.parse_job(done.check().stdout, job_id)

    def partitions(self) -> tuple[PartitionInfo, ...]:
        return text.parse_partitions(self._ask("scontrol", "-a", "-o", "show", "partitions"))

    def reservations(self) -> tuple[ReservationInfo, ...]:
        return text.parse_reservations(self._ask("scontrol", "-o", "show", "reservations"))

    def configuration(self) -> dict[str, str]:
        return text.parse_configuration(self._ask("scontrol", "show", "config"))

    def release(self) -> tuple[int, int]:
        version = self.configuration().get("SLURM_VERSION", "")
        found = re.match(r"(\d+)\.(\d+)", version)
        if found is None:
            raise text.Unreadable(f"scontrol show config tells no release: {version!r}")
        return int(found[1]), int(found[2])

    def _ask(self, *argv: str) -> str:
        return self._run(*argv).check().stdout

    def _run(self, *argv: str) -> Completed:
        command: Sequence[str] = [*CLEAN, *argv]
        return self.runner.run(command, timeout=self.timeout, env={"SLURM_TIME_FORMAT": "%s", **LOCAL})
