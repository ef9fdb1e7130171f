"""Random clusters and jobs, for comparing our placements with a real slurmctld's.

A scenario is one cluster (files as Slurm reads them) and steps: nodes are drained and resumed, jobs are
submitted. Jobs that start stay, so that the cluster fills up and fragments as real ones do. The same seed
makes the same scenario; nothing here knows how Slurm or hpadmin decide."""

from __future__ import annotations

import random
from typing import Any

from hpadmin.slurm.hostlist import fold
from hpadmin.topology.graph import (
    Block,
    BlockTopology,
    FlatTopology,
    NamedTopology,
    Switch,
    Topology,
    TreeTopology,
)
from hpadmin.topology.release import Release
from hpadmin.topology.write import conf_text, yaml_text

CPUS = 4
GPUS = 4


def scenario(
    seed: int, release: Release, *, two_topologies: bool = False, varied: bool = False
) -> dict[str, Any]:
    """The scenario of this seed: ``files``, ``steps``, ``seed`` and the facts of each node.

    With `two_topologies` (25.05 and later) partition ``part`` has a topology of its own: flat where the cluster's is
    of blocks or switches, blocks where it is flat.

    With `varied` nodes differ in CPUs and GPUs, some are down from the start, and partition ``part`` has limits and may
    give whole nodes only.
    """
    dice = random.Random(f"{seed} {release}")
    names, topology, plugin = _topology(dice, release)
    nodes: dict[str, dict[str, Any]] = {
        name: {
            "weight": 1,
            "features": sorted(dice.sample(["a", "b"], dice.randint(0, 2))),
        }
        for name in names
    }
    if dice.random() < 0.25:
        for facts in nodes.values():
            facts["weight"] = dice.choice([1, 5, 10])
    gres = dice.random() < 0.3
    more = random.Random(f"varied {seed} {release}")
    down: list[str] = []
    if varied:
        for facts in nodes.values():
            facts["cpus"], facts["gpus"] = more.choice([2, 4, 4, 8]), more.choice([0, 2, 4, 4])
        down = sorted(more.sample(names, len(names) // 10))
    lines = [
        f"NodeName={name} CPUs={facts.get('cpus', CPUS)} State=CLOUD Weight={facts['weight']}"
        + (f" Feature={','.join(facts['features'])}" if facts["features"] else "")
        + (f" Gres=gpu:{facts.get('gpus', GPUS)}" if gres and facts.get("gpus", GPUS) else "")
        # slurmctld looks for the address of a node that is not powered down, and waits for it.
        + (" NodeAddr=127.0.0.1" if name in down else "")
        for name, facts in nodes.items()
    ]
    if down:
        lines.append(f"DownNodes={fold(down)} State=DOWN Reason=fan")
    partition = dice.sample(names, dice.randint(1, len(names)))
    topo_only = dice.random() < 0.08 and plugin == "block"
    lines.append("PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE")
    extra = " ExclusiveTopo=YES" if topo_only else ""
    if two_topologies:
        extra += " Topology=own"
    limits: dict[str, Any] = {}
    if varied:
        limits = {
            "whole": more.random() < 0.4,
            "max_nodes": more.choice([None, 2, 4]),
            "min_nodes": more.choice([0, 0, 1, 2]),
        }
        extra += " OverSubscribe=EXCLUSIVE" if limits["whole"] else ""
        extra += f" MaxNodes={limits['max_nodes'] or 'UNLIMITED'} MinNodes={limits['min_nodes']}"
    lines.append(f"PartitionName=part Nodes={fold(sorted(partition))} MaxTime=INFINITE{extra}")
    files = {}
    if two_topologies:
        own: Topology = FlatTopology()
        if plugin == "flat":
            half = len(partition) // 2
            own = BlockTopology(
                (Block("p1", tuple(partition[half:])), Block("p2", tuple(partition[:half]))), (max(1, half),)
            )
        files["topology.yaml"] = yaml_text([NamedTopology("net", topology, True), NamedTopology("own", own)])
        lines.append(f"TopologyPlugin=topology/{plugin}")
    elif plugin == "flat":
        lines.append(f"TopologyPlugin={release.flat_plugin}")
    elif release.reads_yaml:
        files["topology.yaml"] = yaml_text([NamedTopology("net", topology, True)])
        lines.append(f"TopologyPlugin=topology/{plugin}")
    else:
        files["topology.conf"] = conf_text(topology)
        lines.append(f"TopologyPlugin=topology/{plugin}")
    files["slurm.conf"] = "\n".join(lines) + "\n"
    return {
        "seed": seed,
        "release": str(release),
        "plugin": plugin,
        "nodes": nodes,
        "gres": gres,
        "partition": sorted(partition),
        "exclusive_topo_partition": topo_only,
        "partition_limits": limits,
        "down": down,
        "partition_topology": {"part": "own"} if two_topologies else {},
        "files": files,
        "steps": _steps(dice, names, plugin, gres, release),
    }


def _topology(dice: random.Random, release: Release) -> tuple[list[str], Topology, str]:
    kind = dice.choices(["block", "tree", "flat"], [70, 20, 10])[0]
    if kind == "block":
        return _blocks(dice, release)
    if kind == "tree":
        return _tree(dice)
    names = [f"n{number:03}" for number in range(1, dice.randint(4, 60))]
    return names, FlatTopology(tuple(names)), "flat"


def _names(dice: random.Random, count: int) -> list[str]:
    names = [f"n{number:03}" for number in range(1, count + 1)]
    if dice.random() < 0.2:
        dice.shuffle(names)
    return names


def _blocks(dice: random.Random, release: Release) -> tuple[list[str], Topology, str]:
    base = dice.choice([2, 3, 4, 4, 6, 8, 18])
    count = dice.randint(1, 12)
    sizes = [base + dice.choice([0, 0, 0, 0, 1, 2]) for _ in range(count)]
    if release.permits_gaps and dice.random() < 0.4:
        sizes = [max(0, size - dice.choice([0, 0, 1, 2, size])) for size in sizes]
        sizes[0] = max(1, sizes[0])
    sizes = [min(size, 18) for size in sizes]
    spare = dice.randint(1, 4) if dice.random() < 0.25 else 0
    names = _names(dice, sum(sizes) + spare)
    blocks, at = [], 0
    for number, size in enumerate(sizes, 1):
        blocks.append(Block(f"b{number:02}", tuple(names[at : at + size])))
        at += size
    levels = dice.choice([(), (1,), (2,), (1, 2), (1, 2, 3), (1, 3), (2, 3)])
    block_sizes = (base, *(base << level for level in levels))
    if dice.random() < 0.1 and not release.permits_gaps and min(sizes) >= sizes[0]:
        block_sizes = ()
    return names, BlockTopology(tuple(blocks), block_sizes), "block"


def _tree(dice: random.Random) -> tuple[list[str], Topology, str]:
    leaves = dice.randint(1, 10)
    sizes = [dice.randint(1, 8) for _ in range(leaves)]
    names = _names(dice, sum(sizes) + (2 if dice.random() < 0.1 else 0))
    switches, at = [], 0
    for number, size in enumerate(sizes, 1):
        switches.append(Switch(f"leaf{number}", tuple(names[at : at + size])))
        at += size
    level = [switch.name for switch in switches]
    depth = 0
    while len(level) > 1:
        depth += 1
        width = dice.randint(2, 4)
        above = []
        for number, start in enumerate(range(0, len(level), width), 1):
            name = f"mid{depth}x{number}"
            switches.append(Switch(name, children=tuple(level[start : start + width])))
            above.append(name)
        level = above
    if dice.random() < 0.5:
        dice.shuffle(switches)
    return names, TreeTopology(tuple(switches)), "tree"


def _steps(
    dice: random.Random, names: list[str], plugin: str, gres: bool, release: Release
) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    drained: set[str] = set()
    down = dice.sample(names, int(len(names) * dice.choice([0, 0, 0.1, 0.3, 0.5])))
    if down:
        steps.append({"op": "drain", "nodes": down})
        drained.update(down)
    for name in dice.sample(names, int(len(names) * dice.choice([0, 0.1, 0.2, 0.4]))):
        shared = dice.random() < 0.3
        args = ["-N1", "-w", name] + ([] if shared else ["--exclusive"])
        if gres and shared:
            args.append(f"--gres=gpu:{dice.randint(1, 3)}")
        steps.append({"op": "submit", "args": args})
    for _ in range(dice.randint(8, 16)):
        if dice.random() < 0.2 and drained:
            some = dice.sample(sorted(drained), dice.randint(1, len(drained)))
            steps.append({"op": "resume", "nodes": some})
            drained.difference_update(some)
        if dice.random() < 0.1:
            some = dice.sample(names, max(1, len(names) // 10))
            steps.append({"op": "drain", "nodes": some})
            drained.update(some)
        steps.append({"op": "submit", "args": _job(dice, names, plugin, gres, release)})
    return steps


def _job(dice: random.Random, names: list[str], plugin: str, gres: bool, release: Release) -> list[str]:
    small = dice.randint(1, 8)
    nodes = min(small if dice.random() < 0.6 else dice.randint(1, len(names) + 1), 40)
    args = []
    if plugin == "block" and dice.random() < 0.45:
        segment = dice.randint(1, 8)
        if dice.random() < 0.8:
            nodes = segment * dice.randint(1, 4)
        args.append(f"--segment={segment}")
        if release.segments_span_blocks and dice.random() < 0.3:
            args.append(dice.choice(["--spread-segments", "--consolidate-segments"]))
            if dice.random() < 0.3:
                args = [*args[:1], "--spread-segments", "--consolidate-segments"]
    args.insert(0, f"-N{nodes}")
    if plugin == "block" and dice.random() < 0.1:
        args.append("--exclusive=topo")
    elif dice.random() < 0.6:
        args.append("--exclusive")
    if dice.random() < (0.3 if plugin == "tree" else 0.03):
        args.append(f"--switches={dice.randint(1, 3)}")
    if dice.random() < 0.15:
        args += ["-p", "part"]
    if dice.random() < 0.15:
        args += ["-C", dice.choice(["a", "b", "a&b", "a|b"])]
    if dice.random() < 0.12:
        start = dice.randrange(len(names))
        near = names[start : start + dice.randint(1, 4)]
        some = near if dice.random() < 0.6 else dice.sample(names, min(len(names), dice.randint(1, 3)))
        args += ["-w", ",".join(some)]
    if dice.random() < 0.05:
        args += ["-x", ",".join(dice.sample(names, min(3, len(names))))]
    if gres and dice.random() < 0.4:
        args.append(f"--gres=gpu:{dice.randint(1, GPUS)}")
    return args
