"""Carrying a plan out: locked, checked, published, told, verified, recorded; and bringing killed runs to an end.

    recover(history, runner)                      # what a killed run left, first of all
    plan = …                                      # hpadmin.configure.plan
    revision = apply(history, plan, runner, order)

The steps and what they protect from are told in docs/configuration.md; `hpadmin.configure.transaction` has the
part that must survive a kill at any point.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hpadmin.configure import atomic, folder, secrecy
from hpadmin.configure import plan as planning
from hpadmin.configure.desired import file_mode
from hpadmin.configure.history import FileRecord, History, Result, Revision, now, whoever_runs_this
from hpadmin.configure.landing import Conflict
from hpadmin.configure.live import Live, WithConf
from hpadmin.configure.plan import Plan
from hpadmin.configure.service import SlurmService
from hpadmin.configure.stakes import Stake
from hpadmin.configure.transaction import Step, Transaction, file_records
from hpadmin.errors import DriftBlocks, InvalidInput, OperationFailed
from hpadmin.model import Strategy
from hpadmin.slurm import sandbox
from hpadmin.slurm.command import Runner
from hpadmin.slurm.sandbox_order import with_includes
from hpadmin.slurmconf.view import view


def _silently(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Order:
    """How a plan is to be carried out."""

    command: str = "apply"
    request: bytes = b""
    inventory: bytes = b""
    reconfigure: bool = True
    """False: only write the files; Slurm reads them at its next start or reconfigure."""
    allowed: frozenset[str] = frozenset()
    """Jobs and reservations that may be lost, by name; ``all``."""
    sandbox: bool = True
    """Let a throw-away slurmctld judge first."""
    timeout: float = 120
    """Seconds within which Slurm and every node must follow."""
    step: Step = field(default=_silently)


def recover(
    history: History, runner: Runner, *, timeout: float = 120, step: Step = _silently
) -> Revision | None:
    """Bring the application of a killed run to an end; return its record, None where there was none.

    Raises OperationFailed when somebody else is at work, or the files from before cannot be put back.
    """
    if not _left_behind(history):
        return None
    with history.lock("recovery"):
        for revision in _left_behind(history):
            service = _service_of(history, revision, runner, timeout)
            if revision.result is Result.UNFINISHED:
                return Transaction(history, revision, service, step).finish_or_undo()
            with contextlib.suppress(
                OperationFailed
            ):  # Slurm still does not answer: the next run tries again
                service.reopen(revision.fence)
                history.update(dataclasses.replace(revision, fence_left=False))
    return None


def _left_behind(history: History) -> list[Revision]:
    """The records that a run left something to do of. Raises OperationFailed where the last cannot be read."""
    history.unfinished()
    return [entry for entry in history.revisions() if entry.fence_left or entry.result is Result.UNFINISHED]


def _service_of(history: History, revision: Revision, runner: Runner, timeout: float) -> SlurmService:
    after = history.files(revision)
    before = {**after, **history.before(revision)}
    for record in revision.files:
        if record.before is None:
            before.pop(record.name, None)
    disk = folder.read(history.conf_dir)
    governed = {record.name for record in revision.files} | set(after)
    others = {name: content for name, content in disk.items() if name not in governed}
    return SlurmService(
        WithConf(runner, history.conf_dir),
        before={**others, **before},
        after={**others, **after},
        allowed=revision.allowed_losses,
        since=datetime.fromisoformat(revision.started).timestamp(),
        timeout=timeout,
    )


def apply(history: History, plan: Plan, runner: Runner, order: Order) -> Revision | None:
    """Carry `plan` out; return the record, None where there was nothing to do.

    Raises DriftBlocks, or OperationFailed with the reason; the files are those from before then, unless the
    message says otherwise.
    """
    _refuse(plan, order)
    if plan.is_done(reconfigure=order.reconfigure):
        return None
    with history.lock(order.command):
        if history.unfinished() is not None:
            raise OperationFailed("an application was killed in the meantime", hint="run it again")
        _check_unmoved(history.conf_dir, plan)
        records, before = file_records(history.conf_dir, plan.files, removed=plan.removed, mode=file_mode)
        conf = WithConf(runner, history.conf_dir)
        if records:
            order.step("let Slurm check the files")
            _let_slurm_check(history, plan, conf, order)
        tell = order.reconfigure and bool(plan.changes)
        revision = history.create(
            _draft(plan, order, records, reconfigure=tell),
            before=before,
            after=plan.files,
            wanted=plan.wanted,
            request=order.request,
            inventory=order.inventory,
        )
        service = SlurmService(
            conf,
            before=plan.disk,
            after=plan.after,
            allowed=order.allowed,
            since=datetime.fromisoformat(revision.started).timestamp(),
            timeout=order.timeout,
        )
        return Transaction(history, revision, service, order.step).run()


def _refuse(plan: Plan, order: Order) -> None:
    """Raise where the plan may not be carried out like this."""
    if plan.blocking and plan.strategy is Strategy.MERGE:
        raise DriftBlocks(
            f"{len(plan.blocking)} line(s) of the site name nodes that the request removes, and slurmctld would "
            "not start with them: nothing was written",
            hint="take the nodes out of these lines, or leave them in the request; Overwrite drops the lines",
        )
    if plan.blocking:
        raise DriftBlocks(
            f"{len(plan.blocking)} manual change(s) would be undone, and the strategy is Managed: nothing was written",
            hint="adopt them into the request, or apply with SlurmConfigStrategy Merge (keeps them) "
            "or Overwrite (undoes them)",
        )
    if order.reconfigure and plan.changes and plan.live is None:
        raise OperationFailed(
            "slurmctld does not answer, so nobody can say which jobs the change would cost: nothing was written",
            hint="start slurmctld; or write the files for its next start with --no-reconfigure",
        )
    if order.reconfigure and plan.restarts:
        named = ", ".join(f"{change.subject} ({change.requires})" for change in plan.restarts)
        raise OperationFailed(
            f"a reconfigure does not make these count: {named}; nothing was written",
            hint="apply with --no-reconfigure, then restart the daemons named",
        )
    _refuse_losses(plan.refused(order.allowed))


def _refuse_losses(refused: Collection[Stake]) -> None:
    if refused:
        names = ",".join(stake.name for stake in refused)
        raise OperationFailed(
            "\n  ".join(
                ["Slurm would accept this and end what runs; nothing was written:", *map(str, refused)]
            ),
            hint=f"wait for them, or drain the nodes and cancel; to lose them say --allow-job-loss {names}",
        )


def _check_unmoved(conf_dir: Path, plan: Plan) -> None:
    found = folder.fingerprint(folder.read(conf_dir, plan.disk))
    planned = plan.fingerprint
    moved = sorted(name for name in {*found, *planned} if found.get(name) != planned.get(name))
    if moved:
        raise OperationFailed(
            f"changed since the plan was made: {', '.join(moved)}; nothing was written", hint="plan again"
        )


def _let_slurm_check(history: History, plan: Plan, runner: WithConf, order: Order) -> None:
    """Have Slurm's parser, and a throw-away slurmctld where one can be made, judge the files to come."""
    missing = view("slurm.conf", plan.after.get).missing
    if missing:
        # Slurm looks for a missing file for a minute, in every command and daemon, and then gives up.
        named = ", ".join(f"{name} (Include in {origin})" for name, origin in missing)
        raise OperationFailed(f"these files are not there: {named}; nothing was written")
    if not order.reconfigure and not _is_installed(runner.runner):
        order.step("Slurm is not installed here: it cannot check the files")
        return
    draft = history.folder / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _lay_out(draft, plan, runner)
        _parse(runner.runner, draft)
    except OSError as error:
        raise OperationFailed(
            f"{error.filename} cannot be written: {error.strerror}; nothing was written"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if order.sandbox:
        _try_out(plan, runner, order, history.conf_dir)


def _is_installed(runner: Runner) -> bool:
    """Tell whether there is a scontrol to check files with, before there is a slurm.conf.

    Even for its version scontrol reads one, and looks a minute for one that is missing
    (src/common/read_config.c); an empty one it refuses at once.
    """
    try:
        done = runner.run(["scontrol", "--version"], timeout=30, env={"SLURM_CONF": os.devnull})
    except OperationFailed:
        return False
    return done.returncode not in (126, 127)  # of a shell or timeout(1) that cannot run it


def _lay_out(draft: Path, plan: Plan, conf: WithConf) -> None:
    """Write the files to come into `draft`, those too that Includes name outside of the folder."""
    draft.mkdir(mode=0o700)
    files = with_includes(conf.runner, plan.after, str(conf.conf_dir), absent=plan.removed)
    for name, content in files.items():
        (draft / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write(draft / name, content, mode=0o600)


def _parse(runner: Runner, draft: Path) -> None:
    """Have scontrol parse the draft, which asks no daemon."""
    done = WithConf(runner, draft).run(["scontrol", "show", "hostnames", "localhost"], timeout=90)
    if done.returncode != 0:
        said = done.stderr.replace(f"{draft}/", "").strip()
        raise OperationFailed(f"Slurm cannot read these files, so nothing was written:\n  {said}")


def _try_out(plan: Plan, runner: WithConf, order: Order, conf_dir: Path) -> None:
    state = plan.live.settings.get("StateSaveLocation") if plan.live else None
    try:
        verdict = sandbox.check(
            runner.runner,
            plan.after,
            conf_dir=str(conf_dir),
            beside=True,
            absent=plan.removed,
            state=state,
        )
    except OperationFailed as failure:
        order.step(f"no throw-away slurmctld looked at it: {failure.message}")
        return
    if not verdict.accepted:
        said = [message.text for message in verdict.said(sandbox.Severity.FATAL, sandbox.Severity.ERROR)]
        raise OperationFailed(
            "\n  ".join(["slurmctld would not start with these files, so nothing was written:", *said])
        )
    _refuse_losses(_doomed(verdict, plan.live, order.allowed))


def _doomed(verdict: sandbox.Verdict, live: Live | None, allowed: Collection[str]) -> list[Stake]:
    """The jobs that a throw-away slurmctld on a copy of the state would end, of those that have not ended."""
    running = {job.info.job_id: job for job in live.jobs} if live else {}
    return [
        Stake(
            str(doomed.job_id),
            "job",
            running[doomed.job_id].info.state.value,
            running[doomed.job_id].info.user,
            doomed.reason,
        )
        for doomed in verdict.jobs
        if doomed.job_id in running and not {str(doomed.job_id), "all"} & set(allowed)
    ]


def _draft(plan: Plan, order: Order, records: tuple[FileRecord, ...], *, reconfigure: bool) -> Revision:
    return Revision(
        number=0,
        command=order.command,
        strategy=plan.strategy.value,
        user=whoever_runs_this(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started=now(),
        reconfigure=reconfigure,
        request_digest=atomic.digest(order.request) if order.request else "",
        inventory_digest=atomic.digest(order.inventory) if order.inventory else "",
        files=records,
        allowed_losses=tuple(sorted(order.allowed)),
        lost=tuple(
            f"{each.setting}: {secrecy.shown(each.setting, each.found) or 'removed'}" for each in plan.lost
        ),
        conflicts=tuple(map(_in_words, plan.conflicts)),
        release=plan.release,
    )


def _in_words(conflict: Conflict) -> str:
    site = secrecy.shown(conflict.setting, conflict.site) or "removed"
    request = secrecy.shown(conflict.setting, conflict.request) or "nothing"
    return f"{conflict.setting}: {site} on disk, {request} in the request; {conflict.rule}"


def plan_rollback(history: History, number: int | None, live: Live | None) -> tuple[Revision, Plan]:
    """Plan the return to revision `number`; None means the files before the current ones.

    Raises InvalidInput where there is no such revision, or its files never became the configuration, and
    OperationFailed where a record that is needed cannot be read.
    """
    if number is None:
        target = next(itertools.islice(history.on_disk(), 1, None), None)
        if target is None:
            raise InvalidInput("there is no earlier application to go back to")
    else:
        target = history.get(number)
        if not target.result.on_disk:
            raise InvalidInput(
                f"revision {number} never became the configuration ({target.result.value})",
                hint="hpadmin config history lists all",
            )
    files, wanted = history.files(target), history.wanted(target)
    used = (revision for revision in history.revisions() if revision.result.on_disk)
    governed = {record.name for revision in used for record in revision.files}
    last = history.base()
    disk = folder.read(history.conf_dir, {*files, *governed})
    made = planning.going_back(
        last=last,
        disk=disk,
        files=files,
        wanted=wanted,
        governed=governed,
        live=live,
        exposed=folder.exposed(history.conf_dir, files),
        # By what reads them now; since the last application the cluster may have been upgraded.
        release=live.version if live else planning.release_of(history.current(), None),
    )
    return target, made
