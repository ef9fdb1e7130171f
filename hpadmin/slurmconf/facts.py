"""The meaning of a configuration file, in a form in which two of them can be compared fact by fact.

    before = facts(view("slurm.conf", old.get), interner := Interner())
    after = facts(view("slurm.conf", new.get), interner)
    before.nodes["n1"].shape is after.nodes["n1"].shape     # the same hardware, written however

Everything that does not matter to Slurm is gone: spelling of keys, order of lines, folding, DEFAULT lines,
Includes. What remains of a value is its meaning, next to its text. Nodes share what they have in common: of
16,000 alike there is one `Shape`, found by one look-up a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hpadmin.slurm import hostlist
from hpadmin.slurmconf import lexer, plugstack
from hpadmin.slurmconf.grammar import FileKind, RecordRule, value_kind
from hpadmin.slurmconf.records import Node, Origin, Record
from hpadmin.slurmconf.values import canonical
from hpadmin.slurmconf.view import View, effective_settings

ALL_NODES = "*"
"""Stands for the node name of a gres.conf line that holds for every node."""

_LISTED = re.compile(r"[\[, \t\n]")
_EACH_STARTS = frozenset({"node", "port", "bcas"})
"""How the keys start, in lower case, that differ from node to node."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value. Two say the same when their `meaning` is equal."""

    key: str
    """The key as written."""
    text: str
    """As Slurm reads it."""
    meaning: Hashable = field(repr=False)


Shape = Mapping[str, Value]
"""Attributes by lower-case key."""


@dataclass(frozen=True, slots=True)
class SettingFact:
    """A key without attributes: the occurrence that counts, or all of a key that accumulates."""

    value: Value
    origin: Origin


@dataclass(frozen=True, slots=True)
class RecordFact:
    """A partition, NodeSet, switch, block …"""

    rule: RecordRule
    name: str
    attributes: Shape
    record: Record

    @property
    def origin(self) -> Origin:
        return self.record.origin


class NodeFact(NamedTuple):
    """A node: what it shares with others, and what is its own."""

    node: Node
    shape: Shape
    each: tuple[tuple[str, str], ...]
    """Lower-case key and value of NodeAddr, NodeHostname, Port, BcastAddr, where they are not just the name."""

    @property
    def origin(self) -> Origin:
        return self.node.record.origin


GresKey = tuple[str, str, str]
"""Node name or ALL_NODES, name and type of the GRES; the latter two in lower case."""


