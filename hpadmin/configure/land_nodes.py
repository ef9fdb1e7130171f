"""Land the request's changes of nodes (slurm.conf) and of their devices (gres.conf) in the documents on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from hpadmin.configure.landing import Landing
from hpadmin.configure.three_way import Clash
from hpadmin.slurm import hostlist
from hpadmin.slurmconf import edit, rewrite
from hpadmin.slurmconf.difference import Difference, text_of
from hpadmin.slurmconf.document import Document, Statement
from hpadmin.slurmconf.facts import ALL_NODES, GresFact, GresKey, NodeFact
from hpadmin.slurmconf.grammar import FileKind, value_kind

Values = tuple[str | None, str | None, str | None]
"""A value as last applied, on disk and wanted."""


def land_nodes(landing: Landing, changes: Sequence[Difference]) -> None:
    """Add, remove and change nodes. Raises InvalidInput for a value that cannot be written."""
    edits: dict[str, dict[str, str | None]] = {}
    gone: list[str] = []
    new: dict[str, None] = {}
    for change in changes:
        if change.after is None and not change.key:
            gone.extend(_removable(landing, change.names))
        elif not change.key:
            present = [name for name in change.names if name in landing.disk.nodes]
            new.update(dict.fromkeys(name for name in change.names if name not in landing.disk.nodes))
            for name in present:
                _meet(landing, name, edits)
        else:
            present = [name for name in change.names if name in landing.disk.nodes]
            back = [name for name in change.names if name not in landing.disk.nodes and name not in new]
            if back:
                _note(landing, back, "", (change.before, None, change.after))
                new.update(dict.fromkeys(back))
            _change(landing, change.key.lower(), change.key, present, edits)
    if edits or gone:
        for document in landing.documents.values():
            edit.change_nodes(document, edits, gone=gone)
    if new:
        _add(landing, new)


def _removable(landing: Landing, names: Iterable[str]) -> Iterator[str]:
    """Yield the nodes to remove: HyperPod owns them, so one that the site changed goes too, but not in silence."""
    changed: dict[tuple[str, str], list[str]] = {}
    for name in names:
        site = landing.disk.nodes.get(name)
        if site is None:
            continue
        base = landing.base.nodes.get(name) if landing.base else None
        if base is not None and (site.shape is not base.shape or site.each != base.each):
            changed.setdefault((_line(base), _line(site)), []).append(name)
        yield name
    for (before, found), members in changed.items():
        _note(landing, members, "", (before, found, None))


def _meet(landing: Landing, name: str, edits: dict[str, dict[str, str | None]]) -> None:
    """A node that the request adds and the disk already has: every attribute for itself."""
    wanted = landing.wanted.nodes[name]
    for key in [*wanted.shape, *(key for key, _ in wanted.each)]:
        value = wanted.shape.get(key)
        _change(landing, key, value.key if value else _EACH[key], [name], edits)


_EACH = {"nodehostname": "NodeHostname", "nodeaddr": "NodeAddr", "port": "Port", "bcastaddr": "BcastAddr"}


def _change(
    landing: Landing, key: str, written: str, names: Sequence[str], edits: dict[str, dict[str, str | None]]
) -> None:
    """Decide one attribute for nodes that are on disk. Nodes in the same situation are decided together."""
    situations: dict[Values, list[str]] = {}
    for name in names:
        base = landing.base.nodes.get(name) if landing.base else None
        values = (
            _value(base, key),
            _value(landing.disk.nodes[name], key),
            _value(landing.wanted.nodes[name], key),
        )
        situations.setdefault(values, []).append(name)
    kind = value_kind(FileKind.SLURM, key)
    for values, members in situations.items():
        value = landing.decide(f"NodeName={hostlist.fold(members)} {written}", "NodeName", kind, values)
        if value == values[1]:
            continue
        for name in members:
            record = landing.disk.nodes[name].node.record
            other = next(
                (second for first, second in record.rule.aliases if first == key and second in record.own), ""
            )
            edits.setdefault(name, {})[other if other and key not in record.own else written] = value


def _value(fact: NodeFact | None, key: str) -> str | None:
    if fact is None:
        return None
    value = fact.shape.get(key)
    return value.text if value else dict(fact.each).get(key)


def _line(fact: NodeFact) -> str:
    return " ".join([text_of(fact.shape), *[f"{_EACH[key]}={value}" for key, value in fact.each]])


def _note(landing: Landing, names: Sequence[str], key: str, values: Values) -> None:
    setting = f"NodeName={hostlist.fold(names)} {key}".rstrip()
    landing.note(setting, "NodeName", Clash("", *values), request_wins=True)


def _add(landing: Landing, names: Iterable[str]) -> None:
    """Add nodes with the request's own lines, each behind the node that comes before it in the request."""
    wanted = set(names)
    places = {
        name: (file, place)
        for file, document in landing.documents.items()
        for place in edit.find(document, "NodeName")
        for name in _names(document.statements[place])
    }
    lines: dict[tuple[str, int], list[str]] = {}
    anchor: tuple[str, int] | None = None
    for (is_new, _), group in groupby(
        landing.wanted.nodes.values(), key=lambda fact: (fact.node.name in wanted, id(fact.node.record))
    ):
        facts = list(group)
        if not is_new:
            anchor = next(
                (places[fact.node.name] for fact in reversed(facts) if fact.node.name in places), anchor
            )
            continue
        record = facts[0].node.record
        part = edit.subset(
            rewrite.without_comment(record.statement), record.names, [fact.node.position for fact in facts]
        )
        text = part.raw.rstrip("\r\n")
        if record.defaults is not None:
            text = rewrite.line_text([("NodeName", part.value), *_spelled(facts)])
        lines.setdefault(anchor or (landing.file, -1), []).append(text)
    by_file: dict[str, dict[int, list[str]]] = {}
    for (file, place), texts in lines.items():
        by_file.setdefault(file, {})[place] = texts
    for file, inserts in by_file.items():
        _insert(landing.documents.setdefault(file, Document()), inserts)


