"""The supervisor of one srun: runs it, and when its step fails, asks, swaps nodes and runs it again.

Every wait ends: for the agent's first sign after `AGENT_SECONDS` (there may be none in this cluster: then the
step's own exit code counts), for nodes after `SERVICE_SECONDS`, and whenever the job is no longer running.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hpadmin.errors import OperationFailed
from hpadmin.recovery.resume import child
from hpadmin.recovery.resume.allocate import GivenUpError, InterruptedStepError
from hpadmin.recovery.resume.child import Child
from hpadmin.recovery.resume.heartbeat import Heartbeat
from hpadmin.recovery.resume.messages import SERVICE_SECONDS, Action, Answer, Cause, Phase, Request, answers
from hpadmin.recovery.resume.ownjob import OwnJob, SupersededError
from hpadmin.recovery.resume.patient import Patient
from hpadmin.recovery.resume.stepcheck import Stepd
from hpadmin.recovery.resume.swap import CREATED_SECONDS, Swap
from hpadmin.recovery.resume.watch import Attempt, Ended, Launch, Step
from hpadmin.slurm.hostlist import fold

AGENT_SECONDS = 45.0
POLL_SECONDS = (0.5, 1.0, 2.0, 3.0, 5.0)
"""Waits between glances at the job: quick at first, gentle with slurmctld later."""

RETELL_SECONDS = 6.0
"""After so long without an answer the question is looked for, and asked again where it is gone: a slurmctld that is
killed forgets the changes of its last seconds (`SAVE_MAX_WAIT`, src/slurmctld/state_save.c)."""
STARTS = 2
"""An srun for which no step is created is started so often: slurmctld may have lost its request in a restart."""
REQUEUE_SECONDS = 600.0
"""A supervisor whose run of the job is over is ended with it, except where proctrack/linuxproc lost sight of it."""

COUNT_VARIABLE = "HPADMIN_RESUME_COUNT"
"""Told to the program: how often this step was started again in this run of the job, plus the job's requeues."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    most: int
    """1: as often as the site allows; N: at most N times."""
    spares: int
    heartbeat: Heartbeat | None


