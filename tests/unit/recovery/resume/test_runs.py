"""Runs of one job under one id: nothing that is left of an earlier one may touch a later one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.recovery.resume import child, liveness, messages, watch
from hpadmin.recovery.resume.child import Child
from hpadmin.recovery.resume.heartbeat import Heartbeat, Progress
from hpadmin.recovery.resume.messages import Action, Answer, Cause, Phase, Request
from hpadmin.recovery.resume.ownjob import OwnJob, SupersededError
from hpadmin.recovery.resume.supervisor import Options, Supervisor
from hpadmin.recovery.resume.swap import Swap
from hpadmin.recovery.resume.watch import Attempt, Ended, Launch, Step
from hpadmin.slurm.command import Completed

WATCH = Request("", 0, Phase.WATCH)


@dataclass
class Commands:
    """A `Runner` over one job, whose steps are counted as slurmctld does."""

    restarts: int = 0
    started: int = 1000
    extra: str = ""
    state: str = "RUNNING"
    steps: int = 0
    banner: str = ""
    """What the site's TaskProlog prints."""
    changes: list[str] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        said = ""
        match next(word for word in argv if word in ("update", "show", "squeue", "srun")):
            case "update":
                self.extra = argv[-1].removeprefix("extra=")
                self.changes.append(argv[-1])
            case "show":
                number = {"set": True, "infinite": False, "number": self.restarts}
                said = json.dumps(
                    {
                        "jobs": [
                            {
                                "job_id": 82,
                                "user_id": 1000,
                                "job_state": [self.state],
                                "restart_cnt": number,
                                "start_time": {"set": True, "infinite": False, "number": self.started},
                                "extra": self.extra,
                            }
                        ]
                    }
                )
            case "squeue":
                assert (env or {})["SLURM_TIME_FORMAT"] == "%s"
                said = f"{self.state:20}{self.restarts:<12}{self.started:<20}<auto-resume/1 step=0>"
            case "srun":
                said = f"{self.banner}{self.steps}\n"
                self.steps += 1
        return Completed(tuple(argv), 0, said, "")


@pytest.mark.parametrize("later", [{"restarts": 1, "started": 2000}, {"started": 2000}])
def test_a_later_run_ends_what_the_earlier_one_may_do(later: dict[str, int]) -> None:
    """Where slurmctld forgot that the job ran, the count of its restarts is the same."""
    slurm = Commands()
    job = OwnJob(slurm, 82).entered()
    job.tell(WATCH)
    assert job.glance() == ("RUNNING", "<auto-resume/1 step=0>")
    for name, value in later.items():
        setattr(slurm, name, value)
    before = list(slurm.changes)
    for deed in (
        lambda: job.tell(WATCH),
        lambda: job.forget(0),
        lambda: job.merge(90),
        lambda: job.leave_earlier_runs(),
        job.read,
        job.glance,
    ):
        with pytest.raises(SupersededError):
            deed()
    assert [change for change in slurm.changes[len(before) :] if change != "extra=auto-resume"] == []
    slurm.state = "COMPLETING"
    assert job.glance()[0] == "COMPLETING", "its processes have their last words"
    OwnJob(slurm, 82).entered().tell(WATCH)


