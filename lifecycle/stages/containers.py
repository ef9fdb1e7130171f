"""Containers for jobs: NVIDIA's enroot and pyxis, so that ``srun --container-image`` works.

pyxis's line in plugstack.conf is the configuration's, and with it no command of Slurm works on a machine without
pyxis: so every node has it. Here are the packages, the plugin where this machine's Slurm looks for it, and a place of
each user's own for images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpadmin.errors import OperationFailed
from lifecycle.engine import Stage
from lifecycle.machine import Machine
from lifecycle.packages import Packages, plugin_file, plugin_folder
from lifecycle.retry import Retry
from lifecycle.situation import Situation
from lifecycle.stages.accounts import users
from lifecycle.step import Block, Directory, Step

PACKAGES = ("enroot", "nvslurm-plugin-pyxis")
PLUGIN = "spank_pyxis.so"
_LOCAL = ("usr/local/lib/slurm", "usr/local/lib/*/slurm")
"""Where ``make install`` of pyxis puts it, beside the folders of Slurm's packages."""

ENROOT_CONF = "/etc/enroot/enroot.conf"
IMAGES = "/var/lib/enroot"
"""Users' images and what is unpacked of them: on the machine's own disk, not in homes, which are on file servers."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """Slurm's own folder of plugins has pyxis. Packages of pyxis are made for one build of Slurm's folder."""

    def lacking(self, machine: Machine) -> str | None:
        return None if self._wanted(machine).exists() else f"give Slurm {PLUGIN}"

    def make(self, machine: Machine) -> None:
        wanted = self._wanted(machine)
        elsewhere = plugin_file(machine, PLUGIN) or next(
            (found for folder in _LOCAL for found in machine.root.glob(f"{folder}/{PLUGIN}")), None
        )
        if elsewhere is None:
            raise OperationFailed(f"pyxis is installed and there is no {PLUGIN} where Slurm's plugins are")
        wanted.unlink(missing_ok=True)
        wanted.symlink_to(elsewhere)

    @staticmethod
    def _wanted(machine: Machine) -> Path:
        return plugin_folder(machine) / PLUGIN


def settings() -> tuple[str, ...]:
    """Return the lines of enroot.conf; enroot reads them by a shell, each time for its user.

    The first line of a name counts: what an administrator wrote above goes before these.
    """
    own = f"{IMAGES}/user-$(id -u)"
    return tuple(f"ENROOT_{what}_PATH {own}/{what.lower()}" for what in ("RUNTIME", "CACHE", "DATA"))


def steps(situation: Situation) -> Iterator[Step]:
    """Yield the steps of the stage."""
    files = tuple(sorted((situation.bundle / "packages").glob("*.deb")))
    yield Packages(PACKAGES, files)
    yield Plugin()
    yield Block(ENROOT_CONF, settings())
    yield Directory(IMAGES, 0o1777)
    # Made here, where anybody may make folders, so that nobody makes one in another's name.
    yield Directory(f"{IMAGES}/user-0", 0o700, "root")
    for user in users(situation):
        yield Directory(f"{IMAGES}/user-{user.uid}", 0o700, user.name)


STAGE = Stage(
    "containers",
    "enroot and pyxis",
    steps,
    applies=lambda situation: situation.settings.containers,
    retry=Retry(deadline=900, base=2, cap=30),
)
