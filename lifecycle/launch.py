"""Running commands that leave daemons behind.

A daemon may keep its parent's output open for as long as it lives (munged does), and whoever reads that output
from a pipe waits as long. So it goes to a file here, and only the command itself is waited for.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Completed


@dataclass(frozen=True, slots=True)
class Launcher:
    """A `hpadmin.slurm.command.Runner` that does not wait for daemons."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """See `Runner.run`; what the command printed on both outputs is in `stdout`. `stdin` is always empty."""
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    env=None if env is None else {**os.environ, **env},
                    check=False,
                )
            except FileNotFoundError as error:
                raise OperationFailed(f"{argv[0]} is not installed on this host, or not on PATH") from error
            except subprocess.TimeoutExpired as error:
                raise OperationFailed(f"{' '.join(argv)} did not end within {timeout:g} s") from error
            output.seek(0)
            said = output.read().decode("utf-8", "surrogateescape")
        return Completed(tuple(argv), done.returncode, said, "")
