"""What a failed command says: its own words, without what we put before it."""

from __future__ import annotations

import pytest

from hpadmin.errors import OperationFailed
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
