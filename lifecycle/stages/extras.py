"""What comes with a node besides its daemons: programs that slurm.conf names, log rotation, optional software."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hpadmin import resources
from hpadmin.configure import submission
from hpadmin.errors import OperationFailed
from hpadmin.model import NodeType
from lifecycle.daemon import InitScript, Running, Stopped
from lifecycle.engine import Stage
from lifecycle.initscripts import AGENT, RESTD, unit
from lifecycle.machine import Machine
from lifecycle.packages import Packages, plugin_file
from lifecycle.retry import Retry
from lifecycle.settings import EPILOG, HEALTH_CHECK, PROLOG, render_options
from lifecycle.situation import Situation
from lifecycle.step import Directory, File, Step

ROTATION = "/etc/logrotate.d/hpadmin"
PROVISIONING_LOG = "/var/log/provision/provisioning.log"
SLURM_LOGS = ("slurmctld", "slurmd", "slurmdbd")
EXPORTER = "prometheus-node-exporter"

AGENT_SETTINGS = "/etc/hpadmin/agent.toml"
HEALTH_SETTINGS = "/etc/hpadmin/health.toml"
_OF_CONTAINERS = b"""# Written by hpadmin's lifecycle for a container: fabric, clock and disks are those of its host.
[efa]
count = 0

[clock]
check = false

[disk]
"""

_AGENT_PROCESS = "hpadmin agent run"


def programs(situation: Situation) -> Iterator[Step]:
    """Yield the health check, prolog and epilog of a compute node, and what it is checked for."""
    if expectations := _expectations(situation):
        yield File(HEALTH_SETTINGS, expectations)
    program = resources.directory("slurm_plugins") / "health" / "hpadmin-health"
    yield File(HEALTH_CHECK, program.read_bytes(), 0o755)
    yield Directory(str(Path(PROLOG).parent))
    for path, when in ((PROLOG, "prolog"), (EPILOG, "epilog")):
        yield File(path, f"#!/bin/sh\nexec {HEALTH_CHECK} {when}\n", 0o755)


def _expectations(situation: Situation) -> bytes | None:
    """The bundle's health.toml; without one, a host is checked for what its instance type has."""
    given = situation.bundle / "health.toml"
    if given.exists():
        return given.read_bytes()
    return _OF_CONTAINERS if situation.settings.profile == "container" else None


@dataclass(frozen=True, slots=True)
class LuaPlugin:
    """Slurm's plugin that runs a Lua script. Commands and slurmctld refuse to start without one that is configured."""

    setting: str
    file: str

    def lacking(self, machine: Machine) -> str | None:
        return None if plugin_file(machine, self.file) else f"install Slurm's {self.file}"

    def make(self, machine: Machine) -> None:
        raise OperationFailed(
            f"Slurm was built without Lua on this machine: there is no {self.file} for {self.setting}",
            hint="set `submission_checks: false` in lifecycle.yaml, or install a Slurm with Lua",
        )


def submission_checks(situation: Situation) -> Iterator[Step]:
    """Yield what the submission plugin needs beside the script that comes with Slurm's configuration."""
    chosen = submission.plugin(render_options(situation.settings, situation.cluster).release)
    yield LuaPlugin(chosen.setting, chosen.file)
    yield Directory(submission.SHARE)
    yield File(f"{submission.SHARE}/{submission.HELPER}", submission.script(submission.HELPER))


@dataclass(frozen=True, slots=True)
class Rotation:
    """Log rotation of Slurm's logs, unless the packages brought one: logrotate refuses a log named twice."""

    folder: str
    """Where Slurm's logs are."""

    def lacking(self, machine: Machine) -> str | None:
        return self._file(machine).lacking(machine)

    def make(self, machine: Machine) -> None:
        self._file(machine).make(machine)

    def _file(self, machine: Machine) -> File:
        folder = machine.path("/etc/logrotate.d")
        others = "".join(
            path.read_text(errors="replace")
            for path in sorted(folder.glob("*"))
            if path.is_file() and path.name != Path(ROTATION).name
        )
        return File(ROTATION, rotation(others, self.folder))


