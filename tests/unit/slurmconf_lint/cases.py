"""Configurations with one thing wrong in each, and the finding that the lint must make of it.

A case in `cases/*.yaml` is an edit of the small cluster in `base/`, which slurmctld starts with: texts of slurm.conf
that change, lines that are appended, other files with their content, files that are left out. ``«`` marks the end
of the line where the finding belongs; it is taken out before anybody reads the file. ``node`` asks for the record of
what becomes of that node when its slurmd registers. `cases/good.yaml` holds what Slurm takes without a word.

What Slurm 24.11 really does with each case is in `recorded.json`, written by ``python -m tests.slurm.lint.record``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
MARK = "«"
BASE = {path.name: path.read_text() for path in sorted((HERE / "base").iterdir())}


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration."""

    name: str
    code: str
    """Of the finding that must be there; empty for a good one."""
    marked: dict[str, str] = field(repr=False)
    """Every file, with the mark."""
    node: str = ""
    """When given, what slurmd of this node makes of its devices is recorded too."""

    @property
    def files(self) -> dict[str, bytes]:
        """The files as Slurm gets them."""
        return {name: text.replace(MARK, "").encode() for name, text in self.marked.items()}

    @property
    def place(self) -> tuple[str, int]:
        """File and line of the finding; line 0 where nothing is marked."""
        for name, text in self.marked.items():
            if MARK in text:
                return name, text[: text.index(MARK)].count("\n") + 1
        return "", 0


def _case(raw: dict[str, Any]) -> Case:
    files = {**BASE, **raw.get("files", {})}
    for change in raw.get("change", ()):
        assert files["slurm.conf"].count(change["from"]) >= 1, (raw["name"], change["from"])
        files["slurm.conf"] = files["slurm.conf"].replace(change["from"], change["to"], 1)
    files["slurm.conf"] += raw.get("append", "")
    for name in raw.get("without", ()):
        del files[name]
    return Case(raw["name"], raw.get("code", ""), files, raw.get("node", ""))


def _load(name: str) -> list[Case]:
    return [_case(raw) for raw in yaml.safe_load((HERE / "cases" / f"{name}.yaml").read_text())]


CASES = [
    case
    for subject in (
        "syntax", "required", "nodes", "partitions", "values", "gres", "topology", "resume", "cgroup",
    )
    for case in _load(subject)
]  # fmt: skip
GOOD = _load("good")
