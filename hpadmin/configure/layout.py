"""What a configuration gives jobs to stand on: nodes with their cores and GRES, their order, partitions.

Only what slurmctld compares with its jobs when it reads a configuration anew (``_sync_jobs_to_conf`` in
src/slurmctld/read_config.c) and what can be seen of a running Slurm. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpadmin.configure.compare import Files, Loader
from hpadmin.slurm import hostlist
from hpadmin.slurmconf.difference import order_of_nodes_counts
from hpadmin.slurmconf.facts import Facts, Shape
from hpadmin.slurmconf.values import number
from hpadmin.topology.names import table_order

Gres = frozenset[tuple[str, str, int]]
"""Name, type (empty without) and count of each GRES of a node."""

_GRES = re.compile(
    r"(?P<name>[^:()]+)(?::(?P<type>[^:()\d][^:()]*))?(?::(?P<count>\d+[KMGTP]?))?(?:\([^)]*\))?", re.I
)
_FACTORS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}


@dataclass(frozen=True, slots=True)
class NodeShape:
    """What a job on a node depends on."""

    cores: int
    gres: Gres
    absent: bool = False
    """It is FUTURE: named, but not there."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Nodes and partitions of one configuration."""

    nodes: Mapping[str, NodeShape]
    order: tuple[str, ...]
    """The nodes as slurmctld's table will have them."""
    partitions: Mapping[str, frozenset[str] | None]
    """Name to nodes; None where only slurmctld can tell them."""
    settings: Mapping[str, str]
    """Scalars by lower-case key."""


def layout(files: Files, release: tuple[int, int]) -> Layout:
    """Read the layout of the slurm.conf (and its Includes) among `files`."""
    return layout_of(Loader().load("slurm.conf", files), release)


def layout_of(read: Facts, release: tuple[int, int]) -> Layout:
    """Return the layout of a slurm.conf that was read already."""
    seen = read.view
    shapes: dict[int, NodeShape] = {}
    nodes = {}
    for name, fact in read.nodes.items():
        shape = shapes.get(id(fact.shape))
        if shape is None:
            shape = shapes[id(fact.shape)] = _shape(fact.shape)
        nodes[name] = shape
    partitions: dict[str, frozenset[str] | None] = {}
    for name in seen.partitions:
        try:
            chosen = seen.partition_nodes(name)
        except hostlist.HostlistError:
            partitions[name] = None
            continue
        partitions[name] = None if chosen.functions else chosen.names
    as_written = order_of_nodes_counts(seen, f"{release[0]}.{release[1]:02}")
    return Layout(
        nodes=nodes,
        order=tuple(table_order(nodes, as_written=as_written)),
        partitions=partitions,
        settings={key: found[-1].value for key, found in seen.settings.items()},
    )


def gres_of(text: str) -> Gres:
    """Read a Gres list as slurm.conf and scontrol write it; sockets in brackets do not matter.

    >>> sorted(gres_of("gpu:h100:8(S:0-1),lustre:no_consume:1K"))
    [('gpu', 'h100', 8), ('lustre', '', 1024)]
    """
    counts: dict[tuple[str, str], int] = {}
    for element in re.split(r",(?![^(]*\))", text):
        found = _GRES.fullmatch(element.strip().replace(":no_consume", ""))
        if found is None or element.strip() in ("", "(null)"):
            continue
        amount = (found["count"] or "1").upper()
        digits = amount.rstrip("KMGTP")
        key = (found["name"].lower(), (found["type"] or "").lower())
        counts[key] = counts.get(key, 0) + int(digits) * _FACTORS[amount[len(digits) :]]
    return frozenset((name, kind, count) for (name, kind), count in counts.items())


def _shape(shape: Shape) -> NodeShape:
    """Work out a node's cores as ``_parse_nodename`` (src/common/read_config.c) does."""

    def text(key: str) -> str:
        return shape[key].text if key in shape else ""

    def value(key: str) -> int | None:
        found = number(text(key))
        return int(found) if found is not None and found != float("inf") else None

    cores = value("corespersocket") or 1
    threads = value("threadspercore") or 1
    boards = value("boards") or 1
    cpus, sockets, per_board = value("cpus"), value("sockets"), value("socketsperboard")
    if per_board is not None:
        sockets = boards * (per_board or 1)
    elif sockets is None:
        whole = cpus is not None and cpus >= cores * threads and cpus % (cores * threads) == 0
        sockets = cpus // (cores * threads) if cpus is not None and whole else boards
    return NodeShape(
        cores=(sockets or 1) * cores,
        gres=gres_of(text("gres")),
        absent=text("state").upper() == "FUTURE",
    )
