"""A snapshot for planning without a running Slurm: from configuration files, or from a topology alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from hpadmin.errors import InvalidInput, Problem
from hpadmin.slurm.command import printable
from hpadmin.slurm.hostlist import expand
from hpadmin.slurmconf.grammar import ValueKind
from hpadmin.slurmconf.records import Record
from hpadmin.slurmconf.values import canonical
from hpadmin.slurmconf.view import View, view
from hpadmin.topology.blocks import padding
from hpadmin.topology.graph import BlockTopology, FlatTopology, NamedTopology, TopologySet, TreeTopology
from hpadmin.topology.names import table_order
from hpadmin.topology.placement.state import JobView, NodeView, PartitionView, Snapshot
from hpadmin.topology.read import read_conf, read_text, read_yaml
from hpadmin.topology.release import Release

ReadFile = Callable[[str], "bytes | None"]
"""Gives a file of the configuration folder by its name; None when there is no such file."""

_DOWN = ("down", "drain", "fail", "future")


def from_configuration(read: ReadFile, release: Release) -> Snapshot:
    """The cluster that slurm.conf and its topology file describe, all nodes idle that no line says otherwise of.

    A topology.yaml hides topology.conf and TopologyPlugin, as in Slurm. Raises InvalidInput when there is no
    slurm.conf or the topology is one that Slurm refuses.
    """
    if read("slurm.conf") is None:
        raise InvalidInput("there is no slurm.conf in the configuration folder")
    seen = view("slurm.conf", read)
    stated = _down_nodes(seen)
    nodes = [_node(name, node.get, stated.get(name)) for name, node in seen.nodes.items()]
    real = [node for node in nodes if node.state.lower() != "future"]
    topologies = _topologies(read, seen, release, [node.name for node in nodes])
    as_written = not release.reads_yaml and isinstance(topologies.default.topology, BlockTopology)
    order = {name: rank for rank, name in enumerate(table_order(seen.nodes, as_written=as_written))}
    return Snapshot(
        tuple(sorted(real, key=lambda node: order[node.name])),
        topologies,
        release,
        tuple(_partition(seen, name, {node.name for node in real}, release) for name in seen.partitions),
        enforce_part_limits=enforced(seen.value("EnforcePartLimits")),
    )


def from_topology_text(text: str, name: str, release: Release) -> Snapshot:
    """A cluster of exactly the nodes of a topology file, all alike and idle, without partitions.

    Nodes that only pad short blocks are none: they are FUTURE and run nothing.
    """
    topologies = read_text(text, name, release)
    names: dict[str, None] = {}
    for named in topologies:
        names.update(dict.fromkeys(named.topology.nodes))
        if isinstance(named.topology, BlockTopology):
            for pad in padding(named.topology):
                names.pop(pad, None)
    as_written = not release.reads_yaml and isinstance(topologies.default.topology, BlockTopology)
    order = table_order(names, as_written=as_written)
    return Snapshot(tuple(NodeView(node) for node in order), topologies, release)


def with_busy(snapshot: Snapshot, busy: Iterable[str]) -> Snapshot:
    """The same cluster with some nodes in use. Raises InvalidInput for names that are no nodes."""
    names = _known(snapshot, busy, "--busy")
    if not names:
        return snapshot
    return replace(snapshot, jobs=(*snapshot.jobs, JobView("busy", names)))


def with_down(snapshot: Snapshot, down: Iterable[str]) -> Snapshot:
    """The same cluster with some nodes down: nothing starts there, and nothing keeps others from their blocks.

    Raises InvalidInput for names that are no nodes.
    """
    names = _known(snapshot, down, "--down")
    nodes = tuple(
        replace(node, state="DOWN", usable=False) if node.name in names else node for node in snapshot.nodes
    )
    return replace(snapshot, nodes=nodes)


def _known(snapshot: Snapshot, names: Iterable[str], option: str) -> frozenset[str]:
    found = frozenset(names)
    unknown = sorted(found - set(snapshot.names))
    if unknown:
        raise InvalidInput(
            f"{option} names nodes that do not exist",
            [Problem(option, f"{name} is no node of this cluster") for name in unknown],
        )
    return found


def folder_reader(files: Mapping[str, bytes]) -> ReadFile:
    """A `ReadFile` over files in memory, by their path relative to the folder."""

    def read(name: str) -> bytes | None:
        return files.get(str(PurePosixPath(name)))

    return read


def _topologies(read: ReadFile, seen: View, release: Release, known: list[str]) -> TopologySet:
    of_partition = {
        name: record.get("topology") for name, record in seen.partitions.items() if record.get("topology")
    }
    text = read("topology.yaml") if release.reads_yaml else None
    if text is not None:
        found = read_yaml(text.decode("utf-8", "replace"), "topology.yaml", release, known)
        missing = sorted(set(of_partition.values()) - {named.name for named in found})
        if missing:
            raise InvalidInput(
                "partitions name topologies that do not exist",
                [Problem("slurm.conf", f"Topology={name} is not in topology.yaml") for name in missing],
            )
        return TopologySet(found.topologies, of_partition)
    plugin = seen.value("TopologyPlugin").lower().removeprefix("topology/")
    if plugin in ("", "default", "flat", "none"):
        return TopologySet((NamedTopology("default", FlatTopology(tuple(known)), True),))
    text = read("topology.conf")
    if text is None:
        raise InvalidInput(
            f"TopologyPlugin=topology/{plugin} without a topology.conf",
            hint="Slurm waits a minute for the file and then dies; write it, or set TopologyPlugin to "
            + release.flat_plugin,
        )
    found = read_conf(text.decode("utf-8", "replace"), "topology.conf", release, known)
    expected = {"block": BlockTopology, "tree": TreeTopology}.get(plugin)
    if expected is not None and not isinstance(found.default.topology, expected):
        raise InvalidInput(f"topology.conf does not hold what TopologyPlugin=topology/{plugin} reads")
    return found


def _down_nodes(seen: View) -> dict[str, Record]:
    """The last ``DownNodes=`` line of each node (``_handle_downnodes_line``, read_config.c)."""
    return {name: record for record in seen.of("DownNodes") for name in expand(record.name)}


def _node(name: str, get: Callable[..., str], down: Record | None) -> NodeView:
    state = get("state", "UNKNOWN") if down is None else down.get("state") or "DOWN"
    sockets = (
        _number(get("sockets"), 1) * _number(get("corespersocket"), 1) * _number(get("threadspercore"), 1)
    )
    return NodeView(
        name,
        state="IDLE" if state.upper() in ("UNKNOWN", "CLOUD", "IDLE") else state.upper(),
        usable=not state.lower().startswith(_DOWN),
        cpus=_number(get("cpus"), sockets),
        weight=_number(get("weight"), 1),
        # Slurm starts with its CLOUD nodes powered down.
        boot=2 if state.upper() == "CLOUD" else 0,
        features=frozenset(part.strip() for part in get("feature").split(",") if part.strip()),
        gres=parse_gres(get("gres")),
        reason="" if down is None else printable(down.get("reason")),
    )


def _partition(seen: View, name: str, real: set[str], release: Release) -> PartitionView:
    record = seen.partitions[name]
    whole, exclusive_topo = _exclusive(record, release)
    return PartitionView(
        name,
        frozenset(seen.partition_nodes(name).names & real),
        default=canonical(ValueKind.BOOLEAN, record.get("default")) is True,
        whole=whole,
        exclusive_topo=exclusive_topo,
        max_nodes=part_limit(record.get("maxnodes")),
        min_nodes=part_limit(record.get("minnodes")) or 0,
        state=record.get("state").upper() or "UP",
    )


def _exclusive(record: Record, release: Release) -> tuple[bool, bool]:
    """Whether a partition gives whole nodes, and whole blocks, in the order in which ``_parse_partitionname``
    (read_config.c) reads its keys: from 26.05 on blocks imply nodes, unless OverSubscribe says otherwise."""
    sharing = record.get("oversubscribe").lower()
    whole = sharing == "exclusive"
    topo = canonical(ValueKind.BOOLEAN, record.get("exclusivetopo")) is True
    if not release.has_exclusive_partitions:
        return whole, topo
    match record.get("exclusive").lower():
        case "no" | "none":
            return False, False
        case "node":
            return True, False
        case "user":
            return whole or (topo and not sharing), False
        case "topo":
            return True, True
        case _:
            return whole or (topo and not sharing), topo


def enforced(value: str) -> bool:
    """Whether this ``EnforcePartLimits`` refuses jobs beyond a partition's limits (ANY, ALL, YES; read_config.c)."""
    return value.lower() not in ("", "no")


