"""From the network graph to topology/block: one block an UltraServer, in an order that stays.

>>> locations = [Location(f"n{i}", domain="us-b" if i % 2 else "us-a") for i in range(4)]
>>> plan_blocks(NetworkGraph(tuple(locations)), Release(26, 5)).topology.blocks
(Block(name='us-a', nodes=('n0', 'n2')), Block(name='us-b', nodes=('n1', 'n3')))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from hpadmin.errors import InvalidInput, Problem
from hpadmin.topology.graph import Block, BlockTopology, Location, NetworkGraph
from hpadmin.topology.names import natural
from hpadmin.topology.release import Release

ULTRASERVER_NODES = 18
"""Instances of ml.p6e-gb200.36xlarge in one UltraServer."""

MAX_LEVEL = 15
"""Highest aggregate level: 2^15 base blocks (MAX_BLOCK_LEVELS, block_record.c)."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """Blocks to write, and what slurm.conf must hold so that Slurm takes them."""

    topology: BlockTopology
    placeholders: tuple[str, ...]
    """Names of ``State=FUTURE`` nodes that pad short blocks: before 25.05 a block with fewer nodes than
    BlockSizes[0] kills slurmctld (block_record.c), and a block left out loses its nodes."""
    notes: tuple[str, ...]


def padding(topology: BlockTopology) -> frozenset[str]:
    """The nodes of `topology` that only pad short blocks: ``pad-<block>-<number>`` in the block of that name.

    >>> sorted(padding(BlockTopology((Block("a", ("n1", "pad-a-1", "pad-b-1")),), (3,))))
    ['pad-a-1']
    """
    return frozenset(
        node
        for block in topology.blocks
        for node in block.nodes
        if node.startswith(f"pad-{block.name}-") and re.fullmatch(r"\d+", node[len(block.name) + 5 :])
    )


def plan_blocks(
    graph: NetworkGraph,
    release: Release,
    *,
    sizes: Sequence[int] | None = None,
    spares: int = 0,
    full: int | None = None,
) -> BlockPlan:
    """Make one block of every NVLink domain.

    Blocks whose order the graph knows keep it; all others follow by network path, then by name: neighbours in
    the network are neighbours in the file, and the order of the inventory does not matter. A node without a
    domain becomes a block of its own, since nothing is known to be as near to it as an UltraServer's nodes
    are to each other. Where a network group has fewer blocks than the aggregate that stands for it (one of its
    UltraServers is gone), blocks without real nodes fill it up, so that the aggregates behind it stay what they are.

    `sizes` are BlockSizes as given by the administrator; None infers them: the base is `full`, the nodes of a
    whole UltraServer, or where that is not known the largest domain, at most 18, less `spares`; higher levels
    only where the network layers group the blocks in aligned powers of two.

    Raises InvalidInput when given sizes are none that Slurm takes, or nothing but spares is left of a block."""
    if spares >= ULTRASERVER_NODES:
        raise InvalidInput(
            "more spares than an UltraServer has nodes",
            [Problem("spares", f"must be below {ULTRASERVER_NODES}, got {spares}")],
        )
    domains = graph.domains()
    loners = {location.node: (location,) for location in graph.locations if location.domain is None}
    members = {**domains, **{f"single-{name}": where for name, where in loners.items()}}
    known = {name: position for position, name in enumerate(graph.domain_order)}
    ordered = sorted(
        members, key=lambda name: (known.get(name, len(known)), _path(members[name]), natural(name))
    )
    notes = []
    if loners:
        notes.append(
            f"{len(loners)} nodes have no UltraServer id; each is a block of its own: {', '.join(loners)}"
        )

    if sizes is not None:
        check_sizes(sizes)
        chosen = tuple(sizes)
    else:
        chosen = infer_sizes([members[name] for name in ordered], spares, full)
        notes.append(f"BlockSizes={','.join(map(str, chosen))} is inferred from the blocks")

    if not known:
        levels = BlockTopology((), chosen).levels
        filled = _filled(ordered, {name: _path(members[name]) for name in ordered}, levels[:0:-1])
        gaps = [name for name in filled if name not in members]
        if gaps:
            notes.append(f"{len(gaps)} empty blocks keep larger blocks within the network: {', '.join(gaps)}")
        ordered = filled
        members.update(dict.fromkeys(gaps, ()))
    blocks = []
    placeholders: list[str] = []
    for name in ordered:
        nodes = tuple(sorted((location.node for location in members[name]), key=natural))
        missing = chosen[0] - len(nodes)
        if missing > 0 and not release.permits_gaps:
            pads = tuple(f"pad-{name}-{number}" for number in range(1, missing + 1))
            placeholders.extend(pads)
            nodes += pads
            notes.append(f"block {name} lacks {missing} of {chosen[0]} nodes and is padded with FUTURE nodes")
        blocks.append(Block(name, nodes))
    return BlockPlan(BlockTopology(tuple(blocks), chosen), tuple(placeholders), tuple(notes))


def _filled(names: Sequence[str], paths: Mapping[str, tuple[str, ...]], levels: Sequence[int]) -> list[str]:
    """`names` with ``gap-…`` between them, so that no aggregate of 2^level blocks (`levels` descend) has blocks of two
    network groups.

    Groups are those of the highest layer whose largest one makes an aggregate and not only half of it; without such a
    layer the level has nothing to do with the network, and blocks stand as they are."""
    if not levels or not names:
        return list(names)
    span = 1 << levels[0]
    for layer in range(1, min(len(paths[name]) for name in names) + 1):
        groups = [list(group) for _, group in groupby(names, key=lambda name: paths[name][:layer])]
        if span // 2 < max(map(len, groups)) <= span:
            break
    else:
        return _filled(names, paths, levels[1:])
    found: list[str] = []
    for number, group in enumerate(groups):
        inner = _filled(group, paths, levels[1:])
        found += inner if len(inner) <= span else group
        if number + 1 < len(groups):
            place = paths[group[0]][layer - 1]
            found += [f"gap-{place}-{one}" for one in range(1, -len(found) % span + 1)]
    return found


def check_sizes(sizes: Sequence[int]) -> None:
    """Raise InvalidInput unless `sizes` is a list of BlockSizes that Slurm takes (block_record.c)."""
    problems = size_problems(sizes)
    if problems:
        raise InvalidInput(
            "BlockSizes that Slurm refuses", [Problem("BlockSizes", text) for text in problems]
        )


def size_problems(sizes: Sequence[int]) -> list[str]:
    """What is wrong with `sizes`, as messages; empty when nothing is."""
    if not sizes:
        return ["at least the base block size is needed"]
    base = sizes[0]
    if base < 1:
        return [f"{base} is no number of nodes"]
    found = []
    for size in sizes[1:]:
        factor, rest = divmod(size, base)
        if size < 1 or rest or factor & (factor - 1):
            found.append(f"{size} is not the base block size {base} times a power of two")
        elif factor.bit_length() - 1 > MAX_LEVEL:
            found.append(f"{size} is more than 2^{MAX_LEVEL} base blocks of {base}")
    if list(sizes) != sorted(set(sizes)):
        found.append(f"{','.join(map(str, sizes))} does not ascend: the smallest size comes first, each once")
    return found


def infer_sizes(
    members: Sequence[Sequence[Location]], spares: int = 0, full: int | None = None
) -> tuple[int, ...]:
    """Infer BlockSizes of blocks with these members, in their order; `full` are the nodes of a whole UltraServer.

    A network layer becomes a level when its switches hold aligned runs of 2^k blocks each, the last one
    perhaps fewer: only then is the aggregate that Slurm makes by position the one that exists."""
    largest = max(full or 0, max((len(block) for block in members), default=1))
    base = max(1, min(largest, ULTRASERVER_NODES) - (spares if largest >= ULTRASERVER_NODES else 0))
    paths = [_path(block) for block in members]
    depth = min((len(path) for path in paths), default=0)
    levels = {0}
    for layer in range(1, depth + 1):
        runs = _runs([path[:layer] for path in paths])
        if runs is None or len(runs) < 2:
            continue
        size = runs[0]
        aligned = all(run == size for run in runs[:-1]) and runs[-1] <= size
        if aligned and size > 1 and size & (size - 1) == 0:
            levels.add(size.bit_length() - 1)
    return tuple(base << level for level in sorted(levels) if level <= MAX_LEVEL)


def _runs(keys: Sequence[tuple[str, ...]]) -> list[int] | None:
    """Lengths of runs of equal keys; None when a key comes back after another."""
    lengths: list[int] = []
    seen: set[tuple[str, ...]] = set()
    previous: tuple[str, ...] | None = None
    for key in keys:
        if key == previous:
            lengths[-1] += 1
            continue
        if key in seen:
            return None
        seen.add(key)
        lengths.append(1)
        previous = key
    return lengths


def _path(members: Sequence[Location]) -> tuple[str, ...]:
    """The network layers that all members with known layers share.

    A replaced node whose labels have not arrived yet must not move its block.
    """
    known = [member for member in members if member.layers]
    if not known:
        return ()
    first = known[0].layers
    shared = len(first)
    for member in known[1:]:
        same = 0
        for ours, theirs in zip(first, member.layers, strict=False):
            if ours != theirs:
                break
            same += 1
        shared = min(shared, same)
    return first[:shared]
