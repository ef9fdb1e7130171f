"""``hpadmin agent``: the recovery agent of a cluster."""

from __future__ import annotations

import getpass
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from admin_cli.options import state_dir_option
from admin_cli.report import say

if TYPE_CHECKING:
    from hpadmin.recovery.agent import Agent
    from hpadmin.recovery.leadership import Leads
    from hpadmin.recovery.site import Site

SETTINGS = "/etc/hpadmin/agent.toml"


@click.group()
def group() -> None:
    """Run the recovery agent.

    \b
    Examples:
      hpadmin agent run
      hpadmin agent run --lab hpadmin --state-dir ./state
      hpadmin agent reset
    """


@group.command()
@click.option("--config", type=click.Path(path_type=Path), default=SETTINGS, show_default=True)
@click.option("--lab", metavar="NAME", help="Look after a lab from this host.")
@click.option("--once", is_flag=True, help="Look and act once, then end; 1 when another agent leads.")
@click.option("--log", type=click.Choice(["json", "text"]), default="json", show_default=True)
@state_dir_option
def run(config: Path, lab: str | None, once: bool, log: str, state_dir: Path) -> None:
    """Look after the cluster until told to stop.

    Where another agent leads already, stand by and take over when it is gone.

    \b
    Examples:
      hpadmin agent run
      hpadmin agent run --once --log text
      hpadmin agent run --lab hpadmin --state-dir ./state
    """
    from hpadmin.recovery.leadership import StandsBy
    from hpadmin.recovery.rounds import allow_many
    from hpadmin.recovery.site import Site

    _set_up_logging(log)
    allow_many()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    site = Site.open(config, state_dir, lab=lab)
    waiting = ""
    while not stop.is_set():
        try:
            with site.leadership() as leads:
                _lead(site, stop, leads, once=once)
                return
        except StandsBy as error:
            if once:
                raise
            if error.message != waiting:
                logging.getLogger("hpadmin").info(error.message)
                waiting = error.message
            stop.wait(site.settings.interval)


def _lead(site: Site, stop: threading.Event, leads: Leads, *, once: bool) -> None:
    from hpadmin.recovery.journal import LostLeadership

    agent = site.agent()
    if once:
        agent.hold = 0
    logging.getLogger("hpadmin").info("this agent leads", extra={"provider": site.provider.name})
    tidied = 0.0
    try:
        while not stop.is_set():
            started, cpu = time.monotonic(), _processor_seconds()
            if _still(leads):
                agent.cycle()
                _publish(agent, site)
            if once:
                return
            if started - tidied > 86400 or not tidied:
                agent.forget()
                tidied = started
            spent, cpu = time.monotonic() - started, _processor_seconds() - cpu
            stop.wait(site.settings.pause(spent, cpu, hurried=agent.hurried))
    except LostLeadership as error:
        logging.getLogger("hpadmin").error(error.message)
        raise
    finally:
        agent.journal.close()


def _still(leads: Leads) -> bool:
    """Tell whether this agent may act now: not while it cannot tell whether it leads. Raises LostLeadership."""
    from hpadmin.errors import OperationFailed
    from hpadmin.recovery.journal import LostLeadership

    try:
        if leads():
            return True
    except OperationFailed as error:
        logging.getLogger("hpadmin").error("nothing is done for now", extra={"error": error.message})
        return False
    raise LostLeadership("the lock of this cluster's agent is lost: the lab's controller was restarted")


def _processor_seconds() -> float:
    """What this process has used of a processor so far, with the commands that it ran."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _publish(agent: Agent, site: Site) -> None:
    from hpadmin.errors import OperationFailed
    from hpadmin.recovery import metrics

    if not site.settings.metrics or agent.seen is None:
        return
    try:
        book = agent.journal.book(since=agent.seen.at - 7 * 86400)
        metrics.write(Path(site.settings.metrics), metrics.render(agent.seen, book, agent.policy))
    except (OperationFailed, OSError) as error:
        logging.getLogger("hpadmin").error("metrics cannot be written", extra={"error": str(error)})


@group.command()
@state_dir_option
def reset(state_dir: Path) -> None:
    """Start automatic repair again after it stopped itself.

    \b
    Examples:
      hpadmin agent reset
    """
    from hpadmin.recovery.journal import Journal
    from hpadmin.recovery.site import JOURNAL

    journal = Journal(state_dir / JOURNAL)
    try:
        journal.reset_breaker(time.time(), by=getpass.getuser())
    finally:
        journal.close()
    say("automatic repair starts again with the agent's next look")


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, message, and whatever the call added."""

    _PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in self._PLAIN}
        return json.dumps(line, default=str, ensure_ascii=False)


def _set_up_logging(form: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(
        _JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    root = logging.getLogger("hpadmin")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
