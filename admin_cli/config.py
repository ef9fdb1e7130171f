"""``hpadmin config``: validate a request, render what it means; what changes a cluster is in `config_changes`."""

from __future__ import annotations

from pathlib import Path

import click

from admin_cli.config_changes import COMMANDS
from admin_cli.config_lint import lint
from admin_cli.options import Directory, RequestInputs, SiteInputs, request_options, site_options
from admin_cli.report import output_option, print_json, say


@click.group()
def group() -> None:
    """Validate a request, render, plan and apply Slurm's configuration, find drift.

    \b
    Examples:
      hpadmin config validate cluster.json
      hpadmin config plan cluster.json --inventory resource_config.json
      hpadmin config drift
    """


@group.command()
@request_options(inventory=False)
@output_option
@click.pass_context
def validate(context: click.Context, inputs: RequestInputs, output: str) -> None:
    """Check REQUEST, a CreateCluster or UpdateCluster body in JSON or YAML (- is stdin).

    Everything that is wrong is told at once, each with its place. Exit code 0 when valid, 2 when not.

    A provisioning_parameters.json beside REQUEST configures Slurm where the request has no SlurmConfig.

    \b
    Examples:
      hpadmin config validate cluster.json
      hpadmin config validate update.json --current cluster.json
      hpadmin config validate - -o json < cluster.yaml
    """
    from hpadmin.errors import InvalidInput

    try:
        request = inputs.read()
    except InvalidInput as error:
        if output != "json":
            raise
        problems = error.problems or (error.message,)
        errors = [_problem("", p) if isinstance(p, str) else _problem(p.path, p.message) for p in problems]
        print_json({"valid": False, "errors": errors, "notes": []})
        context.exit(error.exit_code)
    if output == "json":
        notes = [_problem(note.path, note.message) for note in request.notes]
        print_json({"valid": True, "errors": [], "notes": notes})
        return
    for note in request.notes:
        say(f"note: {note}")
    click.echo(f"{request.name or 'the update'}: valid {request.operation} request")


@group.command()
@request_options()
@site_options
@click.option(
    "--out",
    required=True,
    type=Directory(),
    metavar="DIR",
    help="Directory to write to; it is made where it is missing.",
)
def render(inputs: RequestInputs, site: SiteInputs, out: Path) -> None:
    """Write the configuration that REQUEST asks for, and touch nothing else.

    \b
    hpadmin config render cluster.json --inventory resource_config.json --out ./slurm

    \b
    Examples:
      hpadmin config render cluster.json --inventory resource_config.json --out ./rendered
      hpadmin config render cluster.yaml --inventory resource_config.json --release 26.05 --out ./rendered
    """
    from hpadmin.configure import desired, tree

    cluster = inputs.cluster()
    rendered = desired.render_all(cluster, site.options())
    removed = tree.write(out, rendered.files)
    for note in cluster.notes:
        say(f"note: {note}")
    for warning in rendered.warnings:
        say(f"warning: {warning}")
    for path in removed:
        say(f"removed {path}: this cluster has none, and Slurm would have read it")
    for name in rendered.files:
        click.echo(str(out / name))


def _problem(path: str, message: str) -> dict[str, str]:
    return {"path": path, "message": message}


for _command in (*COMMANDS, lint):
    group.add_command(_command)