def test_a_supervisor_whose_script_was_ended_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """proctrack/linuxproc loses sight of it when the script ends first."""
    said, waits = list[str](), list[float]()
    supervisor = Supervisor(
        OwnJob(Commands(restarts=1), 82, 0), Launch("srun", [], {}, "/"), Options(1, 0, None), said.append
    )

    def script_ends(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            supervisor.script += 1

    monkeypatch.setattr(child, "take_signal", script_ends)
    supervisor._await_end("The job is being requeued.")
    assert len(waits) == 3
    assert said == ["[Auto Resume] Info: JobID: 82 StepID: - The job is being requeued.\n"]


@pytest.mark.parametrize(
    ("earlier", "used_up"),
    [((), 0), ((0,), 1), ((0, 3), 4), ((500,), 64)],
)
def test_no_step_of_a_run_has_the_number_of_one_that_may_be_left(
    earlier: tuple[int, ...], used_up: int
) -> None:
    slurm = Commands(restarts=2, extra="owner: physics", banner="Welcome to 4 GPUs\n")
    for step in earlier:
        slurm.extra = messages.put(slurm.extra, Request("", step, Phase.WATCH, restart=1))
    job = OwnJob(slurm, 82).entered()
    job.leave_earlier_runs()
    assert slurm.steps == used_up
    assert slurm.extra == "owner: physics"
    job.leave_earlier_runs()
    assert slurm.steps == used_up, "the next srun of the run need not do it again"


# As srun does: tell the step, and have a child that waits for its parent's end by a pipe.
SRUN = """
import os, sys, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    os.read(reader, 1)
    open(sys.argv[1], "w").close()
    os._exit(0)
os.write(int(os.environ["HPADMIN_AUTO_RESUME_PIPE"]), b"82 0 2\\n")
time.sleep(600)
"""


@dataclass
class Srun:
    """A stand-in for srun, and what an attempt is told about it."""

    word: Path
    noticed: bool = True
    superseded: bool = False
    program: str = SRUN

    def attempt(self) -> Attempt:
        argv = (sys.executable, "-c", self.program, str(self.word))
        # No sign of progress is a reason to end the step at once.
        return Attempt(
            Launch(sys.executable, argv, dict(os.environ), "/"),
            Heartbeat("/nonexistent", 0),
            self._started,
            lambda *_: False,
            lambda _: (),
            lambda _: self.noticed,
            lambda: False,
        )

    def _started(self, step: Step) -> None:
        if self.superseded:
            raise SupersededError

    def spoke(self) -> bool:
        """Whether its child had a last word, once both are gone."""
        while any(str(self.word).encode() in _command(each) for each in Path("/proc").iterdir()):
            time.sleep(0.02)
        return self.word.exists()


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes() if process.name.isdigit() else b""
    except OSError:
        return b""


def test_a_dead_step_is_ended_and_srun_may_say_so(tmp_path: Path) -> None:
    srun = Srun(tmp_path / "word")
    ended = srun.attempt().run()
    assert (ended.status, ended.cause, ended.step) == (-9, Cause.HANG, Step(82, 0, 2))
    assert srun.spoke()


@pytest.mark.parametrize(
    ("seen", "asked"),
    [
        (["ab", "abm", "ab", "ab"], 0),  # a message came and went
        (["abm", "am", "a", "a"], 1),  # so it did, and a slurmstepd died
        (["ab", "a", "a"], 1),
        (["m", "ab", "ab"], 0),
        (["ab", "am", "am", "a", "a"], 1),
    ],
)
def test_a_slurmstepd_holds_its_connection_and_messages_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen: list[str], asked: int
) -> None:
    assert asks(monkeypatch, tmp_path, seen, float("inf")) == [Cause.CUT] * asked


@pytest.mark.parametrize(("seen", "asked"), [(["a", "a"], 1), (["", ""], 1), (["ab", "ab"], 0)])
def test_a_slurmstepd_that_was_gone_before_the_first_look_is_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen: list[str], asked: int
) -> None:
    assert asks(monkeypatch, tmp_path, seen, 0) == [Cause.CUT] * asked


def test_a_host_that_was_started_again_is_asked_about_until_slurmctld_can_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "AGAIN_SECONDS", (0.0, 0.0))
    asked = asks(monkeypatch, tmp_path, ["ab", *"aaaaaa"], float("inf"))
    assert asked == [Cause.CUT, Cause.SILENT, Cause.SILENT]


def asks(monkeypatch: pytest.MonkeyPatch, folder: Path, seen: list[str], whole_by: float) -> list[Cause]:
    """Return the questions of a step on two nodes whose srun had these connections, look after look."""
    causes: list[Cause] = []
    attempt = Srun(folder / "word").attempt()

    def suspected(step: Step, cause: Cause, child: Child) -> bool:
        causes.append(cause)
        return False

    attempt.suspected = suspected
    attempt.heartbeat, attempt.step = None, Step(82, 0, 2)
    attempt._next, attempt._whole_by = float("inf"), whole_by
    monkeypatch.setattr(watch, "SETTLE_SECONDS", 0.0)
    child = Child.start(sys.executable, [sys.executable, "-c", "pass"], os.environ, "/")
    for peers in seen:
        monkeypatch.setattr(liveness, "connections", lambda pid, peers=peers: frozenset(peers))
        attempt._lost(child, attempt.step)
    child.process.wait()
    return causes


