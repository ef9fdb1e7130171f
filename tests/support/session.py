"""Commands inside a container over one connection: a `Runner` for tests that run hundreds of them.

Each `docker exec` costs the engine a tenth of a second, a second on a busy machine; a command sent to a small
server that was started with one of them costs what the command itself does.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Completed

_SERVER = """
import json, os, subprocess, sys
for line in sys.stdin:
    order = json.loads(line)
    try:
        done = subprocess.run(
            order["argv"], input=order["stdin"], stdin=None if order["stdin"] is not None else subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", errors="surrogateescape", timeout=order["timeout"],
            env={**os.environ, **order["env"]},
        )
        answer = {"returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    except subprocess.TimeoutExpired:
        answer = {"failed": "did not end within %g s" % order["timeout"]}
    except OSError as error:
        answer = {"failed": "cannot be run: %s" % error}
    print(json.dumps(answer), flush=True)
"""


class Session:
    """A `Runner` in one container. A fork gets a connection of its own."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._server: subprocess.Popen[str] | None = None
        self._owner = 0

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """See `hpadmin.slurm.command.Runner`."""
        order = {"argv": list(argv), "timeout": timeout, "stdin": stdin, "env": dict(env or {})}
        server = self._connected()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        line = server.stdout.readline()
        if not line:
            raise OperationFailed(f"{self._container} is gone")
        answer = json.loads(line)
        if "failed" in answer:
            raise OperationFailed(f"{' '.join(argv)} {answer['failed']}")
        return Completed(tuple(argv), answer["returncode"], answer["stdout"], answer["stderr"])

    def close(self) -> None:
        """End the connection."""
        if self._server is not None and self._owner == os.getpid():
            assert self._server.stdin is not None
            self._server.stdin.close()
            self._server.wait(timeout=30)
        self._server = None

    def _connected(self) -> subprocess.Popen[str]:
        if self._server is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._server = subprocess.Popen(
                ["docker", "exec", "-i", self._container, "python3", "-u", "-c", _SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._server
