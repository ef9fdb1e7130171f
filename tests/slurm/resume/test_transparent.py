"""An srun with the option behaves as one without it, as long as nothing fails."""

from __future__ import annotations

import pytest

from tests.slurm.resume.cluster import Cluster

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize(
    "command",
    [
        "srun OPTION -N2 true",
        "srun OPTION -N1 bash -c 'exit 7'",
        "srun OPTION -N1 bash -c 'kill -9 $$'",
        "seq 5 | srun OPTION -N1 -n1 cat",
        "srun OPTION -N1 -n1 cat < /etc/hostname",
        "srun OPTION -N2 -l bash -c 'echo $SLURM_PROCID' | sort",
        "srun OPTION -N1 --no-such-option true",
        "srun OPTION -N9 true",
        "srun OPTION -N1 -J some-name bash -c 'echo $SLURM_JOB_NAME'",
        "srun OPTION -N1 -n1 true & srun OPTION -N1 -n1 bash -c 'exit 4' & wait -n; wait -n; echo both",
        "timeout -s TERM 3 srun OPTION -N1 sleep 60; echo $?",
        # A plain srun itself loses a terminal's last words now and then when the program ends at once.
        pytest.param(
            "script -qec 'srun OPTION -N1 --pty bash -c \"tty >/dev/null && echo a terminal\"' /dev/null",
            marks=pytest.mark.unsettled,
        ),
    ],
)
def test_output_and_exit_code_are_the_same(slurm: Cluster, command: str) -> None:
    def run(option: str) -> tuple[int, str]:
        done = slurm.as_user(
            "salloc", "-Q", "-N2", "bash", "-c", command.replace("OPTION", option), timeout=150
        )
        return done.returncode, done.stdout

    assert run("--auto-resume=1") == run("--auto-resume=0")
