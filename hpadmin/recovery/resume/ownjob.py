"""What the owner of a job does with it through Slurm's commands: ask, drop nodes, get others.

Everything here runs with the rights of the user. The caller sees to it that the environment is `quiet`:
SALLOC_* and SLURM_* variables that surround a step must not leak into these commands, and scontrol must not
write its ``slurm_job_…_resize.sh`` into the user's folder (it does so when it finds SLURM_JOBID).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from hpadmin.errors import OperationFailed
from hpadmin.recovery.resume import messages
from hpadmin.recovery.resume.joblock import JobLock
from hpadmin.recovery.resume.joining import Share, shares
from hpadmin.recovery.resume.messages import Request
from hpadmin.recovery.resume.patient import sleep
from hpadmin.recovery.resume.stepcheck import Found, read_line
from hpadmin.slurm.command import Runner
from hpadmin.slurm.commands import LOCAL, CommandReader
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.reader import JobDetail
from hpadmin.slurm.states import JobState

COMMAND_SECONDS = 60.0
"""Limit of one command: longer than slurmctld needs to restart."""

CHECK_SECONDS = 30.0
"""Limit of a small step that looks at a node of the job."""

HELPER_NAME = "auto-resume-{job_id}"
"""Name of the allocation that is merged into a job; what is left of one is found by it."""

MAX_NUMBERS = 64
"""Numbers of steps that a restarted job leaves out at most."""

_SMALL_STEP = (
    *("--overlap", "--mem=0", "--gres=none", "--quiet", "--time=1"),
    *("--chdir=/", "--mpi=none", "--immediate=10"),
)
"""Without --exact, which --cpus-per-task implies: such a step needs cores of its own on each node, and a job that took
over another's nodes has none of the last of them (see `hpadmin.slurm.growth.binds_cores`)."""

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "SLURM_CONF", "TMPDIR", "TZ")
_GRANTED = re.compile(r"(?:Granted|Pending) job allocation (\d+)")


class SupersededError(Exception):
    """This run of the job is over, and the next one is none of this supervisor's business.

    It was requeued, or started anew by a slurmctld that had forgotten that it ran.
    """


