"""Running Slurm's commands (and others) without a shell, behind a protocol that tests and the lab replace.

>>> Local().run(["echo", "hello"], timeout=5).stdout
'hello\\n'
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hpadmin.errors import OperationFailed

_NOT_FOUND = 127
"""env(1): the command could not be found."""
_DYING = 1.0
"""Seconds that a killed command has to be gone."""
_AWAY = (
    "Unable to contact slurm controller",
    "Zero Bytes were transmitted or received",
    "Socket timed out on send/recv operation",
    "Connection refused",
    "Slurm backup controller in standby mode",
    "did not end within",
)
"""What commands say when slurmctld is away (src/common/slurm_errno.c), and what `Runner`s say of commands that wait."""


def slurmctld_is_away(said: str) -> bool:
    """Whether a command that printed this failed because slurmctld does not answer: it may succeed later."""
    return any(words in said for words in _AWAY)


def printable(text: str) -> str:
    """Return `text` with every byte that was not UTF-8, and every half of a surrogate pair, spelt out.

    Neither a file, nor a terminal, nor SQLite takes them as they are.

    >>> print(printable(b"Ger\\xe4t".decode("utf-8", "surrogateescape")))
    Ger\\udce4t
    """
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command left behind. Output is text; bytes that are not UTF-8 are kept by surrogate escapes."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def check(self) -> Completed:
        """Return self when the command succeeded; else raise OperationFailed with what it printed."""
        if self.returncode == 0:
            return self
        command = self._command()
        if self.returncode == _NOT_FOUND and len(command) < len(self.argv):
            raise OperationFailed(f"{command[0]} is not installed on this host, or not on PATH")
        said = (self.stderr or self.stdout).strip() or "nothing"
        raise OperationFailed(f"{' '.join(command)} exited {self.returncode} and said: {said}")

    def _command(self) -> tuple[str, ...]:
        """The command without the ``env -u NAME …`` that only cleans its environment."""
        words = self.argv
        if words[:1] == ("env",):
            words = words[1:]
            while words[:1] == ("-u",):
                words = words[2:]
        return words or self.argv


class Runner(Protocol):
    """Something that runs a command somewhere: on this host, or in a container of the lab."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run `argv` to its end within `timeout` seconds; `env` adds to the environment.

        Raises OperationFailed when it cannot be started or does not end in time. A non-zero exit is no error here.
        """
        ...


@dataclass(frozen=True, slots=True)
class Local:
    """Runs commands on this host."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="surrogateescape",
                env=None if env is None else {**os.environ, **env},
                process_group=0,
            )
        except FileNotFoundError as error:
            raise OperationFailed(f"{argv[0]} is not installed on this host, or not on PATH") from error
        except OSError as error:
            raise OperationFailed(f"{argv[0]} cannot be run: {error.strerror}") from error
        try:
            said, complained = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            _end(process)
            raise OperationFailed(f"{' '.join(argv)} did not end within {timeout:g} s") from error
        except BaseException:
            _end(process)
            raise
        return Completed(tuple(argv), process.returncode, said, complained)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill a command and what it began, and go on in any case: one that waits for dead hardware survives SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_DYING)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
