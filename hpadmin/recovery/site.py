"""One cluster as its administrator set it up: ``agent.toml``, the state directory, and how Slurm is reached."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from hpadmin.recovery.leadership import LOCK, Leads, StandsBy, leadership, whoami
from hpadmin.recovery.policy import Settings
from hpadmin.recovery.probe import Prober
from hpadmin.slurm.command import Local, Runner
from hpadmin.slurm.control import CommandControl, SlurmControl
from hpadmin.slurm.pyslurm_reader import best_reader
from hpadmin.slurm.reader import SlurmReader

if TYPE_CHECKING:
    from hpadmin.lab.cluster import Lab

STATE_DIRECTORY = "/var/lib/hpadmin"
"""Where an agent keeps its state that was not told otherwise."""
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

    @contextmanager
    def leadership(self) -> Iterator[Leads]:
        """Be the one agent of this cluster. Raises StandsBy when there is one, OperationFailed when that is unclear."""
        with leadership(self.state_dir):
            lab = None if isinstance(self.runner, Local) else _lab(self.provider)
            if lab is None:
                yield lambda: True
                return
            from hpadmin.lab.lock import Taken, locked

            lock = f"{STATE_DIRECTORY}/{LOCK}"
            try:
                with locked(lab.client, lab.controller().container, lock, whoami()) as held:
                    yield held
            except Taken as error:
                raise StandsBy(error.message) from error

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
            limits = self.settings.resume
            parts.append(
                over_commands(self.reader, self.control, self.runner, self.state_dir, examiner, limits)
            )
        parts += _upkeep(self.provider)
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
    lab = None if shutil.which("scontrol") else _lab(provider)
    return Local() if lab is None else lab.runner(lab.controller().instance.name)


def _lab(provider: Provider) -> Lab | None:
    """The lab that the provider is of; None for every other provider."""
    if provider.name != "docker":
        return None
    from hpadmin.nodes.providers.docker import Docker

    return provider.lab if isinstance(provider, Docker) else None


def _upkeep(provider: Provider) -> list[Part]:
    if provider.name != "docker":
        return []
    from hpadmin.nodes.providers.docker import Docker, Upkeep

    return [Upkeep(provider)] if isinstance(provider, Docker) else []
