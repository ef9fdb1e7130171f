"""Reading topology.conf and topology.yaml as Slurm reads them, with every mistake that Slurm dies of named.

>>> topologies = read_conf("BlockName=b1 Nodes=n[1-2]\\nBlockSizes=2\\n", "topology.conf", Release(24, 11))
>>> topologies.default.topology
BlockTopology(blocks=(Block(name='b1', nodes=('n1', 'n2')),), sizes=(2,))

What is read here has passed `hpadmin.topology.check`; what has not is refused with InvalidInput.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from hpadmin.errors import InvalidInput, Problem
from hpadmin.slurm.hostlist import expand
from hpadmin.slurmconf import loads
from hpadmin.topology import rings
from hpadmin.topology.blocks import plan_blocks
from hpadmin.topology.check import check
from hpadmin.topology.graph import (
    Block,
    BlockTopology,
    FlatTopology,
    NamedTopology,
    Switch,
    Topology,
    TopologySet,
    TreeTopology,
)
from hpadmin.topology.release import YAML_RELEASE, Release
from hpadmin.topology.sources import from_handwritten
from hpadmin.topology.tree import plan_tree

KINDS = ("block", "flat", "ring", "torus3d", "tree")
"""What an entry of topology.yaml can be, in the order in which Slurm's parser looks (data_parser, 26.05)."""


def read_text(
    text: str, name: str, release: Release, known_nodes: Collection[str] | None = None
) -> TopologySet:
    """Read a topology.conf, a topology.yaml or facts written by hand, telling them apart by what is in them.

    `name` is used in messages; with `known_nodes` names that are no nodes are refused. Raises InvalidInput.
    """
    if _is_conf(text):
        return read_conf(text, name, release, known_nodes)
    document = _yaml(text, name)
    if _are_facts(document):
        return _from_facts(document, name, release)
    if not release.reads_yaml:
        raise InvalidInput(
            f"Slurm {release} does not read {name}: a topology.yaml is for 25.05 and later",
            hint=f"Plan by the rules of a later release, such as --slurm-release {YAML_RELEASE}.",
        )
    return read_yaml(text, name, release, known_nodes)


def is_topology_yaml(text: str, name: str) -> bool:
    """Whether `text` is a topology.yaml, and neither a topology.conf nor facts. Raises InvalidInput for what is
    none of them."""
    return not _is_conf(text) and not _are_facts(_yaml(text, name))


def _is_conf(text: str) -> bool:
    return re.search(r"(?im)^[ \t]*(BlockName|BlockSizes|SwitchName)[ \t]*=", text) is not None


def _are_facts(document: Any) -> bool:
    facts = {"ultraservers", "network", "nodes", "block_sizes"}
    return isinstance(document, Mapping) and bool(facts & document.keys())


def read_conf(
    text: str, name: str, release: Release, known_nodes: Collection[str] | None = None
) -> TopologySet:
    """Read topology.conf(5). Raises InvalidInput with the line of every mistake."""
    blocks: list[Block] = []
    switches: list[Switch] = []
    sizes: tuple[int, ...] = ()
    problems: list[Problem] = []
    where: dict[str, str] = {}
    for number, statement in loads(text.encode()).numbered():
        line = f"{name}:{number}"
        if statement.is_silent:
            continue
        if statement.leftover or statement.include is not None or not statement.key:
            problems.append(Problem(line, f"cannot be read: {statement.leftover or statement.raw.strip()}"))
            continue
        key = statement.key.lower()
        attributes = {pair.key.lower(): pair.value for pair in statement.attributes}
        allowed = {"blockname": {"nodes"}, "switchname": {"nodes", "switches", "linkspeed"}}
        for unknown in sorted(attributes.keys() - allowed.get(key, set())):
            problems.append(Problem(line, f"{unknown} is not known here"))
        if key == "blocksizes":
            sizes = _sizes(statement.value.split(","), line, problems)
        elif key == "blockname":
            blocks.append(Block(statement.value, _hosts(attributes.get("nodes", ""), line, problems)))
            where[statement.value] = line
        elif key == "switchname":
            switches.append(
                Switch(
                    statement.value,
                    _hosts(attributes.get("nodes", ""), line, problems),
                    _hosts(attributes.get("switches", ""), line, problems),
                    attributes.get("linkspeed", ""),
                )
            )
            where[statement.value] = line
        else:
            problems.append(Problem(line, f"{statement.key} is not a key of topology.conf"))
    if blocks and switches:
        problems.append(
            Problem(name, "holds blocks and switches; Slurm reads one kind and dies of the other")
        )
    if not blocks and not switches:
        problems.append(
            Problem(name, "holds neither a block nor a switch; Slurm must never see an empty one")
        )
    if problems:
        raise InvalidInput(f"{name} cannot be read", problems)
    topology: Topology = BlockTopology(tuple(blocks), sizes) if blocks else TreeTopology(tuple(switches))
    return _checked(
        TopologySet((NamedTopology("default", topology, True),)), name, release, known_nodes, where
    )


