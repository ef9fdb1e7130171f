"""Checkers that a site has already: run as they are, their words turned into findings.

Forms of output:

* ``result-line``  ``HEALTH_CHECK_RESULT:host:Passed|Failed|Skipped:none|reboot|replace:reason``
* ``exit``         0 is well, anything else is not: LBNL NHC and most scripts
* ``nagios``       0 well, 1 a warning, 2 critical, 3 unknown: the `health_checks` of gpucm
* ``dcgmi``        the JSON of ``dcgmi diag -r LEVEL -j``
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hpadmin.errors import InvalidInput, OperationFailed, Problem
from hpadmin.nodes.faults import FaultAction, Finding, finding
from hpadmin.slurm.command import Completed, Runner

_RESULT = re.compile(
    r"^HEALTH_CHECK_RESULT:(?P<host>[^:]*):(?P<status>Passed|Failed|Skipped):(?P<action>none|reboot|replace):(?P<why>.*)$",
    re.MULTILINE,
)
_DCGM = {2: "dcgm-isolate", 6: "dcgm-reset"}
"""Fault code of a DCGM error severity: ISOLATE and RESET (dcgm_errors.h)."""


@dataclass(frozen=True, slots=True)
class External:
    """One checker of the site."""

    name: str
    command: tuple[str, ...]
    form: str
    action: FaultAction = FaultAction.MONITOR
    """Of a failure that names none itself."""
    timeout: float = 60
    """Seconds."""

    @staticmethod
    def from_mapping(entry: Mapping[str, Any]) -> External:
        """Check and take one ``[[external]]``. Raises InvalidInput with every problem."""
        problems = [
            Problem(key, "no such setting")
            for key in entry.keys() - {"name", "command", "form", "action", "timeout"}
        ]
        name, command, form = entry.get("name"), entry.get("command"), entry.get("form", "exit")
        action, timeout = entry.get("action", "monitor"), entry.get("timeout", 60)
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            problems.append(Problem("name", "must be a short name of letters, digits, '.', '_' and '-'"))
        if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
            problems.append(Problem("command", "must be a list: the program and its arguments"))
        if form not in list(FORMS):
            problems.append(Problem("form", f"must be one of {', '.join(FORMS)}, not {form!r}"))
        if action not in list(FaultAction):
            problems.append(Problem("action", f"must be one of {', '.join(FaultAction)}, not {action!r}"))
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
            problems.append(Problem("timeout", f"must be a positive number of seconds, not {timeout!r}"))
        if problems:
            raise InvalidInput("an external check is not valid", problems)
        return External(str(name), tuple(command or ()), form, FaultAction(action), float(timeout))


def run(check: External, runner: Runner, *, left: float = float("inf")) -> tuple[Finding, ...]:
    """Run a checker, for `left` seconds at most. One that cannot be run or does not end is itself a finding."""
    if left <= 0:
        return (finding("external", f"{check.name} was not run: those before it took all the time there is"),)
    try:
        done = runner.run(check.command, timeout=min(check.timeout, left))
    except OperationFailed as error:
        return (finding("external", f"{check.name}: {error.message}"),)
    return judge(check, done)


def judge(check: External, done: Completed) -> tuple[Finding, ...]:
    """Turn what a checker said, whatever that is, into findings. Pure."""
    return tuple(FORMS[check.form](check, done))


def _said(done: Completed) -> str:
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return lines[-1].strip() if lines else f"exit {done.returncode}"


def _result_line(check: External, done: Completed) -> Iterator[Finding]:
    lines = list(_RESULT.finditer(done.stdout))
    if not lines:
        yield finding("external", f"{check.name} printed no result: {_said(done)}")
    for line in lines:
        if line["status"] == "Failed":
            action = FaultAction.MONITOR if line["action"] == "none" else FaultAction(line["action"])
            yield finding("external", f"{check.name}: {line['why'].strip()}", action=action)


def _exit(check: External, done: Completed) -> Iterator[Finding]:
    if done.returncode != 0:
        yield finding("external", f"{check.name}: {_said(done)}", action=check.action)


def _nagios(check: External, done: Completed) -> Iterator[Finding]:
    if done.returncode == 2:
        yield finding("external", f"{check.name}: {_said(done)}", action=check.action)
    elif done.returncode != 0:
        yield finding("external", f"{check.name}: {_said(done)}")


def _dcgmi(check: External, done: Completed) -> Iterator[Finding]:
    try:
        yield from list(_dcgm_report(check, json.loads(done.stdout)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        yield finding("external", f"{check.name}: no report of a diagnostic: {_said(done)}")


def _dcgm_report(check: External, report: Any) -> Iterator[Finding]:
    """Read the JSON of a diagnostic. Raises whatever a text of another form leads to."""
    for category in (report.get("DCGM Diagnostic") or report["DCGM GPU Diagnostic"])["test_categories"]:
        for test in category.get("tests", ()):
            for result in test.get("results", ()):
                if str(result.get("status", "")).casefold().startswith("fail"):
                    yield from _dcgm_failures(f"{check.name}: {test.get('name', '?')}", result)


def _dcgm_failures(where: str, result: Mapping[str, Any]) -> Iterator[Finding]:
    gpu = result.get("gpu_id", result.get("gpu_ids", result.get("entity_id", "?")))
    warnings = result.get("warnings") or [{}]
    for warning in warnings if isinstance(warnings, list) else [{"warning": warnings}]:
        code = _DCGM.get(warning.get("error_severity", 0), "dcgm")
        yield finding(code, f"{where}, GPU {gpu}: {warning.get('warning', 'failed')}")


FORMS: Mapping[str, Callable[[External, Completed], Iterator[Finding]]] = {
    "result-line": _result_line,
    "exit": _exit,
    "nagios": _nagios,
    "dcgmi": _dcgmi,
}
