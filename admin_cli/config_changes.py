"""``hpadmin config plan``, ``apply``, ``drift``, ``history``, ``rollback``: what changes a configuration folder."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from admin_cli.config_show import print_changes, print_drift, print_outcome, print_revisions
from admin_cli.options import (
    RequestInputs,
    SiteInputs,
    conf_dir_option,
    request_options,
    site_options,
    state_dir_option,
)
from admin_cli.report import output_option, print_json, say

if TYPE_CHECKING:
    from hpadmin.configure.apply import Order
    from hpadmin.configure.history import History
    from hpadmin.configure.live import Live
    from hpadmin.configure.plan import Plan

F = TypeVar("F", bound=Callable[..., Any])

CHANGES = 3
DRIFT = 4


def apply_options(function: F) -> F:
    """Add what ``apply`` and ``rollback`` have in common."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option(
            "--no-reconfigure", is_flag=True, help="Only write the files: Slurm reads them at its next start."
        ),
        click.option(
            "--allow-job-loss",
            default="",
            metavar="NAMES",
            help="Jobs (and reservations) that may be lost, by id or name, with commas between; or all.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=1),
            default=120,
            show_default=True,
            help="Seconds within which slurmctld and every node must follow.",
        ),
        click.option(
            "--sandbox/--no-sandbox",
            default=True,
            show_default=True,
            help="Let a throw-away slurmctld judge the files first.",
        ),
    ):
        function = option(function)
    return function


