"""What a failed command says: its own words, without what we put before it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.slurm import command
from hpadmin.slurm.command import Completed, Local


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ("env", "-u", "A", "-u", "B", "squeue", "-a"),
            "squeue is not installed on this host, or not on PATH",
        ),
        (("sh", "-c", "x"), "sh -c x exited 127 and said: env: no such file"),
    ],
)
def test_a_command_that_is_not_there(argv: tuple[str, ...], said: str) -> None:
    with pytest.raises(OperationFailed) as raised:
        Completed(argv, 127, "", "env: no such file\n").check()
    assert raised.value.message == said


def test_the_environment_that_was_cleaned_is_not_told() -> None:
    done = Local().run(["env", "-u", "SQUEUE_USERS", "ls", "/nowhere/at/all"], timeout=10)
    with pytest.raises(OperationFailed, match=r"^ls /nowhere/at/all exited 2 and said: "):
        done.check()


def running(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_what_a_command_began_ends_with_it(tmp_path: Path) -> None:
    """The shell's child has the shell's output: whoever waited for its end would wait for the child."""
    told = tmp_path / "child"
    with pytest.raises(OperationFailed, match=r"did not end within 2 s"):
        Local().run(["sh", "-c", f"sleep 60 & echo $! >{told}; wait"], timeout=2)
    assert not running(told.read_text().strip())


def test_a_command_that_no_signal_ends_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill, told = os.kill, tmp_path / "it"
    monkeypatch.setattr(command, "_DYING", 0.1)
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    monkeypatch.setattr(os, "kill", lambda *_: None)
    try:
        with pytest.raises(OperationFailed, match="did not end within"):
            Local().run(["sh", "-c", f"echo $$ >{told}; exec sleep 60"], timeout=2)
        assert running(told.read_text().strip())
    finally:
        kill(int(told.read_text()), signal.SIGKILL)
