"""The facts that a view is made of: settings and records, each with the file and line that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from hpadmin.slurm import hostlist
from hpadmin.slurmconf import lexer
from hpadmin.slurmconf.document import Statement
from hpadmin.slurmconf.grammar import RecordRule


class Origin(NamedTuple):
    """Where a fact is written."""

    file: str
    line: int
    """Its first physical line, from 1."""
    place: int
    """Its index among the statements of the file's document."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Setting:
    """A key without attributes and its value."""

    key: str
    """As written."""
    value: str
    origin: Origin
    statement: Statement


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that Slurm's parser refuses, or reads otherwise than it looks."""

    origin: Origin
    message: str


class Attribute(NamedTuple):
    """One attribute of a record."""

    key: str
    """As written."""
    value: str


MAX_DEFAULTS = 256
"""Keys that DEFAULT lines may give; Slurm knows 26 for nodes and 45 for partitions."""
_NOTHING: Mapping[str, Attribute] = MappingProxyType({})


class Record:
    """One line that a key such as NodeName opens. Immutable; parsed when first looked into."""

    __slots__ = (
        "_attributes",
        "_each",
        "_given",
        "_names",
        "_own",
        "defaults",
        "name",
        "origin",
        "rule",
        "statement",
    )

    def __init__(
        self, rule: RecordRule, name: str, statement: Statement, origin: Origin, defaults: Record | None
    ) -> None:
        self.rule = rule
        self.name = name
        """The value of the opening key: a name or, for nodes, a host list."""
        self.statement = statement
        self.origin = origin
        self.defaults = defaults
        """The last record named DEFAULT before this one; it in turn knows the one before it."""
        self._own: Mapping[str, Attribute] | None = None
        self._given: Mapping[str, Attribute] | None = None
        self._attributes: Mapping[str, Attribute] | None = None
        self._names: tuple[str, ...] | None = None
        self._each: Mapping[str, tuple[str, ...]] | None = None

    def __repr__(self) -> str:
        return f"Record({self.rule.key}={self.name}, {self.origin})"

    @property
    def own(self) -> Mapping[str, Attribute]:
        """The attributes of the line itself, by lower-case key; the last counts where one is repeated."""
        if self._own is None:
            found = lexer.assignments(self.statement.logical.text)
            if found is None:
                found = [(pair.key, pair.value) for pair in self.statement.pairs]
            self._own = MappingProxyType({key.lower(): Attribute(key, value) for key, value in found[1:]})
        return self._own

    @property
    def inherited(self) -> Mapping[str, Attribute]:
        """The attributes that DEFAULT lines before this one give, whether or not the line overrides them."""
        if self.defaults is None:
            return _NOTHING
        return self.defaults.given

    @property
    def given(self) -> Mapping[str, Attribute]:
        """For a record named DEFAULT: what it and those before it give to the records after it."""
        if self._given is None:
            chain: list[Record] = []
            record: Record | None = self
            while record is not None and record._given is None:
                chain.append(record)
                record = record.defaults
            merged = dict(record._given) if record is not None and record._given is not None else {}
            for record in reversed(chain):
                for key, attribute in record.own.items():
                    if key not in self.rule.not_inherited and (key in merged or len(merged) < MAX_DEFAULTS):
                        merged[key] = attribute
            self._given = MappingProxyType(merged)
        return self._given

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """What Slurm takes for this record: its own attributes, then DEFAULT's, other names made one.

        Of two names for one thing the first of `RecordRule.aliases` is the key. For Feature and Features the
        line's own come before DEFAULT's; for the others (CPUs and Procs, OverSubscribe and Shared) the first
        name comes before the second, wherever it stands (``_parse_nodename``, ``_parse_partitionname``).
        """
        if self._attributes is None:
            merged = {**self.inherited, **self.own}
            for key, other in self.rule.aliases:
                if other not in merged:
                    continue
                second = merged.pop(other)
                if key == "feature" and key not in self.own and other in self.own:
                    merged[key] = second
                else:
                    merged.setdefault(key, second)
            self._attributes = MappingProxyType(merged)
        return self._attributes

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the record stands for. Raises hpadmin.slurm.hostlist.HostlistError."""
        if self._names is None:
            self._names = tuple(hostlist.expand(self.name))
        return self._names

    @property
    def each(self) -> Mapping[str, tuple[str, ...]]:
        """For every attribute that is a list over the names: its values, one for all or one for each name.

        Raises hpadmin.slurm.hostlist.HostlistError for a value that is no host list.
        """
        if self._each is None:
            found = {}
            for key in self.rule.per_name:
                attribute = self.attributes.get(key)
                if attribute is not None:
                    text = attribute.value
                    if key == "port" and not text.startswith("[") and ("-" in text or "," in text):
                        text = f"[{text}]"
                    found[key] = tuple(hostlist.expand(text))
            self._each = MappingProxyType(found)
        return self._each

    def get(self, key: str, default: str = "") -> str:
        """Return the value of an attribute, DEFAULT lines considered; `key` in any case."""
        attribute = self.attributes.get(key.lower())
        return default if attribute is None else attribute.value


class Node(NamedTuple):
    """One node of a NodeName record."""

    name: str
    record: Record
    position: int
    """Its place among the names of the record."""

    def get(self, key: str, default: str = "") -> str:
        """Return the value of an attribute for this node, DEFAULT lines considered; `key` in any case.

        NodeHostname falls back to the name and NodeAddr to NodeHostname, as in Slurm. Where a list has fewer
        values than the record has names (which slurmctld refuses unless it is one) the last is taken.
        """
        lowered = key.lower()
        if lowered in self.record.rule.per_name:
            values = self.record.each.get(lowered)
            if values:
                return values[min(self.position, len(values) - 1)]
            if lowered == "nodeaddr":
                return self.get("nodehostname")
            return self.name if lowered == "nodehostname" else default
        return self.record.get(lowered, default)
