"""The controller: Slurm's configuration from request and inventory, and slurmctld.

What renders and applies the configuration is imported where it is used: the other nodes have no use for it, and for
them it would be half of the lifecycle's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpadmin.configure.options import RenderOptions
from lifecycle.daemon import Running, Stopped
from lifecycle.engine import Stage
from lifecycle.machine import Machine
from lifecycle.retry import Retry
from lifecycle.settings import render_options, site_file
from lifecycle.situation import Situation
from lifecycle.stages import accounting
from lifecycle.step import Access, Directory, File, Step

SITE_FILE = "/etc/hpadmin/site.yaml"


@dataclass(frozen=True, slots=True)
class Rendering:
    """Slurm's files as request, settings and the machine's own database password make them."""

    situation: Situation
    options: RenderOptions

    def __call__(self, machine: Machine) -> dict[str, str]:
        """Render them. Raises InvalidInput, and OperationFailed where a secret cannot be had."""
        from hpadmin.configure import desired

        options = accounting.credentials(machine, self.situation, self.options)
        return desired.render(self.situation.cluster, options)


def configuration(situation: Situation) -> Iterator[Step]:
    """Yield the steps that give the controller its configuration."""
    from hpadmin.configure import desired
    from lifecycle.configuration import Applied

    options = render_options(situation.settings, situation.cluster)
    yield Directory(options.log_directory, 0o755, options.slurm_user)
    yield Directory(situation.conf_dir)
    if accounting.wanted(situation):
        if accounting.local(situation):
            yield accounting.Password()
        else:
            options = accounting.with_secret(situation, options)
            yield from accounting.access(situation, options)
    yield File(SITE_FILE, site_file(situation.settings, situation.cluster, options.storage_user))
    yield Applied(
        situation.cluster,
        options,
        Rendering(situation, options),
        situation.conf_dir,
        situation.request.text.encode(),
        situation.inventory.read_bytes(),
    )
    if accounting.wanted(situation):
        name = "slurmdbd.conf"
        yield Access(f"{situation.conf_dir}/{name}", desired.file_mode(name), options.slurm_user)


def daemon(situation: Situation) -> Iterator[Step]:
    """Yield the steps that make slurmctld run."""
    options = render_options(situation.settings, situation.cluster)
    yield Stopped("slurmd", "slurmd")
    yield Stopped("sackd", "sackd")
    yield Directory(options.state_directory, 0o700, options.slurm_user)
    # Never in the foreground: only a daemonised slurmctld takes a reconfigure over or leaves everything as it was.
    yield Running(
        "slurmctld", "slurmctld", probe=("scontrol", "ping"), log=f"{options.log_directory}/slurmctld.log"
    )


CONFIGURATION = Stage(
    "configuration",
    "Slurm's files from request and inventory",
    configuration,
    lambda s: s.is_controller,
    retry=Retry(deadline=300),
)
STAGE = Stage("controller", "slurmctld", daemon, lambda s: s.is_controller)
