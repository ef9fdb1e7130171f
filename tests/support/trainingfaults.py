"""What may happen to a training over several nodes, and what auto-resume is to make of it.

The last column of the table: how often the step starts again. A slurmd that dies or hangs alone hurts no step; where a
second node dies because it has just joined, there are two recoveries, one a fault.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from hpadmin.lab.cluster import Lab
from tests.support import faults, labs
from tests.support.training import Agent, Training, idle_nodes, wait_for_idle

PATIENCE = 420.0
"""Seconds that a training may take with a fault in its middle."""
_BREAK_AT = 10


@dataclass(frozen=True, slots=True)
class Mode:
    """How the training asks for its nodes."""

    name: str
    group: str
    options: tuple[str, ...]
    free: int
    """Idle nodes that a training begins with: its own, and those that take the place of the ones it loses."""


MODES = (
    Mode("no GRES", "cpu", ("-p", "cpu"), 6),
    Mode("GRES", "gpu", ("-p", "gpu", "--gres=gpu:4"), 6),
    Mode("GRES, one spare", "gpu", ("-p", "gpu", "--gres=gpu:4", "--auto-resume-spares=1"), 5),
)
_ALL = tuple(mode.name for mode in MODES)
_GRES = _ALL[1:]
_NO_SPARE = _ALL[:2]
"""For what a spare makes no difference to, or one spare is not enough for."""


@dataclass(frozen=True, slots=True)
class TrainingFault:
    """One way to break a training. `inject` is given the nodes to break, and waits for nothing else before it does.

    `prepare` is done before, and returns what undoes it.
    """

    name: str
    inject: Callable[[Lab, Training, Sequence[str]], object]
    victims: Callable[[Training], list[str]] = lambda training: training.followers()[:1]
    recoveries: int = 1
    modes: tuple[str, ...] = _ALL
    prepare: Callable[[Lab, Training, Sequence[str]], Callable[[], object]] = lambda *_: lambda: None
    pause: float = 0.4
    """Seconds between two steps of the training: longer where `prepare` takes its time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the table. Times are seconds from the fault."""

    mode: str
    fault: str
    state: str
    same_result: bool
    recoveries: int
    how: str
    known: float | None
    """The agent has decided which nodes are bad, or that the step is lost."""
    running: float | None
    """All ranks are there again and training goes on; after the last recovery where there are several."""
    after_known: float | None
    """From the last verdict to running again."""
    left_behind: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def _machine(kind: str) -> Callable[[Lab, Training, Sequence[str]], None]:
    def inject(lab: Lab, _: Training, victims: Sequence[str]) -> None:
        for victim in victims:
            faults.break_node(lab, victim, kind)

    return inject


def _slurmd(lab: Lab, _: Training, victims: Sequence[str]) -> None:
    lab.runner(victims[0]).run(["pkill", "-KILL", "-x", "slurmd"], timeout=30).check()


def _stopped(lab: Lab, _: Training, victims: Sequence[str]) -> None:
    lab.runner(victims[0]).run(["pkill", "-STOP", "-x", "slurmd"], timeout=30).check()


def _slurmstepd(lab: Lab, training: Training, victims: Sequence[str]) -> None:
    # The step's, not the batch script's: its title is "slurmstepd: [JOB.STEP]".
    pattern = rf"^slurmstepd: \[{training.job}\.[0-9]+\]"
    lab.runner(victims[0]).run(["pkill", "-KILL", "-f", pattern], timeout=30).check()


def _device(kind: str) -> Callable[[Lab, Training, Sequence[str]], None]:
    """A GPU goes, and the program that used it ends with it, as one that uses CUDA does."""

    def inject(lab: Lab, training: Training, victims: Sequence[str]) -> None:
        faults.break_node(lab, victims[0], kind)
        lab.runner(victims[0]).run(["pkill", "-ABRT", "-f", training.pattern], timeout=60).check()

    return inject


def _bad_replacement(lab: Lab, training: Training, victims: Sequence[str]) -> None:
    """The node that takes a lost one's place dies as soon as the training runs on it."""
    before = set(training.nodes())
    starts = len(training.starts(training.output()))
    faults.break_node(lab, victims[0], "kill")

    def joined() -> list[str] | None:
        if len(training.starts(training.output())) == starts:
            return None
        return [node for node in training.nodes() if node not in before] or list(victims)

    fresh = labs.wait_until(joined, PATIENCE / 2, "another node in the place of the lost one", pause=0.5)
    faults.break_node(lab, fresh[0], "kill")


