"""The top level as click knows it: command groups are modules of this package, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

import click

from admin_cli.top import COMMANDS, help_text
from hpadmin import __version__


class LazyGroup(click.Group):
    """A group whose subcommands are the modules that `COMMANDS` names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"admin_cli.{cmd_name}").group
        return command

    def get_help(self, ctx: click.Context) -> str:
        return help_text().rstrip("\n")

    def invoke(self, ctx: click.Context) -> Any:
        from admin_cli.report import reporting_errors

        with reporting_errors():
            return super().invoke(ctx)


@click.group("hpadmin", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hpadmin")
def root() -> None:
    """Everything that hpadmin can be asked for; see `admin_cli.top.help_text`."""
