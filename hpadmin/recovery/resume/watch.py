"""One attempt of a step: run srun, and see for ourselves whether the step still lives (`liveness`)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hpadmin.recovery.resume import liveness, srunargs
from hpadmin.recovery.resume.child import Child
from hpadmin.recovery.resume.heartbeat import Heartbeat, Progress
from hpadmin.recovery.resume.messages import Cause

TICK_SECONDS = 0.25
LOOK_EVERY_SECONDS = 4.0
"""Between two sstat of a running step; longer for wide steps, see `Attempt._next_look`."""
SILENT_SECONDS = 3.0
"""A node that sstat has waited for so long is suspected; ordinarily it answers within 0.1 s."""
CLEARED_SECONDS = 30.0
"""The next look after the agent has found nothing wrong with nodes that did not answer."""
SETTLE_SECONDS = 2.0
"""A closed connection is looked into when srun still runs so long afterwards: mostly it just ends."""
WHOLE_SECONDS = 8.0
"""So is a connection that was never seen: its slurmstepd died before the first look, or starts late."""
AGAIN_SECONDS = (5.0, 25.0)
"""So long after each other it is looked into again when nothing was found: a host that was started again takes steps
before slurmctld knows that it was, which its slurmd tells some seconds later, and nothing is left there to be found."""
GLANCE_EVERY_SECONDS = 5.0
"""Between two looks at the job while srun ends after a signal."""
WAITING_SECONDS = 10.0
"""Between two looks at the job while srun waits for the step to be created."""
KILL_SECONDS = 1.5
"""srun gets so long to end after its step was ended: with a dead node it would wait for ever."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How srun is started."""

    program: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str


@dataclass(frozen=True, slots=True)
class Step:
    """The step that srun created."""

    job_id: int
    step: int
    node_count: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended."""

    status: int
    """srun's exit code, or minus the signal that killed it."""
    cause: Cause
    seconds: float
    step: Step | None
    """None where srun never got as far as creating one."""
    ended_by_user: bool
    lost: tuple[str, ...] = ()
    forgotten: bool = False
    """No step was created in the job that was prepared: slurmctld has forgotten it, or can do nothing with it."""


