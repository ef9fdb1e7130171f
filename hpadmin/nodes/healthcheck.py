"""The whole health check of this node, and what follows from it: ``python3 -m hpadmin.nodes.healthcheck``.

Run by the light check (`slurm_plugins/health/hpadmin-health`), which runs far more often and only asks whether
anything could be wrong. The verdict goes to the node's Extra when it changes; a fault that calls for a repair also
puts the node into FAIL under our Reason, unless somebody else keeps it out already. What a fault of the kernel log
told stays true until the next boot.

A slurmd checks when it starts, before it registers, and then when slurmctld says so, every HealthCheckInterval. So the
verdict of a new boot is there when Slurm sees the node again; it names its boot, as Slurm cannot tell one from another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hpadmin.errors import HpadminError, OperationFailed
from hpadmin.nodes import checks, healthconf, reasons
from hpadmin.nodes.checks import Facts, LogPosition
from hpadmin.nodes.faults import FaultAction, Finding, kernel_findings
from hpadmin.nodes.reasons import Owner
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.slurm.command import Local, printable
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.control import CommandControl, NewState, SlurmControl
from hpadmin.slurm.reader import SlurmReader

STATE = Path("/run/hpadmin/health")
SICK = 3
"""Exit code on a node that calls for a repair: not 1, with which Python ends where it cannot even begin."""
ERROR = 2
"""Exit code of a check that could not be made, or not told: it says nothing of the node."""
_TOOLS = 45.0
"""Seconds, from the check's start, for all programs that it runs. slurmd ends the check after 60
(`run_script_health_check`, src/slurmd/slurmd/slurmd.c), and what they found must be told before."""
_TOOLS_BY_HAND = 110.0
"""The same where a person waits, and no slurmd."""
_WATCH = 300
_REPAIRS = (FaultAction.REBOOT, FaultAction.REPLACE)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is kept between two checks of one boot."""

    boot: str
    position: LogPosition | None = None
    kernel: tuple[Finding, ...] = ()
    """Faults of the kernel log: still there until the next boot."""


@dataclass(frozen=True, slots=True)
class Result:
    """One check's outcome."""

    findings: tuple[Finding, ...]
    verdict: Verdict
    report: HealthReport
    position: LogPosition


def boot_identity() -> str:
    """Return what changes with every boot, of a machine or of a container: the boot's id and when its init began."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # Field 22 of proc_pid_stat(5); the name before it may hold blanks and parentheses.
    started = Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot}:{started}"


def conclude(
    expected: healthconf.Expected, remembered: Remembered, facts: Facts, *, at: float
) -> tuple[Result, Remembered]:
    """Return what the facts come to, and what to remember."""
    found = checks.judge(expected, facts)
    codes = {each.code for each in kernel_findings(facts.kernel_lines, expected.actions)}
    fresh = [each for each in found if each.code in codes and each.action in _REPAIRS]
    kernel = tuple({each.code: each for each in (*remembered.kernel, *fresh)}.values())
    findings = tuple({(each.code, each.text): each for each in (*found, *remembered.kernel)}.values())
    worst = checks.worst(findings)
    failed = worst is not None and worst.action in _REPAIRS
    verdict = Verdict.FAILED if failed else Verdict.PASSED
    report = HealthReport(
        verdict,
        at,
        worst.code if worst is not None and worst.action is not FaultAction.NONE else "",
        worst.action.value if worst is not None and worst.action is not FaultAction.NONE else "",
        _short(worst.text) if worst is not None else "",
        hashlib.sha256(remembered.boot.encode()).hexdigest()[:12],
    )
    result = Result(findings, verdict, report, facts.log_position)
    return result, Remembered(remembered.boot, facts.log_position, kernel)


def _short(text: str) -> str:
    """Make evidence fit for a Reason and for Extra: one line, no quotes, not long."""
    return re.sub(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029]+', " ", printable(text)).strip()[:160]


def tell(
    node: str, report: HealthReport, reader: SlurmReader, control: SlurmControl, *, mine: str = ""
) -> str:
    """Bring the verdict into Slurm: the report if it is news, the mark if a repair is called for and nobody else's.

    Returns the Reason of the mark; empty for none. `mine` is the one that this check made before: a graver fault takes
    its place. Raises OperationFailed when Slurm does not answer.
    """
    marked = mine
    seen = reader.node(node)
    if seen is None:
        raise OperationFailed(f"Slurm has no node {node}")
    if report.verdict is Verdict.FAILED and report.action in (action.value for action in _REPAIRS):
        owner = reasons.read(seen.reason).owner
        reason = reasons.write(report.action, f"{report.fault}: {report.text}")
        free = not seen.state.kept_out or (seen.state.down and owner is Owner.NOBODY)
        if free or (mine and seen.reason == mine != reason):
            control.set_state([node], NewState.FAIL, reason)
            marked = reason
    old = HealthReport.read(seen.extra)
    news = (
        old is None
        or (old.verdict, old.fault, old.action) != (report.verdict, report.fault, report.action)
        or old.boot != report.boot
    )
    merged = report.merged_into(seen.extra) if news else None
    if merged is not None:
        control.set_extra(node, merged)
    return marked


def recall(folder: Path) -> Remembered:
    """Return what was remembered in this boot; nothing after another one."""
    boot = boot_identity()
    try:
        data = json.loads((folder / "state.json").read_text())
        if data["boot"] != boot:
            return Remembered(boot)
        kernel = tuple(
            Finding(each["code"], FaultAction(each["action"]), each["text"]) for each in data["kernel"]
        )
        return Remembered(boot, LogPosition(**data["position"]) if data["position"] else None, kernel)
    except (OSError, ValueError, KeyError, TypeError):
        return Remembered(boot)


def remember(
    folder: Path,
    remembered: Remembered,
    expected: healthconf.Expected,
    result: Result,
    *,
    slurmd: int | None,
) -> None:
    """Keep the state, and for a healthy node the screen by which the light check knows that all is as it was.

    `slurmd` is the process of the slurmd that runs this check; None when it is run for a job, which leaves no screen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "state.json", json.dumps(asdict(remembered)))
    if result.verdict is not Verdict.PASSED:
        (folder / "screen").unlink(missing_ok=True)
    elif slurmd is not None:
        # What is only watched need not be looked at every minute.
        again = bool(result.findings or expected.externals)
        _write(folder / "screen", screen(expected, result.position, slurmd=slurmd, again=again))


