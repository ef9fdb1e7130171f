"""The training example proves of itself what it says, and what it proves could fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[4] / "examples" / "training" / "train.py"
RUN = {"SLURM_JOB_START_TIME": "1000", "SLURM_JOB_ID": "82", "SLURM_STEP_ID": "9"}


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_was_trained_is_what_one_process_computes(
    train: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in ("0", "1"):  # the second start goes on where the first was done
        monkeypatch.setenv("SLURM_STEP_ID", number)
        steps = ["--folder", str(tmp_path), "--steps", str(20 + 10 * int(number))]
        monkeypatch.setattr(sys, "argv", ["train.py", *steps])
        assert train.main() == 0
    assert "going on at step 20" in capsys.readouterr().out
    assert train.verify(tmp_path, 30) == 0
    assert capsys.readouterr().out == f"{train.digest(train.alone(1, 30))}\n"


@pytest.mark.parametrize("done", [29, 31])
def test_a_step_that_is_missing_or_done_twice_is_found_whatever_the_ledger_says(
    train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], done: int
) -> None:
    checkpoint = train.Checkpoint(tmp_path, train.identity(RUN))
    checkpoint.save(train.alone(2, done), list(range(30)), 2)
    assert train.verify(tmp_path, 30) == 1
    assert "not those of 30 steps, each done once" in capsys.readouterr().out


@pytest.mark.parametrize(
    "later",
    [
        {"SLURM_STEP_ID": "10"},
        {"SLURM_JOB_START_TIME": "2000", "SLURM_STEP_ID": "0", "SLURM_RESTART_COUNT": "1"},
        {"SLURM_JOB_START_TIME": "2000"},  # Slurm forgot that the job ran: its counts are the same
    ],
)
def test_a_start_that_wakes_up_late_takes_nothing_back(
    train: ModuleType, tmp_path: Path, later: dict[str, str]
) -> None:
    hung = train.Checkpoint(tmp_path, train.identity(RUN))
    state = hung.load()
    new = train.Checkpoint(tmp_path, train.identity({**RUN, **later}))
    assert new.path != hung.path
    new.save(train.alone(2, 5), list(range(5)), 2)
    hung.save(*state)
    weights, ledger, ranks = train.Checkpoint(tmp_path).load()
    assert (ledger, ranks) == (list(range(5)), 2)
    assert train.digest(weights) == train.digest(train.alone(2, 5))
