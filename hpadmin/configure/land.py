"""Land the request's changes in the documents on disk, leaving everything else as the site wrote it.

`Lander` takes one top-level file in three states and edits a copy of the documents on disk. What both sides
changed is decided by `hpadmin.configure.three_way` and noted in `Landing.conflicts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hpadmin.configure.land_lines import Place, carry_out
from hpadmin.configure.land_nodes import land_gres, land_nodes
from hpadmin.configure.land_ordered import merge_ordered, order_lands
from hpadmin.configure.landing import Landing
from hpadmin.configure.ownership import hyperpod_owns
from hpadmin.configure.three_way import Clash
from hpadmin.slurmconf import edit, grammar, plugstack, rewrite
from hpadmin.slurmconf.difference import Difference, Subject, compare, order_of_nodes_counts, text_of
from hpadmin.slurmconf.document import Document, Statement
from hpadmin.slurmconf.facts import Facts, RecordFact, Shape, Value
from hpadmin.slurmconf.grammar import RecordRule, value_kind

Lists = tuple[list[str] | None, list[str], list[str]]
"""A list as last applied, on disk and wanted."""


class Lander(Landing):
    """Lands one top-level file."""

    def land(self) -> None:
        """Do it. Raises InvalidInput for a value that cannot be written."""
        changes = [
            change
            for change in compare(
                self.disk if self.base is None else self.base,
                self.wanted,
                release=self.release,
                # ALL and a list of all nodes are the same only until a node comes.
                alike=self.base is None,
            )
            if not (self.base is None and change.after is None)
        ]
        self._bring_includes()
        brought = [
            change
            for change in changes
            if change.after_origin is None or change.after_origin.file not in self.created
        ]
        self._settings(brought)
        self._plugins(brought)
        self._controllers(brought)
        self._records(brought)
        land_nodes(self, [change for change in brought if change.subject is Subject.NODE])
        land_gres(self, [change for change in brought if change.subject is Subject.GRES])
        self._reorder()
        self._drop_includes()

    # Settings

    def _settings(self, changes: Iterable[Difference]) -> None:
        accumulating = grammar.ACCUMULATING.get(self.kind, frozenset())
        keys = {
            change.key.lower(): change.key
            for change in changes
            if change.subject in (Subject.SETTING, Subject.TOPOLOGY) and not change.record
        }
        for key, written in keys.items():
            if key in accumulating:
                self._values(written)
            else:
                self._setting(written)

    def _lists(self, read: Callable[[Facts], list[str]]) -> Lists:
        return read(self.base) if self.base else None, read(self.disk), read(self.wanted)

    def _setting(self, written: str) -> None:
        key = written.lower()
        site = self.disk.settings.get(key)
        base = self.base.settings.get(key) if self.base else None
        new = self.wanted.settings.get(key)
        value = self.decide(
            written,
            written,
            value_kind(self.kind, key),
            (
                base.value.text if base else None,
                site.value.text if site else None,
                new.value.text if new else None,
            ),
        )
        if value is None:
            for document in self.documents.values():
                edit.remove_setting(document, key)
        elif site is None or value != site.value.text:
            here = (
                self.documents[site.origin.file] if site else self.home(new.origin.file if new else self.file)
            )
            edit.set_setting(here, written, value)

    # Lists with an order: Prolog and its like, controllers

    def _controllers(self, changes: Iterable[Difference]) -> None:
        if any(change.record.lower() == "slurmctldhost" for change in changes):
            hosts = self._lists(lambda state: names_of(state, "slurmctldhost"))
            self._ordered("SlurmctldHost", hosts, identity=lambda name: name.partition("(")[0])

    def _values(self, key: str) -> None:
        self._ordered(key, self._lists(lambda state: state.view.values(key)))

    def _ordered(self, key: str, lists: Lists, identity: Callable[[str], str] = str) -> None:
        """Land a key whose values are a list, each on a line of its own."""
        base, site, wanted = lists
        places: dict[str, list[Place]] = {}
        for file, document in self.documents.items():
            for place in edit.find(document, key):
                places.setdefault(document.statements[place].value, []).append((file, place))
        # What an Include of the request brought is there already.
        site = [*site, *(name for name in wanted if name in places and name not in site)]
        request_wins = hyperpod_owns(self.file, key)
        moves = merge_ordered(base, site, wanted, request_wins=request_wins, identity=identity)
        for clash in moves.clashes:
            self.note(key, key, clash, request_wins=request_wins)

        def home(name: str) -> tuple[Place, Statement | None]:
            origin = next(
                each.origin
                for each in (*self.wanted.view.settings.get(key.lower(), ()), *self.wanted.view.of(key))
                if each.statement.value == name
            )
            file = self.home_of(origin.file)
            place, kin = edit.beside(self.documents[file], key)
            return (file, place), kin

        carry_out(
            self,
            moves,
            places,
            renamed=rewrite.with_name,
            line=lambda kin, name: rewrite.in_style_of(kin, [(key, name)]),
            home=home,
        )

    # Partitions, NodeSets, switches, blocks

    def _records(self, changes: Iterable[Difference]) -> None:
        """Land records in one pass a document: attributes where they stand, then what goes and what comes."""
        identities: dict[tuple[str, str], list[str]] = {}
        for change in changes:
            of_records = change.subject in (Subject.PARTITION, Subject.RECORD, Subject.TOPOLOGY)
            key = change.record.lower()
            if of_records and change.names and key != "slurmctldhost":
                identities.setdefault((key, change.names[0]), []).append(change.key.lower())
        if not identities:
            return
        places: dict[tuple[str, str], list[Place]] = {}
        opening = {key for key, _ in identities}
        for file, document in self.documents.items():
            for place, statement in enumerate(document.statements):
                head = statement.head
                if head is not None and head[0].lower() in opening:
                    places.setdefault((head[0].lower(), head[1]), []).append((file, place))
        gone: dict[str, list[int]] = {}
        added: dict[str, list[list[tuple[str, str]]]] = {}
        for identity, keys in identities.items():
            site = self.disk.records.get(identity)
            base = self.base.records.get(identity) if self.base else None
            new = self.wanted.records.get(identity)
            stands = places.get((identity[0], site.record.name), []) if site else []
            if new is None:
                if site is not None and base is not None and self._goes(base, site):
                    for file, place in stands:
                        gone.setdefault(file, []).append(place)
            elif site is None:
                if base is None or self._comes_back(base, new):
                    added.setdefault(self.home_of(new.origin.file), []).append(_pairs(new))
            else:
                every = dict.fromkeys([*(base.attributes if base else ()), *new.attributes])
                for key in every if "" in keys else keys:
                    self._attribute(key, base, site, new, stands)
        for file in {**gone, **added}:
            edit.change_lines(self.documents[file], gone.get(file, ()), added.get(file, ()))

    def _goes(self, base: RecordFact, site: RecordFact) -> bool:
        """Decide about a record that the request drops."""
        if _equal(base.attributes, site.attributes):
            return True
        request_wins = hyperpod_owns(self.file, base.rule.key)
        clash = Clash("", text_of(base.attributes), text_of(site.attributes), None)
        self.note(_label(base), base.rule.key, clash, request_wins=request_wins)
        return request_wins

    def _comes_back(self, base: RecordFact, new: RecordFact) -> bool:
        """Decide about a record that the site removed and the request changed."""
        if _equal(base.attributes, new.attributes):
            return False
        request_wins = hyperpod_owns(self.file, new.rule.key)
        clash = Clash("", text_of(base.attributes), None, text_of(new.attributes))
        self.note(_label(new), new.rule.key, clash, request_wins=request_wins)
        return request_wins

    def _attribute(
        self, key: str, base: RecordFact | None, site: RecordFact, new: RecordFact, places: Iterable[Place]
    ) -> None:
        values = (
            _text(base.attributes if base else {}, key),
            _text(site.attributes, key),
            _text(new.attributes, key),
        )
        written = (new.attributes.get(key) or site.attributes.get(key) or Value(key, "", None)).key
        value = self.decide(f"{_label(new)} {written}", new.rule.key, value_kind(self.kind, key), values)
        if value == values[1]:
            return
        for file, place in places:
            document = self.documents[file]
            edit.set_attribute(
                document, place, own_key(document.statements[place], site.rule, key, written), value
            )

    # Plugins

    def _plugins(self, changes: Iterable[Difference]) -> None:
        changed = [change for change in changes if change.subject is Subject.PLUGIN]
        if not changed:
            return
        document = self.documents.setdefault(self.file, Document())
        base, site, wanted = self.base.plugins if self.base else None, self.disk.plugins, self.wanted.plugins
        keeps = set()  # plugins that the site wrote otherwise, or took out: its word stands
        for change in changed:
            before, found, new = (
                lines[change.key].text if lines and change.key in lines else None
                for lines in (base, site, wanted)
            )
            if change.key != "order" and found not in (before, new):
                keeps.add(change.key)
                self.note(change.key, change.key, Clash("", before, found, new), request_wins=False)
        for name, line in site.items():
            if name in wanted and name not in keeps and line.text != wanted[name].text:
                statement = document.statements[line.place]
                edit.put(document, line.place, plugstack.with_text(statement, wanted[name].text))
        moves = merge_ordered(
            None if base is None else [name for name in base if name not in keeps],
            list(site),
            [name for name in wanted if name in site or name not in keeps],
            request_wins=False,
            in_place=False,
        )
        for clash in moves.clashes:
            self.note(self.file, self.file, clash, request_wins=False)
        carry_out(
            self,
            moves,
            {name: [(self.file, line.place)] for name, line in site.items()},
            renamed=plugstack.with_text,
            line=lambda _, name: wanted[name].text,
            home=lambda _: ((self.file, len(document) - 1), None),
        )

    # Includes

    def _bring_includes(self) -> None:
        """Add the Includes that the request has and the disk does not."""
        known = {name for name, _ in self.disk.view.includes}
        applied = {name for name, _ in self.base.view.includes} if self.base else set()
        for name, origin in self.wanted.view.includes:
            if name in known or name in applied or name not in self.wanted.view.documents:
                continue
            document = self.wanted.view.documents[name]
            if self._is_new(name):
                self.documents[name] = document.copy()
                self.created.add(name)
            else:
                self.documents[name] = Document(
                    statement for statement in document.statements if statement.is_silent
                )
            parent = self.home(origin.file)
            written = self.wanted.view.documents[origin.file].statements[origin.place].include
            edit.add_include(parent, written or name)

    def _is_new(self, name: str) -> bool:
        """Tell whether the disk has nothing of what an included file of the request says."""
        ours = [key for key, fact in self.wanted.settings.items() if fact.origin.file == name]
        records = [key for key, record in self.wanted.records.items() if record.origin.file == name]
        nodes = any(record.origin.file == name for record in self.wanted.view.of("NodeName"))
        return (
            not nodes
            and not any(key in self.disk.settings for key in ours)
            and not any(key in self.disk.records for key in records)
        )

    def _drop_includes(self) -> None:
        """Remove Includes that the request no longer has, where their file says nothing any more."""
        if self.base is None:
            return
        wanted = {name for name, _ in self.wanted.view.includes}
        for name, _ in self.base.view.includes:
            document = self.documents.get(name)
            if name in wanted or document is None or not all(each.is_silent for each in document.statements):
                continue
            written = {name, name.rpartition("/")[2]}
            for parent in self.documents.values():
                places = [place for place, each in enumerate(parent.statements) if each.include in written]
                edit.remove(parent, places)
            self.dropped.add(name)
            del self.documents[name]

    # Order

    def _reorder(self) -> None:
        blocks = self._lists(lambda state: names_of(state, "blockname"))
        if blocks[2] and self._order_lands("BlockName", blocks):
            rank = {name: number for number, name in enumerate(blocks[2])}
            for document in self.documents.values():
                edit.reorder(document, "BlockName", rank)
        nodes = self._lists(lambda state: list(state.nodes))
        if order_of_nodes_counts(self.wanted.view, self.release) and self._order_lands("NodeName", nodes):
            rank = {name: number for number, name in enumerate(nodes[2])}
            for document in self.documents.values():
                edit.reorder_nodes(document, rank)

    def _order_lands(self, key: str, lists: Lists) -> bool:
        request_wins = hyperpod_owns(self.file, key)
        lands, clash = order_lands(*lists, request_wins=request_wins)
        if clash is not None:
            self.note(key, key, clash, request_wins=request_wins)
        return lands


def names_of(state: Facts, key: str) -> list[str]:
    """Return the names of the records that a key opens, in their order."""
    return [name for record, name in state.records if record == key]


def _label(record: RecordFact) -> str:
    return f"{record.rule.key}={record.name}"


def _pairs(record: RecordFact) -> list[tuple[str, str]]:
    attributes = [(value.key, value.text) for value in record.attributes.values()]
    return [(record.rule.key, record.record.name), *attributes]


def own_key(statement: Statement, rule: RecordRule, key: str, written: str) -> str:
    """Return how an attribute is called on a line: by its other name where that stands there."""
    present = {pair.key.lower() for pair in statement.attributes}
    if key not in present:
        for first, other in rule.aliases:
            if first == key and other in present:
                return other
    return written


def _text(attributes: Shape, key: str) -> str | None:
    found = attributes.get(key)
    return found.text if found else None


def _equal(one: Shape, other: Shape) -> bool:
    return {key: value.meaning for key, value in one.items()} == {
        key: value.meaning for key, value in other.items()
    }
