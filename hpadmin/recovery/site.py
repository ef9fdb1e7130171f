"""One cluster as its administrator set it up: ``agent.toml``, the state directory, and how Slurm is reached."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpadmin.errors import InvalidInput
from hpadmin.nodes.provider import (
    Answer,
    Outcome,
    Provider,
    ProviderInstance,
    Repair,
)
from hpadmin.nodes.providers import from_settings
from hpadmin.recovery.agent import Agent, Part
from hpadmin.recovery.journal import Journal
from hpadmin.recovery.policy import Settings
from hpadmin.recovery.probe import Prober
from hpadmin.slurm.command import Local, Runner
from hpadmin.slurm.control import CommandControl, SlurmControl
from hpadmin.slurm.pyslurm_reader import best_reader
from hpadmin.slurm.reader import SlurmReader

DEFAULT_SETTINGS = Path("/etc/hpadmin/agent.toml")
JOURNAL = "agent.sqlite"


class NoProvider:
    """Stands where none is configured: nodes can be seen and marked, not repaired."""

    name = "none"

    def instances(self) -> tuple[ProviderInstance, ...]:
        return ()

    def node_recovery(self) -> bool:
        return True

    def repair(self, action: Repair, instance_ids: Sequence[str]) -> Mapping[str, Outcome]:
        return dict.fromkeys(instance_ids, Outcome(Answer.REFUSED, message="no provider is configured"))

    def runner(self, node: str) -> Runner | None:
        return None


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster, ready to be looked at and changed."""

    settings: Settings
    state_dir: Path
    provider: Provider
    runner: Runner
    """Where Slurm's commands run."""
    reader: SlurmReader
    control: SlurmControl

    @staticmethod
    def open(
        settings_path: Path, state_dir: Path, *, lab: str | None = None, need_provider: bool = True
    ) -> Site:
        """Read the settings and make what they describe; `lab` overrides their provider.

        Raises InvalidInput for bad settings, or for none where a provider is needed.
        """
        settings = Settings.load(settings_path)
        table = {"kind": "docker", "lab": lab} if lab is not None else settings.provider
        provider: Provider = NoProvider() if not table and not need_provider else from_settings(table)
        runner = _slurm_runner(provider)
        reader = best_reader(runner, local=isinstance(runner, Local))
        return Site(settings, state_dir, provider, runner, reader, CommandControl(runner))

    def journal(self) -> Journal:
        """Open the agent's journal. Raises OperationFailed where this user may not."""
        return Journal(self.state_dir / JOURNAL)

    def agent(self, *, only: frozenset[str] | None = None) -> Agent:
        """Return an agent for this cluster; the caller holds its leadership."""
        prober = Prober() if self.settings.probe else None
        parts: list[Part] = []
        if only is None:
            from hpadmin.recovery.resume.examine import OnNodes
            from hpadmin.recovery.resume.part import over_commands

            examiner = OnNodes(self.provider.runner)
            parts.append(over_commands(self.reader, self.control, self.runner, self.state_dir, examiner))
        return Agent(
            self.reader,
            self.control,
            self.provider,
            self.journal(),
            self.settings.policy,
            prober=prober,
            parts=parts,
            only=only,
        )


def _slurm_runner(provider: Provider) -> Runner:
    """Slurm's commands run on this host; for a lab seen from outside, on its controller."""
    if provider.name != "docker" or shutil.which("scontrol"):
        return Local()
    from hpadmin.nodes.providers.docker import Docker

    if not isinstance(provider, Docker):
        raise InvalidInput("the docker provider is not the lab's")
    return provider.lab.runner(provider.lab.controller().instance.name)
