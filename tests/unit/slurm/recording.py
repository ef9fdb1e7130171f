"""A runner that answers as a real Slurm once did: from the files below `recorded/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpadmin.slurm.command import Completed

RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Recorded:
    """Answers the reader's commands from the recordings of one release."""

    release: str = "24.11"

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        words = list(argv)
        if words[0] == "env":
            words = words[1:]
            while words[0] == "-u":
                words = words[2:]
        match words:
            case ["squeue", *_]:
                name = "jobs.txt"
            case ["scontrol", "show", "job", number, "--json"]:
                name = f"job-{number}.json"
            case ["scontrol", "show", "config"]:
                name = "config.txt"
            case ["scontrol", *_, what]:
                name = f"{what}.txt"
            case _:
                raise AssertionError(f"nothing is recorded for {words}")
        text = (RECORDED / self.release / name).read_text()
        return Completed(tuple(argv), 0, text, "")
