"""What an application would change, what that takes, and whom it would hurt: decided before anything is written.

    plan = make(strategy, last=history.base(), disk=folder.read(conf_dir), wanted=rendered, live=live)
    plan.changes, plan.refused, plan.blocking

Pure, but for nothing: the running Slurm comes in as a `hpadmin.configure.live.Live`, or None where none answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from hpadmin.configure import atomic, secrecy, stakes
from hpadmin.configure.compare import Finding, Loader, differences
from hpadmin.configure.desired import file_mode
from hpadmin.configure.folder import fingerprint
from hpadmin.configure.history import Result, Revision
from hpadmin.configure.landing import Conflict
from hpadmin.configure.layout import layout_of
from hpadmin.configure.live import Live
from hpadmin.configure.merge import Outcome, combine
from hpadmin.configure.requirements import Requirement, requirement
from hpadmin.configure.stakes import Stake
from hpadmin.model import Strategy
from hpadmin.slurmconf.difference import Difference, Subject


@dataclass(frozen=True, slots=True)
class Change:
    """One change of meaning, or of a file's text alone."""

    file: str
    kind: str
    """``node added``, ``partition removed``, ``setting changed``, ``text changed`` …"""
    subject: str
    """What changes: ``PartitionName=dev Nodes``, ``SlurmdTimeout``."""
    before: str | None
    after: str | None
    requires: Requirement
    affects_jobs: tuple[int, ...] = ()
    """Jobs that it would end."""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """An application that could be carried out, or why it cannot."""

    strategy: Strategy
    release: str
    """Slurm release that the files are judged by, such as 24.11."""
    changes: tuple[Change, ...]
    files: Mapping[str, bytes]
    """Every governed file with its content to be. Empty where drift blocks."""
    removed: tuple[str, ...]
    wanted: Mapping[str, bytes]
    """What the request asks for."""
    disk: Mapping[str, bytes]
    """All files as they were read."""
    drift: tuple[Finding, ...]
    blocking: tuple[Finding, ...]
    """Why it must not be carried out (`hpadmin.configure.merge.Outcome.blocking`)."""
    conflicts: tuple[Conflict, ...]
    lost: tuple[Finding, ...]
    stakes: tuple[Stake, ...]
    """Jobs and reservations that it would cost."""
    live: Live | None
    """None where no slurmctld answered."""
    first: bool
    """Nothing was applied to this folder before."""
    exposed: Mapping[str, int]
    """Governed files that may hold a password and that others may read, with the mode they have."""
    new_base: bool
    """The request asks for something else than last time, though the files may be the same."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """Digests of the files that the plan was made from."""
        return fingerprint(dict(self.disk))

    @property
    def after(self) -> dict[str, bytes]:
        """All files as they will be, those that are not governed included."""
        kept = {name: content for name, content in self.disk.items() if name not in self.removed}
        return {**kept, **self.files}

    @property
    def writes(self) -> bool:
        """Any file on disk is to change."""
        return bool(self.removed or self.exposed) or any(
            self.disk.get(name) != content for name, content in self.files.items()
        )

    def is_done(self, *, reconfigure: bool) -> bool:
        """There is nothing to do: neither to record, nor to write, nor (where that is wanted) to tell Slurm."""
        return not self.new_base and not self.writes and not (reconfigure and self.changes)

    @property
    def restarts(self) -> tuple[Change, ...]:
        """The changes that a reconfigure does not make count."""
        return tuple(change for change in self.changes if not change.requires.by_reconfigure)

    def refused(self, allowed: Collection[str]) -> tuple[Stake, ...]:
        """What it would cost without anybody having allowed it."""
        return stakes.not_allowed(self.stakes, allowed)


def make(
    strategy: Strategy,
    *,
    last: Mapping[str, bytes] | None,
    disk: Mapping[str, bytes],
    wanted: Mapping[str, bytes],
    live: Live | None,
    release: str = "24.11",
    untold: bool = False,
    exposed: Mapping[str, int] | None = None,
) -> Plan:
    """Plan the application of `wanted`.

    `last` is what was wanted when files were last applied, None before the first time. `untold` says that the
    files on disk were published and Slurm has not read them since (`is_untold`). `exposed` are files on disk
    whose mode lets others at secrets (`hpadmin.configure.folder.exposed`). Raises InvalidInput when a value
    cannot be written.
    """
    loader = Loader()

    def outcome_of(chosen: Strategy) -> Outcome:
        return combine(chosen, last=last, disk=disk, wanted=wanted, release=release, loader=loader)

    outcome = outcome_of(strategy)
    # What would be written is shown also where drift keeps it from being written.
    shown = outcome_of(Strategy.OVERWRITE) if outcome.blocked and strategy is Strategy.MANAGED else outcome
    return _plan(
        Plan(
            strategy=strategy,
            release=release,
            changes=(),
            files=outcome.files,
            removed=outcome.removed,
            wanted=wanted,
            disk=disk,
            drift=outcome.drift,
            blocking=outcome.blocking,
            conflicts=outcome.conflicts,
            lost=outcome.lost,
            stakes=(),
            live=live,
            first=last is None,
            exposed=_governed(exposed, outcome.files),
            new_base=last is None or dict(last) != dict(wanted),
        ),
        {**{name: content for name, content in disk.items() if name not in shown.removed}, **shown.files},
        loader,
        release=release,
        untold=untold,
    )


def going_back(
    *,
    last: Mapping[str, bytes] | None,
    disk: Mapping[str, bytes],
    files: Mapping[str, bytes],
    wanted: Mapping[str, bytes],
    governed: Collection[str],
    live: Live | None,
    release: str = "24.11",
    exposed: Mapping[str, int] | None = None,
) -> Plan:
    """Plan the return to `files`, an earlier application's, which its request `wanted`.

    `governed` are the names of files that later applications brought: those that are not among `files` go.
    """
    loader = Loader()
    drift = combine(Strategy.OVERWRITE, last=last, disk=disk, wanted=files, release=release, loader=loader)
    plan = Plan(
        strategy=Strategy.OVERWRITE,
        release=release,
        changes=(),
        files=files,
        removed=tuple(sorted(name for name in governed if name in disk and name not in files)),
        wanted=wanted,
        disk=disk,
        drift=drift.drift,
        blocking=(),
        conflicts=(),
        lost=drift.lost,
        stakes=(),
        live=live,
        first=False,
        exposed=_governed(exposed, files),
        new_base=last is None or dict(last) != dict(wanted),
    )
    return _plan(plan, plan.after, loader, release=release, untold=False)


def _governed(exposed: Mapping[str, int] | None, files: Collection[str]) -> dict[str, int]:
    return {name: mode for name, mode in (exposed or {}).items() if name in files}


def release_of(current: Revision | None, live: Live | None) -> str:
    """Return the Slurm release of a cluster: that of the last application, else of what runs, else 24.11."""
    if current is not None and current.release:
        return current.release
    return live.version if live else "24.11"


def is_untold(current: Revision | None, live: Live | None) -> bool:
    """Tell whether the files last written were never read by the slurmctld that runs.

    Where none answers there may be none, and the next to start reads them.
    """
    if current is None or current.result is not Result.WRITTEN or live is None:
        return False
    started = live.settings.get("BOOT_TIME", "")
    return not started.isdigit() or int(started) < datetime.fromisoformat(current.finished).timestamp()


def _plan(plan: Plan, after: Mapping[str, bytes], loader: Loader, *, release: str, untold: bool) -> Plan:
    found = differences(plan.disk, after, release=release, loader=loader)
    costs = _stakes(plan.live, plan.disk, after, loader)
    changes = [_change(difference, costs, live=plan.live is not None) for difference in found]
    told_of = {change.file for change in changes}
    for name in sorted({*plan.disk, *after}):
        if plan.disk.get(name) != after.get(name) and name not in told_of:
            before, new = (
                f"{len(side[name])} bytes" if name in side else None for side in (plan.disk, after)
            )
            kind = "file added" if before is None else "file removed" if new is None else "text changed"
            changes.append(Change(name, kind, name, before, new, Requirement.NOTHING))
    for name, mode in plan.exposed.items():
        kept = atomic.allowed_mode(mode, file_mode(name))
        changes.append(Change(name, "mode changed", name, f"{mode:04o}", f"{kept:04o}", Requirement.NOTHING))
    stale = plan.live is not None and plan.live.hashes and not plan.live.runs_the_files
    if (untold or stale) and not any(change.requires is not Requirement.NOTHING for change in changes):
        changes.append(
            Change(
                "slurm.conf",
                "not in effect",
                "the running Slurm",
                "runs other files",
                "runs the files on disk",
                Requirement.RECONFIGURE,
            )
        )
    return dataclasses.replace(plan, changes=tuple(changes), stakes=costs)


def _stakes(
    live: Live | None, disk: Mapping[str, bytes], after: Mapping[str, bytes], loader: Loader
) -> tuple[Stake, ...]:
    if live is None or "slurm.conf" not in after:
        return ()
    before = layout_of(loader.load("slurm.conf", disk), live.release) if live.runs_the_files else None
    return stakes.stakes(live, before, layout_of(loader.load("slurm.conf", after), live.release))


def _change(difference: Difference, costs: Collection[Stake], *, live: bool) -> Change:
    hurt = [stake for stake in costs if _is_cause(difference, stake)]
    needs = requirement(difference)
    if live and needs in (Requirement.DRAIN, Requirement.RECONFIGURE):
        needs = Requirement.DRAIN if hurt else Requirement.RECONFIGURE
    return Change(
        file=difference.file,
        kind=f"{difference.subject.value} {difference.change}",
        subject=difference.setting,
        before=secrecy.shown(difference.key, difference.before),
        after=secrecy.shown(difference.key, difference.after),
        requires=needs,
        affects_jobs=tuple(sorted(int(stake.name) for stake in hurt if stake.kind == "job")),
        names=difference.names,
    )


def _is_cause(difference: Difference, stake: Stake) -> bool:
    if difference.subject is Subject.NODE or difference.subject is Subject.GRES:
        return not set(difference.names).isdisjoint(stake.nodes)
    if difference.subject is Subject.PARTITION and not difference.key:
        return not set(difference.names).isdisjoint(stake.partitions)
    if stake.reordered and (
        difference.subject is Subject.NODE_ORDER or difference.key.lower() in stakes.ORDERS_NODES
    ):
        return True
    return bool(stake.setting) and difference.key.lower() == stake.setting
