"""What two readings of one configuration file say differently, in Slurm's terms.

One folded NodeName line equals many single ones; spacing, comments, the case of keys and the order of lines are
nothing, save where Slurm gives order a meaning: NodeName lines under topology/block up to 24.11 (the node table
has their order), SlurmctldHost, BlockName, Prolog and its like, plugins of plugstack.conf.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from hpadmin.slurm import hostlist
from hpadmin.slurmconf.facts import ALL_NODES, Facts, GresKey, NodeFact, Shape
from hpadmin.slurmconf.grammar import ACCUMULATING, FileKind
from hpadmin.slurmconf.records import Origin
from hpadmin.slurmconf.view import View

T = TypeVar("T")


class Subject(StrEnum):
    """What a difference is about."""

    SETTING = "setting"
    NODE = "node"
    NODE_ORDER = "node order"
    PARTITION = "partition"
    RECORD = "record"
    """DownNodes, NodeSet, SlurmctldHost and the like."""
    GRES = "gres"
    TOPOLOGY = "topology"
    PLUGIN = "plugin"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two configurations say differently. None stands for what one of them does not say."""

    file: str
    """The top-level file that it belongs to."""
    subject: Subject
    record: str
    """The key that opens the record (``NodeName``), empty for a setting."""
    names: tuple[str, ...]
    """The nodes, partitions … that it holds for; empty for a setting."""
    key: str
    """Setting or attribute as written; empty where it is about the whole record."""
    before: str | None
    after: str | None
    before_origin: Origin | None = None
    after_origin: Origin | None = None

    @property
    def setting(self) -> str:
        """What differs, for people: ``SlurmdTimeout``, ``NodeName=n[1-4] RealMemory``, ``PartitionName=dev``."""
        if not self.record:
            return self.key or self.file
        name = (
            hostlist.fold(self.names)
            if self.subject in (Subject.NODE, Subject.GRES)
            else ",".join(self.names)
        )
        return (
            f"{self.record}={name} {self.key}".rstrip()
            if self.names
            else f"{self.record} {self.key}".rstrip()
        )

    @property
    def change(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"


def compare(old: Facts, new: Facts, *, release: str = "24.11", alike: bool = True) -> Iterator[Difference]:
    """Yield what differs between two readings of one top-level file (made with one `Interner`).

    `alike` says that two lists of a partition that name the same nodes, each in its own file, are no difference.
    """
    yield from _settings(old, new)
    yield from _records(old, new, alike=alike)
    yield from _nodes(old, new)
    yield from _gres(old, new)
    yield from _plugins(old, new)
    yield from _order(old, new, release)


def _settings(old: Facts, new: Facts) -> Iterator[Difference]:
    accumulating = ACCUMULATING.get(new.view.kind, frozenset())
    for key in _union(old.settings, new.settings):
        one, other = old.settings.get(key), new.settings.get(key)
        if one and other and one.value.meaning == other.value.meaning:
            continue
        if key in accumulating:
            yield from _accumulating(old.view, new.view, _either(one, other).value.key)
            continue
        written = _either(one, other).value.key
        yield Difference(
            new.view.name,
            Subject.TOPOLOGY if new.view.kind is FileKind.TOPOLOGY else Subject.SETTING,
            "",
            (),
            written,
            one.value.text if one else None,
            other.value.text if other else None,
            one.origin if one else None,
            other.origin if other else None,
        )


def _accumulating(old: View, new: View, key: str) -> Iterator[Difference]:
    """Yield every value that only one side has; the order where that is all that differs."""
    before = {setting.value: setting for setting in old.settings.get(key.lower(), ())}
    after = {setting.value: setting for setting in new.settings.get(key.lower(), ())}
    for value, setting in before.items():
        if value not in after:
            yield Difference(new.name, Subject.SETTING, "", (), key, value, None, setting.origin, None)
    for value, setting in after.items():
        if value not in before:
            yield Difference(new.name, Subject.SETTING, "", (), key, None, value, None, setting.origin)
    first = [value for value in old.values(key) if value in after]
    second = [value for value in new.values(key) if value in before]
    if first != second:
        origins = (before[first[0]].origin, after[second[0]].origin)
        yield Difference(new.name, Subject.SETTING, "", (), key, " ".join(first), " ".join(second), *origins)


_SUBJECTS = {
    "partitionname": Subject.PARTITION,
    "switchname": Subject.TOPOLOGY,
    "blockname": Subject.TOPOLOGY,
}


def _records(old: Facts, new: Facts, *, alike: bool) -> Iterator[Difference]:
    for key in _union(old.records, new.records):
        one, other = old.records.get(key), new.records.get(key)
        either = _either(one, other)
        subject = _SUBJECTS.get(key[0], Subject.RECORD)
        names = (either.name,)
        base = (new.view.name, subject, either.rule.key, names)
        origins = (one.origin if one else None, other.origin if other else None)
        if one is None or other is None:
            yield Difference(
                *base,
                "",
                None if one is None else text_of(one.attributes),
                None if other is None else text_of(other.attributes),
                *origins,
            )
            continue
        for attribute in _union(one.attributes, other.attributes):
            first, second = one.attributes.get(attribute), other.attributes.get(attribute)
            if first and second:
                if first.meaning == second.meaning:
                    continue
                if (
                    alike
                    and attribute == "nodes"
                    and _same_nodes(old.view, first.text, new.view, second.text)
                ):
                    continue
            yield Difference(
                *base,
                _either(first, second).key,
                first.text if first else None,
                second.text if second else None,
                *origins,
            )


def _same_nodes(old: View, first: str, new: View, second: str) -> bool:
    """Tell whether two lists name the same nodes, each in its own file."""
    if old.kind is not FileKind.SLURM:
        return False
    try:
        one, other = old.select(first), new.select(second)
    except hostlist.HostlistError:
        return False
    return one == other and not one.unknown


def _nodes(old: Facts, new: Facts) -> Iterator[Difference]:
    for gone, before, after in ((True, old.nodes, new.nodes), (False, new.nodes, old.nodes)):
        groups: dict[int, list[NodeFact]] = {}
        for name, fact in before.items():
            if name not in after:
                groups.setdefault(id(fact.shape), []).append(fact)
        for members in groups.values():
            yield _whole_nodes(new.view.name, members, gone=gone)
    changed: dict[tuple[int, int], list[tuple[NodeFact, NodeFact]]] = {}
    moved: dict[str, list[tuple[str, str | None, str | None, NodeFact, NodeFact]]] = {}
    for name, one in old.nodes.items():
        other = new.nodes.get(name)
        if other is None:
            continue
        if one.shape is not other.shape:
            changed.setdefault((id(one.shape), id(other.shape)), []).append((one, other))
        if one.each != other.each:
            first, second = dict(one.each), dict(other.each)
            for key in _union(first, second):
                if first.get(key) != second.get(key):
                    moved.setdefault(key, []).append((name, first.get(key), second.get(key), one, other))
    for pairs in changed.values():
        yield from _changed_nodes(new.view.name, pairs)
    for key, rows in moved.items():
        yield _moved_nodes(new.view.name, key, rows)


def _whole_nodes(file: str, members: list[NodeFact], *, gone: bool) -> Difference:
    text = text_of(members[0].shape)
    names = tuple(fact.node.name for fact in members)
    origin = members[0].origin
    if gone:
        return Difference(file, Subject.NODE, "NodeName", names, "", text, None, origin, None)
    return Difference(file, Subject.NODE, "NodeName", names, "", None, text, None, origin)


def _changed_nodes(file: str, pairs: list[tuple[NodeFact, NodeFact]]) -> Iterator[Difference]:
    one, other = pairs[0]
    names = tuple(old.node.name for old, _ in pairs)
    for attribute in _union(one.shape, other.shape):
        first, second = one.shape.get(attribute), other.shape.get(attribute)
        if first and second and first.meaning == second.meaning:
            continue
        yield Difference(
            file,
            Subject.NODE,
            "NodeName",
            names,
            _either(first, second).key,
            first.text if first else None,
            second.text if second else None,
            one.origin,
            other.origin,
        )


_EACH_KEYS = {
    "nodehostname": "NodeHostname",
    "nodeaddr": "NodeAddr",
    "port": "Port",
    "bcastaddr": "BcastAddr",
}


def _moved_nodes(
    file: str, key: str, rows: list[tuple[str, str | None, str | None, NodeFact, NodeFact]]
) -> Difference:
    def folded(values: Iterable[str | None]) -> str | None:
        found = list(values)
        return (
            None if all(value is None for value in found) else hostlist.fold(value or "-" for value in found)
        )

    return Difference(
        file,
        Subject.NODE,
        "NodeName",
        tuple(row[0] for row in rows),
        _EACH_KEYS[key],
        folded(row[1] for row in rows),
        folded(row[2] for row in rows),
        rows[0][3].origin,
        rows[0][4].origin,
    )


def _gres(old: Facts, new: Facts) -> Iterator[Difference]:
    groups: dict[Hashable, list[GresKey]] = {}
    for key in _union(old.gres, new.gres):
        one, other = old.gres.get(key), new.gres.get(key)
        if one and other and one.meaning == other.meaning:
            continue
        groups.setdefault((key[1:], one and one.texts, other and other.texts), []).append(key)
    for keys in groups.values():
        one, other = old.gres.get(keys[0]), new.gres.get(keys[0])
        everywhere = keys[0][0] == ALL_NODES
        yield Difference(
            new.view.name,
            Subject.GRES,
            "Name" if everywhere else "NodeName",
            (keys[0][1],) if everywhere else tuple(key[0] for key in keys),
            ":".join(part for part in keys[0][1:] if part) if not everywhere else keys[0][2],
            "; ".join(one.texts) if one else None,
            "; ".join(other.texts) if other else None,
            one.records[0].origin if one else None,
            other.records[0].origin if other else None,
        )


def _plugins(old: Facts, new: Facts) -> Iterator[Difference]:
    for plugin in _union(old.plugins, new.plugins):
        one, other = old.plugins.get(plugin), new.plugins.get(plugin)
        if one and other and one.text == other.text:
            continue
        yield Difference(
            new.view.name,
            Subject.PLUGIN,
            "",
            (),
            plugin,
            one.text if one else None,
            other.text if other else None,
            Origin(old.view.name, one.number, one.place) if one else None,
            Origin(new.view.name, other.number, other.place) if other else None,
        )


def _order(old: Facts, new: Facts, release: str) -> Iterator[Difference]:
    rows: list[tuple[Subject, str, list[str], list[str]]] = []
    if order_of_nodes_counts(new.view, release) or order_of_nodes_counts(old.view, release):
        rows.append((Subject.NODE_ORDER, "NodeName", list(old.nodes), list(new.nodes)))
    for key, subject in (("blockname", Subject.TOPOLOGY), ("slurmctldhost", Subject.RECORD)):
        rows.append((subject, _written(key), _names(old, key), _names(new, key)))
    rows.append((Subject.PLUGIN, "", list(old.plugins), list(new.plugins)))
    for subject, record, first, second in rows:
        common = set(first) & set(second)
        one = [name for name in first if name in common]
        other = [name for name in second if name in common]
        if one != other:
            file = new.view.name
            yield Difference(file, subject, record, (), "order", _folded(one), _folded(other))


def order_of_nodes_counts(seen: View, release: str) -> bool:
    """Tell whether slurmctld takes the order of its node table from the NodeName lines.

    topology/block up to 24.11 does (it ranks all nodes equal and sorts them stably); everything else sorts by name.
    """
    if seen.kind is not FileKind.SLURM or seen.value("TopologyPlugin").lower() not in (
        "topology/block",
        "block",
    ):
        return False
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0]
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) <= (24, 11)


def _names(facts_: Facts, key: str) -> list[str]:
    return [name for record, name in facts_.records if record == key]


def _written(key: str) -> str:
    return {"blockname": "BlockName", "slurmctldhost": "SlurmctldHost"}[key]


def _folded(names: list[str]) -> str:
    try:
        return hostlist.fold(names)
    except hostlist.HostlistError:
        return ",".join(names)


def text_of(shape: Shape) -> str:
    """Return attributes as they would stand on a line."""
    return " ".join(f"{value.key}={value.text}" for value in shape.values())


def _either(one: T | None, other: T | None) -> T:
    """Return the newer of two of which one is there."""
    found = one if other is None else other
    assert found is not None
    return found


def _union(one: Iterable[T], other: Iterable[T]) -> dict[T, None]:
    return dict.fromkeys([*one, *other])