def part_limit(value: str) -> int | None:
    """The number of a partition's ``MaxNodes`` or ``MinNodes``; None for UNLIMITED or no value."""
    return int(value) if value.isdigit() else None


def parse_gres(text: str) -> dict[str, int]:
    """``gpu:h100:8,neuron:16`` as counts by name and by name and type; counts may end in K or M.

    >>> parse_gres("gpu:h100:8(S:0-1)")
    {'gpu': 8, 'gpu:h100': 8}
    """
    found: dict[str, int] = {}
    depth = 0
    plain = []
    for character in text:
        depth += (character == "(") - (character == ")")
        if not depth and character != ")":
            plain.append(character)
    for part in "".join(plain).split(","):
        fields = part.strip().split(":")
        if not fields[0] or fields[0] in ("null", "N/A"):
            continue
        count = 1
        if len(fields) > 1 and fields[-1][:1].isdigit():
            count = _suffixed(fields.pop())
        found[fields[0]] = found.get(fields[0], 0) + count
        if len(fields) > 1:
            key = ":".join(fields[:2])
            found[key] = found.get(key, 0) + count
    return found


_REQUESTED = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(:[A-Za-z_][A-Za-z0-9_.-]*)?(:\d+[KkMmGg]?)?")


def requested_gres(text: str) -> dict[str, int]:
    """What ``--gres`` asks of each node: ``gpu:8,nvme``, by name and by name and type. Raises InvalidInput.

    >>> requested_gres("gpu:h100:8")
    {'gpu': 8, 'gpu:h100': 8}
    """
    parts = [] if text.strip().lower() in ("", "none") else text.split(",")
    wrong = [part for part in parts if not _REQUESTED.fullmatch(part.strip())]
    if wrong:
        raise InvalidInput(
            "generic resources that cannot be read",
            [
                Problem("--gres", f"expected name[:type][:count], such as gpu:8, got {part!r}")
                for part in wrong
            ],
        )
    return parse_gres(",".join(parts))


def _suffixed(text: str) -> int:
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(text[-1:].lower(), 1)
    digits = text[:-1] if factor > 1 else text
    return int(digits) * factor if digits.isdigit() else 0


def _number(text: str, default: int) -> int:
    return int(text) if text.isdigit() else default
