"""enroot and pyxis: where packages come from, where Slurm looks for the plugin, whose the images are."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.model import NodeType
from hpadmin.slurm.command import Completed
from lifecycle.packages import Packages
from lifecycle.settings import Settings, render_options
from lifecycle.stages import containers
from lifecycle.step import Directory
from tests.unit.lifecycle.support import machine, situation

MISSING = "The following packages have unmet dependencies:\n enroot : Depends: jq but it is not installable\nE: broken"


def apt(tmp_path: Path, *failures: str) -> tuple[list[str], OperationFailed | None]:
    """Install a package file with an apt that fails like this at first; return its commands, and how it ended."""
    left = list(failures)
    commands: list[str] = []

    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        if argv[0] == "env":
            commands.append(" ".join(argv[argv.index("Acquire::Retries=3") + 1 :]))
            return Completed(argv, 100, left.pop(0), "") if left else Completed(argv, 0, "", "")
        return Completed(argv, 0, "", "")

    host, _ = machine(tmp_path, answer)
    try:
        Packages(("enroot",), (Path("/b/enroot.deb"),)).make(host)
    except OperationFailed as error:
        return commands, error
    return commands, None


def test_package_files_that_need_nothing_else_need_no_mirror(tmp_path: Path) -> None:
    assert apt(tmp_path) == (["install /b/enroot.deb"], None)


def test_what_package_files_depend_on_comes_from_apts_sources(tmp_path: Path) -> None:
    assert apt(tmp_path, MISSING) == (["install /b/enroot.deb", "update", "install /b/enroot.deb"], None)


def test_sources_that_do_not_answer_are_told(tmp_path: Path) -> None:
    commands, error = apt(tmp_path, MISSING, "E: Failed to fetch it")
    assert commands[-1] == "update"
    assert "apt-get update failed: E: Failed to fetch it" in str(error)


def test_a_held_lock_is_waited_for_before_anything_else_is_tried(tmp_path: Path) -> None:
    commands, error = apt(tmp_path, "E: Could not get lock /var/lib/dpkg/lock-frontend")
    assert commands == ["install /b/enroot.deb"]
    assert "Could not get lock" in str(error)


@pytest.mark.parametrize("place", ["usr/lib/x86_64-linux-gnu/slurm", "usr/local/lib/slurm"])
def test_slurm_finds_pyxis_among_its_own_plugins(tmp_path: Path, place: str) -> None:
    host, _ = machine(tmp_path)
    own = tmp_path / "usr/lib/x86_64-linux-gnu/slurm-wlm"
    own.mkdir(parents=True)
    (own / "select_cons_tres.so").touch()
    step = containers.Plugin()
    with pytest.raises(OperationFailed, match=r"there is no spank_pyxis.so"):
        step.make(host)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "spank_pyxis.so").write_text("pyxis")
    assert step.lacking(host) == "give Slurm spank_pyxis.so"
    step.make(host)
    assert step.lacking(host) is None
    assert (own / "spank_pyxis.so").read_text() == "pyxis"


def test_a_machine_without_slurm_is_told(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    with pytest.raises(OperationFailed, match="no Slurm on this machine"):
        containers.Plugin().lacking(host)


def test_each_user_has_a_place_that_nobody_else_can_take(tmp_path: Path) -> None:
    here = situation(tmp_path, settings=Settings(containers=True))
    here.bundle.mkdir()
    (here.bundle / "shared_users.txt").write_text("ann,2001\n")
    places = [step for step in containers.steps(here) if isinstance(step, Directory)]
    assert places == [
        Directory("/var/lib/enroot", 0o1777),
        Directory("/var/lib/enroot/user-0", 0o700, "root"),
        Directory("/var/lib/enroot/user-2001", 0o700, "ann"),
    ]
    assert "ENROOT_DATA_PATH /var/lib/enroot/user-$(id -u)/data" in containers.settings()


@pytest.mark.parametrize("role", list(NodeType))
def test_every_node_has_what_plugstack_requires(tmp_path: Path, role: NodeType) -> None:
    here = situation(tmp_path, role, settings=Settings(containers=True))
    assert containers.STAGE.applies(here)
    plugins = render_options(here.settings, here.cluster).spank_plugins
    assert "required spank_pyxis.so" in plugins
    assert not containers.STAGE.applies(situation(tmp_path, role))
