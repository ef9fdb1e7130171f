"""``hpadmin node``: see nodes, check them, have them rebooted or replaced."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from admin_cli.agent import SETTINGS
from admin_cli.options import state_dir_option
from admin_cli.report import output_option, print_json, print_table, say

if TYPE_CHECKING:
    from hpadmin.nodes.provider import Repair
    from hpadmin.recovery.journal import Journal
    from hpadmin.recovery.observe import Observation
    from hpadmin.recovery.site import Site

F = TypeVar("F", bound=Callable[..., Any])
_POLL = 2.0
_CHECK = ["/opt/hpadmin/bin/python3", "-I", "-m", "hpadmin.nodes.healthcheck", "--json"]


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


def _cluster_options(function: F) -> F:
    for option in (
        state_dir_option,
        click.option("--lab", metavar="NAME", help="A lab, from outside of it."),
        click.option("--config", type=click.Path(path_type=Path), default=SETTINGS, show_default=True),
    ):
        function = option(function)
    return function


def _look(site: Site) -> Observation:
    from hpadmin.recovery.observe import observe

    return observe(site.reader, site.provider, at=time.time(), protected=site.settings.policy.protected)


def _blocks(site: Site) -> dict[str, str]:
    from hpadmin.recovery.operate import blocks_of

    done = site.runner.run(["scontrol", "show", "topology"], timeout=30)
    return blocks_of(done.stdout) if done.returncode == 0 else {}


@group.command("list")
@_cluster_options
@output_option
def list_nodes(config: Path, lab: str | None, state_dir: Path, output: str) -> None:
    """List every node: state, reason and whose it is, health, instance, group, block, jobs, time in state."""
    from hpadmin.recovery.operate import summarise
    from hpadmin.recovery.site import Site

    site = Site.open(config, state_dir, lab=lab, need_provider=False)
    seen = _look(site)
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
@_cluster_options
@output_option
def show(
    nodes: tuple[str, ...], last: int, config: Path, lab: str | None, state_dir: Path, output: str
) -> None:
    """Tell all that is known of nodes, and the story of their repairs."""
    from hpadmin.nodes.report import HealthReport
    from hpadmin.recovery.operate import resolve, summarise
    from hpadmin.recovery.site import Site

    site = Site.open(config, state_dir, lab=lab, need_provider=False)
    seen = _look(site)
    names = resolve(nodes, seen)
    summaries = {node.name: node for node in summarise(seen, _blocks(site))}
    journal = _journal(site)
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
        click.echo(f"  {_clock(event['time'])}  {event['kind']:<10} {event['text']}")


@group.command()
@click.argument("nodes", nargs=-1, metavar="[NODE...]")
@click.option(
    "--deep", is_flag=True, help="The deep checks of deep.toml, on idle nodes, kept empty meanwhile."
)
@_cluster_options
@output_option
def health(
    nodes: tuple[str, ...], deep: bool, config: Path, lab: str | None, state_dir: Path, output: str
) -> None:
    """Run the health checks now, on these nodes or on all.

    Nothing is changed, but by --deep: a node that fails a deep check is marked for replacement.
    Exits 1 when a node calls for a repair, or cannot be checked.
    """
    from hpadmin.errors import OperationFailed
    from hpadmin.recovery.operate import resolve
    from hpadmin.recovery.site import Site
    from hpadmin.slurm.command import Local

    site = Site.open(config, state_dir, lab=lab, need_provider=False)
    seen = _look(site)
    names = resolve(nodes, seen) if nodes else tuple(seen.nodes)
    results = []
    if deep:
        results = _deep(site, names, seen)
        names = ()
    for name in names:
        here = socket.gethostname().partition(".")[0] in (name, seen.nodes[name].hostname)
        runner = Local() if here else site.provider.runner(name)
        try:
            if runner is None:
                raise OperationFailed("this host has no way to run a command there")
            done = runner.run(_CHECK, timeout=120)
            if done.returncode not in (0, 1):
                raise OperationFailed((done.stderr or done.stdout).strip() or f"exit {done.returncode}")
            results.append({"name": name, **json.loads(done.stdout)})
        except (OperationFailed, ValueError) as error:
            results.append({"name": name, "health": "unknown", "findings": [], "error": str(error)})
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


def _deep(site: Site, names: Sequence[str], seen: Observation) -> list[dict[str, Any]]:
    from hpadmin.nodes.deep import DeepRun, load

    run = DeepRun(site.reader, site.control, site.runner, load(), say)
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


def _repair_options(function: F) -> F:
    for option in (
        click.option("--no-wait", is_flag=True, help="Give the order and end; the agent does the rest."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--reason", default="", metavar="TEXT", help="Why; kept in Slurm and in the journal."),
        click.option(
            "--now/--when-idle",
            "now",
            default=False,
            help="End what runs there, or wait for it (the default).",
        ),
        click.argument("nodes", nargs=-1, required=True, metavar="NODE..."),
        _cluster_options,
    ):
        function = option(function)
    return function


@group.command()
@_repair_options
def replace(**given: Any) -> None:
    """Have nodes replaced by new instances, and wait until they are back.

    NODE is a hostlist or an instance id. After an interruption, run it again: it goes on where it was.
    """
    from hpadmin.nodes.provider import Repair

    _repair(Repair.REPLACE, **given)


@group.command()
@_repair_options
def reboot(**given: Any) -> None:
    """Have nodes rebooted, and wait until they are back.

    NODE is a hostlist or an instance id. After an interruption, run it again: it goes on where it was.
    """
    from hpadmin.nodes.provider import Repair

    _repair(Repair.REBOOT, **given)


def _repair(
    action: Repair,
    *,
    nodes: tuple[str, ...],
    now: bool,
    reason: str,
    yes: bool,
    no_wait: bool,
    config: Path,
    lab: str | None,
    state_dir: Path,
) -> None:
    from hpadmin.errors import OperationFailed
    from hpadmin.recovery import operate, reasons
    from hpadmin.recovery.site import Site

    site = Site.open(config, state_dir, lab=lab, need_provider=False)
    seen = _look(site)
    names = operate.resolve(nodes, seen)
    operate.check_orderable(names, action, seen)
    under_way = []
    for name in names:
        order = reasons.read(seen.nodes[name].reason).order
        if (
            order is not None
            and seen.nodes[name].state.kept_out
            and (order.action, order.now) == (action, now)
        ):
            under_way.append(name)
    fresh = [name for name in names if name not in under_way]
    if under_way:
        say(f"ordered already, going on: {', '.join(under_way)}")
    # An order that is followed counts from when it was given: its Reason's time is slurmctld's.
    since = min((seen.nodes[name].reason_time for name in under_way), default=seen.at)
    if fresh:
        _confirm(action, fresh, seen, now=now, yes=yes)
        author = os.environ.get("SUDO_USER") or getpass.getuser()
        since = min(since, time.time() - 1)
        operate.order(
            fresh,
            action,
            author=author,
            why=reason or "by hand",
            now=now,
            reader=site.reader,
            control=site.control,
        )
        say(f"ordered: {action.value} {', '.join(fresh)}")
    if no_wait:
        return
    if not _follow(site, names, action, since):
        raise OperationFailed(f"not every node came back; 'hpadmin node show {' '.join(names)}' tells why")


def _confirm(action: Repair, names: Sequence[str], seen: Observation, *, now: bool, yes: bool) -> None:
    from hpadmin.recovery.operate import jobs_hit

    jobs = jobs_hit(names, seen)
    say(f"{action.value}: {', '.join(names)}")
    for job in jobs:
        fate = "will be ended" if now else "will be waited for"
        say(f"  job {job.job_id} of {job.user} ({job.state.value.lower()}, {job.node_count} nodes) {fate}")
    if not jobs:
        say("  no job runs there")
    if action.value == "replace":
        say("  the instances and their local disks are lost")
    if not yes:
        click.confirm("Go on?", abort=True, err=True)


def _journal(site: Site) -> Journal | None:
    """The agent's journal, where this user and host can read it."""
    from hpadmin.errors import OperationFailed
    from hpadmin.recovery.site import JOURNAL

    if not (site.state_dir / JOURNAL).exists():
        return None
    try:
        return site.journal()
    except OperationFailed:
        return None


