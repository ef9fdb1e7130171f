"""The lint is held against what real Slurm did with each case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpadmin.slurmconf.lint import Finding, Severity, lint_files
from tests.unit.slurmconf_lint.cases import CASES, GOOD, Case

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded.json").read_text())


class Host:
    """A host that knows the users and addresses of the cases."""

    def has_user(self, name: str) -> bool:
        return name in ("root", "slurm")

    def resolves(self, name: str) -> bool:
        return bool(name)


def found(case: Case) -> list[Finding]:
    return lint_files(case.files, host=Host())


def died(case: Case) -> bool:
    """Whether slurmctld or slurmd died, or the node became invalid."""
    answer = RECORDED[case.name]
    slurmd = answer.get("slurmd", {"state": "IDLE", "said": []})
    return (
        not answer["accepted"]
        or "INVALID" in slurmd["state"]
        or any(line.startswith("fatal: ") for line in slurmd["said"])
    )


def complained(case: Case) -> bool:
    """Whether any of Slurm's daemons warned."""
    answer = RECORDED[case.name]
    return bool(answer["said"] or answer.get("slurmd", {}).get("said"))


def shown(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings)) or "nothing"


def test_the_table_is_recorded_and_large() -> None:
    assert [case.name for case in [*CASES, *GOOD]] == list(RECORDED)
    assert sum(died(case) or complained(case) for case in CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_found_where_it_stands(case: Case) -> None:
    findings = found(case)
    of_code = [finding for finding in findings if finding.code == case.code]
    assert of_code, shown(findings)
    file, line = case.place
    if line:
        assert (file, line) in [(finding.file, finding.line) for finding in of_code], shown(findings)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_kills_is_an_error_and_what_warns_is_no_less_than_a_warning(case: Case) -> None:
    findings = found(case)
    worst = {finding.severity for finding in findings if finding.code == case.code}
    if died(case):
        assert Severity.ERROR in worst, shown(findings)
    elif complained(case):
        assert worst & {Severity.ERROR, Severity.WARNING}, shown(findings)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_what_slurm_takes_without_a_word_is_clean(case: Case) -> None:
    assert not died(case)
    assert not complained(case)
    findings = [finding for finding in found(case) if finding.severity is not Severity.INFO]
    assert not findings, shown(findings)


LOST_HARDWARE = {"GRES without GresTypes", "GRES of another type than GresTypes", "GRES count that is none"}
"""Slurm starts, but no job can ever use the devices that the file promises."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_slurm_survives_is_no_error(case: Case) -> None:
    if not died(case) and case.name not in LOST_HARDWARE:
        errors = [finding for finding in found(case) if finding.severity is Severity.ERROR]
        assert not errors, shown(errors)
