"""containers/engine.sh on machines where Docker's engine runs for root: what it takes to let a user with sudo in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "containers" / "engine.sh"

PROGRAMS = {
    "id": 'if [ "$1" = -u ]; then echo 1000; else echo ann; fi',
    "sudo": 'IS_ROOT=yes exec "$@"',
    "docker": '[ -n "${IS_ROOT:-}" ] || [ -e "$STATE/let-in" ]',
    "dockerd": "exit 0",
    "systemctl": "exit 0",
    "setfacl": '[ "$IS_ROOT $*" = "yes -m u:1000:rw /var/run/docker.sock" ] && touch "$STATE/let-in"',
    "apt-get": (
        'echo "$*" >>"$STATE/apt"; [ -z "${OFFLINE:-}" ] || exit 100; '
        '[ -e "$STATE/bin/setfacl" ] || mv "$STATE/setfacl" "$STATE/bin/"'
    ),
}


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose programs are those above, besides the shell's and coreutils'."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    for name in ("sh", "sleep", "touch", "mv", "env", "setsid", "nohup"):
        found = next(Path(folder, name) for folder in ("/usr/bin", "/bin") if Path(folder, name).exists())
        (programs / name).symlink_to(found)
    return {"PATH": str(programs), "STATE": str(tmp_path), "TMPDIR": str(tmp_path)}


def run(machine: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(SCRIPT)], env=machine, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_user_with_sudo_is_let_in_at_once(machine: dict[str, str]) -> None:
    done = run(machine)
    assert (done.returncode, done.stderr) == (0, "letting ann use Docker until its engine starts anew\n")
    assert not Path(machine["STATE"], "apt").exists()
    again = run(machine)
    assert (again.returncode, again.stderr) == (0, "")


def test_what_that_takes_is_installed_where_it_is_missing(machine: dict[str, str]) -> None:
    Path(machine["PATH"], "setfacl").rename(Path(machine["STATE"], "setfacl"))
    assert run(machine).returncode == 0
    installed = Path(machine["STATE"], "apt").read_text().splitlines()[-1]
    assert installed.endswith("--no-install-recommends acl")


def test_where_that_fails_the_way_is_told(machine: dict[str, str]) -> None:
    Path(machine["PATH"], "setfacl").unlink()
    done = run(machine | {"OFFLINE": "yes"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Docker runs, but ann may not use it: sudo usermod -aG docker ann, then log in again"
    )