@dataclass
class Supervisor:
    """Runs one srun for as long as it takes."""

    job: OwnJob
    launch: Launch
    options: Options
    write: Callable[[str], None]
    attempt: int = 0
    step: Step | None = None
    """Of the first attempt: the name under which this srun is known to the agent."""
    want: int = 0
    _verdict: Answer | None = field(default=None, repr=False)
    """The agent's answer while the step still ran; it need not be asked twice."""
    _running: Attempt | None = field(default=None, repr=False)
    _prepared: tuple[Answer, Ended] | None = field(default=None, repr=False)
    """Of the last swap: why it was made, and what for."""
    _announced: bool = False
    _begun: float = 0.0
    """When the present attempt began; once it has a step, when that did."""
    _in_vain: int = 0
    """How often in a row an srun waited for its step in a prepared job, and nothing else of the job ran."""
    script: int = field(default_factory=os.getppid)
    """The process that started us in the place of srun."""

    def run(self) -> int:
        """Return the status of the last attempt, as `Child.wait` gives it."""
        child.block_signals()
        patient = Patient(self.job.runner, self._meanwhile, lambda: self._srun is not None)
        self.job = replace(self.job, runner=patient, wait=self._meanwhile)
        try:
            self._enter()
            return self._attempts()
        except InterruptedStepError:
            return 1  # as srun, where its step did not exist yet
        except SupersededError:
            self._await_end(
                "This run of the job is over: it was requeued, or Slurm had forgotten that it ran."
            )
            return 1

    def _enter(self) -> None:
        """Learn which run of the job this is, and keep clear of what is left of the one before."""
        try:
            self.job = self.job.entered()
            if self.job.restarts:
                self.job.leave_earlier_runs()
        except OperationFailed as error:
            self.say("Error", f"What an earlier run of the job left behind could not be passed by: {error}")

    def _attempts(self) -> int:
        terminal, offset = child.Terminal.remember(), child.stdin_offset()
        while True:
            ended = self._attempt()
            terminal.restore()
            if self._final(ended):
                if self.attempt and ended.status and ended.step is None and not ended.ended_by_user:
                    self.say("Error", f"{_described(ended)} before its step was created: it is not resumed.")
                self._forget()
                return ended.status
            assert self.step is not None
            try:
                if not self._resumed(ended):
                    self._forget()
                    return self._failed(ended).status or 1
            except InterruptedStepError:
                self._forget()
                return ended.status
            except (GivenUpError, OperationFailed) as error:
                self.say("Error", f"{error} The step is not resumed.")
                self._forget()
                return ended.status or 1
            if ended.forgotten:
                continue
            self.attempt += 1
            if not child.rewind_stdin(offset):
                self.say(
                    "Info", "Standard input is a pipe: what the step has read of it does not come again."
                )
            self.say("Info", f"Retrying step. Attempt number: {self.attempt}")

    def _resumed(self, ended: Ended) -> bool:
        """Make everything ready for the next attempt; False where there is none."""
        answer: Answer | None
        if self._in_vain >= STARTS and self._prepared is not None:
            answer, failed = self._prepared
            self._report_stuck("Slurm creates no step in the job as it is now.", failed, answer)
            return False
        if ended.forgotten and self._prepared is not None:
            self.say("Info", "No step was created: what was done with the job is done again")
            answer, ended = self._prepared
        else:
            answer = self._diagnose(ended)
        if answer is None or answer.action is not Action.RETRYSTEP:
            return False
        try:
            self._prepared = answer, ended
            self._tell(Phase.SWAP)
            self.launch = self._swapper.swap(answer, ended, self.launch)
        except OperationFailed as error:
            self._report_stuck(error.message, ended, answer)
            return False
        return True

    def _report_stuck(self, why: str, ended: Ended, answer: Answer) -> None:
        """Tell the agent that the job as it is now is of no use: it is requeued, where it may be."""
        self.say("Error", why)
        stuck = self._ask(Cause.STUCK, ended.status or 1, ended.seconds)
        if stuck is not None:
            self._told(stuck)

    def _failed(self, ended: Ended) -> Ended:
        """Return the attempt that ran and failed, also where another was prepared after it and never began."""
        return self._prepared[1] if ended.forgotten and self._prepared is not None else ended

    def say(self, kind: str, text: str) -> None:
        """Print a line of the original's form into the job's own output."""
        step = "-" if self.step is None else self.step.step
        self.write(f"[Auto Resume] {kind}: JobID: {self.job.job_id} StepID: {step} {text}\n")

    def _attempt(self) -> Ended:
        self._begun = time.monotonic()
        environment = dict(self.launch.environment)
        environment[COUNT_VARIABLE] = str((self.job.restarts or 0) + self.attempt)
        launch = replace(self.launch, environment=environment)
        self._running = Attempt(
            launch,
            self.options.heartbeat,
            self._started,
            self._suspected,
            self._killed,
            self._end_step,
            self._outlived,
            self._waits_in_vain,
            self._suspended,
            lambda text: self.say("Info", text),
        )
        try:
            return self._running.run()
        finally:
            self._running = None

    def _started(self, step: Step) -> None:
        self._in_vain, self._begun = 0, time.monotonic()
        if self.step is None:
            self.step, self.want = step, step.node_count
        try:
            self._tell(Phase.WATCH)
        except OperationFailed as error:
            if not self._announced:
                self.say("Error", f"The job's record cannot be written, so nothing can be resumed: {error}")
        self._announced = True

    def _final(self, ended: Ended) -> bool:
        """Tell whether the attempt's own status stands: success, the user's wish, or no step at all."""
        if ended.status == 0 and ended.cause is Cause.EXIT:
            return True
        if ended.forgotten:
            return False
        return ended.ended_by_user or self.step is None or ended.step is None

    # Asking -------------------------------------------------------------------------------------------

    def _diagnose(self, ended: Ended) -> Answer | None:
        """Hold the failed step until the agent has answered; None where there is nobody to ask."""
        state, _ = self.job.glance()
        if state != "RUNNING":
            self.say("Info", f"The job is {state or 'gone'}: its step is not resumed.")
            return None
        self.say("Error", _described(ended))
        answer, self._verdict = self._verdict, None
        if answer is None:
            self.say("Info", "Initiating communication with cluster agent to diagnose health of nodes")
            answer = self._ask(ended.cause, ended.status, ended.seconds)
        if answer is None:
            self.say("Error", "No cluster agent answers (hpadmin agent run): the step is not resumed.")
            return None
        self._told(answer)
        return answer

    def _told(self, answer: Answer) -> None:
        text = f" ({answer.text})" if answer.text else ""
        head = f"Response from cluster agent: JobId={self.job.job_id}, ResumeAction={answer.action}"
        self.say("Info", head + text)
        if answer.action is Action.REQUEUE:
            self._await_end("The job is being requeued.")

    def _ask(
        self,
        cause: Cause,
        status: int,
        seconds: float,
        running: Child | None = None,
    ) -> Answer | None:
        """Ask and return the final answer; None when nobody answers, the job is over, or `running` ended.

        Where there is no room for the question until others of this job are answered, it waits for that.
        """
        request = self._question(cause, status, seconds)
        asked = self.job.tell(request)
        begun, waits = time.monotonic(), iter(POLL_SECONDS)
        wait, seen, told = next(waits), False, begun
        while True:
            if running is None:
                self._pause(wait)
            elif not running.outlasts(wait):
                return None
            wait = next(waits, wait) if not seen else 1.0
            state, comment = self.job.glance()
            if state != "RUNNING":
                if running is None:
                    raise GivenUpError(f"The job is {state or 'gone'}.")
                return None
            answer = answers(comment).get(request.step)
            if answer is not None and answer.id == request.id:
                if answer.action is not Action.WAIT:
                    return answer
                seen = True
            if not asked or time.monotonic() - told > RETELL_SECONDS:
                before, asked, told = asked, self.job.tell(request), time.monotonic()
                begun = begun if before else told
            waited = time.monotonic() - begun
            if waited > (SERVICE_SECONDS if seen else AGENT_SECONDS):
                return None

    def _suspected(self, step: Step, cause: Cause, running: Child) -> bool:
        """Ask the agent about nodes that do not answer, while the step runs on."""
        try:
            answer = self._ask(cause, 0, time.monotonic() - self._begun, running)
            if answer is not None and answer.action is not Action.NONE:
                self._verdict = answer
                return True
            self._tell(Phase.WATCH)
        except OperationFailed:
            return False  # slurmctld does not answer: nothing can be known now; the next look asks again
        return False

    def _killed(self, step: Step) -> tuple[str, ...]:
        """Return the nodes of the step whose slurmstepd was killed."""
        try:
            nodes = self.job.step_nodes(step.step)
            found = self.job.check_step(step.step, nodes, sweep=False) if nodes else {}
        except OperationFailed:
            return ()  # a node that cannot run the check is silent: the next look says so
        return tuple(node for node, seen in found.items() if seen.state is Stepd.KILLED)

    def _await_end(self, why: str) -> None:
        """Keep still until Slurm ends this process together with its run of the job.

        The script behind this srun must not go on meanwhile; where nobody ends it, its job has long gone on. Once the
        script is gone there is nothing to keep still any more.
        """
        self.say("Info", why)
        deadline = time.monotonic() + REQUEUE_SECONDS
        while time.monotonic() < deadline and os.getppid() == self.script:
            try:
                self._pause(2.0)
                if self.job.glance()[0] not in ("RUNNING", "COMPLETING", "PENDING"):
                    return
            except InterruptedStepError:
                return
            except (SupersededError, OperationFailed):
                continue

    def _end_step(self, step: Step) -> bool:
        """End a dead step; True where srun will notice by itself. Dropping its bad nodes does both at once.

        Before a requeue nothing is sent that names the step: the next run of the job has one of the same number.
        """
        verdict = self._verdict
        if verdict is not None and verdict.action is Action.REQUEUE:
            return False
        try:
            if verdict is not None and verdict.action is Action.RETRYSTEP and verdict.bad:
                self._swapper.drop(verdict.bad)
            else:
                self.job.end_step(step.step)
        except OperationFailed as error:
            self.say("Error", error.message)
        return True

    def _outlived(self) -> bool:
        """Tell whether the job has ended, or raise SupersededError: srun itself would not notice."""
        try:
            return self.job.glance()[0] not in ("RUNNING", "SUSPENDED", "STOPPED", "COMPLETING")
        except OperationFailed:
            return False

    def _suspended(self) -> bool:
        """Tell whether the job is suspended. Unknown is yes: what cannot be looked at is not ended for its silence."""
        try:
            return self.job.glance()[0] in ("SUSPENDED", "STOPPED")
        except OperationFailed:
            return True

    def _waits_in_vain(self) -> bool:
        """Tell whether srun waits for a step that slurmctld does not create in the job that was prepared for it.

        It may have forgotten the job's nodes, or the request (srun asks again after two minutes), in a restart: then
        both are done again. Or it can never create it: a job that took over another's nodes holds no cores of the
        last of them, and the step is to have cores of its own (--exact, --cpus-per-task). Steps that run are waited
        for.
        """
        if self._prepared is None:
            return False
        try:
            if self._swapper.forgotten(self._prepared[1].step, self.launch):
                return True
            vain = time.monotonic() - self._begun > CREATED_SECONDS and not self.job.runs_steps()
        except OperationFailed:
            return False
        self._in_vain += vain
        return vain

    @property
    def _swapper(self) -> Swap:
        return Swap(self.job, self.want, self.say, self._pause)

    # Small things -------------------------------------------------------------------------------------

    def _tell(self, phase: Phase) -> None:
        """Say where the step is."""
        assert self.step is not None
        request = Request("", self.step.step, phase, restart=self.job.restarts or 0)
        self.job.tell(request)  # where questions take the room there is, nothing is lost by saying nothing

    def _question(self, cause: Cause, status: int, seconds: float) -> Request:
        assert self.step is not None
        return Request(
            secrets.token_hex(4),
            self.step.step,
            Phase.ASK,
            attempt=self.attempt,
            cause=cause,
            exit_code=_code(status),
            want=self.want,
            ran=max(1, int(seconds)),  # 0 says that it is not known
            most=self.options.most if self.options.most > 1 else 0,
            restart=self.job.restarts or 0,
        )

    def _forget(self) -> None:
        if self.step is None:
            return
        try:
            self.job.forget(self.step.step)
        except (SupersededError, InterruptedStepError):
            return  # the records are those of a later run now, or somebody does not want to wait for slurmctld
        except OperationFailed as error:
            self.say("Error", f"The job's record could not be cleaned up: {error}")

    def _meanwhile(self, seconds: float) -> bool:
        """Wait for something else than srun; False where that is not worth it any more, because srun ended.

        Signals go on to an srun that runs, and where none does they interrupt.
        """
        if self._srun is not None:
            return self._srun.outlasts(seconds)
        self._pause(seconds)
        return True

    @property
    def _srun(self) -> Child | None:
        return None if self._running is None else self._running.child

    def _pause(self, seconds: float) -> None:
        got = child.take_signal(seconds)
        if got in child.ENDING:
            raise InterruptedStepError


def _described(ended: Ended) -> str:
    if ended.cause is Cause.HANG:
        return "No sign of progress within the limit: the step was ended."
    if ended.cause is Cause.LOST:
        where = f" on {fold(ended.lost)}" if ended.lost else ""
        return f"Processes of the step are lost{where}: the step was ended."
    how = (
        f"was killed by signal {-ended.status}" if ended.status < 0 else f"exited with status {ended.status}"
    )
    return f"Step failed: srun {how}"


def _code(status: int) -> int:
    return status if status >= 0 else 128 - status