@dataclass(frozen=True, slots=True)
class GresFact:
    """The gres.conf lines of one GRES on one node. Their order has no meaning."""

    texts: tuple[str, ...]
    """Their attributes behind Name and Type, as text."""
    records: tuple[Record, ...]
    meaning: Hashable = field(repr=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts of one top-level file."""

    view: View
    settings: Mapping[str, SettingFact]
    """By lower-case key."""
    records: Mapping[tuple[str, str], RecordFact]
    """By lower-case opening key and name, in order; neither nodes nor GRES."""
    nodes: Mapping[str, NodeFact]
    gres: Mapping[GresKey, GresFact]
    plugins: Mapping[str, plugstack.Line]
    """plugstack.conf by plugin, in order; of one named twice the first."""


class Interner:
    """Makes equal shapes of nodes one object, over all files that are read with it."""

    def __init__(self) -> None:
        self._by_text: dict[tuple[str, ...], Shape] = {}
        self._by_meaning: dict[Hashable, Shape] = {}

    def split(self, record: Record) -> tuple[Shape, dict[str, str]]:
        """Return what the nodes of a NodeName record share, and the texts of the lists over its nodes."""
        tokens = lexer.tokens(record.statement.logical.text) if record.defaults is None else None
        if tokens is None:
            each = {key: record.get(key) for key in record.rule.per_name if key in record.attributes}
            return self._intern(record), each
        each = {}
        shared = []
        for token in tokens[1:]:
            if token[0] in "NPBnpb" and token[:4].lower() in _EACH_STARTS:
                key, _, value = token.partition("=")
                each[key.lower()] = value
            else:
                shared.append(token)
        text = tuple(shared)
        found = self._by_text.get(text)
        if found is None:
            found = self._by_text[text] = self._intern(record)
        return found, each

    def _intern(self, record: Record) -> Shape:
        shape = attributes(FileKind.SLURM, record)
        for key in record.rule.per_name:
            shape.pop(key, None)
        meaning = frozenset((key, value.meaning) for key, value in shape.items())
        return self._by_meaning.setdefault(meaning, shape)


def attributes(kind: FileKind, record: Record) -> dict[str, Value]:
    """Return the attributes of a record with their meaning, DEFAULT lines considered."""
    return {
        key: Value(attribute.key, attribute.value, canonical(value_kind(kind, key), attribute.value))
        for key, attribute in record.attributes.items()
    }


def facts(seen: View, interner: Interner) -> Facts:
    """Return the facts of a view. Lines that Slurm cannot read as a host list are left out."""
    if seen.kind is FileKind.PLUGSTACK:
        return Facts(seen, {}, {}, {}, {}, _plugins(seen))
    return Facts(seen, _settings(seen), _records(seen), _nodes(seen, interner), _gres(seen), {})


def _settings(seen: View) -> dict[str, SettingFact]:
    found = {}
    for key, occurrences in effective_settings(seen):
        if len(occurrences) == 1:
            text = occurrences[0].value
            meaning = canonical(value_kind(seen.kind, key), text)
        else:
            text = " ".join(setting.value for setting in occurrences)
            meaning = tuple(setting.value for setting in occurrences)
        found[key] = SettingFact(Value(occurrences[0].key, text, meaning), occurrences[-1].origin)
    return found


def _records(seen: View) -> dict[tuple[str, str], RecordFact]:
    found: dict[tuple[str, str], RecordFact] = {}
    for key, records in seen.records.items():
        if key == "nodename" or seen.kind is FileKind.GRES:
            continue
        for record in records:
            name = _record_name(key, record)
            if (key, name) not in found:
                found[key, name] = RecordFact(record.rule, name, attributes(seen.kind, record), record)
    return found


def _record_name(key: str, record: Record) -> str:
    if key not in ("downnodes", "frontendname"):
        return record.name
    try:
        return hostlist.fold(sorted(set(record.names)))
    except hostlist.HostlistError:
        return record.name


def _nodes(seen: View, interner: Interner) -> dict[str, NodeFact]:
    if seen.kind is not FileKind.SLURM:
        return {}
    found: dict[str, NodeFact] = {}
    last: Record | None = None
    shape: Shape = {}
    each: dict[str, str] = {}
    for name, node in seen.nodes.items():
        if node.record is not last:
            last = node.record
            shape, each = interner.split(last)
        found[name] = NodeFact(node, shape, _each(node, each) if each else ())
    return found


def _each(node: Node, texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if len(texts) == 1 and len(node.record.names) == 1:
        ((key, text),) = texts.items()
        if key == "nodeaddr" and not _LISTED.search(text):
            return () if text == node.name else ((key, text),)
    found = []
    for key in ("nodehostname", "nodeaddr", "port", "bcastaddr"):
        if key in texts:
            value = node.get(key)
            implied = (
                node.name if key == "nodehostname" else node.get("nodehostname") if key == "nodeaddr" else ""
            )
            if value != implied:
                found.append((key, value))
    return tuple(found)


def _gres(seen: View) -> dict[GresKey, GresFact]:
    if seen.kind is not FileKind.GRES:
        return {}
    collected: dict[GresKey, list[tuple[str, Hashable, Record]]] = {}
    for record in [*seen.of("NodeName"), *seen.of("Name")]:
        values = attributes(FileKind.GRES, record)
        if record.rule.key == "NodeName":
            try:
                names = record.names
            except hostlist.HostlistError:
                continue
            gres = record.get("Name")
        else:
            names, gres = (ALL_NODES,), record.name
        kind = record.get("Type")
        rest = {key: value for key, value in values.items() if key not in ("name", "type")}
        text = " ".join(f"{value.key}={value.text}" for value in rest.values())
        meaning = frozenset((key, value.meaning) for key, value in rest.items())
        for name in names:
            collected.setdefault((name, gres.lower(), kind.lower()), []).append((text, meaning, record))
    found = {}
    for key, lines in collected.items():
        counts = Counter(meaning for _, meaning, _ in lines)
        found[key] = GresFact(
            tuple(text for text, _, _ in lines),
            tuple(record for _, _, record in lines),
            frozenset(counts.items()),
        )
    return found


def _plugins(seen: View) -> dict[str, plugstack.Line]:
    found: dict[str, plugstack.Line] = {}
    for document in seen.documents.values():
        for line in plugstack.lines(document):
            found.setdefault(line.plugin, line)
    return found
