"""Holding a lock inside a container from outside, for as long as this process lives.

flock(1) holds it for a process that waits for the end of its input; the engine ends that input when our connection
goes, however we end.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import docker.errors

from hpadmin.errors import OperationFailed
from hpadmin.lab.engine import ContainerRunner, explained, read_frame

_HELD = "held"
_SCRIPT = f'printf "%s\\n" "$1" >"$0" && echo {_HELD} && exec cat'


class Taken(OperationFailed):
    """Another process has the lock; the message is what it wrote into the file."""


@contextmanager
def locked(
    client: docker.DockerClient, container: str, path: str, holder: str, *, timeout: float = 30
) -> Iterator[Callable[[], bool]]:
    """Hold a lock on the file `path` in `container`, with `holder` written into it; yield what tells if it still is.

    What tells it raises OperationFailed where the engine does not: the lock may be held all the same.

    Raises Taken when another process has it, OperationFailed when the container does not answer.
    """
    api = client.api
    argv = ["flock", "--nonblock", path, "sh", "-c", _SCRIPT, path, holder]
    try:
        execution = api.exec_create(container, argv, stdin=True)["Id"]
        stream: Any = api.exec_start(execution, socket=True)
    except (docker.errors.DockerException, OSError) as error:
        raise OperationFailed(f"{path} cannot be locked in {container}: {explained(error)}") from error

    def held() -> bool:
        try:
            return bool(api.exec_inspect(execution)["Running"])
        except docker.errors.NotFound:  # the engine forgets what has ended
            return False
        except (docker.errors.DockerException, OSError) as error:
            raise OperationFailed(f"the engine does not tell whether {path} is locked: {error}") from error

    raw: socket.socket = getattr(stream, "_sock", stream)
    try:
        raw.settimeout(timeout)
        try:
            _, said = read_frame(stream) or (0, b"")
        except TimeoutError as error:
            raise OperationFailed(f"{path} cannot be locked: {container} does not answer") from error
        if said.strip() != _HELD.encode():
            raise Taken(ContainerRunner(client, container).run(["cat", path], timeout=timeout).stdout)
        yield held
    finally:
        stream.close()