def quiet(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the few variables of `environment` that Slurm's commands need, and what spares slurmctld work."""
    return {**{name: environment[name] for name in _KEPT if name in environment}, **LOCAL}


@dataclass(frozen=True)
class OwnJob:
    """One job, as its owner may see and change it."""

    runner: Runner
    job_id: int
    restarts: int | None = None
    """Slurm's count of requeues in our run of the job. A later run has the same id: see `SupersededError`."""
    began: float | None = None
    """When our run began, in slurmctld's seconds: the count of one that Slurm forgot is that of the next."""
    wait: Callable[[float], bool] = sleep
    """How to wait for another supervisor's lock; False where there is no use in it any more."""
    locks: Path = Path("/tmp")  # noqa: S108 - see `JobLock`
    """Where supervisors of one job on one host find each other's lock: whatever their TMPDIR is."""

    def entered(self) -> OwnJob:
        """Return the job bound to its present run. Raises OperationFailed."""
        detail = CommandReader(self.runner, COMMAND_SECONDS).job(self.job_id)
        if detail is None:
            return self
        began = detail.info.start_time if detail.info.state is JobState.RUNNING else None
        return replace(self, restarts=detail.restarts, began=began)

    def read(self) -> JobDetail | None:
        """Return the job, or None when Slurm does not know it any more.

        Raises OperationFailed, and SupersededError: whatever changes the job reads it first.
        """
        detail = CommandReader(self.runner, COMMAND_SECONDS).job(self.job_id)
        if detail is not None:
            runs = detail.info.state is JobState.RUNNING
            self._check_run(detail.restarts, detail.info.start_time if runs else None)
        return detail

    def _check_run(self, restarts: int, began: float | None) -> None:
        if self.restarts is not None and restarts != self.restarts:
            raise SupersededError
        if None not in (began, self.began) and began != self.began:
            raise SupersededError

    def glance(self) -> tuple[str, str]:
        """Return the job's state and its AdminComment, cheaply; ("", "") when it is gone.

        Raises OperationFailed, and SupersededError once a requeued job has completed: until then its processes
        have their last words. State, count of restarts and start come first and have a fixed width: what stands in
        the comment cannot shift them.
        """
        done = self.runner.run(
            [
                "squeue",
                "-a",
                "-h",
                "-j",
                str(self.job_id),
                "--states=all",
                "-O",
                f"state:20,restartcnt:12,starttime:20,admin_comment:{messages.MAX_COMMENT}",
            ],
            timeout=COMMAND_SECONDS,
            env={"SLURM_TIME_FORMAT": "%s"},
        )
        if done.returncode != 0 and "Invalid job id" in done.stderr:
            return "", ""
        text = done.check().stdout
        state, restarts, started = text[:20].strip(), text[20:32].strip(), text[32:52].strip()
        if restarts.isdigit() and state != "COMPLETING":
            runs = state == "RUNNING" and started.isdigit()
            self._check_run(int(restarts), float(started) if runs else None)
        return state, text[52:].strip()

    def leave_earlier_runs(self) -> None:
        """Take records of earlier runs of this job out of its Extra, and let no step here have a number of theirs.

        slurmctld counts steps from 0 again after a requeue, and what an srun of the earlier run sends names its
        target by job and step alone. An srun that outlived its run (its host hung or was cut off; a process that
        proctrack/linuxproc lost sight of) would end the step of the same number in this one. Small steps use the
        numbers up. Raises OperationFailed.
        """
        with self._alone():
            detail = self.read()
            if detail is None:
                return
            every = messages.requests(detail.extra)
            earlier = every.keys() - messages.requests(detail.extra, detail.restarts).keys()
            if not earlier:
                return
            for _ in range(MAX_NUMBERS):
                if self._use_number_up() >= max(earlier):
                    break
            self._set_extra(messages.drop(detail.extra, *earlier))

    def _use_number_up(self) -> int:
        """Run a step that does nothing, and return its number. Raises OperationFailed where it is not told."""
        argv = ["srun", f"--jobid={self.job_id}", *_SMALL_STEP, "--nodes=1", "--ntasks=1"]
        done = self.runner.run(
            [*argv, "--job-name=auto-resume", "printenv", "SLURM_STEP_ID"], timeout=CHECK_SECONDS
        )
        # The site's TaskProlog may have printed something before.
        numbers = [line for line in done.check().stdout.split() if line.isascii() and line.isdigit()]
        if not numbers:
            raise OperationFailed(f"a small step did not print its number but: {done.stdout.strip()}")
        return int(numbers[-1])

    def tell(self, request: Request) -> bool:
        """Put `request` into the job's Extra, beside those of other steps and whatever text is there.

        False where there is no room until questions of other steps are answered. Raises OperationFailed where that
        would not help either.
        """
        with self._alone():
            detail = self.read()
            if detail is None or messages.requests(detail.extra).get(request.step) == request:
                return True
            text = messages.put(detail.extra, request)
            if (size := len(text.encode())) > messages.MAX_EXTRA:
                if messages.asks(messages.drop(detail.extra, request.step), request.restart):
                    return False
                raise OperationFailed(
                    f"the job's Extra would be of {size} bytes, and Slurm takes {messages.MAX_EXTRA}",
                    hint="shorten what else stands there: scontrol update jobid=JOB extra=TEXT",
                )
            self._set_extra(text)
            return True

    def forget(self, step: int) -> None:
        """Take what is said of this step out of the job's Extra."""
        with self._alone():
            detail = self.read()
            if detail is not None and step in messages.requests(detail.extra):
                self._set_extra(messages.drop(detail.extra, step))

    def _set_extra(self, text: str) -> None:
        self._update(self.job_id, f"extra={text}")

    def _alone(self) -> AbstractContextManager[None]:
        """Let only one supervisor of this user on this host change the field at a time."""
        return JobLock(self.locks, self.job_id, self.wait).held()

    def keep_only(self, nodes: Sequence[str]) -> None:
        """Shrink the job to `nodes`. Raises OperationFailed with Slurm's reason."""
        self._update(self.job_id, f"nodelist={fold(nodes)}")

    def merge(self, helper: int) -> tuple[str, ...]:
        """Move the nodes of the allocation `helper` into this job and end it; return their names.

        Slurm refuses jobs whose list of GRES is not NULL, and gives every whole-node job such a list even on
        nodes without GRES; any update of a job frees an empty one (end of `_update_job`, job_mgr.c). So both
        jobs are touched first.
        """
        self._update(helper, "extra=auto-resume")
        lent = CommandReader(self.runner, COMMAND_SECONDS).job(helper)
        detail = self.read()
        if detail is None:
            raise OperationFailed(f"job {self.job_id} is gone")
        self._set_extra(detail.extra)
        try:
            self._update(helper, "numnodes=0")
        except OperationFailed:
            # The answer may have been lost, not the deed.
            after = self.read()
            if after is None or after.info.node_count <= detail.info.node_count:
                raise
        return tuple(expand(lent.info.nodes)) if lent is not None and lent.info.nodes else ()

    def end_step(self, step: int) -> None:
        """Kill what runs of a step. scancel tries again for 15 s when the step has ended: do not call it then."""
        self.runner.run(["scancel", "-Q", "--signal=KILL", f"{self.job_id}.{step}"], timeout=COMMAND_SECONDS)

    def cancel(self, job_id: int) -> None:
        """Cancel an allocation of ours; nothing happens when it has ended."""
        self.runner.run(["scancel", "-Q", str(job_id)], timeout=COMMAND_SECONDS)

    def helpers(self) -> tuple[int, ...]:
        """Return the allocations that were made for this job and not merged."""
        name = HELPER_NAME.format(job_id=self.job_id)
        done = self.runner.run(
            ["squeue", "-a", "-h", "--me", "-n", name, "-o", "%A"], timeout=COMMAND_SECONDS
        )
        return tuple(int(word) for word in done.check().stdout.split() if word.isdigit())

    def shares(self, detail: JobDetail, need: int, lost: Sequence[str]) -> tuple[Share, ...]:
        """Return where the `need` nodes have to come from that take the place of `lost`, by the cluster's topology."""
        reader = CommandReader(self.runner, COMMAND_SECONDS)
        names = detail.info.partition.split(",")
        parts = [part.nodes for part in reader.partitions() if part.name in names and part.nodes]
        among = expand(",".join(parts)) if parts else []
        before = self._before_batch_host(detail, among)
        if not reader.configuration().get("TopologyPlugin", "").endswith("/block"):
            return (Share(need, excluded=before),)
        # Few jobs come here, and what all that imports would double the start of every supervisor.
        from hpadmin.topology.graph import BlockTopology
        from hpadmin.topology.live import parse_topology

        said = self.runner.run(["scontrol", "show", "topology"], timeout=COMMAND_SECONDS).check()
        topology = parse_topology(said.stdout, ()).default.topology
        if not isinstance(topology, BlockTopology):
            return (Share(need, excluded=before),)
        held = expand(detail.info.nodes)
        found = shares(topology, held=held, lost=lost, need=need, among=among)
        return tuple(
            replace(each, excluded=tuple(dict.fromkeys((*each.excluded, *before)))) for each in found
        )

    def _before_batch_host(self, detail: JobDetail, among: Sequence[str]) -> tuple[str, ...]:
        """Return which of `among` must not join a batch job: they would come before the node its script runs on.

        Whenever slurmctld starts anew or is reconfigured, it takes the first node of each job for the one with the
        batch script (`build_node_details`, src/slurmctld/node_scheduler.c), and refuses the end of a script that
        another node reports ("sent from wrong node", src/slurmctld/proc_req.c): the job would never end.
        """
        host = detail.info.batch_host
        if not detail.batch or not host or not among:
            return ()
        # Slurm's own order of names: that in which it lists the nodes of a job.
        words = ["scontrol", "show", "hostlistsorted", fold(sorted({*among, host}))]
        order = expand(self.runner.run(words, timeout=COMMAND_SECONDS).check().stdout.strip())
        return tuple(order[: order.index(host)])

    def helper_command(self, detail: JobDetail, share: Share) -> list[str]:
        """Return the salloc that gets more nodes like those of `detail`, for this job only.

        Bad nodes are not excluded by name: they are out of scheduling, and what replaces one has its name.
        """
        info = detail.info
        argv = ["salloc", "--no-shell", "-J", HELPER_NAME.format(job_id=self.job_id), f"--nodes={share.need}"]
        argv += [f"--dependency=expand:{self.job_id}", f"--partition={info.partition}"]
        if detail.exclusive:
            argv.append("--exclusive")
        if info.account:
            argv.append(f"--account={info.account}")
        if info.qos:
            argv.append(f"--qos={info.qos}")
        if info.reservation:
            argv.append(f"--reservation={info.reservation}")
        if detail.features:
            argv.append(f"--constraint={detail.features}")
        if share.excluded:
            argv.append(f"--exclude={fold(share.excluded)}")
        return argv

    def step_nodes(self, step: int) -> tuple[str, ...]:
        """Return the nodes of a running step; empty when it is gone."""
        return tuple(expand(self._steps().get(str(step), "")))

    def runs_steps(self) -> bool:
        """Tell whether anything of the job runs besides its script."""
        return any(step.isdigit() for step in self._steps())

    def _steps(self) -> dict[str, str]:
        """Return the nodes of each step, by what follows the job in its name."""
        done = self.runner.run(
            ["squeue", "-a", "-h", "-s", "-j", str(self.job_id), "-o", "%i %N"], timeout=COMMAND_SECONDS
        )
        lines = (line.split() for line in done.check().stdout.splitlines())
        return {words[0].rpartition(".")[2]: words[1] for words in lines if len(words) == 2}

    def check_step(self, step: int, nodes: Sequence[str], *, sweep: bool) -> dict[str, Found]:
        """Ask a small step on each of `nodes` what became of `step` there.

        With `sweep`, what still lives of it is ended. Raises OperationFailed.
        """
        setting = CommandReader(self.runner, COMMAND_SECONDS).configuration().get("SlurmdSpoolDir", "")
        argv = [
            "srun",
            f"--jobid={self.job_id}",
            *_SMALL_STEP,
            f"--nodes={len(nodes)}",
            f"--ntasks={len(nodes)}",
        ]
        argv += ["--ntasks-per-node=1", f"--nodelist={fold(nodes)}", "--job-name=auto-resume-check"]
        argv += [sys.executable, "-I", "-m", "hpadmin.recovery.resume.stepcheck"]
        argv += [setting, str(self.job_id), str(step), *(["--sweep"] if sweep else [])]
        done = self.runner.run(argv, timeout=CHECK_SECONDS)
        lines = [read_line(line) for line in done.check().stdout.splitlines()]
        return {each[0]: each[1] for each in lines if each is not None and each[0] in nodes}

    def _update(self, job_id: int, *settings: str) -> None:
        self.runner.run(["scontrol", "update", f"jobid={job_id}", *settings], timeout=COMMAND_SECONDS).check()


def granted(said: str) -> int | None:
    """Return the job id that salloc speaks of.

    >>> granted("salloc: Pending job allocation 83\\nsalloc: job 83 queued and waiting for resources")
    83
    """
    found = _GRANTED.search(said)
    return int(found[1]) if found else None
