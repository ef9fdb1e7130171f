"""Giving a job other nodes and its srun another start: what the owner of a job may do by Slurm's commands."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from hpadmin.errors import OperationFailed
from hpadmin.recovery.resume import srunargs
from hpadmin.recovery.resume.allocate import GivenUpError, allocate
from hpadmin.recovery.resume.joining import Share
from hpadmin.recovery.resume.messages import SERVICE_SECONDS, Answer
from hpadmin.recovery.resume.ownjob import OwnJob
from hpadmin.recovery.resume.stepcheck import Found, Stepd
from hpadmin.recovery.resume.watch import Ended, Launch, Step
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.reader import JobDetail

OLD_STEP_SECONDS = 4.0
SWAPS = 3
CREATED_SECONDS = 60.0
"""A slurmctld that was started anew creates no step until the job's nodes have registered: that is waited for."""
_NOT_CREATED = "Unable to create step"
"""srun's words then (src/srun/launch.c)."""

_OVERLAP = "SLURM_OVERLAP"
_COMPRESSED = re.compile(r"\(x\d+\)")


@dataclass(frozen=True)
class Swap:
    """Swaps nodes of `job` for a step that needs `want` of them.

    Every method raises OperationFailed, GivenUpError when the job is over, and what `pause` raises.
    """

    job: OwnJob
    want: int
    say: Callable[[str, str], None]
    pause: Callable[[float], None]

    def swap(self, answer: Answer, ended: Ended, launch: Launch) -> Launch:
        """Drop the bad nodes of the answer, get others if the step needs them, and clear those that stay.

        Returns how the step is to be started next.
        """
        staying = healthy = self.drop(answer.bad)
        bad = set(answer.bad)
        for _ in range(SWAPS):
            need = self.want - len(healthy)
            if need > 0:
                detail = self._running_job()
                for share in self.job.shares(detail, need, answer.bad):
                    # What Slurm gives out again is not what was lost, though it bears the name of it.
                    bad -= set(self._expand(detail, share, answer.within or SERVICE_SECONDS))
                self.say("Info", "Job Expansion complete")
            # A slurmctld that was killed meanwhile may have forgotten what it had done.
            healthy = self.drop(bad)
            if len(healthy) >= self.want:
                break
        else:
            raise OperationFailed(
                f"The job has {len(healthy)} of {self.want} nodes after {SWAPS} expansions."
            )
        overlap = False
        if ended.step is not None:
            killed = self._clear(ended.step, [node for node in staying if node in healthy])
            overlap = killed or self._record_stays(ended.step)
        after = self._running_job()
        self.say("Info", f"Updating to new node list {after.info.nodes}")
        return self._renewed(launch, after, overlap=overlap)

    def forgotten(self, step: Step | None, launch: Launch) -> bool:
        """Tell whether slurmctld, killed and started again, has forgotten what `swap` did: srun would wait for ever.

        The job has fewer nodes again, or the record of the earlier attempt is back, which nobody ends any more.
        """
        detail = self.job.read()
        if detail is None or not detail.info.nodes:
            return False
        if detail.info.node_count < self.want:
            return True
        return (
            step is not None and _OVERLAP not in launch.environment and bool(self.job.step_nodes(step.step))
        )

    def drop(self, bad: Collection[str]) -> list[str]:
        """Shrink the job to its healthy nodes, and return those."""
        held = expand(self._running_job().info.nodes)
        healthy = [node for node in held if node not in bad]
        if len(healthy) < len(held):
            self.say("Info", "Job failed - Dropping unhealthy nodes")
            self.job.keep_only(healthy)
            self.say("Info", f"Successfully shrunk job to retain healthy nodes {fold(healthy)}")
        return healthy

    def _clear(self, step: Step, nodes: Sequence[str]) -> bool:
        """End what lives of the earlier attempt on nodes that stay; True where a slurmstepd was killed there.

        Slurm ends it, when all goes well. A slurmctld that is killed forgets orders to nodes that it has not carried
        out yet (its agent's queue is in memory alone), and what they were about together with the step's record.
        """
        found = self._checked(step, nodes)
        killed = [node for node, seen in found.items() if seen.state is Stepd.KILLED]
        if killed:
            self.say("Info", f"Ended what a killed slurmstepd had left on {fold(killed)}")
        ended = [node for node, seen in found.items() if seen.ended and node not in killed]
        if ended:
            self.say("Info", f"Ended what was left of the step on {fold(ended)}")
        left = [node for node, seen in found.items() if seen.left]
        if left:
            raise OperationFailed(f"Processes of the step on {fold(left)} cannot be ended.")
        return bool(killed)

    def _checked(self, step: Step, nodes: Sequence[str]) -> dict[str, Found]:
        """Sweep nodes. One that cannot run so small a step cannot run the next attempt either, and that will say so."""
        deadline, again = time.monotonic() + CREATED_SECONDS, True
        while nodes:
            try:
                return self.job.check_step(step.step, nodes, sweep=True)
            except OperationFailed as error:
                if _NOT_CREATED in error.message and time.monotonic() < deadline:
                    self.pause(1.0)
                elif again:
                    again = False
                else:
                    self.say(
                        "Error", f"It was not seen whether anything is left of the step: {error.message}"
                    )
                    break
        return {}

    def _record_stays(self, step: Step) -> bool:
        """Wait for slurmctld to end the old step's record; True where it does not, and the new step must overlap.

        slurmctld keeps a step until every slurmstepd has reported its end: a killed one never does, and the new
        step would wait for its resources until the job's end.
        """
        deadline = time.monotonic() + OLD_STEP_SECONDS
        while self.job.step_nodes(step.step):
            if time.monotonic() > deadline:
                return True
            self.pause(0.5)
        return False

    def _expand(self, detail: JobDetail, share: Share, within: float) -> tuple[str, ...]:
        """Return the nodes that joined."""
        where = f" of block {share.block}" if share.block else ""
        self.say("Info", f"Waiting for {share.need} node(s){where} to join the job")
        for again in (True, True, False):
            try:
                helper = allocate(self.job.helper_command(detail, share), self.job, within)
                return self.job.merge(helper)
            except OperationFailed as error:
                # Whatever came of it is not left behind, also where only its number was lost.
                for left in self.job.helpers():
                    self.job.cancel(left)
                if not again:
                    raise
                self.say("Error", f"{error.message}; trying again")
                self.pause(3.0)
        raise AssertionError("the last attempt returns or raises")

    def _running_job(self) -> JobDetail:
        detail = self.job.read()
        if detail is None or not detail.info.nodes:
            raise GivenUpError("The job is over.")
        return detail

    def _renewed(self, launch: Launch, detail: JobDetail, *, overlap: bool) -> Launch:
        """Give srun the job as it is now: what sbatch wrote into the environment at its start is stale."""
        environment = dict(launch.environment)
        nodes = detail.info.nodes
        for name in ("SLURM_JOB_NODELIST", "SLURM_NODELIST"):
            environment[name] = nodes
        for name in ("SLURM_JOB_NUM_NODES", "SLURM_NNODES"):
            environment[name] = str(self.want)
        cpus = environment.get("SLURM_JOB_CPUS_PER_NODE", "")
        if cpus and "," not in cpus:
            environment["SLURM_JOB_CPUS_PER_NODE"] = f"{_COMPRESSED.sub('', cpus)}(x{detail.info.node_count})"
        environment.pop("SLURM_TASKS_PER_NODE", None)
        if overlap:
            environment[_OVERLAP] = "1"
        return replace(launch, environment=environment, argv=srunargs.without_pins(launch.argv))
