"""``hpadmin config lint``: what is wrong with Slurm's files, found without a running Slurm."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from admin_cli.report import output_option, print_json, say


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--slurm-release",
    default="24.11",
    show_default=True,
    metavar="RELEASE",
    help="The Slurm release that shall read the files: 24.11, 25.05, 25.11 or 26.05.",
)
@click.option(
    "--on-this-host",
    is_flag=True,
    help="This machine is one of the cluster: also check that users exist and node names can be resolved here.",
)
@output_option
@click.pass_context
def lint(context: click.Context, path: Path, slurm_release: str, on_this_host: bool, output: str) -> None:
    """Find what is wrong with PATH, a configuration folder or one of Slurm's files.

    A folder is judged as a whole: its files against each other, and their modes. A file is judged by itself, with
    what it includes. Nothing is asked of a running Slurm.

    \b
    Exit codes:
      0  no errors (there may be warnings)
      1  errors: a daemon dies of them, nodes go invalid, or hardware is lost to jobs
      2  PATH cannot be read, or the release is not known

    \b
    Examples:
      hpadmin config lint /etc/slurm
      hpadmin config lint ./slurm --slurm-release 26.05
    """
    from hpadmin.slurmconf.lint import Severity, lint_path
    from hpadmin.slurmconf.lint.host import ThisHost

    findings = lint_path(path, release=slurm_release, host=ThisHost() if on_this_host else None)
    count = {severity: sum(found.severity is severity for found in findings) for severity in Severity}
    if output == "json":
        print_json({"findings": [asdict(found) for found in findings]})
    else:
        for found in findings:
            place = f"{found.file}:{found.line}" if found.line else found.file
            click.echo(f"{place}: {_coloured(found.severity)}: {found.message} [{found.code}]")
        say(
            f"{path}: " + ", ".join(f"{n} {severity}{'' if n == 1 else 's'}" for severity, n in count.items())
        )
    context.exit(1 if count[Severity.ERROR] else 0)


def _coloured(severity: str) -> str:
    """Colours reach terminals only: click takes them out of pipes and files."""
    return click.style(severity, fg={"error": "red", "warning": "yellow"}.get(severity, "blue"))
