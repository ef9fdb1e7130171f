"""Packages: asked of dpkg, installed by apt, which others may be using at the same moment."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from hpadmin.errors import OperationFailed
from lifecycle.machine import Machine
from lifecycle.step import Transient

log = logging.getLogger("lifecycle")

_APT = (
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "apt-get",
    "--quiet=2",
    "--yes",
    "--no-install-recommends",
    "-o",
    "DPkg::Lock::Timeout=60",
    "-o",
    "Acquire::Retries=3",
)
_PASSING = ("Could not get lock", "Unable to acquire the dpkg frontend lock", "Temporary failure", "Failed to fetch",
            "Could not connect", "Connection timed out", "Unable to lock", "dpkg was interrupted")  # fmt: skip
"""What apt says of things that pass: somebody else's lock, a network that blinks, packages that another run left half
installed while a third one held the lock."""


_PLUGINS = (
    "usr/lib/*/slurm-wlm",
    "usr/lib/*/slurm",
    "usr/lib/slurm",
    "usr/lib64/slurm",
    "opt/slurm/lib/slurm",
    "opt/slurm/lib64/slurm",
)
"""Where builds of Slurm keep their plugins: Debian's, SchedMD's, others' packages, HyperPod's."""


_OF_SLURM = "select_cons_tres.so"
"""A plugin that every Slurm has."""


def plugin_file(machine: Machine, name: str) -> Path | None:
    """Return the file of one of Slurm's plugins; None when this machine's Slurm does not have it."""
    return next((found for folder in _PLUGINS for found in machine.root.glob(f"{folder}/{name}")), None)


def plugin_folder(machine: Machine) -> Path:
    """Return where this machine's Slurm has its plugins. Raises OperationFailed when there is no Slurm."""
    own = plugin_file(machine, _OF_SLURM)
    if own is None:
        raise OperationFailed(f"there is no Slurm on this machine: no {_OF_SLURM}")
    return own.parent


@dataclass(frozen=True, slots=True)
class Packages:
    """Installed packages. `files` are package files to install them from; without any, apt's sources are used.

    What such files depend on comes from apt's sources, which are asked only when something is missing: a machine
    that has everything needs no mirror.
    """

    names: tuple[str, ...]
    files: tuple[Path, ...] = ()

    def lacking(self, machine: Machine) -> str | None:
        missing = [name for name in self.names if not self._installed(machine, name)]
        return f"install {', '.join(missing)}" if missing else None

    def make(self, machine: Machine) -> None:
        # A run that was killed may have left packages unpacked and not configured.
        machine.launcher.run(["dpkg", "--configure", "-a"], timeout=600)
        wanted = [str(path) for path in self.files] or self.names
        if self.files:
            try:
                self._apt(machine, "install", *wanted)
            except Transient:
                raise
            except OperationFailed as error:
                log.info("  %s; asking apt's sources for what is missing", error)
            else:
                return
        self._apt(machine, "update")
        self._apt(machine, "install", *wanted)

    @staticmethod
    def _installed(machine: Machine, name: str) -> bool:
        asked = machine.runner.run(
            ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name], timeout=60
        )
        return asked.stdout == "installed"

    def _apt(self, machine: Machine, *arguments: str) -> None:
        done = machine.launcher.run([*_APT, *arguments], timeout=1800)
        if done.returncode == 0:
            return
        lines = [line.strip() for line in done.stdout.splitlines()]
        said = [line for line in lines if line.startswith(("E:", "W:")) or " Depends: " in line]
        words = " ".join(said) or f"apt-get exited {done.returncode}"
        failure = Transient if any(sign in words for sign in _PASSING) else OperationFailed
        raise failure(f"apt-get {arguments[0]} failed: {words}")
