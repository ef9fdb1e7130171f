"""``hpadmin config validate`` and ``render``, as a process that scripts and people call."""

from __future__ import annotations

import contextlib
import io
import json
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from admin_cli.main import cli
from tests.unit.request.edits import EXAMPLES, GPU, guide, put

GUIDE, INVENTORY = EXAMPLES / "guide.json", EXAMPLES / "guide.resource_config.json"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def hpadmin(*arguments: object, stdin: str = "") -> Done:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
    ):
        try:
            cli([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    return Done(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def test_as_a_process_of_its_own() -> None:
    program = "import sys; from admin_cli.main import cli; sys.exit(cli())"
    command = [sys.executable, "-c", program, "config", "validate", str(GUIDE), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["valid"] is True


def test_a_valid_request() -> None:
    done = hpadmin("config", "validate", GUIDE)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "ml-training-cluster: valid CreateCluster request\n",
        "",
    )


def test_a_valid_request_as_json() -> None:
    done = hpadmin("config", "validate", GUIDE, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"valid": True, "errors": [], "notes": []}


def test_a_broken_request_from_stdin_as_json() -> None:
    body = json.dumps(guide(put(f"{GPU}/InstanceCount", "8"), put("ClusterName", "a b")))
    done = hpadmin("config", "validate", "-", "-o", "json", stdin=body)
    assert (done.returncode, done.stderr) == (2, "")
    assert json.loads(done.stdout) == {
        "valid": False,
        "errors": [
            {"path": "ClusterName", "message": "'a b' does not match [a-zA-Z0-9](-*[a-zA-Z0-9])*"},
            {"path": "InstanceGroups[2].InstanceCount", "message": "must be a whole number, got '8'"},
        ],
        "notes": [],
    }


def test_a_broken_request_for_people() -> None:
    done = hpadmin("config", "validate", "-", stdin=json.dumps(guide(put(f"{GPU}/InstanceCount", "8"))))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "hpadmin: stdin is not a valid CreateCluster request\n"
        "  InstanceGroups[2].InstanceCount: must be a whole number, got '8'\n"
    )


@pytest.mark.parametrize("output", ["table", "json"])
def test_malformed_and_missing_files_give_no_traceback(output: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"ClusterName": }')
    for path, word in ((broken, "Expecting value"), (tmp_path / "absent.json", "cannot read")):
        done = hpadmin("config", "validate", path, "-o", output)
        assert done.returncode == 2
        assert word in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if output == "json":
            assert json.loads(done.stdout)["valid"] is False


def test_an_update_with_the_current_request(tmp_path: Path) -> None:
    update = tmp_path / "update.json"
    update.write_text(
        json.dumps({"ClusterName": "ml-training-cluster", "InstanceGroupsToDelete": ["controller"]})
    )
    done = hpadmin("config", "validate", update, "--current", GUIDE)
    assert done.returncode == 2
    assert "Cluster ml-training-cluster has no InstanceGroup with Controller node type." in done.stderr
    assert (
        hpadmin("config", "validate", update).stdout == "ml-training-cluster: valid UpdateCluster request\n"
    )


def test_rendering_a_tree(tmp_path: Path) -> None:
    out = tmp_path / "slurm" / "etc"
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    out.mkdir(parents=True)
    (out / "topology.yaml").write_text("stale\n")
    (out / "of-somebody-else.conf").write_text("kept\n")
    done = hpadmin(
        *("config", "render", GUIDE, "--inventory", INVENTORY, "--out", out),
        *("--accounting", "--database-password-file", secret),
    )
    assert done.returncode == 0, done.stderr
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert modes == {
        "slurm.conf": 0o644,
        "gres.conf": 0o644,
        "cgroup.conf": 0o644,
        "plugstack.conf": 0o644,
        "accounting.conf": 0o644,
        "slurmdbd.conf": 0o600,
        "of-somebody-else.conf": 0o644,
    }
    assert 'StoragePass="hunter2"\n' in (out / "slurmdbd.conf").read_text()
    assert done.stdout.splitlines()[0] == str(out / "slurm.conf")
    assert f"removed {out / 'topology.yaml'}" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_rendering_tells_what_differs_from_the_request(tmp_path: Path) -> None:
    inventory = json.loads(INVENTORY.read_text())
    del inventory["InstanceGroups"][2]["Instances"][3]
    path = tmp_path / "resource_config.json"
    path.write_text(json.dumps(inventory))
    done = hpadmin("config", "render", GUIDE, "--inventory", path, "--out", tmp_path / "out")
    assert done.returncode == 0
    assert "note: gpu-compute: has 7 instances, 8 were requested\n" in done.stderr


def test_rendering_to_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = hpadmin("config", "render", GUIDE, "--inventory", INVENTORY, "--out", tmp_path / "file" / "out")
    assert done.returncode == 1
    assert "hpadmin: cannot write" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--legacy", "--current", "--site", "--database-password-file", "--out"])
def test_a_name_that_is_empty_is_no_file_of_ours(option: str, tmp_path: Path) -> None:
    out = () if option == "--out" else ("--out", tmp_path / "out")
    done = hpadmin("config", "render", GUIDE, "--inventory", INVENTORY, *out, option, "")
    assert done.returncode == 2
    assert ("must not be empty" if option == "--out" else "cannot read a file without a name") in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_password_that_is_empty(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("\n")
    words = ("--accounting", "--database-password-file", password, "--out", tmp_path / "out")
    done = hpadmin("config", "render", GUIDE, "--inventory", INVENTORY, *words)
    assert (done.returncode, done.stderr) == (2, f"hpadmin: {password} holds no password\n")


def test_stdin_can_be_read_once(tmp_path: Path) -> None:
    done = hpadmin("config", "render", "-", "--inventory", "-", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "cannot both be stdin" in done.stderr
    words = ("--inventory", "-", "--site", "-", "--out", tmp_path / "out")
    done = hpadmin("config", "render", GUIDE, *words, stdin=INVENTORY.read_text())
    assert (done.returncode, done.stderr) == (
        2,
        "hpadmin: stdin is empty, or was read already for another file\n",
    )


def test_a_site_file(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("auth: slurm\nrelease: '24.11'\n")
    out = tmp_path / "out"
    done = hpadmin("config", "render", GUIDE, "--inventory", INVENTORY, "--out", out, "--site", path)
    assert done.returncode == 0, done.stderr
    assert "AuthType=auth/slurm\n" in (out / "slurm.conf").read_text()
    path.write_text("auth: kerberos\n")
    done = hpadmin("config", "render", GUIDE, "--inventory", INVENTORY, "--out", out, "--site", path)
    assert (done.returncode, done.stderr.splitlines()[1]) == (
        2,
        "  auth: must be one of munge, slurm; got 'kerberos'",
    )
