"""Deep checks: stress, DCGM's long diagnostics, NCCL, EFA loopback, on nodes that a reservation keeps empty.

    [[deep]]                                   # in /etc/hpadmin/deep.toml
    name = "dcgm-4"
    command = ["dcgmi", "diag", "-r", "4", "-j"]
    form = "dcgmi"
    timeout = 10800

    [[deep]]
    name = "nccl"
    command = ["/opt/hpadmin/checks/nccl.sh"]  # prints HEALTH_CHECK_RESULT lines
    form = "result-line"
    together = true                            # one run over all nodes, not one on each

Never on a busy node: only idle ones are chosen, and the reservation is made without IGNORE_JOBS, so that Slurm itself
refuses it where a job was quicker. The checks are Slurm jobs in that reservation. A node that fails is marked for
repair as any other; a reservation that is left behind by a crash ends by itself.
"""

from __future__ import annotations

import contextlib
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpadmin.errors import InvalidInput, OperationFailed, Problem
from hpadmin.nodes import external, reasons
from hpadmin.nodes.external import External
from hpadmin.nodes.faults import FaultAction, Finding, gravest
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.slurm.command import Completed, Runner
from hpadmin.slurm.control import NewState, SlurmControl
from hpadmin.slurm.hostlist import fold
from hpadmin.slurm.reader import NodeInfo, SlurmReader
from hpadmin.slurm.states import NodeBase

DEFAULT_PATH = Path("/etc/hpadmin/deep.toml")
RESERVATION = "hpadmin-deep-check"
_SPARE_MINUTES = 10
_BEGUN = "hpadmin-deep-check begun on "
_LATE = "hpadmin-deep-check out of time on "
_BEGIN = (
    'command -v "$1" >/dev/null || { echo "$1 is no program there" >&2; exit 127; };'
    f' echo "{_BEGUN}$SLURMD_NODENAME";'
    ' timeout -k 5 "$0" "$@"; status=$?;'
    f' [ $status -ne 124 ] || {{ echo "{_LATE}$SLURMD_NODENAME"; status=1; }};'
    " exit $status"
)
"""Run on each node: srun fails for many reasons that are none of the node's, and only then nothing is printed."""
_START_SECONDS = 120.0
"""For a job in a reservation of its own to start, and to end after its time is over."""


@dataclass(frozen=True, slots=True)
class DeepCheck:
    """One check; `together` runs it once over all nodes, else once on each."""

    check: External
    together: bool = False


@dataclass(frozen=True, slots=True)
class DeepResult:
    """What became of one node. `skipped` says why it was not checked."""

    node: str
    findings: tuple[Finding, ...] = ()
    skipped: str = ""

    @property
    def worst(self) -> Finding | None:
        return gravest(self.findings)

    @property
    def passed(self) -> bool:
        worst = self.worst
        return not self.skipped and (worst is None or worst.action in (FaultAction.NONE, FaultAction.MONITOR))


