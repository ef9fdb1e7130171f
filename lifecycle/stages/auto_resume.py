"""The SPANK plugin of ``srun --auto-resume``, where Slurm looks for plugins: an image's, or built on the machine.

A SPANK plugin must be built against the very Slurm that loads it, so none can be brought along.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpadmin import resources
from hpadmin.errors import OperationFailed
from lifecycle.engine import Stage
from lifecycle.machine import Machine
from lifecycle.packages import Packages, plugin_file, plugin_folder
from lifecycle.retry import Retry
from lifecycle.situation import Situation
from lifecycle.step import Step, Transient

PLUGIN = "spank_auto_resume.so"
_HEADERS = ("usr/include", "usr/local/include", "opt/slurm/include")
"""Where builds of Slurm keep slurm/spank.h: packages, ``make install``, HyperPod's."""
_COMPILER = ("gcc", "libc6-dev", "make")
_HEADER_PACKAGE = "libslurm-dev"
_DEBIANS = "slurm-wlm"
"""Debian's own Slurm has its plugins in a folder of this name: only with that one its headers fit."""
_WAYS_OUT = (
    "install a C compiler, make and the headers of this very Slurm (slurm/spank.h), or an image that has "
    f"{PLUGIN}, or set `auto_resume: false` in lifecycle.yaml"
)


@dataclass(frozen=True, slots=True)
class Plugin:
    """Slurm has the plugin. One that is there is never replaced."""

    def lacking(self, machine: Machine) -> str | None:
        return None if plugin_file(machine, PLUGIN) else f"build {PLUGIN} for this machine's Slurm"

    def make(self, machine: Machine) -> None:
        folder = plugin_folder(machine)
        if packages := self._missing(machine, folder):
            try:
                Packages(packages).make(machine)
            except Transient:
                raise
            except OperationFailed as error:
                raise OperationFailed(f"{PLUGIN} cannot be built: {error}", hint=_WAYS_OUT) from error
        source = resources.directory("slurm_plugins")
        with tempfile.TemporaryDirectory(prefix="hpadmin-build-") as work:
            done = machine.runner.run(
                ["make", "-s", "-C", work, "-f", str(source / "Makefile"), f"VPATH={source}",
                 f"CPPFLAGS=-I{_headers(machine)}", f"PYTHON={sys.executable}", PLUGIN],
                timeout=300,
            )  # fmt: skip
            if done.returncode != 0:
                raise OperationFailed(f"{PLUGIN} cannot be built: {done.stderr.strip()}", hint=_WAYS_OUT)
            built = (Path(work) / PLUGIN).read_bytes()
        machine.write(f"/{folder.relative_to(machine.root)}/{PLUGIN}", built, mode=0o755)

    @staticmethod
    def _missing(machine: Machine, folder: Path) -> tuple[str, ...]:
        """Return the packages that building needs. Raises OperationFailed where no package has what is missing."""
        tools = all(any(machine.root.glob(f"usr/*bin/{tool}")) for tool in ("cc", "make"))
        needed = () if tools else _COMPILER
        if _headers(machine):
            return needed
        if folder.name != _DEBIANS:
            raise OperationFailed(
                f"{PLUGIN} cannot be built: there is no slurm/spank.h of the Slurm whose plugins are in {folder}",
                hint=_WAYS_OUT,
            )
        return (*needed, _HEADER_PACKAGE)


def _headers(machine: Machine) -> Path | None:
    """Return the folder in which Slurm's headers are."""
    folders = [machine.root / folder for folder in _HEADERS]
    return next((folder for folder in folders if (folder / "slurm/spank.h").exists()), None)


def steps(situation: Situation) -> Iterator[Step]:
    """Yield the step of the stage."""
    yield Plugin()


STAGE = Stage(
    "auto-resume",
    "srun --auto-resume",
    steps,
    applies=lambda situation: situation.settings.auto_resume,
    retry=Retry(deadline=900, base=2, cap=30),
)
