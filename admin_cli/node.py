"""``hpadmin node``: see nodes, check them, have them rebooted or replaced."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from admin_cli.node_orders import reboot, replace
from admin_cli.node_site import clock, cluster_options, look, open_journal
from admin_cli.report import output_option, print_json, print_table, say

if TYPE_CHECKING:
    from hpadmin.recovery.observe import Observation
    from hpadmin.recovery.site import Site
    from hpadmin.slurm.reader import NodeInfo

F = TypeVar("F", bound=Callable[..., Any])
_CHECK = ["/opt/hpadmin/bin/python3", "-I", "-m", "hpadmin.nodes.healthcheck", "--json"]
_PARALLEL = 16
"""Nodes that are checked at a time."""


@click.group()
def group() -> None:
    """List, check, reboot and replace nodes.

    \b
    Examples:
      hpadmin node list
      hpadmin node show ip-10-1-2-3
      hpadmin node replace ip-10-1-2-3 --reason "bad NIC"
      hpadmin node reboot gpu-[1-4] --now --yes
      hpadmin node replace i-0123456789abcdef0
    """


def _blocks(site: Site) -> dict[str, str]:
    from hpadmin.recovery.operate import blocks_of

    done = site.runner.run(["scontrol", "show", "topology"], timeout=30)
    return blocks_of(done.stdout) if done.returncode == 0 else {}


@group.command("list")
@cluster_options
@output_option
def list_nodes(config: Path, lab: str | None, state_dir: Path, output: str) -> None:
    """List every node: state, reason and whose it is, health, instance, group, block, jobs, time in state.

    \b
    Examples:
      hpadmin node list
      hpadmin node list -o json | jq -r '.nodes[] | select(.health == "failed") | .name'
    """
    from hpadmin.recovery.operate import summarise
    from hpadmin.recovery.site import Site

    site = Site.open(config, state_dir, lab=lab, need_provider=False)
    seen = look(site)
    if seen.instances is None:
        say(f"hpadmin: the provider does not answer: {seen.provider_error}")
    nodes = summarise(seen, _blocks(site))
    if output == "json":
        print_json(
            {
                "nodes": [
                    {
                        "name": node.name,
                        "state": node.state,
                        "reason": node.reason,
                        "owner": node.owner,
                        "group": node.group,
                        "instance_id": node.instance_id,
                        "block": node.block,
                        "health": node.health,
                        "jobs": list(node.jobs),
                        "since": int(node.since),
                    }
                    for node in nodes
                ]
            }
        )
        return
    headers = ["NODE", "STATE", "SINCE", "HEALTH", "JOBS", "GROUP", "BLOCK", "INSTANCE", "OWNER", "REASON"]
    rows = [
        [
            node.name,
            node.state,
            _ago(seen.at - node.since) if node.since else "",
            node.health,
            ",".join(map(str, node.jobs)),
            node.group,
            node.block,
            node.instance_id,
            node.owner,
            node.reason.replace("\n", " "),
        ]
        for node in nodes
    ]
    print_table(headers, [["-" if cell == "" else cell for cell in row] for row in rows])


@group.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.option("--last", type=click.IntRange(1, 10000), default=30, show_default=True, help="Events to show.")
@cluster_options
@output_option
def show(
    nodes: tuple[str, ...], last: int, config: Path, lab: str | None, state_dir: Path, output: str
) -> None:
    """Tell all that is known of nodes, and the story of their repairs.

    \b
    Examples:
      hpadmin node show ip-10-1-2-3
      hpadmin node show i-0123456789abcdef0 --last 100
    """
    from hpadmin.nodes.report import HealthReport
    from hpadmin.recovery.operate import resolve, summarise
    from hpadmin.recovery.site import Site

    site = Site.open(config, state_dir, lab=lab, need_provider=False)
    seen = look(site)
    names = resolve(nodes, seen)
    summaries = {node.name: node for node in summarise(seen, _blocks(site))}
    journal = open_journal(site)
    shown = []
    for name in names:
        node, summary = seen.nodes[name], summaries[name]
        report = HealthReport.read(node.extra)
        events = journal.events(name, last=last) if journal is not None else ()
        shown.append(
            {
                "name": name,
                "state": summary.state,
                "reason": node.reason,
                "owner": summary.owner,
                "reason_time": int(node.reason_time),
                "health": summary.health,
                "health_text": report.text if report is not None else "",
                "group": summary.group,
                "block": summary.block,
                "instance_id": summary.instance_id,
                "instance_type": node.instance_type,
                "address": node.address,
                "jobs": list(summary.jobs),
                "boot_time": int(node.boot_time),
                "slurmd_start_time": int(node.slurmd_start_time),
                "protected": name in seen.protected,
                "events": [
                    {"time": event.at, "kind": event.kind, "text": event.text, "repair": event.repair}
                    for event in events
                ],
            }
        )
    if journal is not None:
        journal.close()
    if output == "json":
        print_json({"nodes": shown})
        return
    for entry in shown:
        _print_entry(entry)


def _print_entry(entry: dict[str, Any]) -> None:
    events = entry.pop("events")
    print_table(
        ["", ""],
        [[key.replace("_", " "), "-" if value in ("", 0, []) else value] for key, value in entry.items()],
    )
    for event in events:
        click.echo(f"  {clock(event['time'])}  {event['kind']:<10} {event['text']}")


@group.command()
@click.argument("nodes", nargs=-1, metavar="[NODE...]")
@click.option(
    "--deep", is_flag=True, help="The deep checks of deep.toml, on idle nodes, kept empty meanwhile."
)
@cluster_options
@output_option
def health(
    nodes: tuple[str, ...], deep: bool, config: Path, lab: str | None, state_dir: Path, output: str
) -> None:
    """Run the health checks now, on these nodes or on all.

    Nothing is changed, but by --deep: a node that fails a deep check is marked for replacement.
    Exits 1 when a node calls for a repair, or cannot be checked.

    \b
    Examples:
      hpadmin node health ip-10-1-2-3
      hpadmin node health 'ip-10-1-2-[3-10]' --deep
    """
    from hpadmin.recovery.operate import resolve
    from hpadmin.recovery.site import Site

    site = Site.open(config, state_dir, lab=lab, need_provider=False)
    seen = look(site)
    names = resolve(nodes, seen) if nodes else tuple(seen.nodes)
    if deep:
        results = _deep(site, names, seen)
    else:
        with ThreadPoolExecutor(_PARALLEL) as pool:
            results = list(pool.map(lambda name: _check(site, seen.nodes[name]), names))
    if output == "json":
        print_json({"nodes": results})
    else:
        rows = []
        for result in results:
            texts = [f"{each['code']} ({each['action']}): {each['text']}" for each in result["findings"]]
            rows.append([result["name"], result["health"], "; ".join(texts) or result.get("error", "")])
        print_table(["NODE", "HEALTH", "FINDINGS"], rows)
    if any(result["health"] != "passed" for result in results):
        raise SystemExit(1)


def _check(site: Site, node: NodeInfo) -> dict[str, Any]:
    """Run the node's own check there: here, the provider's way, else as a small job."""
    from hpadmin.errors import OperationFailed
    from hpadmin.nodes.healthcheck import SICK
    from hpadmin.slurm.command import Local, Runner
    from hpadmin.slurm.onnode import OnNode

    here = socket.gethostname().partition(".")[0] in (node.name, node.hostname)
    runner: Runner | None = Local() if here else site.provider.runner(node.name)
    try:
        done = (runner or OnNode(site.runner, node.name, node.partitions)).run(_CHECK, timeout=120)
        if done.returncode not in (0, SICK) or not done.stdout.strip():
            raise OperationFailed((done.stderr or done.stdout).strip() or f"exit {done.returncode}")
        return {"name": node.name, **json.loads(done.stdout)}
    except (OperationFailed, ValueError) as error:
        return {"name": node.name, "health": "unknown", "findings": [], "error": str(error)}


def _deep(site: Site, names: Sequence[str], seen: Observation) -> list[dict[str, Any]]:
    from hpadmin.nodes.deep import DeepRun, load
    from hpadmin.slurm.commands import CommandReader

    # Not every reader tells a node's reservation, and ours may lie on another's.
    run = DeepRun(CommandReader(site.runner), site.control, site.runner, load(), say)
    return [
        {
            "name": result.node,
            "health": "unknown" if result.skipped else "passed" if result.passed else "failed",
            "findings": [
                {"code": each.code, "action": each.action.value, "text": each.text}
                for each in result.findings
            ],
            **({"error": result.skipped} if result.skipped else {}),
        }
        for result in run.run(names, seen.jobs_on)
    ]


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


for _command in (replace, reboot):
    group.add_command(_command)
