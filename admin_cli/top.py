"""What the top level of the command line says of itself: its commands and its help, as plain text."""

from __future__ import annotations

COMMANDS = {
    "config": "Validate a request; render, plan and apply Slurm's configuration.",
    "topology": "Show the network topology; tell where a job would be placed.",
    "node": "List, check, reboot and replace nodes.",
    "job": "List jobs that resume by themselves, and what happened to them.",
    "agent": "Run the recovery agent.",
    "lab": "A real Slurm cluster in containers, for trying and testing.",
}
"""Name of each command group (its module in this package) and its short help."""

_ABOUT = """\
Usage: hpadmin [OPTIONS] COMMAND [ARGS]...

  HyperPod's configuration, topology, repair and resume for any Slurm cluster.

  A request in the form of SageMaker's CreateCluster becomes the cluster's
  Slurm configuration and guards it against drift; failed nodes are repaired,
  and jobs resume by themselves.

  Exit codes:
    0  done, or nothing to change
    1  an operation failed
    2  usage error or invalid input
    3  config plan: there are changes to apply
    4  drift that blocks (Managed); config drift: drift found

  Examples:
    hpadmin config validate cluster.json
    hpadmin config plan cluster.json --inventory resource_config.json
    hpadmin topology place -N24 --segment=12
    hpadmin lab up examples/guide.json

  Completion: eval "$(_HPADMIN_COMPLETE=bash_source hpadmin)"

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

Commands:
"""


def help_text() -> str:
    """Return the help of the top level."""
    width = max(map(len, COMMANDS))
    return _ABOUT + "".join(f"  {name.ljust(width)}  {about}\n" for name, about in COMMANDS.items())
