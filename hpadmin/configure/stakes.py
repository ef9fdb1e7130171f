"""What a configuration would cost the jobs and reservations of a running Slurm, decided before it is told.

Slurm accepts the removal of a node or a partition that jobs use, says that all went well, and ends the jobs.
The rules here are those by which slurmctld does so when it reads its configuration anew (``_sync_jobs_to_conf``
in src/slurmctld/read_config.c, ``valid_job_resources`` in src/common/job_resources.c, ``gres_job_revalidate2`` in
src/interfaces/gres.c, ``_validate_one_reservation`` in src/slurmctld/reservation.c). Where slurmctld would look
deeper than its commands show, the job counts as lost. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hpadmin.configure.layout import Layout, NodeShape, gres_of
from hpadmin.configure.live import Live, LiveJob, dynamic
from hpadmin.slurm import hostlist
from hpadmin.slurm.states import JobState

ALL = "all"
"""Allows the loss of every job and reservation."""

UNDER_RUNNING_JOBS = frozenset({"jobacctgathertype", "proctracktype", "slurmdspooldir", "switchtype"})
"""Settings that running steps do not survive, or no longer answer to, when they change (slurm.conf(5))."""

ORDERS_NODES = frozenset({"topologyplugin", "topologyparam"})
"""Settings that decide the order of slurmctld's node table."""


@dataclass(frozen=True, slots=True)
class Stake:
    """A job or a reservation that a change would cost, and why."""

    name: str
    """The job's id, or the reservation's name."""
    kind: str
    """``job`` or ``reservation``."""
    state: str
    user: str
    reason: str
    nodes: tuple[str, ...] = ()
    """Nodes by whose change it is lost."""
    partitions: tuple[str, ...] = ()
    """Partitions by whose change it is lost."""
    setting: str = ""
    """Lower-case key of the setting by whose change it is lost."""
    reordered: bool = False
    """It is lost by the new order of its nodes."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.state}, {self.user or 'nobody'}): {self.reason}"


def stakes(live: Live, before: Layout | None, after: Layout) -> tuple[Stake, ...]:
    """Return what going from what runs now to `after` would cost.

    `before` is the configuration that slurmctld has in memory; None where no file tells it: then only what
    slurmctld says of its nodes counts.
    """
    order = _new_order(live, after)
    changed = {
        key
        for key in UNDER_RUNNING_JOBS
        if before and before.settings.get(key, "").lower() != after.settings.get(key, "").lower()
    }
    of_jobs = (_of_job(job, live, before, after, order, changed) for job in live.jobs)
    found = [stake for stake in of_jobs if stake is not None]
    for reservation in live.reservations:
        names = tuple(hostlist.expand(reservation.nodes)) if reservation.nodes else ()
        gone = tuple(name for name in names if _is_gone(name, live, after))
        lost = reservation.partition and reservation.partition not in after.partitions
        if gone or lost:
            reasons = [f"loses {hostlist.fold(gone)}"] if gone else []
            reasons += [f"its partition {reservation.partition} goes: it is deleted"] if lost else []
            found.append(
                Stake(
                    reservation.name,
                    "reservation",
                    ",".join(reservation.flags) or "reserved",
                    reservation.users,
                    ", ".join(reasons),
                    gone,
                    (reservation.partition,) if lost else (),
                )
            )
    return tuple(found)


def not_allowed(found: Collection[Stake], allowed: Collection[str]) -> tuple[Stake, ...]:
    """Return those whose loss nobody allowed by name."""
    return () if ALL in allowed else tuple(stake for stake in found if stake.name not in allowed)


def _of_job(
    job: LiveJob,
    live: Live,
    before: Layout | None,
    after: Layout,
    order: Mapping[str, tuple[int, int]],
    changed: Collection[str],
) -> Stake | None:
    reasons = []
    nodes: list[str] = []
    gone_partitions = tuple(name for name in job.partitions if name not in after.partitions)
    if gone_partitions:
        reasons.append(f"partition {', '.join(gone_partitions)} goes")
    gone = [name for name in job.nodes if _is_gone(name, live, after)]
    if gone:
        reasons.append(f"runs on {hostlist.fold(gone)}, which would go")
        nodes += gone
    wanted = [name for name in job.required if name not in gone and _is_gone(name, live, after)]
    if wanted:
        reasons.append(f"asks for {hostlist.fold(wanted)}, which would go")
        nodes += wanted
    setting = ""
    reordered = False
    # A job that is completing has no resources any more that a change could take from it.
    if job.info.state.holds_nodes and job.info.state is not JobState.COMPLETING:
        for what, names in _reshaped(job, live, before, after):
            reasons.append(f"runs on {hostlist.fold(names)}, whose {what} would change")
            nodes += names
        stay = sorted((name for name in job.nodes if name in order), key=lambda name: order[name][0])
        if [order[name][1] for name in stay] != sorted(order[name][1] for name in stay):
            reasons.append(f"the order of its nodes would change: {', '.join(stay)}")
            nodes += stay
            reordered = True
        if changed:
            setting = min(changed)
            reasons.append(f"{', '.join(sorted(changed))} must not change under running jobs")
    if not reasons:
        return None
    return Stake(
        str(job.info.job_id),
        "job",
        job.info.state.value,
        job.info.user,
        "; ".join(reasons),
        tuple(dict.fromkeys(nodes)),
        gone_partitions,
        setting,
        reordered,
    )


def _reshaped(job: LiveJob, live: Live, before: Layout | None, after: Layout) -> list[tuple[str, list[str]]]:
    cores: list[str] = []
    gres: list[str] = []
    for name in job.nodes:
        new = after.nodes.get(name)
        if new is None or new.absent or name not in live.nodes:
            continue
        old = _runs_as(name, live, before)
        if old.cores != new.cores:
            cores.append(name)
        if old.gres != new.gres:
            gres.append(name)
    return [(what, names) for what, names in (("cores", cores), ("GRES", gres)) if names]


def reshaped_nodes(live: Live, before: Layout | None, after: Layout) -> tuple[str, ...]:
    """Return the nodes that change under jobs: they go, or get other cores or GRES."""
    return tuple(
        name
        for name in live.nodes
        if _is_gone(name, live, after)
        or (name in after.nodes and _runs_as(name, live, before) != after.nodes[name])
    )


def _runs_as(name: str, live: Live, before: Layout | None) -> NodeShape:
    known = before.nodes.get(name) if before else None
    if known is not None:
        return known
    node = live.nodes[name]
    return NodeShape(node.cores, gres_of(node.gres))


def _is_gone(name: str, live: Live, after: Layout) -> bool:
    known = after.nodes.get(name)
    if known is not None:
        return known.absent
    node = live.nodes.get(name)
    return node is None or not dynamic(node)


def _new_order(live: Live, after: Layout) -> dict[str, tuple[int, int]]:
    """The place of each node in slurmctld's table, now and then; empty where their order stays."""
    stay = [name for name in live.nodes if name in after.nodes]
    known = set(stay)
    then = [name for name in after.order if name in known]
    if stay == then:
        return {}
    places = {name: place for place, name in enumerate(then)}
    return {name: (place, places[name]) for place, name in enumerate(stay)}
