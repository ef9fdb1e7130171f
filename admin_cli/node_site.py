"""What the commands of ``hpadmin node`` share: which cluster, one look at it, its agent's journal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from admin_cli.agent import SETTINGS
from admin_cli.options import state_dir_option

if TYPE_CHECKING:
    from hpadmin.recovery.journal import Journal
    from hpadmin.recovery.observe import Observation
    from hpadmin.recovery.site import Site

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(function: F) -> F:
    """Add what says which cluster: the agent's settings, a lab, the state directory."""
    for option in (
        state_dir_option,
        click.option("--lab", metavar="NAME", help="A lab, from outside of it."),
        click.option("--config", type=click.Path(path_type=Path), default=SETTINGS, show_default=True),
    ):
        function = option(function)
    return function


def look(site: Site) -> Observation:
    """Look at the cluster as its agent does. Raises OperationFailed where Slurm does not answer."""
    from hpadmin.recovery.observe import observe

    return observe(site.reader, site.provider, at=time.time(), protected=site.settings.policy.protected)


def open_journal(site: Site) -> Journal | None:
    """The agent's journal, where this user and host can read it."""
    from hpadmin.errors import OperationFailed
    from hpadmin.recovery.site import JOURNAL

    if not (site.state_dir / JOURNAL).exists():
        return None
    try:
        return site.journal()
    except OperationFailed:
        return None


def clock(at: float) -> str:
    """Return a time of the epoch as this host's clock shows it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