def screen(expected: healthconf.Expected, position: LogPosition, *, slurmd: int, again: bool) -> str:
    """Return the expectations in the light check's own form: a kind and its words a line, separated by tabs.

    `slurmd` is the process that they hold for. `again`: the whole check is due after `_WATCH` seconds even if they
    all hold, as programs of the site and what is only watched cannot be foreseen.
    """
    lines = [f"slurmd\t{slurmd_identity(slurmd)}", f"config\t{healthconf.DEFAULT_PATH}\t{_mtime()}"]
    if expected.devices and expected.accelerators:
        folder, _, pattern = expected.devices.rpartition("/")
        prefix = pattern.partition("[")[0].partition("*")[0]
        lines.append(f"count\t{folder}\t{prefix}\t{expected.accelerators}")
    if expected.efa:
        lines.append(f"count\t/sys/class/infiniband\t\t{expected.efa}")
    if position.path:
        lines.append(f"log\t{position.path}\t{position.inode}\t{position.offset}")
    elif expected.kernel_log != "none":
        lines.append(f"absent\t{checks.LOG if expected.kernel_log == 'auto' else expected.kernel_log}")
    lines += [f"mount\t{place}" for place in expected.mounts]
    lines += [f"disk\t{place}\t{least}" for place, least in expected.disks.items()]
    if again:
        lines.append(f"until\t{time.time() + _WATCH:.0f}")
    return "\n".join(lines) + "\n"


def slurmd_identity(process: int) -> str:
    """Return a process and when it began: another one is another slurmd. ``0`` when it is gone."""
    try:
        began = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "0"
    return f"{process}:{began}"


def _mtime() -> int:
    try:
        return healthconf.DEFAULT_PATH.stat().st_mtime_ns
    except OSError:
        return 0


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def node_name() -> str:
    """Return this node's name in Slurm: as slurmd tells the programs that it runs, else the short host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Check, tell Slurm, remember. Returns 0 for a healthy node, `SICK` for one that wants a repair, else `ERROR`."""
    parser = argparse.ArgumentParser(prog="hpadmin-health", description="Check this node's health.")
    parser.add_argument("--config", type=Path, default=healthconf.DEFAULT_PATH)
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--json", action="store_true", help="print the findings; change nothing")
    parser.add_argument("--job", action="store_true", help="run by a prolog or epilog, not by slurmd itself")
    parser.add_argument("--no-tools", action="store_true", help="run no programs, only look")
    given = parser.parse_args(argv)
    try:
        result = _check(given)
    except (HpadminError, OSError) as error:
        sys.stderr.write(f"hpadmin-health: {error}\n")
        return ERROR
    except Exception:  # whatever is wrong with this program, the node is not to blame for it
        traceback.print_exc()
        return ERROR
    return SICK if result.verdict is Verdict.FAILED else 0


def _check(given: argparse.Namespace) -> Result:
    """Check this host once. What needs no tool is told before any is run: one that hangs must not keep it back."""
    began, at = time.monotonic(), time.time()
    expected, known = healthconf.load(given.config), recall(given.state)
    facts = checks.gather(expected, known.position)
    result, remembered = conclude(expected, known, facts, at=at)
    slurm = (CommandReader(Local()), CommandControl(Local()))
    mine = ""
    if result.verdict is Verdict.FAILED and not given.json:
        mine = tell(node_name(), result.report, *slurm)
    if not given.no_tools:
        seconds = _TOOLS_BY_HAND if given.json else _TOOLS - (time.monotonic() - began)
        facts = checks.ask_tools(expected, facts, Local(), seconds=seconds)
        result, remembered = conclude(expected, known, facts, at=at)
    if given.json:
        _print(result)
    else:
        tell(node_name(), result.report, *slurm, mine=mine)
        remember(given.state, remembered, expected, result, slurmd=None if given.job else os.getppid())
    return result


def _print(result: Result) -> None:
    findings = [
        {"code": each.code, "action": each.action.value, "text": each.text} for each in result.findings
    ]
    sys.stdout.write(json.dumps({"health": result.verdict.value, "findings": findings}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