def _rebooted_later(lab: Lab, _: Training, victims: Sequence[str]) -> Callable[[], object]:
    return lambda: lab.reboot(victims[0])


def _woken_later(lab: Lab, _: Training, victims: Sequence[str]) -> Callable[[], object]:
    # Where its node was replaced meanwhile, nobody is there to be woken.
    return lambda: lab.runner(victims[0]).run(["pkill", "-CONT", "-x", "slurmd"], timeout=30)


def _nobody_idle(lab: Lab, training: Training, _: Sequence[str]) -> Callable[[], object]:
    """Keep all other nodes at work."""
    partition = training.field("Partition")
    others = idle_nodes(lab, partition)
    arguments = ["-p", partition, f"-N{len(others)}", "-w", ",".join(others), "--exclusive"]
    blocker = labs.submit(lab, *arguments, "--wrap", "sleep 3600")
    labs.wait_for_state(lab, blocker, "RUNNING")
    return lambda: labs.login(lab, "scancel", str(blocker))


TRAINING_FAULTS = (
    TrainingFault("slurmd killed", _slurmd, recoveries=0, modes=_NO_SPARE, prepare=_rebooted_later),
    TrainingFault("slurmd hangs", _stopped, recoveries=0, modes=_NO_SPARE, prepare=_woken_later),
    TrainingFault("slurmstepd killed alone", _slurmstepd, modes=_NO_SPARE),
    TrainingFault("container killed", _machine("kill")),
    TrainingFault("network cut", _machine("disconnect")),
    TrainingFault("node paused", _machine("pause")),
    TrainingFault("GPU lost", _device("GPU device gone"), modes=_GRES),
    TrainingFault("Xid 79", _device("Xid 79 in the kernel log"), modes=_GRES),
    TrainingFault(
        "batch host killed",
        _machine("kill"),
        modes=_NO_SPARE,
        victims=lambda training: [training.batch_host()],
    ),
    TrainingFault(
        "two nodes at once",
        _machine("kill"),
        modes=_NO_SPARE,
        victims=lambda training: training.followers()[:2],
    ),
    TrainingFault("a replacement that is bad too", _bad_replacement, recoveries=2, modes=_NO_SPARE),
    TrainingFault(
        "no idle node until the lost one is back",
        _machine("kill"),
        modes=_NO_SPARE,
        prepare=_nobody_idle,
        pause=1.5,
    ),
)


def undisturbed(lab: Lab, mode: Mode) -> str:
    """The result of a training that nothing happens to."""
    with contextlib.closing(Training.submit(lab, *mode.options, pause=0)) as training:
        assert training.wait_for_end(PATIENCE) in ("COMPLETED", "COMPLETING"), training.output()
        return training.result()


def under(lab: Lab, agent: Agent, mode: Mode, fault: TrainingFault, expected: str) -> Outcome:
    """Train, break it in the middle, and tell what became of it."""
    with contextlib.closing(Training.submit(lab, *mode.options, pause=fault.pause)) as training:
        return _broken(training, agent, mode, fault, expected)


