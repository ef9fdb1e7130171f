"""`hpadmin lab`: a real Slurm cluster in containers, a container an instance."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from admin_cli.report import output_option, print_json, print_table, say
from hpadmin.errors import InvalidInput, OperationFailed

if TYPE_CHECKING:
    from hpadmin.lab.cluster import Lab

_NAME = click.option("--name", "-n", help="Which lab, where there are several.", metavar="LAB")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """A real Slurm cluster in containers, for trying and testing.

    Every instance of the request becomes a container on a private network with real munge, slurmctld and
    slurmd. It is given its instance's facts alone and becomes a node by running lifecycle/on_create.sh, as an
    instance of HyperPod does. GPUs are device files.

    \b
    Examples:
      hpadmin lab up examples/guide.json
      hpadmin lab exec login-1 -- srun -N2 hostname
      hpadmin lab fault gpu-compute-3 kill
      hpadmin lab down
    """


@group.command()
@click.argument("request", metavar="REQUEST", required=False)
@click.option(
    "--legacy", metavar="FILE", help="provisioning_parameters.json beside a request without SlurmConfig."
)
@click.option("--name", "-n", default="hpadmin", show_default=True, metavar="LAB", help="Name of the lab.")
@click.option("--ultraserver-nodes", type=click.IntRange(min=1), metavar="N",
              help="Instances in an UltraServer; the real one's 18 when not given.")  # fmt: skip
@click.option(
    "--lifecycle", metavar="FILE", help="lifecycle.yaml for the nodes; the container profile when not given."
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Folder with lifecycle.yaml, shared_users.txt, ssh_keys/, packages/ for the nodes (docs/lifecycle.md).",
)
@click.option(
    "--timeout", type=float, default=900, show_default=True, help="Seconds until every node is ready."
)
def up(
    request: str | None,
    legacy: str | None,
    name: str,
    ultraserver_nodes: int | None,
    lifecycle: str | None,
    bundle: Path | None,
    timeout: float,
) -> None:
    """Bring REQUEST up, or make a lab that is up what REQUEST says now.

    REQUEST is a CreateCluster request, JSON or YAML, ``-`` for stdin; without it, a small cluster of a
    controller, a login node and two compute nodes comes up. What is missing is created, what is no longer
    wanted is removed, everything else is left as it is. The image is built at the first use.

    \b
    Examples:
      hpadmin lab up examples/guide.json
      hpadmin lab up examples/ultraservers.json --ultraserver-nodes 4
    """
    from hpadmin import resources
    from hpadmin.request import read_source

    source = read_source(request or resources.directory("containers") / "small.json")
    with _lab(name, new=True) as lab:
        lab.up(
            source,
            legacy=read_source(legacy) if legacy else None,
            ultraserver_nodes=ultraserver_nodes,
            lifecycle=read_source(lifecycle).text if lifecycle else None,
            bundle=_files(bundle) if bundle else None,
            timeout=timeout,
            say=say,
        )


@group.command()
@_NAME
@output_option
def status(name: str | None, output: str) -> None:
    """Show every node of the lab: its role, its group, how far it is, and what Slurm says of it.

    \b
    Examples:
      hpadmin lab status
      hpadmin lab status -o json | jq -r '.nodes[].status'
    """
    with _lab(name) as lab:
        states = lab.slurm_states()
        nodes = lab.look()
    if output == "json":
        print_json(
            {
                "lab": lab.name,
                "nodes": [
                    {
                        "name": node.instance.name,
                        "role": node.role,
                        "group": node.instance.group,
                        "status": node.status,
                        "hostname": node.instance.hostname,
                        "address": node.instance.address,
                        "instance_id": node.instance.instance_id,
                        "instance_type": node.instance.instance_type,
                        "ultraserver": node.instance.ultraserver,
                        "slurm_state": states.get(node.instance.hostname),
                    }
                    for node in nodes
                ],
            }
        )
        return
    print_table(
        ["NAME", "ROLE", "GROUP", "STATUS", "SLURM", "HOST NAME", "INSTANCE"],
        [
            [
                node.instance.name,
                node.role,
                node.instance.group,
                node.status,
                states.get(node.instance.hostname, "-"),
                node.instance.hostname,
                node.instance.instance_id,
            ]
            for node in nodes
        ],
    )


@group.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_NAME
@click.option("--user", "-u", default="root", show_default=True, help="Who runs it.")
def execute(node: str, command: tuple[str, ...], name: str | None, user: str) -> None:
    """Run a command on NODE, with this terminal's input and output; its exit code is this command's.

    NODE is an instance name (login-1), a host name or an instance id. What follows it is the command's; options of
    this command go before it.

    \b
    Examples:
      hpadmin lab exec login-1 -- sbatch -N4 --wrap 'srun hostname'
      hpadmin lab exec --user ann login-1 -- squeue -u ann
    """
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("Missing argument 'COMMAND...'.")
    with _lab(name) as lab:
        container = lab.runner(node).container
    terminal = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    argv = ["docker", "exec", "-i", *terminal, "-u", user, container, *words]
    # Docker's own client passes terminal, signals and exit code on; nothing of ours has to stay between.
    try:
        os.execvp(argv[0], argv)
    except FileNotFoundError as error:
        raise OperationFailed(
            "the docker command is not installed (Debian: docker-cli or docker.io)"
        ) from error


@group.command()
@click.argument("node")
@click.argument("kind", type=click.Choice(["kill", "pause", "disconnect", "heal"]))
@_NAME
def fault(node: str, kind: str, name: str | None) -> None:
    """Break NODE's machine: kill (power lost), pause (hangs), disconnect (network lost); heal undoes them.

    \b
    Examples:
      hpadmin lab fault gpu-1 pause
      hpadmin lab fault gpu-1 heal
    """
    with _lab(name) as lab:
        lab.fault(node, kind)
    say(f"{node}: {kind}")


@group.command()
@click.argument("node")
@_NAME
def reboot(node: str, name: str | None) -> None:
    """Restart NODE's machine; its disk stays.

    \b
    Examples:
      hpadmin lab reboot gpu-1
    """
    with _lab(name) as lab:
        lab.reboot(node)
    say(f"{node}: rebooting")


@group.command()
@click.argument("node")
@_NAME
def replace(node: str, name: str | None) -> None:
    """Give NODE another machine: new id and address, the same host name, an empty disk.

    \b
    Examples:
      hpadmin lab replace gpu-1
    """
    with _lab(name) as lab:
        new = lab.replace(node)
    say(f"{node}: replaced by {new.instance_id} at {new.address}")


@group.command()
@_NAME
def down(name: str | None) -> None:
    """Remove all containers and the network of the lab, and nothing else.

    \b
    Examples:
      hpadmin lab down
      hpadmin lab down --name second
    """
    with _lab(name) as lab:
        lab.down(say=say)


@contextlib.contextmanager
def _lab(name: str | None, *, new: bool = False) -> Iterator[Lab]:
    """The lab of that name, the only one without a name; `new` for one that need not be there yet.

    What the engine refuses in the block, and that it does not answer, is OperationFailed.
    """
    try:
        from hpadmin.lab.cluster import Lab
        from hpadmin.lab.engine import engine_errors
    except ModuleNotFoundError as error:
        if error.name not in ("docker", "requests"):
            raise
        raise OperationFailed(
            f"labs need the Python package {error.name}, which is not installed",
            hint="pip install 'hpadmin[lab]'",
        ) from error
    with engine_errors():
        yield Lab.open(name) if new and name else Lab.find(name)


def _files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by their names relative to it."""
    try:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    except OSError as error:
        raise InvalidInput(f"cannot read {error.filename}: {error.strerror}") from error
