"""Rules about accounting and the trackable resources (TRES) that weights speak of."""

from __future__ import annotations

from collections.abc import Iterator

from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, error, warning
from hpadmin.slurmconf.records import Origin
from hpadmin.slurmconf.view import View

ALWAYS = ("cpu", "mem", "energy", "node", "billing", "fs/disk", "vmem", "pages")
"""Tracked whatever AccountingStorageTRES says."""
NAMED = ("bb/", "gres/", "license/", "fs/", "ic/")
"""Kinds of resources that have names."""


def _accounted(view: View) -> bool:
    return view.value("AccountingStorageType").lower().endswith("/slurmdbd")


def _tracked(view: View) -> set[str]:
    return {*ALWAYS, *(word.lower() for word in view.value("AccountingStorageTRES").split(",") if word)}


def tracked(subject: Subject) -> Iterator[Finding]:
    """AccountingStorageTRES: resources that do not exist, or that only slurmdbd can track (``_init_tres``)."""
    view = subject.slurm
    setting = view.setting("AccountingStorageTRES") if view is not None else None
    if view is None or setting is None:
        return
    for word in filter(None, setting.value.split(",")):
        lowered = word.lower()
        if lowered in ALWAYS:
            continue
        if not lowered.startswith(NAMED) or lowered in NAMED:
            kinds = ", ".join(f"{kind}NAME" for kind in NAMED)
            message = f"{word} is no resource: there are {', '.join(ALWAYS)}, {kinds}"
            yield error(setting.origin, "unknown-tres", message)
        elif subject.references is not None and not _accounted(view):
            message = (
                f"{word} is tracked by slurmdbd only: set AccountingStorageType=accounting_storage/slurmdbd"
            )
            yield error(setting.origin, "unknown-tres", message)


def weights(subject: Subject) -> Iterator[Finding]:
    """Weights of resources that are not tracked; slurmctld dies of them (``slurm_get_tres_weight_array``)."""
    view = subject.references
    if view is None:
        return
    found: list[tuple[str, str, Origin]] = []
    setting = view.setting("PriorityWeightTRES")
    if setting is not None:
        found.append((setting.key, setting.value, setting.origin))
    for opener, key in (("NodeName", "TRESWeights"), ("PartitionName", "TRESBillingWeights")):
        found += [(key, record.get(key), record.origin) for record in view.of(opener)]
    known = _tracked(view)
    for key, value, origin in found:
        for item in filter(None, value.split(",")):
            name, _, weight = item.partition("=")
            if name.lower() not in known:
                message = f"{key}: {name} is not tracked, and slurmctld dies of that: add it to AccountingStorageTRES"
                yield error(origin, "unknown-tres", message)
            elif not weight:
                yield error(origin, "unknown-tres", f"{key}: {item} has no weight: write {name}=1.0")


def stored(subject: Subject) -> Iterator[Finding]:
    """Accounting that is gathered and thrown away."""
    view = subject.references
    setting = view.setting("JobAcctGatherType") if view is not None else None
    if view is None or setting is None or setting.value.lower().endswith("none"):
        return
    storage = view.value("AccountingStorageType").lower()
    if not storage or storage.endswith("none"):
        message = "what it gathers is not stored: set AccountingStorageType=accounting_storage/slurmdbd"
        yield warning(setting.origin, "accounting-not-stored", message)


RULES: tuple[Rule, ...] = (tracked, weights, stored)
