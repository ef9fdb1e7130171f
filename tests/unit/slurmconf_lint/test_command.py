"""The command: its JSON, its words, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from admin_cli.root import root
from tests.unit.slurmconf_lint.cases import BASE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in BASE.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644)
    return tmp_path


def test_errors_end_in_1_and_are_told_as_json(folder: Path) -> None:
    (folder / "slurm.conf").write_text(BASE["slurm.conf"].replace("SlurmUser", "SlurmUsr"))
    result = CliRunner().invoke(root, ["config", "lint", str(folder), "-o", "json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "findings": [
            {
                "file": "slurm.conf",
                "line": 3,
                "severity": "error",
                "code": "unknown-key",
                "message": "Slurm's slurm.conf has no key SlurmUsr; did you mean SlurmUser?",
            }
        ]
    }


def test_warnings_end_in_0(folder: Path) -> None:
    with (folder / "slurm.conf").open("a") as file:
        file.write("PowerPlugin=power/none\n")
    result = CliRunner().invoke(root, ["config", "lint", str(folder)])
    assert result.exit_code == 0
    assert result.stdout.startswith("slurm.conf:21: warning: PowerPlugin has no effect")
    assert "0 errors, 1 warning, 0 infos" in result.stderr


def test_nothing_wrong(folder: Path) -> None:
    result = CliRunner().invoke(root, ["config", "lint", str(folder), "-o", "json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"findings": []}


def test_the_release_counts(folder: Path) -> None:
    with (folder / "slurm.conf").open("a") as file:
        file.write("PrologTimeout=60\n")
    assert CliRunner().invoke(root, ["config", "lint", str(folder)]).exit_code == 1
    assert (
        CliRunner().invoke(root, ["config", "lint", str(folder), "--slurm-release", "26.05"]).exit_code == 0
    )


@pytest.mark.parametrize("arguments", [["missing"], [".", "--slurm-release", "19.05"]])
def test_what_cannot_be_judged_ends_in_2(
    folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert CliRunner().invoke(root, ["config", "lint", *arguments]).exit_code == 2