@dataclass
class Attempt:
    """One srun under watch.

    `started` is told the step once it exists; `suspected` asks somebody who knows whether nodes that do not
    answer are dead; `check_killed` names the nodes whose slurmstepd was killed; `end` ends a dead step in Slurm and
    tells whether srun gets time to notice; `outlived` tells whether the job is over, and `forgotten`, asked while srun
    waits for its step, whether slurmctld still knows what was prepared. `suspended` tells whether the job stands still
    by somebody's wish, and `warn` is given words for the user.
    """

    launch: Launch
    heartbeat: Heartbeat | None
    started: Callable[[Step], None]
    suspected: Callable[[Step, Cause, Child], bool]
    check_killed: Callable[[Step], tuple[str, ...]]
    end: Callable[[Step], bool]
    outlived: Callable[[], bool]
    forgotten: Callable[[], bool] = lambda: False
    suspended: Callable[[], bool] = lambda: False
    warn: Callable[[str], None] = lambda _: None
    step: Step | None = None
    child: Child | None = None
    """srun, while it runs."""
    _progress: Progress | None = None
    _stood: bool = False
    _warned: bool = False
    _peers: frozenset[str] = frozenset()
    _missing_since: float | None = None
    _whole_by: float = float("inf")
    """When each node of the step should have been seen connected; infinite once they were."""
    _again: tuple[float, ...] = ()
    _next_again: float = float("inf")
    _look: subprocess.Popen[str] | None = field(default=None, repr=False)
    _look_started: float = 0.0
    _next: float = 0.0
    _next_glance: float = 0.0
    _next_doubt: float = 0.0

    def run(self) -> Ended:
        """Run srun to its end, or until its step is found dead."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        environment = {
            **self.launch.environment,
            "HPADMIN_AUTO_RESUME_PARENT": str(os.getpid()),
            "HPADMIN_AUTO_RESUME_PIPE": str(writer),
        }
        begun = time.monotonic()
        self._next_doubt = begun + WAITING_SECONDS
        self.child = child = Child.start(
            self.launch.program,
            self.launch.argv,
            environment,
            self.launch.folder,
            [writer],
            interrupts_at_once=srunargs.interrupts_at_once(self.launch.argv, environment),
        )
        os.close(writer)
        cause, lost = Cause.EXIT, tuple[str, ...]()
        try:
            while (status := child.wait(TICK_SECONDS)) is None:
                if self.step is None:
                    self.step = _announced(reader)
                    if self.step is not None:
                        begun = time.monotonic()
                        if self.heartbeat is not None:
                            self._progress = Progress(self.heartbeat, self.step.job_id, begun)
                        self.started(self.step)
                        told = time.monotonic()
                        self._next, self._whole_by = told + LOOK_EVERY_SECONDS, told + WHOLE_SECONDS
                    elif not child.ended_by_user and self._waits_in_vain():
                        return Ended(child.silence(), cause, 0.0, None, ended_by_user=False, forgotten=True)
                    continue
                if child.ended_by_user:
                    if self._over_without_us():
                        child.silence()
                    continue
                found = self._lost(child, self.step)
                if found is not None:
                    cause, lost = Cause.LOST, found
                elif self._hangs():
                    cause = Cause.HANG
                else:
                    continue
                status = self._end(child, self.step)
                break
            if self.step is None:
                self.step = _announced(reader)
                if self.step is not None:
                    self.started(self.step)
        finally:
            if child.process.poll() is None:  # this run of the job is over
                child.silence()
            os.close(reader)
            self._drop_look()
        return Ended(status, cause, time.monotonic() - begun, self.step, child.ended_by_user, lost)

    def _lost(self, child: Child, step: Step) -> tuple[str, ...] | None:
        """Return None while nothing is wrong, else the nodes that are lost (empty: it is not known which)."""
        now = time.monotonic()
        peers = liveness.connections(child.pid)
        if len(peers) >= step.node_count:
            # Each slurmstepd holds one: what is gone was a message, as many come at the start. Taken for a
            # slurmstepd's it would end a healthy step whose slurmd happens to be away.
            self._peers, self._missing_since, self._whole_by = peers, None, float("inf")
        elif len(peers) > len(self._peers) and self._missing_since is None:
            self._peers = peers
        if self._peers - peers:
            if self._missing_since is None:
                self._missing_since = now
            elif now - self._missing_since > SETTLE_SECONDS:
                self._peers, self._missing_since, self._whole_by = peers, None, float("inf")
                self._again = AGAIN_SECONDS
                return self._looked_into(child, step, Cause.CUT)
        elif now >= self._whole_by:
            self._whole_by, self._again = float("inf"), AGAIN_SECONDS
            return self._looked_into(child, step, Cause.CUT)
        elif now >= self._next_again:
            # By now a slurmd may be away that has nothing to do with it, and is no reason to end a step.
            return self._looked_into(child, step, Cause.SILENT)
        return self._look_around(child, step, now)

    def _looked_into(self, child: Child, step: Step, cause: Cause) -> tuple[str, ...] | None:
        """Look into a closed connection; None where its tasks just ended, as far as can be known now."""
        # The agent knows at once whether a slurmd is gone; nodes that answer can be asked themselves.
        if self.suspected(step, cause, child):
            return ()
        killed = self.check_killed(step)
        if killed:
            return killed
        self._next_again = time.monotonic() + self._again[0] if self._again else float("inf")
        self._again = self._again[1:]
        return None

    def _look_around(self, child: Child, step: Step, now: float) -> tuple[str, ...] | None:
        if self._look is None:
            if now < self._next:
                return None
            self._look = subprocess.Popen(
                ["sstat", "-j", f"{step.job_id}.{step.step}", "--pidformat", "-P", "-n"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
            self._look_started = now
            return None
        took = now - self._look_started
        if self._look.poll() is None:
            if took < SILENT_SECONDS:
                return None
            self._drop_look()
            view = liveness.StepView(frozenset(), frozenset(), True)
        else:
            out, err = self._look.communicate()
            self._look = None
            view = liveness.read_sstat(out, err, f"{step.job_id}.{step.step}")
        self._next = now + max(LOOK_EVERY_SECONDS, step.node_count / 100)
        silent = tuple(sorted(view.silent))
        if took >= SILENT_SECONDS or silent:
            if self.suspected(step, Cause.SILENT, child):
                return silent
            self._next = time.monotonic() + CLEARED_SECONDS
        return None

    def _drop_look(self) -> None:
        if self._look is not None:
            self._look.kill()
            self._look.communicate()
            self._look = None

    def _hangs(self) -> bool:
        progress, now = self._progress, time.monotonic()
        if progress is None:
            return False
        overdue = progress.overdue(now)
        if progress.trouble and not self._warned:
            self._warned = True
            self.warn(f"The sign of progress cannot be looked at, which is no silence: {progress.trouble}")
        if not overdue:
            return False
        if self.suspended():
            # Nothing tells when it will go on: that is looked for, and the limit runs anew from then.
            self._stood, progress.at = True, now - progress.heartbeat.seconds + GLANCE_EVERY_SECONDS
            return False
        if self._stood:
            self._stood, progress.at = False, now
            return False
        return True

    def _end(self, child: Child, step: Step) -> int:
        """End a dead step: through Slurm, then srun, by force if it does not go."""
        if not self.end(step):
            return child.silence()
        deadline = time.monotonic() + KILL_SECONDS
        while time.monotonic() < deadline:
            status = child.wait(TICK_SECONDS)
            if status is not None:
                return status
        return child.kill()

    def _waits_in_vain(self) -> bool:
        now = time.monotonic()
        if now < self._next_doubt:
            return False
        self._next_doubt = now + WAITING_SECONDS
        return self.forgotten()

    def _over_without_us(self) -> bool:
        """After a signal that ends the step: has the job ended? srun waits for ever for a node that is dead."""
        now = time.monotonic()
        due, first = now >= self._next_glance, self._next_glance == 0
        if due:
            self._next_glance = now + GLANCE_EVERY_SECONDS
        return due and not first and self.outlived()


def _announced(reader: int) -> Step | None:
    """Read what the SPANK plugin wrote into the pipe: job, step and node count; None when it did not yet."""
    try:
        line = os.read(reader, 200).decode("ascii", "replace").split("\n")[0]
    except BlockingIOError:
        return None
    words = line.split()
    if len(words) != 3 or not all(word.isdigit() for word in words):
        return None
    return Step(int(words[0]), int(words[1]), int(words[2]))