def load(path: Path = DEFAULT_PATH) -> tuple[DeepCheck, ...]:
    """Read the deep checks. Raises InvalidInput with all problems, also when there are none."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(f"no deep checks are configured: {path} is not there") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from error
    problems = [Problem(key, "no such table") for key in data.keys() - {"deep"}]
    checks = []
    for index, entry in enumerate(data.get("deep", [])):
        together = entry.get("together", False)
        if not isinstance(together, bool):
            problems.append(Problem(f"deep[{index}].together", f"must be true or false, not {together!r}"))
        try:
            plain = {key: value for key, value in entry.items() if key != "together"}
            checks.append(DeepCheck(External.from_mapping(plain), bool(together)))
        except InvalidInput as error:
            problems += [Problem(f"deep[{index}].{each.path}", each.message) for each in error.problems]
    if not checks and not problems:
        problems.append(Problem("deep", "has no checks"))
    if problems:
        raise InvalidInput(f"{path} is not valid", problems)
    return tuple(checks)


def unfit(node: NodeInfo, jobs: Sequence[int]) -> str:
    """Say why a node cannot be checked now; empty when it can. Pure."""
    if jobs:
        return f"is busy: {'job' if len(jobs) == 1 else 'jobs'} {', '.join(map(str, jobs))}"
    if node.reservation:
        return f"is in the reservation {node.reservation}"
    if not node.state.schedulable or node.state.base is not NodeBase.IDLE:
        return f"is {node.state}"
    return ""


@dataclass(frozen=True, slots=True)
class DeepRun:
    """Runs deep checks. `runner` is where Slurm's commands run, `clock` tells epoch seconds."""

    reader: SlurmReader
    control: SlurmControl
    runner: Runner
    checks: tuple[DeepCheck, ...]
    say: Callable[[str], None]
    clock: Callable[[], float] = time.time

    def run(self, names: Sequence[str], jobs_on: Mapping[str, Sequence[int]]) -> tuple[DeepResult, ...]:
        """Check the nodes that can be; mark those that fail. Raises OperationFailed when Slurm does not do its part."""
        found = {node.name: node for node in self.reader.nodes()}
        skipped = {name: unfit(found[name], jobs_on.get(name, ())) for name in names}
        chosen = [name for name in names if not skipped[name]]
        results = [DeepResult(name, skipped=why) for name, why in skipped.items() if why]
        if chosen:
            with self._isolated(chosen) as reservation:
                results += self._check([found[name] for name in chosen], reservation)
            self._tell(results)
        order = list(names)
        return tuple(sorted(results, key=lambda result: order.index(result.node)))

    @contextlib.contextmanager
    def _isolated(self, names: Sequence[str]) -> Iterator[str]:
        """Keep everybody else off the nodes. Slurm refuses where one of them has become busy."""
        patience = sum(
            (each.check.timeout + _START_SECONDS) * (1 if each.together else len(names))
            for each in self.checks
        )
        reservation = f"{RESERVATION}-{int(self.clock())}"
        self.control.reserve(reservation, names, minutes=int(patience / 60) + _SPARE_MINUTES, flags=["MAINT"])
        try:
            yield reservation
        finally:
            self.control.release_reservation(reservation)

    def _check(self, nodes: Sequence[NodeInfo], reservation: str) -> list[DeepResult]:
        findings: dict[str, list[Finding]] = {node.name: [] for node in nodes}
        skipped: dict[str, str] = {}
        for each in self.checks:
            for group in [list(nodes)] if each.together else [[node] for node in nodes]:
                self.say(f"{each.check.name} on {fold([node.name for node in group])}")
                for name, seen in self._run(each.check, group, reservation):
                    if isinstance(seen, str):
                        skipped[name] = f"{each.check.name} did not begin there: {seen}"
                    else:
                        findings[name] += seen
        return [DeepResult(name, tuple(seen), skipped.get(name, "")) for name, seen in findings.items()]

    def _run(
        self, check: External, nodes: Sequence[NodeInfo], reservation: str
    ) -> Iterator[tuple[str, tuple[Finding, ...] | str]]:
        """Run one check as a job; what a line says of a host counts for that host, the rest for all.

        Where it did not begin, that is told instead of findings.
        """
        names = [node.name for node in nodes]
        argv = [
            "srun",
            f"--reservation={reservation}",
            f"--partition={','.join(partitions(nodes))}",
            f"--nodelist={fold(names)}",
            f"--nodes={len(names)}",
            f"--ntasks={len(names)}",
            "--ntasks-per-node=1",
            "--exclusive",
            "--quiet",
            f"--job-name={RESERVATION}",
            *("sh", "-c", _BEGIN, f"{check.timeout:g}"),
            *check.command,
        ]
        try:
            done = self.runner.run(argv, timeout=check.timeout + _START_SECONDS)
        except OperationFailed as error:
            done = Completed(tuple(argv), 1, "", error.message)
        lines = set(done.stdout.splitlines())
        for name in names:
            if f"{_LATE}{name}" in lines:
                late = Completed(done.argv, 1, "", f"did not end within {check.timeout:g} s")
                yield name, external.judge(check, late)
            elif f"{_BEGUN}{name}" in lines:
                yield name, external.judge(check, _of_host(name, done))
            else:
                yield name, done.stderr.strip().replace("\n", "; ") or f"srun exited {done.returncode}"

    def _tell(self, results: Sequence[DeepResult]) -> None:
        """Report and mark: a node that fails a deep check is replaced, whatever the check asked for."""
        for result in results:
            node = self.reader.node(result.node)
            worst = result.worst
            if result.skipped or node is None or worst is None or result.passed:
                continue
            text = f"deep check: {worst.text}"
            report = HealthReport(
                Verdict.FAILED, self.clock(), worst.code, FaultAction.REPLACE.value, text[:160]
            )
            if not node.state.kept_out:
                reason = reasons.write(FaultAction.REPLACE.value, f"{worst.code}: {text}")
                self.control.set_state([result.node], NewState.FAIL, reason)
            merged = report.merged_into(node.extra)
            if merged is not None:
                self.control.set_extra(result.node, merged)


def partitions(nodes: Sequence[NodeInfo]) -> tuple[str, ...]:
    """Return the partitions that a job on all of `nodes` may be in: those of all, else any of them. Pure."""
    every = dict.fromkeys(name for node in nodes for name in node.partitions)
    common = tuple(name for name in every if all(name in node.partitions for node in nodes))
    return common or tuple(every)


def _of_host(name: str, done: Completed) -> Completed:
    """Leave out the result lines of other hosts, and what is ours."""
    marker = "HEALTH_CHECK_RESULT:"
    lines = [
        line
        for line in done.stdout.splitlines()
        if not line.startswith((_BEGUN, _LATE))
        and (not line.startswith(marker) or line[len(marker) :].partition(":")[0].partition(".")[0] == name)
    ]
    return replace(done, stdout="\n".join(lines))