def test_before_a_requeue_srun_has_no_last_word(tmp_path: Path) -> None:
    srun = Srun(tmp_path / "word", noticed=False)
    assert srun.attempt().run().status == -9
    assert not srun.spoke()


def test_after_a_requeue_srun_has_no_last_word(tmp_path: Path) -> None:
    srun = Srun(tmp_path / "word", superseded=True)
    with pytest.raises(SupersededError):
        srun.attempt().run()
    assert not srun.spoke()


def test_an_srun_that_waits_for_what_slurmctld_has_forgotten_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "WAITING_SECONDS", 0.0)
    srun = Srun(tmp_path / "word", program=SRUN.replace("os.write(int(os", "(lambda *_: 0)(int(os"))
    attempt, looks = srun.attempt(), list[float]()

    def forgotten() -> bool:
        looks.append(0)
        return len(looks) == 3

    attempt.forgotten = forgotten
    ended = attempt.run()
    assert (ended.forgotten, ended.step, ended.status) == (True, None, -9)
    assert not srun.spoke()


def test_what_slurmctld_has_forgotten_is_done_again_and_is_no_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = Ended(1, Cause.LOST, 9.0, Step(82, 0, 2), ended_by_user=False)
    forgotten = Ended(-9, Cause.EXIT, 0.0, None, ended_by_user=False, forgotten=True)
    attempts = [lost, forgotten, replace(lost, status=0, cause=Cause.EXIT)]
    answer, swaps = Answer("a", 0, Action.RETRYSTEP, ("n2",)), list[tuple[Answer, Ended]]()

    def swap(swap: Swap, answer: Answer, ended: Ended, launch: Launch) -> Launch:
        swaps.append((answer, ended))
        return launch

    monkeypatch.setattr(Supervisor, "_attempt", lambda supervisor: attempts.pop(0))
    monkeypatch.setattr(Supervisor, "_diagnose", lambda supervisor, ended: answer)
    monkeypatch.setattr(Swap, "swap", swap)
    job = OwnJob(Commands(), 82, 0)
    supervisor = Supervisor(job, Launch("srun", [], {}, "/"), Options(1, 0, None), lambda _: None)
    supervisor.step = Step(82, 0, 2)
    assert supervisor._attempts() == 0
    assert supervisor.attempt == 1
    assert swaps == [(answer, lost)] * 2


def test_a_step_that_does_not_tell_its_number_is_an_error_and_no_traceback() -> None:
    slurm = Commands(restarts=1, extra=messages.put("", WATCH))
    slurm.run = lambda *_, **__: Completed((), 0, "", "")  # type: ignore[method-assign]
    with pytest.raises(OperationFailed, match="did not print its number"):
        OwnJob(slurm, 82)._use_number_up()


def question(step: int) -> Request:
    return Request(f"{step:08x}", step, Phase.ASK, cause=Cause.LOST, exit_code=1, want=4, ran=100)


def test_a_question_waits_while_others_take_the_room_and_is_told_what_else_takes_it() -> None:
    slurm = Commands()
    job = OwnJob(slurm, 82)
    told = [job.tell(question(step)) for step in range(20)]
    assert told == sorted(told, reverse=True)
    first = told.index(False)
    assert first > 8
    assert len(slurm.extra) <= messages.MAX_EXTRA
    job.forget(0)
    assert job.tell(question(first))
    slurm.extra = "x" * 1000
    with pytest.raises(OperationFailed, match="1078 bytes, and Slurm takes 1024"):
        job.tell(question(3))


