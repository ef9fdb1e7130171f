"""Docker, as the lab uses it: a client that answers, and commands run inside containers.

>>> client = connect()                                        # doctest: +SKIP
>>> ContainerRunner(client, "box").run(["hostname"], timeout=5).stdout   # doctest: +SKIP
'box\\n'
"""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import docker
import docker.errors
import requests

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Completed

_STDOUT, _STDERR = 1, 2
_HEADER = struct.Struct(">BxxxL")
"""Before each piece of output: which stream, how many bytes (Docker Engine API, attach to a container)."""
_NOTED = 60.0
"""Seconds after a command's output ended in which the engine of a busy machine has noted how it ended."""


def connect(timeout: float = 60, url: str = "") -> docker.DockerClient:
    """Return a client of the engine at `url`; without one, of that which the environment names or this host has.

    Raises OperationFailed, with what to do, when none answers within `timeout` seconds.
    """
    try:
        client = (
            docker.DockerClient(base_url=url, timeout=int(timeout))
            if url
            else docker.from_env(timeout=int(timeout))
        )
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise OperationFailed(
            f"Docker's engine does not answer: {error}",
            hint="install and start it (containers/engine.sh does both); your user must be allowed to use it",
        ) from error
    return client


def explained(error: Exception) -> str:
    """Return the engine's own words where the error holds some, else the error's."""
    said = error.explanation if isinstance(error, docker.errors.APIError) else None
    return str(said or error)


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turn what the engine refuses, and that it does not answer, into OperationFailed."""
    try:
        yield
    except docker.errors.APIError as error:
        raise OperationFailed(f"Docker refused: {explained(error)}") from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise OperationFailed(f"Docker's engine does not answer: {error}") from error


@dataclass(frozen=True, slots=True)
class ContainerRunner:
    """Runs commands inside one container: a `hpadmin.slurm.command.Runner`."""

    client: docker.DockerClient
    container: str
    """Name or id."""
    user: str = "root"

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """See `Runner.run`. The command is ended inside the container when its time is over.

        A container that is killed, removed or paused meanwhile, and an engine that does not answer, are OperationFailed
        as well, whichever request to the engine meets them.
        """
        api = self.client.api
        # timeout(1) ends the command where it runs: closing our side of the connection would not.
        bounded = ["timeout", "-k", "2", f"{timeout:g}", *argv]
        try:
            execution = api.exec_create(
                self.container,
                bounded,
                stdin=stdin is not None,
                user=self.user,
                environment=dict(env) if env else None,
            )["Id"]
            stream: Any = api.exec_start(execution, socket=True)
            out, err = _converse(stream, stdin, deadline=time.monotonic() + timeout + 10)
            returncode = _exit_code(api, execution)
        except (docker.errors.DockerException, OSError) as error:  # requests' own errors are OSErrors
            raise OperationFailed(
                f"{argv[0]} cannot be run in container {self.container}: {explained(error)}"
            ) from error
        if returncode == 124 and argv[0] != "timeout":
            raise OperationFailed(f"{' '.join(argv)} did not end within {timeout:g} s in {self.container}")
        return Completed(tuple(argv), returncode, _text(out), _text(err))

    def put(self, path: str, content: bytes | str, *, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """Write one file; its folder must exist."""
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        folder, _, name = path.rpartition("/")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), mode, uid, gid
            entry.mtime = int(time.time())
            tar.addfile(entry, io.BytesIO(data))
        try:
            self.client.api.put_archive(self.container, folder or "/", archive.getvalue())
        except (docker.errors.DockerException, OSError) as error:
            raise OperationFailed(
                f"{path} cannot be written in {self.container}: {explained(error)}"
            ) from error


def read_frame(stream: Any) -> tuple[int, bytes] | None:
    """Return the next piece of output of what `exec_start(socket=True)` runs, and which output; None at the end.

    Raises TimeoutError as its socket does.
    """
    # The answer's headers were read through a buffer, and a quick command's output may be in it by now: docker's own
    # reader goes on below that buffer and loses it. Nor does that reader know a time limit.
    reader: BinaryIO = stream._response.raw._fp.fp
    header = reader.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    kind, length = _HEADER.unpack(header)
    return kind, reader.read(length)


def _converse(stream: Any, stdin: str | None, *, deadline: float) -> tuple[bytes, bytes]:
    """Send `stdin`, read both outputs to their end; raise OperationFailed once `deadline` passed."""
    raw: socket.socket = getattr(stream, "_sock", stream)
    outputs = {_STDOUT: bytearray(), _STDERR: bytearray()}
    try:
        raw.settimeout(max(1.0, deadline - time.monotonic()))
        if stdin is not None:
            raw.sendall(stdin.encode("utf-8", "surrogateescape"))
            raw.shutdown(socket.SHUT_WR)
        while (frame := read_frame(stream)) is not None:
            kind, data = frame
            outputs.get(kind, outputs[_STDOUT]).extend(data)
            raw.settimeout(max(1.0, deadline - time.monotonic()))
    except TimeoutError as error:
        raise OperationFailed("the container does not answer (paused, or its engine is stuck)") from error
    finally:
        stream.close()
    return bytes(outputs[_STDOUT]), bytes(outputs[_STDERR])


def _exit_code(api: Any, execution: str) -> int:
    """The exit code, once the engine has noted it: that may be a moment after the output ended."""
    deadline = time.monotonic() + _NOTED
    while time.monotonic() < deadline:
        state = api.exec_inspect(execution)
        if not state["Running"] and state["ExitCode"] is not None:
            return int(state["ExitCode"])
        time.sleep(0.01)
    raise OperationFailed("the engine does not say how the command ended")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
