"""An engine that does not answer is an error to act on, never one that ends whoever asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from hpadmin.errors import OperationFailed
from hpadmin.lab.engine import ContainerRunner, engine_errors
from hpadmin.lab.lock import locked


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[docker.DockerClient]:
    """A client of an engine that takes connections and says nothing."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen(8)
        yield docker.DockerClient(base_url=f"unix://{path}", version="1.41", timeout=1)


def test_a_command_in_a_container_of_a_stuck_engine(stuck: docker.DockerClient) -> None:
    with pytest.raises(OperationFailed, match="hostname cannot be run in container box"):
        ContainerRunner(stuck, "box").run(["hostname"], timeout=1)


def test_a_file_in_a_container_of_a_stuck_engine(stuck: docker.DockerClient) -> None:
    with pytest.raises(OperationFailed, match="/etc/motd cannot be written in box"):
        ContainerRunner(stuck, "box").put("/etc/motd", "hello")


def test_a_lock_in_a_container_of_a_stuck_engine(stuck: docker.DockerClient) -> None:
    with (
        pytest.raises(OperationFailed, match=r"agent\.lock cannot be locked in box"),
        locked(stuck, "box", "agent.lock", "me"),
    ):
        pass


def test_any_request_to_a_stuck_engine(stuck: docker.DockerClient) -> None:
    with pytest.raises(OperationFailed, match="engine does not answer"), engine_errors():
        stuck.containers.list()
