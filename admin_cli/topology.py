"""`hpadmin topology`: see the network that Slurm knows, and where a job would go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from admin_cli.options import RequestInputs
from admin_cli.report import output_option, print_json, say

if TYPE_CHECKING:
    from hpadmin.topology.placement import Snapshot


@click.group()
def group() -> None:
    """See the network topology and plan with it.

    \b
    Examples:
      hpadmin topology show
      hpadmin topology show cluster.json --inventory resource_config.json
      hpadmin topology show --svg racks.svg
      hpadmin topology place -N 36 --segment 18
      hpadmin topology place -N 12 --exclusive-topo --conf-dir /etc/slurm --busy 'us1-[0-3]'
    """


def _release_option(function: Any) -> Any:
    return click.option(
        "--slurm-release",
        metavar="RELEASE",
        help="Rules of this Slurm release, such as 24.11 or 26.05; default: the running one, else 24.11, "
        "and 26.05 for a topology.yaml.",
    )(function)


def _source_options(function: Any) -> Any:
    function = click.option(
        "--down",
        metavar="HOSTLIST",
        default="",
        help="Nodes that are down, besides those that are known to be.",
    )(function)
    function = click.option(
        "--busy", metavar="HOSTLIST", default="", help="Nodes that a job has to itself, besides those in use."
    )(function)
    return click.option(
        "--conf-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Take slurm.conf and the topology from this folder instead of asking the running Slurm.",
    )(function)


@group.command()
@click.argument("request", required=False)
@click.option("--inventory", metavar="FILE", help="resource_config.json: the instances that exist.")
@click.option(
    "--network",
    metavar="FILE",
    multiple=True,
    help="Where instances are, if the inventory does not tell: JSON of describe-instance-topology (EC2), "
    "describe-cluster-node or list-cluster-nodes (SageMaker).",
)
@click.option(
    "--node-names",
    type=click.Choice(["address", "instance"]),
    default="address",
    show_default=True,
    help="Name nodes ip-10-1-2-3, or after the instance (group-1).",
)
@_source_options
@_release_option
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), help="Write the picture there as SVG."
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the picture there as a web page."
)
@output_option
def show(
    request: str | None,
    inventory: str | None,
    network: tuple[str, ...],
    node_names: str,
    conf_dir: Path | None,
    busy: str,
    down: str,
    slurm_release: str | None,
    svg: Path | None,
    html: Path | None,
    output: str,
) -> None:
    """Show blocks or switches with their nodes, by state and job.

    Of REQUEST and its inventory when given: the topology that would be configured, and why. Else of
    --conf-dir, else of the running Slurm.

    \b
    Examples:
      hpadmin topology show
      hpadmin topology show cluster.json --inventory resource_config.json --slurm-release 25.11
      hpadmin topology show --html /var/www/racks.html
    """
    from hpadmin.slurm.hostlist import expand
    from hpadmin.topology.offline import with_busy, with_down
    from hpadmin.topology.picture import page, picture
    from hpadmin.topology.show import as_data, as_lines

    if request is not None:
        if conf_dir is not None:
            raise click.UsageError("REQUEST and --conf-dir exclude each other")
        inputs = RequestInputs(request, inventory, None, None, False, node_names)
        snapshot = _chosen(inputs, network, slurm_release or "24.11", quiet=output == "json")
    else:
        if network:
            raise click.UsageError("--network adds to a REQUEST and its --inventory")
        snapshot = _snapshot(conf_dir, None, slurm_release)
    snapshot = with_down(with_busy(snapshot, expand(busy)), expand(down))
    if svg is not None:
        _write(svg, picture(snapshot))
    if html is not None:
        _write(html, page(snapshot))
    if output == "json":
        print_json(as_data(snapshot))
    elif svg is None and html is None:
        for line in as_lines(snapshot):
            click.echo(line)


@group.command()
@click.option("-N", "--nodes", type=click.IntRange(min=1), required=True, help="Number of nodes.")
@click.option("--segment", type=click.IntRange(min=1), help="Keep every so many nodes within one block.")
@click.option(
    "--spread-segments", is_flag=True, help="Every segment in a block of its own (25.11 and later)."
)
@click.option(
    "--consolidate-segments", is_flag=True, help="All segments in the smallest aggregate (25.11 and later)."
)
@click.option(
    "--exclusive",
    is_flag=False,
    flag_value="nodes",
    type=click.Choice(["nodes", "topo"]),
    help="Whole nodes, as sbatch --exclusive; with =topo, blocks without any other job.",
)
@click.option("--exclusive-topo", is_flag=True, help="The same as --exclusive=topo.")
@click.option("--switches", type=click.IntRange(min=1), help="At most so many leaf switches (topology/tree).")
@click.option("-p", "--partition", help="Partition; default: the default one.")
@click.option("-C", "--constraint", default="", help="Feature expression with &, | and parentheses.")
@click.option("--gres", default="", help="Generic resources a node, such as gpu:8.")
@click.option("-w", "--nodelist", default="", metavar="HOSTLIST", help="Nodes that must be among them.")
@click.option("-x", "--exclude", default="", metavar="HOSTLIST", help="Nodes that must not be among them.")
@_source_options
@click.option(
    "--topology",
    "topology_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Plan on the nodes of this topology.conf, topology.yaml or file of facts alone, all of them free.",
)
@_release_option
@output_option
def place(
    nodes: int,
    segment: int | None,
    spread_segments: bool,
    consolidate_segments: bool,
    exclusive: str | None,
    exclusive_topo: bool,
    switches: int | None,
    partition: str | None,
    constraint: str,
    gres: str,
    nodelist: str,
    exclude: str,
    conf_dir: Path | None,
    busy: str,
    down: str,
    topology_file: Path | None,
    slurm_release: str | None,
    output: str,
) -> None:
    """Tell whether a job would start now, on which nodes, or what stands in its way.

    Slurm's own choice of nodes is modelled for the release in use, on the running cluster unless --conf-dir
    or --topology is given. Exits 0 whatever the answer is.

    \b
    Examples:
      hpadmin topology place -N 24 --segment 12
      hpadmin topology place -N 18 --topology topology.conf --busy 'us1-[0-8]' -o json
      hpadmin topology place -N 16 --switches 1 -p train --conf-dir /opt/slurm/etc
    """
    from hpadmin.slurm.hostlist import expand, fold
    from hpadmin.topology.advise import Alternatives, alternatives, fragmentation
    from hpadmin.topology.offline import requested_gres, with_busy, with_down
    from hpadmin.topology.placement import Planner, Request

    if conf_dir is not None and topology_file is not None:
        raise click.UsageError("--conf-dir and --topology exclude each other")
    snapshot = with_busy(_snapshot(conf_dir, topology_file, slurm_release), expand(busy))
    snapshot = with_down(snapshot, expand(down))
    request = Request(
        nodes,
        segment or 0,
        exclusive_topo or exclusive == "topo",
        exclusive == "nodes",
        switches or 0,
        partition,
        constraint,
        requested_gres(gres),
        tuple(expand(nodelist)),
        tuple(expand(exclude)),
        spread_segments,
        consolidate_segments,
    )
    planner = Planner(snapshot)
    placement = planner.place(request)
    others = Alternatives((), False) if placement.result == "starts" else alternatives(planner, request)
    left = fragmentation(planner, placement, request) if placement.result == "starts" else None
    if output == "json":
        print_json(
            {
                "result": placement.result,
                "nodes": list(placement.nodes),
                "blocks": list(placement.blocks),
                "reason": placement.why or placement.slurm_says,
                "slurm_says": placement.slurm_says,
                "alternatives": [{**asdict(other), "options": other.options} for other in others.found],
                "alternatives_cut_off": others.cut_off,
                "topology": placement.topology,
                "slurm_release": str(snapshot.release),
                "fragmentation": None if left is None else asdict(left),
            }
        )
        return
    if placement.result == "starts":
        click.echo(f"starts now on {fold(placement.nodes)}")
        if placement.blocks:
            click.echo(
                f"  in {_many(len(placement.blocks), placement.topology)}: {', '.join(placement.blocks)}"
            )
        if left is not None:
            click.echo(
                f"  leaves free nodes: {left.free_nodes[1]} (before: {left.free_nodes[0]}), "
                f"whole blocks: {left.whole_blocks[1]} (before: {left.whole_blocks[0]}), "
                f"most in one block: {left.largest[1]}"
            )
        return
    click.echo("would wait" if placement.result == "pending" else "would be rejected")
    click.echo(f"  because {placement.why or placement.slurm_says}")
    click.echo(f"  Slurm says: {placement.slurm_says}")
    for other in others.found:
        click.echo(
            f"  would start now: sbatch {other.options}  (in {_many(other.blocks, placement.topology)})"
        )
    if not others.found:
        click.echo(
            "  no other size of this job was found to start now; there may be some, not all were tried"
            if others.cut_off
            else "  no other size of this job would start now"
        )


def _many(count: int, topology: str) -> str:
    noun, plural = {"block": ("block", "blocks"), "tree": ("leaf switch", "leaf switches")}.get(
        topology, ("unit", "units")
    )
    return f"{count} {noun if count == 1 else plural}"


def _snapshot(conf_dir: Path | None, topology_file: Path | None, release_text: str | None) -> Snapshot:
    from hpadmin.slurm.command import Local
    from hpadmin.topology.live import from_running
    from hpadmin.topology.offline import from_configuration, from_topology_text
    from hpadmin.topology.read import is_topology_yaml
    from hpadmin.topology.release import CONF_RELEASE, YAML_RELEASE, Release

    release = Release.parse(release_text) if release_text else None
    by_yaml = (
        f"topology.yaml is for Slurm 25.05 and later: this is by the rules of {YAML_RELEASE} "
        "(--slurm-release for others)"
    )
    if topology_file is not None:
        text = topology_file.read_text(encoding="utf-8", errors="replace")
        if release is None and is_topology_yaml(text, topology_file.name):
            release = YAML_RELEASE
            say(by_yaml)
        return from_topology_text(text, topology_file.name, release or CONF_RELEASE)
    if conf_dir is not None:
        read = _folder(str(conf_dir))
        if read("topology.yaml") is not None:
            if release is None:
                release = YAML_RELEASE
                say(by_yaml)
            elif not release.reads_yaml:
                say(f"warning: Slurm {release} ignores topology.yaml, which is for 25.05 and later")
        return from_configuration(read, release or CONF_RELEASE)
    return from_running(Local(), _folder, release=release)


def _folder(folder: str) -> Any:
    """A reader of files below `folder`; unreadable ones count as missing."""
    base = Path(folder)

    def read(name: str) -> bytes | None:
        try:
            return (base / name).read_bytes()
        except OSError:
            return None

    return read


def _chosen(inputs: RequestInputs, network: Sequence[str], release: str, *, quiet: bool) -> Snapshot:
    """The topology that a request would get; says why, unless `quiet`."""
    from hpadmin.request import document
    from hpadmin.topology.choose import choose
    from hpadmin.topology.planned import snapshot_of
    from hpadmin.topology.sources import from_recorded, with_places

    cluster = inputs.cluster()
    names = {node.instance.instance_id: node.name for node in cluster.computes}
    for file in network:
        source = document.read_source(file)
        recorded = document.parse(source.text, origin=source.origin).value
        cluster = with_places(cluster, from_recorded(recorded, names))
    choice = choose(cluster, release)
    if not quiet:
        for reason in choice.reasons:
            say(reason)
        for warning in choice.warnings:
            say(f"warning: {warning}")
    return snapshot_of(cluster, choice, release)


def _write(path: Path, text: str) -> None:
    from hpadmin.errors import OperationFailed

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OperationFailed(f"{path} cannot be written: {error.strerror}") from error
    say(f"wrote {path}")