def _follow(site: Site, names: Sequence[str], action: Repair, since: float) -> bool:
    """Show progress until every node is back or has failed; do the agent's work meanwhile where none runs."""
    from hpadmin.errors import OperationFailed
    from hpadmin.recovery.agent import Agent
    from hpadmin.recovery.leadership import StandsBy

    def watch(agent: Agent | None) -> bool:
        said: dict[str, str] = {}
        while True:
            if agent is not None:
                agent.cycle()
            states = _progress(site, names, action, since)
            for state in states:
                if said.get(state.node) != state.text:
                    said[state.node] = state.text
                    say(f"{_clock(time.time())}  {state.node}: {state.text}")
            if all(state.done or state.failed for state in states):
                return all(state.done for state in states)
            time.sleep(_POLL)

    if site.provider.name == "none":
        say(
            "no provider is configured on this host: the cluster's agent does the work, told as far as Slurm shows it"
        )
        return watch(None)
    try:
        with site.leadership():
            say("no agent runs here: this command does its work for these nodes until they are back")
            return watch(site.agent(only=frozenset(names)))
    except StandsBy:
        return watch(None)
    except OperationFailed as error:
        if "agent's lock" not in error.message:
            raise
        say("the agent's state is not on this host: its progress is told as far as Slurm shows it")
        return watch(None)


def _progress(site: Site, names: Sequence[str], action: Repair, since: float) -> list[Any]:
    from hpadmin.recovery.observe import jobs_by_node
    from hpadmin.recovery.operate import progress

    jobs_on = jobs_by_node(site.reader.jobs())
    found = {node.name: node for node in site.reader.nodes()}
    journal = _journal(site)
    try:
        book = journal.book(since=since) if journal is not None else None
    finally:
        if journal is not None:
            journal.close()
    return [progress(name, action, since, found.get(name), book, jobs_on.get(name, ())) for name in names]


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
