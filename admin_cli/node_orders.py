"""``hpadmin node replace`` and ``reboot``: orders that people give, and what becomes of them."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from admin_cli.node_site import clock, cluster_options, look, open_journal
from admin_cli.report import say

if TYPE_CHECKING:
    from hpadmin.nodes.provider import Repair
    from hpadmin.recovery.agent import Agent
    from hpadmin.recovery.observe import Observation
    from hpadmin.recovery.operate import Progress
    from hpadmin.recovery.site import Site

F = TypeVar("F", bound=Callable[..., Any])
_ORDER_LIMIT = 60.0
"""Seconds that an order waits for a slurmctld that is just being restarted."""
_FOLLOW_LIMIT = 1800.0
"""Seconds without an answer after which following ends: far longer than any restart or takeover."""


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
        cluster_options,
    ):
        function = option(function)
    return function


@click.command()
@_repair_options
def replace(**given: Any) -> None:
    """Have nodes replaced by new instances, and wait until they are back.

    NODE is a hostlist or an instance id. After an interruption, run it again: it goes on where it was.

    \b
    Examples:
      hpadmin node replace ip-10-1-2-3
      hpadmin node replace 'ip-10-1-2-[3-4]' --now --yes --reason 'bad NVLink'
      hpadmin node replace i-0123456789abcdef0 --no-wait
    """
    from hpadmin.nodes.provider import Repair

    _repair(Repair.REPLACE, **given)


@click.command()
@_repair_options
def reboot(**given: Any) -> None:
    """Have nodes rebooted, and wait until they are back.

    NODE is a hostlist or an instance id. After an interruption, run it again: it goes on where it was.

    \b
    Examples:
      hpadmin node reboot ip-10-1-2-3
      hpadmin node reboot 'ip-10-1-2-[3-10]' --when-idle --reason 'kernel update'
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
    from hpadmin.nodes import reasons
    from hpadmin.recovery import operate
    from hpadmin.recovery.follow import Patience
    from hpadmin.recovery.site import Site

    patience = Patience(_ORDER_LIMIT, say)
    site = patience.ask(lambda: Site.open(config, state_dir, lab=lab, need_provider=False))
    seen = patience.ask(lambda: look(site))
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
        patience.ask(
            lambda: operate.order(
                fresh,
                action,
                author=author,
                why=reason or "by hand",
                now=now,
                reader=site.reader,
                control=site.control,
            )
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


def _follow(site: Site, names: Sequence[str], action: Repair, since: float) -> bool:
    """Show progress until every node is back or has failed; do the agent's work meanwhile where none runs."""
    from hpadmin.errors import OperationFailed
    from hpadmin.recovery.follow import Patience
    from hpadmin.recovery.journal import LostLeadership
    from hpadmin.recovery.leadership import StandsBy

    def watch(agent: Agent | None) -> bool:
        def states() -> list[Progress]:
            if agent is not None:
                agent.cycle()
            return _progress(site, names, action, since)

        return Patience(_FOLLOW_LIMIT, say).follow(
            states, lambda state: say(f"{clock(time.time())}  {state.node}: {state.text}")
        )

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
    except LostLeadership:
        say("another agent has taken over: its work is followed")
        return watch(None)
    except OperationFailed as error:
        if "agent's lock" not in error.message:
            raise
        say("the agent's state is not on this host: its progress is told as far as Slurm shows it")
        return watch(None)


def _progress(site: Site, names: Sequence[str], action: Repair, since: float) -> list[Progress]:
    from hpadmin.recovery.observe import jobs_by_node
    from hpadmin.recovery.operate import progress

    jobs_on = jobs_by_node(site.reader.jobs())
    found = {node.name: node for node in site.reader.nodes()}
    journal = open_journal(site)
    try:
        book = journal.book(since=since) if journal is not None else None
    finally:
        if journal is not None:
            journal.close()
    return [progress(name, action, since, found.get(name), book, jobs_on.get(name, ())) for name in names]
