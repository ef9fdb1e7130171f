"""The plugin of ``srun --auto-resume``: an image's is taken, else it is built, else it is told what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Completed
from lifecycle.settings import Settings
from lifecycle.stages import auto_resume, extras
from lifecycle.step import Transient
from tests.unit.lifecycle.support import Answer, machine, situation

DEBIANS, HYPERPODS = "usr/lib/x86_64-linux-gnu/slurm-wlm", "opt/slurm/lib/slurm"


def slurm(root: Path, folder: str = DEBIANS, *there: str) -> Path:
    """A Slurm with its plugins in `folder`, and other files of the machine; return the folder."""
    for name in (f"{folder}/select_cons_tres.so", *there):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root / folder


TOOLS = ("usr/bin/cc", "usr/bin/make")


def builds(argv: tuple[str, ...], stdin: str | None) -> Completed:
    if argv[0] == "make":
        (Path(argv[argv.index("-C") + 1]) / auto_resume.PLUGIN).write_text("built")
    return Completed(argv, 0, "", "")


def test_a_plugin_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (slurm(tmp_path) / auto_resume.PLUGIN).touch()
    host, recorder = machine(tmp_path)
    assert auto_resume.Plugin().lacking(host) is None
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("folder", "headers"), [(DEBIANS, "usr/include"), (HYPERPODS, "opt/slurm/include"), (DEBIANS, None)]
)
def test_it_is_built_for_the_slurm_of_the_machine(tmp_path: Path, folder: str, headers: str | None) -> None:
    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        if argv[-1] == "libslurm-dev":
            slurm(tmp_path, folder, "usr/include/slurm/spank.h")
        return builds(argv, stdin)

    plugins = slurm(tmp_path, folder, *TOOLS, *([f"{headers}/slurm/spank.h"] if headers else []))
    host, recorder = machine(tmp_path, answer)
    step = auto_resume.Plugin()
    assert step.lacking(host) == "build spank_auto_resume.so for this machine's Slurm"
    step.make(host)
    assert step.lacking(host) is None
    assert (plugins / auto_resume.PLUGIN).read_text() == "built"
    (make,) = [call for call in recorder.calls if call[0] == "make"]
    assert f"CPPFLAGS=-I{tmp_path}/{headers or 'usr/include'}" in make
    assert f"PYTHON={sys.executable}" in make
    assert any("apt-get" in call for call in recorder.calls) is (headers is None)


def test_a_compiler_is_asked_of_apt(tmp_path: Path) -> None:
    slurm(tmp_path, HYPERPODS, "opt/slurm/include/slurm/spank.h")
    host, recorder = machine(tmp_path, builds)
    auto_resume.Plugin().make(host)
    assert recorder.calls[-2][-4:] == ("install", "gcc", "libc6-dev", "make")


def fails(what: str, said: str) -> Answer:
    return lambda argv, stdin: Completed(
        argv, int(what in argv), said * (what in argv), said * (what in argv)
    )


@pytest.mark.parametrize(
    ("folder", "there", "answer", "said"),
    [
        (
            HYPERPODS,
            TOOLS,
            builds,
            "there is no slurm/spank.h of the Slurm whose plugins are in .*/opt/slurm/lib/slurm",
        ),
        (
            DEBIANS,
            TOOLS,
            fails("apt-get", "E: Unable to locate package"),
            "apt-get update failed: E: Unable to",
        ),
        (DEBIANS, (*TOOLS, "usr/include/slurm/spank.h"), fails("make", "spank.h: error"), "spank.h: error"),
    ],
)
def test_where_it_cannot_be_built_the_ways_out_are_told(
    tmp_path: Path, folder: str, there: tuple[str, ...], answer: Answer, said: str
) -> None:
    slurm(tmp_path, folder, *there)
    host, _ = machine(tmp_path, answer)
    with pytest.raises(OperationFailed, match=f"spank_auto_resume.so cannot be built: {said}") as error:
        auto_resume.Plugin().make(host)
    assert not isinstance(error.value, Transient)
    assert "`auto_resume: false` in lifecycle.yaml" in str(error.value.hint)


def test_a_mirror_that_is_away_is_waited_for(tmp_path: Path) -> None:
    slurm(tmp_path)
    host, _ = machine(tmp_path, fails("apt-get", "E: Failed to fetch it"))
    with pytest.raises(Transient, match="Failed to fetch it"):
        auto_resume.Plugin().make(host)


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    assert auto_resume.STAGE.applies(situation(tmp_path))
    assert not auto_resume.STAGE.applies(situation(tmp_path, settings=Settings(auto_resume=False)))


def test_the_agent_is_the_hpadmin_of_the_python_that_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    python = str(tmp_path / "environment/python3")
    with pytest.raises(OperationFailed, match=f"hpadmin is neither beside {python} nor on PATH") as error:
        extras.hpadmin_command(python)
    assert "`agent: false`" in str(error.value.hint)
    for folder in ("bin", "environment"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "hpadmin").touch(0o755)
        assert extras.hpadmin_command(python) == str(tmp_path / folder / "hpadmin")