def rotation(others: str, folder: str) -> str:
    """Return our logrotate(8) file, given the text of all others and the folder of Slurm's logs."""
    # These are written by what starts a program, which does not know of signals.
    ours = (PROVISIONING_LOG, RESTD.background, AGENT.background)
    parts = [
        "# Written by hpadmin's lifecycle.",
        *(_rotated(log, ("missingok", "copytruncate")) for log in ours),
    ]
    for daemon in SLURM_LOGS:
        log = f"{folder}/{daemon}.log"
        if log not in others:
            # SIGUSR2 makes Slurm's daemons open their logs anew (slurmctld(8), SIGNALS). One that was reconfigured may
            # have another name (see `lifecycle.services.processes`).
            script = ("postrotate", f"    pkill -USR2 -x '{daemon}(-wlm)?' || true", "endscript")
            parts.append(_rotated(log, ("missingok", "nocreate", "delaycompress", *script)))
    return "\n".join(parts) + "\n"


def _rotated(log: str, settings: tuple[str, ...]) -> str:
    lines = ("size 50M", "rotate 4", "compress", "notifempty", *settings)
    return "\n".join([f"{log} {{", *(f"    {line}" for line in lines), "}"])


def rotate(situation: Situation) -> Iterator[Step]:
    """Yield the step of log rotation."""
    yield Rotation(render_options(situation.settings, situation.cluster).log_directory)


def observability(situation: Situation) -> Iterator[Step]:
    """Yield the node exporter, on port 9100."""
    yield Packages((EXPORTER,))
    yield Running(EXPORTER, EXPORTER)


def hpadmin_command(python: str = sys.executable) -> str:
    """Return the command ``hpadmin`` of this Python, else the one on PATH. Raises OperationFailed without any."""
    beside = Path(python).with_name("hpadmin")
    found = str(beside) if beside.exists() else shutil.which("hpadmin")
    if found is None:
        raise OperationFailed(
            f"the command hpadmin is neither beside {python} nor on PATH: the recovery agent cannot run",
            hint=f"install hpadmin in {Path(AGENT.executable).parents[1]}, or set `agent: false` in lifecycle.yaml",
        )
    return found


def agent(situation: Situation) -> Iterator[Step]:
    """Yield the recovery agent, as the bundle's agent.toml sets it up; where it is turned off, that it rests."""
    if not situation.settings.agent:
        yield Stopped(AGENT.name, _AGENT_PROCESS)
        return
    yield File(AGENT_SETTINGS, (situation.bundle / "agent.toml").read_bytes(), 0o600)
    defaults = f"/etc/default/{AGENT.name}"
    yield File(defaults, f'{AGENT.options_variable}="agent run"\n')
    daemon = replace(AGENT, executable=hpadmin_command())
    yield File(f"/etc/systemd/system/{AGENT.name}.service", unit(daemon))
    yield InitScript(daemon)
    yield Running(AGENT.name, _AGENT_PROCESS, reads=(AGENT_SETTINGS, defaults), log=AGENT.background)


AGENT_STAGE = Stage(
    "agent",
    "recovery agent",
    agent,
    applies=lambda s: s.is_controller and (s.bundle / "agent.toml").exists(),
)
SUBMISSION = Stage(
    "submission",
    "what refuses impossible jobs",
    submission_checks,
    applies=lambda s: render_options(s.settings, s.cluster).submission_checks,
)
PROGRAMS = Stage(
    "programs",
    "health check, prolog and epilog",
    programs,
    applies=lambda s: s.role is NodeType.COMPUTE and s.settings.health_check,
)
ROTATE = Stage("logs", "log rotation", rotate, applies=lambda s: s.settings.log_rotation)
OBSERVABILITY = Stage(
    "observability",
    "metrics exporters",
    observability,
    applies=lambda s: s.settings.observability,
    retry=Retry(deadline=900, base=2, cap=30),
)
