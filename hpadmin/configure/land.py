"""Land the request's changes in the documents on disk, leaving everything else as the site wrote it.

`Lander` takes one top-level file in three states and edits a copy of the documents on disk. What both sides
changed is decided by `hpadmin.configure.three_way` and noted in `Landing.conflicts`.
"""

from __future__ import annotations

from hpadmin.configure.land_nodes import land_gres, land_nodes
from hpadmin.configure.landing import Landing
from hpadmin.configure.ownership import hyperpod_owns
from hpadmin.configure.three_way import Clash
from hpadmin.slurmconf import edit, grammar, rewrite
from hpadmin.slurmconf.difference import Difference, Subject, compare, order_of_nodes_counts, text_of
from hpadmin.slurmconf.document import Document, Statement
from hpadmin.slurmconf.facts import RecordFact, Shape, Value
from hpadmin.slurmconf.grammar import RecordRule, value_kind


class Lander(Landing):
    """Lands one top-level file."""

    def land(self) -> None:
        """Do it. Raises InvalidInput for a value that cannot be written."""
        changes = [
            change
            for change in compare(
                self.disk if self.base is None else self.base, self.wanted, release=self.release
            )
            if not (self.base is None and change.after is None)
        ]
        self._bring_includes()
        for change in changes:
            if change.after_origin is not None and change.after_origin.file in self.created:
                continue
            if change.subject is Subject.PLUGIN and change.key != "order":
                self._plugin(change)
            elif change.key == "order":
                continue
            elif change.subject in (Subject.SETTING, Subject.TOPOLOGY) and not change.record:
                self._setting(change)
            elif change.subject in (Subject.PARTITION, Subject.RECORD, Subject.TOPOLOGY):
                self._record(change)
        land_nodes(self, [change for change in changes if change.subject is Subject.NODE])
        land_gres(self, [change for change in changes if change.subject is Subject.GRES])
        self._reorder()
        self._drop_includes()

    # Settings

    def _setting(self, change: Difference) -> None:
        key = change.key.lower()
        if key in grammar.ACCUMULATING.get(self.kind, frozenset()):
            self._accumulating(change.key)
            return
        site = self.disk.settings.get(key)
        base = self.base.settings.get(key) if self.base else None
        new = self.wanted.settings.get(key)
        value = self.decide(
            change.key,
            change.key,
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
            edit.set_setting(here, change.key, value)

    def _accumulating(self, key: str) -> None:
        base = self.base.view.values(key) if self.base else []
        wanted = self.wanted.view.values(key)
        site = self.disk.view.values(key)
        for value in base:
            if value not in wanted:
                for document in self.documents.values():
                    edit.remove_setting(document, key, value)
        for number, value in enumerate(wanted):
            if value not in base and value not in site:
                self._add_value(key, value, wanted[:number])

    def _add_value(self, key: str, value: str, before: list[str]) -> None:
        """Add one value of a key that accumulates, behind those that come before it in the request."""
        setting = next(each for each in self.wanted.view.settings[key.lower()] if each.value == value)
        places = {
            document.statements[place].value: (document, place)
            for document in self.documents.values()
            for place in edit.find(document, key)
        }
        anchor = next((places[other] for other in reversed(before) if other in places), None)
        if anchor is not None:
            edit.add_line(anchor[0], [(key, value)], after=anchor[1])
        elif places:
            document, place = next(iter(places.values()))
            edit.add_line(document, [(key, value)], after=place - 1)
        else:
            edit.add_line(self.home(setting.origin.file), [(key, value)])

    # Partitions, NodeSets, switches, blocks

    def _record(self, change: Difference) -> None:
        identity = (change.record.lower(), change.names[0])
        site = self.disk.records.get(identity)
        base = self.base.records.get(identity) if self.base else None
        new = self.wanted.records.get(identity)
        label = f"{change.record}={change.names[0]}"
        if new is None:
            if site is not None and base is not None:
                self._remove_record(label, base, site)
        elif site is None:
            if base is None or self._comes_back(label, base, new):
                self._add_record(new)
        elif change.key:
            self._attribute(label, change.key.lower(), base, site, new)
        else:
            for key in dict.fromkeys([*(base.attributes if base else ()), *new.attributes]):
                self._attribute(label, key, base, site, new)

    def _remove_record(self, label: str, base: RecordFact, site: RecordFact) -> None:
        request_wins = hyperpod_owns(self.file, base.rule.key)
        if not _equal(base.attributes, site.attributes):
            clash = Clash("", text_of(base.attributes), text_of(site.attributes), None)
            self.note(label, base.rule.key, clash, request_wins=request_wins)
            if not request_wins:
                return
        for document in self.documents.values():
            edit.remove(document, edit.find(document, base.rule.key, site.record.name))

    def _comes_back(self, label: str, base: RecordFact, new: RecordFact) -> bool:
        """Decide about a record that the site removed and the request changed."""
        request_wins = hyperpod_owns(self.file, new.rule.key)
        clash = Clash("", text_of(base.attributes), None, text_of(new.attributes))
        if not _equal(base.attributes, new.attributes):
            already = any(conflict.setting == label for conflict in self.conflicts)
            if not already:
                self.note(label, new.rule.key, clash, request_wins=request_wins)
            return request_wins and not already
        return False

    def _add_record(self, new: RecordFact) -> None:
        document = self.home(new.origin.file)
        pairs = [
            (new.rule.key, new.record.name),
            *[(value.key, value.text) for value in new.attributes.values()],
        ]
        edit.add_line(document, pairs)

    def _attribute(
        self, label: str, key: str, base: RecordFact | None, site: RecordFact, new: RecordFact
    ) -> None:
        values = (
            _text(base.attributes if base else {}, key),
            _text(site.attributes, key),
            _text(new.attributes, key),
        )
        written = (new.attributes.get(key) or site.attributes.get(key) or Value(key, "", None)).key
        value = self.decide(f"{label} {written}", new.rule.key, value_kind(self.kind, key), values)
        if value == values[1]:
            return
        document = self.documents[site.origin.file]
        for place in edit.find(document, site.rule.key, site.record.name):
            edit.set_attribute(
                document, place, own_key(document.statements[place], site.rule, key, written), value
            )

    # Plugins

    def _plugin(self, change: Difference) -> None:
        document = self.documents.setdefault(self.file, Document())
        site = self.disk.plugins.get(change.key)
        if site is not None and site.text == change.after:
            return
        untouched = (site.text if site else None) == (change.before if self.base else None)
        if not untouched:
            self.note(
                change.key,
                change.key,
                Clash("", change.before if self.base else None, site.text if site else None, change.after),
                request_wins=False,
            )
            return
        if site is not None and change.after is None:
            edit.keep(document, lambda statement: statement.raw.split()[1:2] != [site.path])
        elif site is not None and change.after is not None:
            for place, statement in enumerate(document.statements):
                if statement.raw.split()[1:2] == [site.path]:
                    ending = rewrite.line_ending(statement.raw)
                    document.statements[place] = Statement(change.after + ending)
        elif change.after is not None:
            edit.insert(document, len(document) - 1, change.after)

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
        for key in ("blockname", "slurmctldhost"):
            rank = {
                name: number for number, (record, name) in enumerate(self.wanted.records) if record == key
            }
            if rank:
                for document in self.documents.values():
                    edit.reorder(document, key, rank)
        if order_of_nodes_counts(self.wanted.view, self.release):
            rank = {name: number for number, name in enumerate(self.wanted.nodes)}
            for document in self.documents.values():
                edit.reorder_nodes(document, rank)


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
