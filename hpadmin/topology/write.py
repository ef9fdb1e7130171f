"""Topologies as the text that Slurm reads: topology.conf, and from 25.05 topology.yaml.

>>> print(conf_text(BlockTopology((Block("us1", ("a1", "a2")),), (2,))), end="")
BlockName=us1 Nodes=a[1-2]
BlockSizes=2
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from hpadmin.errors import InvalidInput, Problem
from hpadmin.slurm.hostlist import fold
from hpadmin.topology.graph import Block, BlockTopology, NamedTopology, Switch, Topology, TreeTopology
from hpadmin.topology.names import is_plain, why_not

_NO_WRAP = 1 << 30


def conf_text(topology: Topology) -> str:
    """topology.conf(5) of `topology`: one line a block or switch, so that a changed block changes one line.

    Raises InvalidInput for names that would not come back from the file as they are, for a topology without
    nodes (Slurm must never see an empty file), and for a flat one, which has no file."""
    check_names(topology)
    if isinstance(topology, BlockTopology):
        lines = [f"BlockName={block.name} Nodes={fold(block.nodes)}" for block in topology.blocks]
        if topology.sizes:
            lines.append("BlockSizes=" + ",".join(map(str, topology.sizes)))
    elif isinstance(topology, TreeTopology):
        lines = [f"SwitchName={switch.name} {_below(switch)}" for switch in topology.switches]
    else:
        raise InvalidInput("a flat topology has no topology.conf")
    return "\n".join(lines) + "\n"


def yaml_text(topologies: Sequence[NamedTopology]) -> str:
    """topology.yaml(5) of `topologies`, the cluster's default first. Raises InvalidInput as `conf_text`
    does."""
    ordered = sorted(topologies, key=lambda named: not named.cluster_default)
    for named in ordered:
        check_names(named.topology)
        if not is_plain(named.name):
            raise InvalidInput(why_not("topology", named.name))
    return yaml.safe_dump(
        [_entry(named) for named in ordered],
        sort_keys=False,
        default_flow_style=False,
        width=_NO_WRAP,
        allow_unicode=False,
    )


def check_names(topology: Topology) -> None:
    """Raise InvalidInput with every name in `topology` that Slurm would read as something else."""
    problems: list[Problem] = []

    def check(kind: str, names: Iterable[str]) -> None:
        problems.extend(Problem("", why_not(kind, name)) for name in names if not is_plain(name))

    check("node", topology.nodes)
    if isinstance(topology, BlockTopology):
        check("block", (block.name for block in topology.blocks))
    elif isinstance(topology, TreeTopology):
        check("switch", (switch.name for switch in topology.switches))
        check("switch", (child for switch in topology.switches for child in switch.children))
    if not isinstance(topology, BlockTopology | TreeTopology):
        return
    if not topology.nodes:
        problems.append(
            Problem("", "a topology without a single node: Slurm dies or hangs on an empty topology file")
        )
    if problems:
        raise InvalidInput("this topology cannot be written", problems)


def _below(switch: Switch) -> str:
    speed = f" LinkSpeed={switch.link_speed}" if switch.link_speed else ""
    if switch.children:
        return f"Switches={_list(switch.children)}{speed}"
    return f"Nodes={fold(switch.nodes)}{speed}"


def _list(names: Sequence[str]) -> str:
    """Switch names are mostly hex ids: folding them helps nobody to read, so they stay as they are."""
    return ",".join(names)


def _entry(named: NamedTopology) -> dict[str, Any]:
    topology = named.topology
    entry: dict[str, Any] = {"topology": named.name, "cluster_default": named.cluster_default}
    if isinstance(topology, BlockTopology):
        entry["block"] = {
            "block_sizes": list(topology.sizes),
            "blocks": [_block(block) for block in topology.blocks],
        }
        if not topology.sizes:
            del entry["block"]["block_sizes"]
    elif isinstance(topology, TreeTopology):
        entry["tree"] = {"switches": [_switch(switch) for switch in topology.switches]}
    else:
        entry["flat"] = True
    return entry


def _block(block: Block) -> dict[str, str]:
    return {"block": block.name, "nodes": fold(block.nodes)} if block.nodes else {"block": block.name}


def _switch(switch: Switch) -> dict[str, str]:
    if switch.children:
        return {"switch": switch.name, "children": _list(switch.children)}
    return {"switch": switch.name, "nodes": fold(switch.nodes)}