def _spelled(facts: Sequence[NodeFact]) -> Iterator[tuple[str, str]]:
    """Yield all attributes of nodes of one record, those that DEFAULT lines give included."""
    for value in facts[0].shape.values():
        yield value.key, value.text
    for key in dict(facts[0].each):
        yield _EACH[key], hostlist.fold(dict(fact.each).get(key, fact.node.name) for fact in facts)


def _names(statement: Statement) -> list[str]:
    try:
        return hostlist.expand(statement.value)
    except hostlist.HostlistError:
        return []


def _insert(document: Document, inserts: dict[int, list[str]]) -> None:
    """Insert lines behind the statements at some places; -1 stands for before all nodes."""
    first = inserts.pop(-1, [])
    if first:
        places = edit.find(document, "NodeName")
        anchor = places[0] - 1 if places else edit.place_for(document, "NodeName")
        inserts[anchor] = [*inserts.get(anchor, []), *first]
    edit.insert_all(document, inserts)


def land_gres(landing: Landing, changes: Sequence[Difference]) -> None:
    """Add, remove and change the devices of nodes. Raises InvalidInput for a value that cannot be written."""
    base = landing.base.gres if landing.base else {}
    disk, wanted = landing.disk.gres, landing.wanted.gres
    drop: dict[tuple[str, int], set[str]] = {}
    add: dict[int, tuple[GresFact, list[str]]] = {}
    clashes: dict[tuple[str, Values], list[str]] = {}
    for key in _gres_keys(landing, changes):
        old, site, new = base.get(key), disk.get(key), wanted.get(key)
        if (site and site.meaning) == (new and new.meaning):
            continue
        if (site and site.meaning) != (old and old.meaning) and (site or old):
            values = (_texts(old), _texts(site), _texts(new))
            clashes.setdefault((":".join(part for part in key[1:] if part), values), []).append(key[0])
        if site is not None:
            for record in site.records:
                drop.setdefault((record.origin.file, record.origin.place), set()).add(key[0])
        if new is not None:
            for record in new.records:
                add.setdefault(id(record), (new, []))[1].append(key[0])
    for (gres, values), names in clashes.items():
        where = f"NodeName={hostlist.fold(names)} Name={gres}" if names != [ALL_NODES] else f"Name={gres}"
        landing.note(where, "NodeName", Clash("", *values), request_wins=True)
    _edit_gres(landing, drop, add)


def _gres_keys(landing: Landing, changes: Sequence[Difference]) -> Iterator[GresKey]:
    """Yield the node, name and type of every GRES that the request changes."""
    if not changes:
        return
    before = (landing.base or landing.disk).gres
    for key in dict.fromkeys([*before, *landing.wanted.gres]):
        old, new = before.get(key), landing.wanted.gres.get(key)
        if landing.base is None and new is None:
            continue
        if (old and old.meaning) != (new and new.meaning):
            yield key


def _texts(fact: GresFact | None) -> str | None:
    return None if fact is None else "; ".join(fact.texts)


def _edit_gres(
    landing: Landing, drop: dict[tuple[str, int], set[str]], add: dict[int, tuple[GresFact, list[str]]]
) -> None:
    gone: dict[str, list[int]] = {}
    for (file, place), names in drop.items():
        statements = landing.documents[file].statements
        left = None if names == {ALL_NODES} else edit.without_names(statements[place], names)
        if left is None:
            gone.setdefault(file, []).append(place)
        else:
            statements[place] = left
    records = {id(record): record for fact in landing.wanted.gres.values() for record in fact.records}
    lines: dict[str, dict[str, list[str]]] = {}
    for identity, (_, nodes) in add.items():
        record = records[identity]
        part = rewrite.without_comment(record.statement)
        if nodes != [ALL_NODES]:
            wanted = set(nodes)
            numbers = [number for number, name in enumerate(record.names) if name in wanted]
            part = edit.subset(part, record.names, numbers)
        file = landing.home_of(record.origin.file)
        lines.setdefault(file, {}).setdefault(record.rule.key, []).append(part.raw.rstrip("\r\n"))
    for file in {**gone, **lines}:
        document = landing.documents[file]
        behind: dict[int, list[str]] = {}
        for key, texts in lines.get(file, {}).items():
            places = edit.find(document, key)
            behind.setdefault(places[-1] if places else len(document) - 1, []).extend(texts)
        edit.exchange(document, gone.get(file, ()), behind)