def read_yaml(
    text: str, name: str, release: Release, known_nodes: Collection[str] | None = None
) -> TopologySet:
    """Read topology.yaml(5). Raises InvalidInput with the place of every mistake, in Slurm's notation
    (``#/block/``)."""
    document = _yaml(text, name)
    problems: list[Problem] = []
    entries = [document] if isinstance(document, Mapping) else document
    if not isinstance(entries, list):
        raise InvalidInput(f"{name} cannot be read", [Problem("#/", _expected("list", entries))])
    topologies = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            problems.append(Problem(f"#[{number}]/", _expected("dictionary", entry)))
            continue
        topology = _entry(entry, problems)
        if topology is not None:
            named = NamedTopology(
                str(entry.get("topology", "")), topology, bool(entry.get("cluster_default"))
            )
            topologies.append(named)
            if not named.name:
                problems.append(Problem(f"#[{number}]/", "has no topology: name"))
    if not entries:
        problems.append(Problem("#/", "names no topology"))
    if problems:
        raise InvalidInput(f"{name} cannot be read", problems)
    return _checked(TopologySet(tuple(topologies)), name, release, known_nodes, {})


def _entry(entry: Mapping[str, Any], problems: list[Problem]) -> Topology | None:
    for key in entry:
        if key not in ("topology", "cluster_default", *KINDS):
            problems.append(Problem(f"#/{key}/", "is not known here"))
    before = len(problems)
    found: list[str] = []
    result: Topology | None = None
    for kind in KINDS:
        body = entry.get(kind)
        if body is None:
            continue
        if kind != "flat" and not isinstance(body, Mapping):
            problems.append(Problem(f"#/{kind}/", _rejecting(body)))
            continue
        if kind == "flat" and body is False:
            continue
        if found:
            problems.append(
                Problem(
                    f"#/{kind}/", f"Field {kind} is mutually exclusive with {found[0]}, one kind an entry"
                )
            )
            continue
        found.append(kind)
        result = _kind(kind, body, problems)
    if not found and len(problems) == before:
        problems.append(Problem("#/", f"{entry.get('topology', '')} has none of {', '.join(KINDS)}"))
    return result


def _kind(kind: str, body: Any, problems: list[Problem]) -> Topology | None:
    if kind == "block":
        blocks = _list(body, "blocks", "#/block/", problems)
        sizes = _sizes(body.get("block_sizes") or [], "#/block/block_sizes/", problems)
        return BlockTopology(
            tuple(
                Block(
                    str(one.get("block", "")),
                    _hosts(str(one.get("nodes") or ""), "#/block/blocks/", problems),
                )
                for one in blocks
            ),
            sizes,
        )
    if kind == "tree":
        return TreeTopology(
            tuple(
                Switch(
                    str(one.get("switch", "")),
                    _hosts(str(one.get("nodes") or ""), "#/tree/switches/", problems),
                    _hosts(str(one.get("children") or ""), "#/tree/switches/", problems),
                )
                for one in _list(body, "switches", "#/tree/", problems)
            )
        )
    if kind == "flat":
        return FlatTopology()
    problems.extend(rings.problems(kind, body))
    return None


def _list(body: Mapping[str, Any], key: str, path: str, problems: list[Problem]) -> list[Mapping[str, Any]]:
    """A list of dictionaries; Slurm takes a single dictionary for a list of one."""
    value = body.get(key)
    if isinstance(value, Mapping):
        return [value]
    if not isinstance(value, list):
        problems.append(Problem(f"{path}{key}/", _expected("list", value)))
        return []
    wrong = [one for one in value if not isinstance(one, Mapping)]
    problems.extend(Problem(f"{path}{key}/", _rejecting(one)) for one in wrong)
    return [one for one in value if isinstance(one, Mapping)]


class _Loader(yaml.SafeLoader):
    """Plain YAML in which no key of a mapping may stand twice: all but the last of them would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is written more than once", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _yaml(text: str, name: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise InvalidInput(
            f"{name} is no YAML", [Problem(f"{name}{line}", str(error).splitlines()[0])]
        ) from error


def _from_facts(document: Mapping[str, Any], name: str, release: Release) -> TopologySet:
    graph, sizes = from_handwritten(document)
    topology: Topology = FlatTopology(graph.nodes)
    nodes = graph.nodes
    if graph.domain_order:
        plan = plan_blocks(graph, release, sizes=sizes)
        topology, nodes = plan.topology, (*graph.nodes, *plan.placeholders)
    elif any(location.layers for location in graph.locations):
        topology = plan_tree(graph).topology
    return _checked(TopologySet((NamedTopology("default", topology, True),)), name, release, nodes, {})


def _checked(
    topologies: TopologySet,
    name: str,
    release: Release,
    known_nodes: Collection[str] | None,
    where: Mapping[str, str],
) -> TopologySet:
    problems = []
    for named in topologies:
        for problem in check(named.topology, release, known_nodes).errors:
            problems.append(Problem(where.get(problem.path) or problem.path or name, problem.message))
    if problems:
        raise InvalidInput(f"Slurm would not take {name}", problems)
    return topologies


def _hosts(text: str, path: str, problems: list[Problem]) -> tuple[str, ...]:
    if not text:
        return ()
    try:
        return tuple(expand(text))
    except InvalidInput as error:
        problems.append(Problem(path, error.message))
        return ()


def _sizes(values: Any, path: str, problems: list[Problem]) -> tuple[int, ...]:
    sizes = []
    for value in values if isinstance(values, list) else [values]:
        try:
            sizes.append(int(str(value).strip()))
        except ValueError:
            problems.append(Problem(path, f"{value!r} is no number of nodes"))
    return tuple(sizes)


def _typename(value: object) -> str:
    return {str: "string", bool: "boolean", int: "number", float: "number", list: "list"}.get(
        type(value), "null" if value is None else "dictionary"
    )


def _expected(what: str, value: object) -> str:
    return f"Unexpected type {_typename(value)} when expecting a {what}"


def _rejecting(value: object) -> str:
    return f"Rejecting {_typename(value)} when dictionary expected"
