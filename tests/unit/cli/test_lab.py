"""`hpadmin lab`: what the engine refuses is a message, and a command in a node is handed over as it is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest
from click.testing import CliRunner

from admin_cli.root import root
from hpadmin.lab.cluster import CONTAINER_PROFILE, Lab


def hpadmin(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(root, ["lab", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output


class Refusing:
    """A lab whose engine refuses whatever is asked."""

    def __getattr__(self, name: str) -> Any:
        raise docker.errors.APIError("409 Client Error", explanation="container c1 is not running")


@pytest.mark.parametrize(
    "command",
    ["status", "fault work-1 kill", "reboot work-1", "replace work-1", "exec work-1 ls", "down", "up"],
)
def test_what_the_engine_refuses_is_told(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(Lab, "find", lambda name: Refusing())
    monkeypatch.setattr(Lab, "open", lambda name: Refusing())
    assert hpadmin(*command.split()) == (1, "hpadmin: Docker refused: container c1 is not running\n")


def test_an_engine_that_refuses_to_list_its_labs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpadmin.lab.cluster.connect", lambda timeout: SimpleNamespace(networks=Refusing()))
    assert hpadmin("status") == (1, "hpadmin: Docker refused: container c1 is not running\n")


def test_without_docker_in_python_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hpadmin.lab.cluster", "hpadmin.lab.engine"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "docker", None)  # importing it fails
    code, said = hpadmin("status")
    assert code == 1
    assert "labs need the Python package docker, which is not installed" in said
    assert "pip install 'hpadmin[lab]'" in said


@pytest.mark.parametrize(
    ("arguments", "user", "words"),
    [
        ("work-1 squeue -u ann --name x", "root", ["squeue", "-u", "ann", "--name", "x"]),
        ("--user ann work-1 -- srun -N2 -- hostname", "ann", ["srun", "-N2", "--", "hostname"]),
    ],
)
def test_options_behind_the_node_are_the_commands(
    monkeypatch: pytest.MonkeyPatch, arguments: str, user: str, words: list[str]
) -> None:
    ran: list[list[str]] = []
    lab = SimpleNamespace(runner=lambda node: SimpleNamespace(container=f"lab-{node}"))
    monkeypatch.setattr(Lab, "find", lambda name: lab)
    monkeypatch.setattr(os, "execvp", lambda program, argv: ran.append(argv))
    assert hpadmin("exec", *arguments.split()) == (0, "")
    assert ran == [["docker", "exec", "-i", "-u", user, "lab-work-1", *words]]


def test_a_node_without_a_command_is_a_usage_error() -> None:
    code, said = hpadmin("exec", "work-1", "--")
    assert code == 2
    assert "Missing argument 'COMMAND...'" in said


def test_an_update_takes_no_nodes_of_a_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(SimpleNamespace(), "x")  # type: ignore[arg-type]  # nothing is asked of it
    monkeypatch.setattr(Lab, "open", lambda name: lab)
    update = tmp_path / "update.json"
    update.write_text(json.dumps({"ClusterName": "ml-training-cluster", "InstanceGroupsToDelete": ["login"]}))
    code, said = hpadmin("up", str(update))
    assert code == 2
    assert "is an update, which does not say what the whole cluster is" in said


def test_a_bundle_is_carried_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, bytes]] = []
    lab = Lab(SimpleNamespace(), "x")  # type: ignore[arg-type]  # nothing is asked of it
    monkeypatch.setattr(lab, "_up", lambda wanted, files, *rest: given.append(files))
    monkeypatch.setattr(lab, "wait_ready", lambda **options: None)
    monkeypatch.setattr(Lab, "open", lambda name: lab)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/enroot.deb").write_bytes(b"!<arch>\n\xff\x00")
    assert hpadmin("up", "--bundle", str(tmp_path)) == (0, "")
    assert given[0]["packages/enroot.deb"] == b"!<arch>\n\xff\x00"
    assert given[0]["lifecycle.yaml"] == CONTAINER_PROFILE.encode()
    (tmp_path / "lifecycle.yaml").write_text("profile: container\nrest: true\n")
    assert hpadmin("up", "--bundle", str(tmp_path)) == (0, "")
    assert given[1]["lifecycle.yaml"] == b"profile: container\nrest: true\n"