def change_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add REQUEST with all that turns it into a cluster, the folders, and ``--strategy``."""
    for option in (
        click.option(
            "--strategy", type=click.Choice(["Managed", "Overwrite", "Merge"]), help="Instead of REQUEST's."
        ),
        state_dir_option,
        conf_dir_option,
        site_options,
        request_options(),
    ):
        function = option(function)
    return function


@click.command()
@change_options
@output_option
@click.pass_context
def plan(
    context: click.Context,
    inputs: RequestInputs,
    site: SiteInputs,
    conf_dir: Path,
    state_dir: Path,
    strategy: str | None,
    output: str,
) -> None:
    """Show what applying REQUEST would change, what that takes, and which jobs it would end.

    Nothing is written. Exit code 0 when there is nothing to change, 3 when there is, 4 when manual changes block it.

    \b
    Examples:
      hpadmin config plan cluster.json --inventory resource_config.json
      hpadmin config plan cluster.json --inventory resource_config.json --strategy Merge -o json
    """
    history = _history(state_dir, conf_dir)
    made = _plan(history, inputs, site, strategy)
    if output == "json":
        from admin_cli.config_show import plan_json

        print_json(plan_json(made))
    else:
        print_changes(made)
    if made.blocking:
        context.exit(DRIFT)
    if made.changes:
        context.exit(CHANGES)


@click.command()
@change_options
@apply_options
@output_option
def apply(
    inputs: RequestInputs,
    site: SiteInputs,
    conf_dir: Path,
    state_dir: Path,
    strategy: str | None,
    yes: bool,
    no_reconfigure: bool,
    allow_job_loss: str,
    timeout: float,
    sandbox: bool,
    output: str,
) -> None:
    """Make the configuration what REQUEST asks for, on disk and in the running Slurm.

    All files change as one, Slurm is told once, and every node is watched until it follows; any failure puts the
    files from before back. Manual changes are treated by the request's SlurmConfigStrategy: Managed refuses
    (exit code 4), Merge keeps them, Overwrite undoes them.

    \b
    Examples:
      hpadmin config apply cluster.json --inventory resource_config.json
      hpadmin config apply cluster.json --inventory resource_config.json --strategy Overwrite --yes
      hpadmin config apply cluster.json --inventory resource_config.json --allow-job-loss 1234,1250
    """
    from hpadmin.configure.apply import Order
    from hpadmin.request import read_source

    history = _history(state_dir, conf_dir)
    _recover(history, timeout)
    # Both are kept in the history as they were given.
    request = b"" if inputs.request == "-" else read_source(inputs.request).text.encode()
    inventory = b"" if inputs.inventory in ("-", None) else read_source(str(inputs.inventory)).text.encode()
    made = _plan(history, inputs, site, strategy)
    order = Order(
        request=request,
        inventory=inventory,
        reconfigure=not no_reconfigure,
        allowed=_names(allow_job_loss),
        sandbox=sandbox,
        timeout=timeout,
        step=lambda step: say(f"  {step}"),
    )
    _carry_out(history, made, order, yes=yes, output=output)


@click.command()
@conf_dir_option
@state_dir_option
@output_option
@click.pass_context
def drift(context: click.Context, conf_dir: Path, state_dir: Path, output: str) -> None:
    """Show what the files on disk say otherwise than was last applied. Exit code 4 when there is any.

    \b
    Examples:
      hpadmin config drift
      hpadmin config drift --conf-dir /opt/slurm/etc -o json
    """
    from hpadmin.configure import compare, folder
    from hpadmin.configure import plan as planning
    from hpadmin.errors import InvalidInput

    history = _history(state_dir, conf_dir)
    current = history.current()
    if current is None:
        raise InvalidInput(
            f"nothing was applied to {conf_dir} yet", hint="hpadmin config apply makes the first application"
        )
    base = history.wanted(current)
    release = current.release or planning.release_of(None, _live(history))
    found = compare.drift(base, folder.read(conf_dir, base), release=release)
    if output == "json":
        from admin_cli.config_show import finding_json

        print_json({"drift": [finding_json(finding) for finding in found]})
    else:
        print_drift(found)
    if found:
        context.exit(DRIFT)


@click.command()
@conf_dir_option
@state_dir_option
@output_option
def history(conf_dir: Path, state_dir: Path, output: str) -> None:
    """List every application: when, by whom, of what, and how it ended.

    \b
    Examples:
      hpadmin config history
      hpadmin config history -o json | jq '.revisions[-1]'
    """
    entries = _history(state_dir, conf_dir).entries()
    if output == "json":
        from admin_cli.config_show import history_json

        print_json(history_json(entries))
    else:
        print_revisions(entries)


@click.command()
@click.argument("revision", type=click.IntRange(min=1), required=False)
@conf_dir_option
@state_dir_option
@apply_options
@output_option
def rollback(
    revision: int | None,
    conf_dir: Path,
    state_dir: Path,
    yes: bool,
    no_reconfigure: bool,
    allow_job_loss: str,
    timeout: float,
    sandbox: bool,
    output: str,
) -> None:
    """Go back to the files of REVISION; without it, to those before the last application.

    This is an application like any other: checked, refused where it would end jobs, verified, recorded.

    \b
    Examples:
      hpadmin config rollback
      hpadmin config rollback 12 --yes
    """
    from hpadmin.configure.apply import Order, plan_rollback

    store = _history(state_dir, conf_dir)
    _recover(store, timeout)
    target, made = plan_rollback(store, revision, _live(store))
    order = Order(
        command=f"rollback to {target.number}",
        reconfigure=not no_reconfigure,
        allowed=_names(allow_job_loss),
        sandbox=sandbox,
        timeout=timeout,
        step=lambda step: say(f"  {step}"),
    )
    _carry_out(store, made, order, yes=yes, output=output)


COMMANDS = (plan, apply, drift, history, rollback)


def _carry_out(store: History, made: Plan, order: Order, *, yes: bool, output: str) -> None:
    from hpadmin.configure import apply as applying
    from hpadmin.slurm.command import Local

    if output != "json":
        print_changes(made)
    stakes = made.refused(order.allowed)
    if made.is_done(reconfigure=order.reconfigure) and not made.blocking:
        if output == "json":
            print_json({"revision": None, "changes": []})
        return
    if not (made.blocking or stakes or yes) and made.changes:
        click.confirm("Apply this?", abort=True, err=True)
    with _interruptible():
        closed = applying.apply(store, made, Local(), order)
    assert closed is not None  # there was something to do
    if output == "json":
        from admin_cli.config_show import change_json

        print_json(
            {"revision": closed.to_json(), "changes": [change_json(change) for change in made.changes]}
        )
    else:
        print_outcome(closed)


def _plan(store: History, inputs: RequestInputs, site: SiteInputs, strategy: str | None) -> Plan:
    from hpadmin.configure import desired, folder
    from hpadmin.configure import plan as planning
    from hpadmin.model import Strategy

    cluster = inputs.cluster()
    options = site.options()
    rendered = desired.render_all(cluster, options)
    for note in cluster.notes:
        say(f"note: {note}")
    for warning in rendered.warnings:
        say(f"warning: {warning}")
    unfinished = store.unfinished()
    if unfinished is not None:
        say(
            f"warning: revision {unfinished.number} was not completed (its run was killed, or is under way): "
            "the next apply completes or undoes it first"
        )
    wanted = {name: text.encode("utf-8", "surrogateescape") for name, text in rendered.files.items()}
    last = store.base()
    live = _live(store)
    return planning.make(
        Strategy(strategy) if strategy else cluster.strategy,
        last=last,
        disk=folder.read(store.conf_dir, {*wanted, *(last or ())}),
        wanted=wanted,
        live=live,
        release=options.release,
        untold=planning.is_untold(store.current(), live),
        exposed=folder.exposed(store.conf_dir, wanted),
    )


def _live(store: History) -> Live | None:
    from hpadmin.configure.live import WithConf, look
    from hpadmin.errors import OperationFailed
    from hpadmin.slurm.command import Local

    if not (store.conf_dir / "slurm.conf").exists():
        return None
    try:
        return look(WithConf(Local(), store.conf_dir))
    except OperationFailed as error:
        say(f"warning: slurmctld does not answer, so what runs is not known: {error.message}")
        return None


def _recover(store: History, timeout: float) -> None:
    from hpadmin.configure import apply as applying
    from hpadmin.slurm.command import Local

    with _interruptible():
        ended = applying.recover(store, Local(), timeout=timeout)
    if ended is not None:
        say(f"revision {ended.number} had not been completed: {ended.result.value}. {ended.detail}")


def _history(state_dir: Path, conf_dir: Path) -> History:
    from hpadmin.configure.history import History

    return History(state_dir, conf_dir)


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and a lost terminal end the run as Ctrl-C does: the files from before are put back."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt

    caught = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in caught]
    try:
        yield
    finally:
        for number, handler in zip(caught, before, strict=True):
            signal.signal(number, handler)
