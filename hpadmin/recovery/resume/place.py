"""A requeued job's place in the queue: what Slurm takes, and what of it an operator can give back; pure.

Slurm queues a requeued job like a new one (`batch_requeue_fini`, src/slurmctld/job_mgr.c). With priority/basic that
is the end of the queue. With priority/multifactor it loses the age that it had gained: its AccrueTime starts anew.
Neither the order of basic nor AccrueTime can be set, but the priority can:

>>> before = Place(priority=5000, waiting_since=0)
>>> deserved(before, 1000, 86400, {"PriorityType": "priority/basic"})
5000
>>> week = {"PriorityType": "priority/multifactor", "PriorityWeightAge": "7000", "PriorityMaxAge": "7-00:00:00"}
>>> deserved(before, 1000, 6 * 86400, week)
7000

It stays set: Slurm keeps it over further requeues, and `scontrol` can let it be counted again only while the job
waits (``scontrol release``). The job's Nice is part of it and no longer counts by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpadmin.slurm.jobjson import number
from hpadmin.slurm.reader import JobDetail
from hpadmin.slurmconf.values import seconds


@dataclass(frozen=True, slots=True)
class Place:
    """What a job had in the queue before it was requeued."""

    priority: int
    """With which it started."""
    waiting_since: float
    """When it began to gain age, in seconds since the epoch."""
    base: int = 0
    """What Slurm gave it after the requeue; 0 before that."""
    raised: int = 0
    """What was set instead; 0 where Slurm's own counts."""


def place_of(detail: JobDetail) -> Place:
    """Return the place of a job that runs for the first time."""
    raw = detail.raw
    since = number(raw.get("accrue_time")) or number(raw.get("eligible_time")) or detail.info.submit_time
    return Place(number(raw.get("priority")), since)


def deserved(before: Place, base: int, now: float, configuration: Mapping[str, str]) -> int:
    """Return the priority that the job would have if it had never stopped waiting; 0 where `base` will do.

    A held job (`base` 0) is left alone. A job never gets less than it started with, and never more age than
    PriorityMaxAge allows.
    """
    if not base:
        return 0
    wanted = before.priority
    if configuration.get("PriorityType", "") != "priority/basic":
        weight = _int(configuration.get("PriorityWeightAge", ""))
        longest = seconds(configuration.get("PriorityMaxAge", "")) or 0
        waited = max(0.0, now - before.waiting_since)
        age = min(1.0, waited / longest) if longest else 0.0
        wanted = max(wanted, base + int(weight * age))
    return wanted if wanted > base else 0


def due(before: Place, wanted: int) -> bool:
    """Tell whether a raised priority has fallen behind by so much that it is to be set again."""
    return wanted > before.raised + (before.raised - before.base if before.raised else 0) // 50


def _int(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
