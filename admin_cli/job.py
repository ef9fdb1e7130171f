"""``hpadmin job``: what became of the jobs that resume by themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from admin_cli.options import state_dir_option
from admin_cli.report import output_option, print_json, print_table

if TYPE_CHECKING:
    from hpadmin.recovery.resume.store import Incident, JobRecord, Store


@click.group()
def group() -> None:
    """List jobs that resume by themselves, and what happened to them.

    \b
    Examples:
      hpadmin job list
      hpadmin job show 82
    """


@group.command("list")
@click.option("--all", "everything", is_flag=True, help="Jobs that have ended, too.")
@state_dir_option
@output_option
def list_jobs(everything: bool, state_dir: Path, output: str) -> None:
    """List the jobs that run under auto-resume, newest first.

    \b
    Examples:
      hpadmin job list
      hpadmin job list --all -o json
    """
    with _store(state_dir) as store:
        jobs = store.jobs(ended=True)
        rows = [_summary(job, store.incidents(job)) for job in jobs if everything or not job.state.over]
    if output == "json":
        print_json({"jobs": rows})
        return
    headers = ["JOB", "USER", "STATE", "ATTEMPTS", "LAST ACTION", "SECONDS LOST", "REASON"]
    keys = ["job_id", "user", "state", "attempts", "last_action", "seconds_lost", "reason"]
    print_table(headers, [["-" if row[key] in ("", None) else row[key] for key in keys] for row in rows])


@group.command()
@click.argument("job_id", type=click.IntRange(1, 0xFFFFFFFF))
@state_dir_option
@output_option
def show(job_id: int, state_dir: Path, output: str) -> None:
    """Tell the story of one job: each failure, what was found, which nodes went and came, what it cost.

    \b
    Examples:
      hpadmin job show 4711
    """
    from hpadmin.errors import OperationFailed

    with _store(state_dir) as store:
        job = store.job(job_id)
        if job is None:
            raise OperationFailed(
                f"job {job_id} never ran under auto-resume, or that was too long ago",
                hint="only steps that were started with --auto-resume=1 are recorded",
            )
        incidents = store.incidents(job)
    summary = _summary(job, incidents)
    events = [_event(incident) for incident in incidents]
    if output == "json":
        print_json({**summary, "incidents": events})
        return
    print_table(
        ["FIELD", "VALUE"], [[key, "-" if value in ("", None) else value] for key, value in summary.items()]
    )
    if events:
        click.echo()
        keys = ["time", "cause", "action", "lost", "gained", "seconds", "reason"]
        rows = [["-" if event[key] in ("", None) else event[key] for key in keys] for event in events]
        print_table([key.upper() for key in keys], rows)


@contextmanager
def _store(state_dir: Path) -> Iterator[Store]:
    from hpadmin.recovery.resume.store import Store, path_in, store_errors

    store = Store(path_in(state_dir), reads=True)
    try:
        with store_errors():
            yield store
    finally:
        store.close()


def _summary(job: JobRecord, incidents: tuple[Incident, ...]) -> dict[str, Any]:
    lost = [incident.seconds for incident in incidents if incident.seconds is not None]
    return {
        "job_id": job.job_id,
        "user": job.user,
        "partition": job.partition,
        "state": job.state.value,
        "attempts": job.resumes,
        "last_action": job.last_action,
        "reason": job.reason,
        "nodes": job.nodes,
        "seconds_lost": round(sum(lost), 1),
    }


def _event(incident: Incident) -> dict[str, Any]:
    seconds = incident.seconds
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(incident.at)),
        "step": incident.step,
        "cause": incident.cause,
        "action": incident.action,
        "reason": incident.reason,
        "lost": incident.lost,
        "gained": incident.gained,
        "seconds": None if seconds is None else round(seconds, 1),
    }
