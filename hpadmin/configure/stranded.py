"""Lines that would name nodes which are gone: slurmctld does not start with them.

A partition's (``_build_part_bitmaps``, ``src/slurmctld/read_config.c``), and those of NodeSets that partitions use.
Of DownNodes, gres.conf, switches and blocks Slurm leaves out whom it does not know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hpadmin.configure.compare import DRIFT, PARTITION_MISMATCH, Files, Finding, Loader
from hpadmin.configure.ownership import Owner
from hpadmin.slurm import hostlist
from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.records import Record
from hpadmin.slurmconf.values import host_names
from hpadmin.slurmconf.view import View


def stranded(disk: Files, result: Files, loader: Loader) -> tuple[Finding, ...]:
    """Return the lines of `result` that name nodes which `disk` defines and `result` does not."""
    seen = loader.load(FileKind.SLURM, result)
    gone = loader.load(FileKind.SLURM, disk).nodes.keys() - seen.nodes.keys()
    if not gone:
        return ()
    return tuple(_partitions(seen.view, gone))


def _partitions(seen: View, gone: Collection[str]) -> Iterator[Finding]:
    sets: dict[str, Record] = {}
    for record in seen.partitions.values():
        yield from _naming(record, gone)
        for name in _named(record):
            if name in seen.node_sets and name not in seen.nodes:
                sets[name] = seen.node_sets[name]
    for record in sets.values():
        yield from _naming(record, gone)


def _naming(record: Record, gone: Collection[str]) -> Iterator[Finding]:
    names = _named(record)
    lost = [name for name in names if name in gone]
    if lost:
        yield Finding(
            file=record.origin.file,
            line=record.origin.line,
            setting=f"{record.rule.key}={record.name} Nodes",
            expected=hostlist.fold(name for name in names if name not in gone),
            found=record.get("Nodes"),
            owner=Owner.SITE,
            message=f"{PARTITION_MISMATCH if record.rule.key == 'PartitionName' else DRIFT} It names "
            f"{hostlist.fold(lost)}, which the request removes: slurmctld would not start.",
        )


def _named(record: Record) -> list[str]:
    text = record.get("Nodes")
    return [] if text.upper() == "ALL" else host_names(text) or []