def _broken(training: Training, agent: Agent, mode: Mode, fault: TrainingFault, expected: str) -> Outcome:
    lab = training.lab
    training.wait_for_step(_BREAK_AT)
    victims = fault.victims(training)
    undo = fault.prepare(lab, training, victims)
    at = time.time()
    try:
        fault.inject(lab, training, victims)
        state = training.wait_for_end(PATIENCE)
    except AssertionError:
        state = f"still {training.field('JobState')} after {PATIENCE:g} s"
        labs.login(lab, "scancel", str(training.job))
    finally:
        undo()
    resumed = [each for each in agent.incidents(training.job) if each.action in ("RETRYSTEP", "REQUEUE")]
    verdicts = [each for each in agent.verdicts(training.job) if each > at]
    starts = training.starts(training.output())
    again = starts[-1].at if len(starts) > 1 else None
    after = None if again is None or not verdicts else again - verdicts[-1]
    return Outcome(
        mode=mode.name,
        fault=fault.name,
        state=state,
        same_result=training.result() == expected,
        recoveries=len(resumed),
        how=", ".join(each.action for each in resumed),
        known=round(verdicts[0] - at, 1) if verdicts else None,
        running=None if again is None else round(again - at, 1),
        after_known=None if after is None else round(after, 1),
        left_behind=training.helpers(),
    )


def record(
    agent: Agent,
    chosen: Sequence[tuple[Mode, TrainingFault]],
    *,
    tell: Callable[[Outcome], object] = lambda _: None,
) -> list[Outcome]:
    """Each in turn, on healthy nodes; trainings without and with GRES go on at the same time, on nodes of their own."""

    def half(group: str) -> list[Outcome]:
        expected, outcomes = "", []
        for mode, fault in chosen:
            if mode.group == group:
                wait_for_idle(agent.lab, group, mode.free, patience=240)
                expected = expected or undisturbed(agent.lab, mode)
                outcomes.append(under(agent.lab, agent, mode, fault, expected))
                tell(outcomes[-1])
        return outcomes

    groups = list(dict.fromkeys(mode.group for mode, _ in chosen))
    with ThreadPoolExecutor(len(groups)) as pool:
        return [outcome for outcomes in pool.map(half, groups) for outcome in outcomes]


@dataclass(frozen=True, slots=True)
class StockOutcome:
    """What Slurm alone makes of a fault. Times are seconds from it; None where it did not happen while watched."""

    fault: str
    noticed: float | None
    """The job was no longer in state RUNNING."""
    running: float | None
    """All ranks are there again."""
    state: str
    """Of the job, when watching ended."""


STOCK = ("slurmstepd killed alone", "container killed", "network cut", "node paused", "batch host killed")
"""One for each training that a lab for `stock` has nodes for. A slurmd that dies alone hurts nobody here either."""


def stock(lab: Lab, mode: Mode, watched: float) -> list[StockOutcome]:
    """Do all of `STOCK` at once, each to a training of its own without auto-resume, and watch for `watched` seconds."""
    faults_ = [fault for fault in TRAINING_FAULTS if fault.name in STOCK]
    with contextlib.ExitStack() as stack:
        trainings = [
            stack.enter_context(contextlib.closing(Training.submit(lab, *mode.options, resume=False)))
            for _ in faults_
        ]
        for training in trainings:
            training.wait_for_step(_BREAK_AT)
        began, noticed = {}, dict[str, float]()
        for fault, training in zip(faults_, trainings, strict=True):
            victims = fault.victims(training)
            began[fault.name] = time.time()
            fault.inject(lab, training, victims)
        end = time.monotonic() + watched
        while time.monotonic() < end:
            for fault, training in zip(faults_, trainings, strict=True):
                if fault.name not in noticed and training.field("JobState") != "RUNNING":
                    noticed[fault.name] = round(time.time() - began[fault.name], 1)
            time.sleep(1)
        return [
            StockOutcome(
                fault.name,
                noticed.get(fault.name),
                next((round(start.at - began[fault.name], 1) for start in starts[1:]), None),
                training.field("JobState"),
            )
            for fault, training in zip(faults_, trainings, strict=True)
            for starts in [training.starts(training.output())]
        ]