def test_a_supervisor_asks_as_soon_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: the agent is not missed before it could be asked."""
    moments = iter(range(0, 10**6, 20))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(moments)))
    slurm = Commands()
    job = OwnJob(slurm, 82)
    while job.tell(question(slurm.extra.count("id=") + 1)):
        pass
    supervisor = Supervisor(job, Launch("srun", [], {}, "/"), Options(1, 0, None), lambda _: None)
    supervisor.step, waits = Step(82, 0, 4), list[float]()

    def others_are_answered(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 5:
            slurm.extra = ""

    monkeypatch.setattr(child, "take_signal", others_are_answered)
    assert supervisor._ask(Cause.EXIT, 1, 0.3) is None, "nobody answers here"
    (asked,) = messages.requests(slurm.extra).values()
    assert (asked.step, asked.ran) == (0, 1)
    assert len(waits) > 5


def test_a_question_about_a_step_that_runs_says_how_long_it_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: 140.0)
    monkeypatch.setattr(Supervisor, "_ask", lambda _, cause, status, seconds, srun: asked.append(seconds))
    job, srun = OwnJob(Commands(), 82), Child(SimpleNamespace(), shares_terminal=False)  # type: ignore[arg-type]
    supervisor = Supervisor(job, Launch("srun", [], {}, "/"), Options(1, 0, None), lambda _: None)
    supervisor._started(Step(82, 0, 4))
    monkeypatch.setattr(time, "monotonic", lambda: 152.5)
    assert not supervisor._suspected(Step(82, 0, 4), Cause.SILENT, srun)
    assert asked == [12.5]


@dataclass
class Away:
    """A `Runner` whose slurmctld does not answer."""

    runs: int = 0

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        self.runs += 1
        return Completed(tuple(argv), 1, "", "Unable to contact slurm controller (connect failure)")


def test_while_slurmctld_is_away_the_end_of_srun_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """And signals go on to it: it is waited for as at any other time, also during a command."""
    looks = list[float]()
    slurm = Away()

    def goes_on(srun: Child, seconds: float) -> bool:
        looks.append(seconds)
        return slurm.runs < 3

    monkeypatch.setattr(Child, "outlasts", goes_on)

    def attempt(supervisor: Supervisor) -> int:
        supervisor._running = Srun(Path("word")).attempt()
        supervisor._running.child = Child(SimpleNamespace(), shares_terminal=False)  # type: ignore[arg-type]
        with pytest.raises(OperationFailed, match="Unable to contact"):
            supervisor.job.glance()
        return 7

    monkeypatch.setattr(child, "block_signals", lambda: None)  # this process goes on
    monkeypatch.setattr(Supervisor, "_enter", lambda _: None)
    monkeypatch.setattr(Supervisor, "_attempts", attempt)
    launch, job = Launch("srun", [], {}, "/"), OwnJob(slurm, 82)
    assert Supervisor(job, launch, Options(1, 0, None), lambda _: None).run() == 7
    assert slurm.runs == 3
    assert looks.count(2.0) == 3


def test_ends_of_other_processes_do_not_shorten_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.0, 0.4, 0.4, 2.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    waits = list[float]()
    srun = Child(SimpleNamespace(poll=lambda: None), shares_terminal=False)  # type: ignore[arg-type]
    monkeypatch.setattr(child, "_await", lambda _, seconds: waits.append(seconds))
    assert srun.outlasts(1.0)
    assert waits == [1.0, 0.6]


LISTENS = """
from hpadmin.recovery.resume.child import block_signals, take_signal
block_signals()
print("ready", flush=True)
while (got := take_signal(0.01)) != 15:
    if got is not None:
        print(got.name, flush=True)
print(got.name)
"""


def test_a_supervisor_that_is_stopped_and_goes_on_hears_no_signals_that_nobody_sent() -> None:
    """It is stopped by Ctrl-Z, or because the job is suspended."""
    process = subprocess.Popen([sys.executable, "-c", LISTENS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(5):
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED)
        time.sleep(0.02)  # the stop is to be longer than the wait that it interrupts
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "SIGCONT\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[0] == "SIGTERM\n"


def test_a_job_that_is_suspended_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt, now, stands = Srun(tmp_path / "word").attempt(), [100.0], [True]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    attempt.suspended = lambda: stands[0]
    attempt._progress = Progress(Heartbeat(str(tmp_path / "beat"), 30), 82, 100.0)
    found = list[float]()
    while not found and now[0] < 1000:
        now[0] += 1
        stands[0] = now[0] < 500
        if attempt._hangs():
            found.append(now[0])
    assert found, "it hangs after all"
    assert 530 <= found[0] <= 540


def test_a_retry_that_gets_no_step_says_how_srun_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()
    job = OwnJob(Commands(), 82, 0)
    supervisor = Supervisor(job, Launch("srun", [], {}, "/"), Options(1, 0, None), said.append)
    supervisor.step, supervisor.attempt = Step(82, 0, 2), 1
    monkeypatch.setattr(
        Supervisor, "_attempt", lambda _: Ended(2, Cause.EXIT, 0.5, None, ended_by_user=False)
    )
    assert supervisor._attempts() == 2
    assert "Step failed: srun exited with status 2 before its step was created: it is not resumed." in said[0]
