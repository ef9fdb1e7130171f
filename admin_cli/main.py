"""The entry point `hpadmin`.

Command groups are imported when they are used, so that ``hpadmin --help`` stays as quick as Python itself:
`COMMANDS` below is all that the top level knows of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import click

from hpadmin import __version__

COMMANDS = {
    "config": "Validate a request, render, plan and apply Slurm's configuration, find drift.",
    "topology": "Show the network topology; tell where a job would be placed.",
    "node": "List, check, reboot and replace nodes.",
    "job": "List jobs that resume by themselves, and what happened to them.",
    "agent": "Run the recovery agent.",
    "lab": "A real Slurm cluster in containers, for trying and testing.",
}
"""Name of each command group (its module in this package) and its short help."""


class LazyGroup(click.Group):
    """A group whose subcommands are modules of this package, imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"admin_cli.{cmd_name}")
        command: click.Command = module.group
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:
        from admin_cli.report import reporting_errors

        with reporting_errors():
            return super().main(args, **extra)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hpadmin")
def cli() -> None:
    """HyperPod's configuration, topology, repair and resume for any Slurm cluster.

    A request in the form of SageMaker's CreateCluster becomes the cluster's Slurm configuration and guards it
    against drift; failed nodes are repaired, and jobs resume by themselves.

    \b
    Exit codes:
      0  done, or nothing to change
      1  an operation failed
      2  usage error or invalid input
      3  config plan: there are changes to apply
      4  drift that blocks (Managed); config drift: drift found

    \b
    Examples:
      hpadmin config validate cluster.json
      hpadmin config plan cluster.json --inventory resource_config.json
      hpadmin lab up examples/guide.json
    """
