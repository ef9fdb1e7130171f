"""How plans, drift and history look: for people, with colours on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from admin_cli.report import print_table, say
from hpadmin.configure.secrecy import shown

if TYPE_CHECKING:
    from hpadmin.configure.compare import Finding
    from hpadmin.configure.history import Revision, Unreadable
    from hpadmin.configure.plan import Change, Plan
    from hpadmin.configure.stakes import Stake

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
_WIDEST = 100


def change_json(change: Change) -> dict[str, Any]:
    """One change as JSON data."""
    return {
        "file": change.file,
        "kind": change.kind,
        "subject": change.subject,
        "before": change.before,
        "after": change.after,
        "requires": change.requires.value,
        "affects_jobs": list(change.affects_jobs),
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """One piece of drift as JSON data."""
    return {
        "file": finding.file,
        "line": finding.line,
        "setting": finding.setting,
        "expected": shown(finding.setting, finding.expected),
        "found": shown(finding.setting, finding.found),
        "owner": finding.owner.value,
        "message": finding.message,
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON data."""
    return {
        "strategy": plan.strategy.value,
        "blocked": bool(plan.blocking),
        "first": plan.first,
        "changes": [change_json(change) for change in plan.changes],
        "blocking": [finding_json(finding) for finding in plan.blocking],
        "drift": [finding_json(finding) for finding in plan.drift],
        "lost": [finding_json(finding) for finding in plan.lost],
        "conflicts": [
            {
                "file": conflict.file,
                "setting": conflict.setting,
                "base": shown(conflict.setting, conflict.base),
                "site": shown(conflict.setting, conflict.site),
                "request": shown(conflict.setting, conflict.request),
                "winner": conflict.winner,
                "rule": conflict.rule,
            }
            for conflict in plan.conflicts
        ],
        "stakes": [
            {
                "kind": stake.kind,
                "name": stake.name,
                "state": stake.state,
                "user": stake.user,
                "reason": stake.reason,
            }
            for stake in plan.stakes
        ],
        "slurm": {
            "answers": plan.live is not None,
            "runs_the_files": plan.live.runs_the_files if plan.live else None,
        },
    }


def print_changes(plan: Plan) -> None:
    """Print a plan: its changes by file, then what stands against it."""
    if not plan.changes:
        click.echo("Nothing to change.")
    for file in dict.fromkeys(change.file for change in plan.changes):
        click.secho(file, bold=True)
        for change in plan.changes:
            if change.file == file:
                _print_change(change)
    if plan.first and plan.disk.get("slurm.conf") is not None:
        click.echo(
            f"Nothing was applied here before: the files on disk are adopted by {plan.strategy.value}."
        )
    for conflict in plan.conflicts:
        click.secho(f"conflict: {conflict.file} {conflict.setting}", fg="yellow")
        click.echo(
            f"    on disk {_short(shown(conflict.setting, conflict.site), 'removed')}, "
            f"in the request {_short(shown(conflict.setting, conflict.request))}: {conflict.rule}"
        )
    if plan.blocking and plan.strategy.value == "Merge":
        click.secho("Lines of the site that name nodes which the request removes:", fg="red", bold=True)
        print_drift(plan.blocking)
        click.echo(
            "  Ways out: take the nodes out of these lines, or leave them in the request; Overwrite drops the lines."
        )
    elif plan.blocking:
        click.secho("Manual changes that this would undo (Managed):", fg="red", bold=True)
        print_drift(plan.blocking)
        click.echo(
            "  Ways out: adopt them into the request; strategy Merge keeps them; Overwrite undoes them."
        )
    elif plan.lost:
        click.secho(
            "Manual changes that are lost (their text is kept in the history):", fg="yellow", bold=True
        )
        print_drift(plan.lost)
    print_stakes(plan.stakes)
    if plan.live is None and plan.changes:
        click.secho("slurmctld does not answer: which jobs this would end is not known.", fg="yellow")


def print_stakes(stakes: Sequence[Stake]) -> None:
    """Print the jobs and reservations that a change would cost."""
    if not stakes:
        return
    click.secho("Slurm would accept this and end:", fg="red", bold=True)
    for stake in stakes:
        click.secho(f"  {stake}", fg="red")


def print_drift(findings: Iterable[Finding]) -> None:
    """Print pieces of drift, one a line."""
    none = True
    for finding in findings:
        none = False
        place = f"{finding.file}:{finding.line}" if finding.line else finding.file
        click.echo(
            f"  {place}: {finding.setting}: expected "
            f"{_short(shown(finding.setting, finding.expected))}, "
            f"found {_short(shown(finding.setting, finding.found))} (owner: {finding.owner.value}). {finding.message}"
        )
    if none:
        say("no drift")


def history_json(entries: Sequence[Revision | Unreadable]) -> dict[str, Any]:
    """The history as JSON data."""
    from hpadmin.configure.history import Revision, Unreadable

    return {
        "revisions": [entry.to_json() for entry in entries if isinstance(entry, Revision)],
        "unreadable": [
            {"number": entry.number, "path": str(entry.path), "reason": entry.reason}
            for entry in entries
            if isinstance(entry, Unreadable)
        ],
    }


def print_revisions(entries: Sequence[Revision | Unreadable]) -> None:
    """Print the history as a table."""
    from hpadmin.configure.history import Unreadable

    print_table(
        ("REVISION", "STARTED", "USER", "COMMAND", "STRATEGY", "RESULT", "FILES", "DETAIL"),
        [
            (entry.number, "-", "-", "-", "-", "unreadable", "-", f"{entry.path}: {entry.reason}")
            if isinstance(entry, Unreadable)
            else (
                entry.number,
                entry.started,
                entry.user,
                entry.command,
                entry.strategy,
                entry.result.value,
                ",".join(record.name for record in entry.files) or "-",
                _short(entry.detail, "", 60),
            )
            for entry in entries
        ],
    )


def print_outcome(revision: Revision) -> None:
    """Say how an application ended well."""
    click.secho(f"Revision {revision.number}: {revision.result.value}.", fg="green")
    if revision.waiting_nodes:
        from hpadmin.slurm.hostlist import fold

        click.echo(f"  {fold(revision.waiting_nodes)} did not answer: each follows when it comes back.")
    if revision.detail:
        click.echo(f"  {revision.detail}")


def _print_change(change: Change) -> None:
    sign, colour = _SIGNS.get(change.kind.rpartition(" ")[2], ("~", "yellow"))
    click.secho(f"  {sign} {change.kind}: {change.subject}", fg=colour)
    if change.before is not None and change.after is not None:
        click.echo(f"      {_short(change.before)} -> {_short(change.after)}")
    elif change.before or change.after:
        click.echo(f"      {_short(change.after if change.before is None else change.before)}")
    if change.requires.value not in ("reconfigure", "nothing"):
        click.secho(f"      takes: {change.requires.value}", fg="yellow")
    if change.affects_jobs:
        click.secho(f"      ends jobs {', '.join(map(str, change.affects_jobs))}", fg="red")


def _short(text: str | None, nothing: str = "nothing", widest: int = _WIDEST) -> str:
    if text is None:
        return nothing
    return text if len(text) <= widest else text[: widest - 1] + "…"
