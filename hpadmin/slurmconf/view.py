"""What Slurm would understand of a file and its Includes: settings, records, nodes, partitions, with origins.

>>> files = {
...     "slurm.conf": b"ClusterName=Lab\\nNodeName=DEFAULT CPUs=4\\nNodeName=n[1-3]\\nInclude %c.conf\\n",
...     "lab.conf": b"PartitionName=all Nodes=ALL\\n",
... }
>>> seen = view("slurm.conf", files.get)
>>> seen.nodes["n2"].get("cpus"), sorted(seen.partition_nodes("all").names)
('4', ['n1', 'n2', 'n3'])
>>> str(seen.partitions["all"].origin)
'lab.conf:1'

A view is a picture of what was read; it is pure (the files come from an injected reader) and lazy: a folded
line stays folded until somebody asks for its nodes. It refuses nothing: what Slurm's parser would not accept
is listed in `View.troubles`, and what it nevertheless understood is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from hpadmin.slurm import hostlist
from hpadmin.slurmconf import grammar, lexer
from hpadmin.slurmconf.document import Document, Statement, loads
from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.records import Node, Origin, Record, Setting, Trouble

Reader = Callable[[str], "bytes | str | Document | None"]
"""Gives a file by its name relative to the configuration folder (or absolute, as an Include wrote it)."""

MAX_INCLUDE_DEPTH = 32
"""Files within files that are followed; Slurm itself goes on until it crashes."""
UNENDED_INCLUDE = "Include without blank or newline behind it: Slurm reads on into what earlier lines left"
"""Seen with 24.11.5: ``Include x`` at the end of a file without final newline, or ``Include x#comment``."""
MAX_INCLUDES = 4096
"""Includes that are followed in all."""
MAX_READ_AGAIN = 16_384
"""Statements that are read once more because their file is included once more: files that include each other by
the hundred would else make millions of a few lines."""


@dataclass(frozen=True, slots=True)
class NodeSelection:
    """The nodes that a list such as a partition's ``Nodes=`` names."""

    names: frozenset[str]
    unknown: tuple[str, ...] = ()
    """Names that are neither a node nor a NodeSet: slurmctld does not start with them."""
    functions: tuple[str, ...] = ()
    """``block{…}``, ``switch{…}``, ``blockwith{…}``, ``switchwith{…}``: only the topology knows what they name."""


class View:
    """The facts of one top-level file and everything that it includes. Treat as immutable."""

    def __init__(self, name: str, kind: FileKind) -> None:
        self.name = name
        self.kind = kind
        self.documents: dict[str, Document] = {}
        """Every file that was read, by the name under which it was asked for, in the order of reading."""
        self.settings: dict[str, list[Setting]] = {}
        """Keys without attributes, in lower case, with all their occurrences."""
        self.records: dict[str, list[Record]] = {}
        """Records by lower-case opening key, in order, those named DEFAULT left out."""
        self.default_records: dict[str, list[Record]] = {}
        """Records named DEFAULT by lower-case opening key, in order."""
        self.includes: list[tuple[str, Origin]] = []
        """Names of the files that Includes name, ``%c`` filled in."""
        self.missing: list[tuple[str, Origin]] = []
        """Those of them that the reader does not have: Slurm hangs for a minute on each and then fails."""
        self.statements: list[tuple[Origin, Statement]] = []
        """What is neither blank nor comment nor Include, in the order in which Slurm reads it."""
        self.syntax_troubles: list[Trouble] = []
        """Includes that lead nowhere; `troubles` has them and everything else."""

    def setting(self, key: str) -> Setting | None:
        """Return the occurrence of a scalar that counts, which is the last; None when it is not set."""
        found = self.settings.get(key.lower())
        return found[-1] if found else None

    def value(self, key: str, default: str = "") -> str:
        """Return the value of a scalar, `default` when it is not set."""
        found = self.setting(key)
        return found.value if found else default

    def values(self, key: str) -> list[str]:
        """Return all values of a key that accumulates, such as Prolog, in order."""
        return [setting.value for setting in self.settings.get(key.lower(), ())]

    def of(self, key: str) -> list[Record]:
        """Return the records that `key` opens, in order, without those named DEFAULT."""
        return self.records.get(key.lower(), [])

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes of the NodeName records (slurm.conf), in the order of the lines.

        A node that is named twice, which slurmctld refuses, is taken from where it stands first.
        Names that are no host list are left out; `troubles` names them.
        """
        nodes: dict[str, Node] = {}
        for record in self.of("NodeName"):
            try:
                names = record.names
            except hostlist.HostlistError:
                continue
            for position, name in enumerate(names):
                if name not in nodes:
                    nodes[name] = Node(name, record, position)
        return nodes

    @cached_property
    def partitions(self) -> Mapping[str, Record]:
        """The partitions, in order. Of two of one name, which slurmctld refuses, the first."""
        partitions: dict[str, Record] = {}
        for record in self.of("PartitionName"):
            partitions.setdefault(record.name, record)
        return partitions

    @cached_property
    def node_sets(self) -> Mapping[str, Record]:
        """The NodeSet records by name; the first of one name."""
        sets: dict[str, Record] = {}
        for record in self.of("NodeSet"):
            sets.setdefault(record.name, record)
        return sets

    @cached_property
    def _by_feature(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for record in self.of("NodeName"):
            features = [feature for feature in record.get("Feature").split(",") if feature]
            if features:
                names = [name for name in record.names if self.nodes[name].record is record]
                for feature in features:
                    found.setdefault(feature, set()).update(names)
        return {feature: frozenset(names) for feature, names in found.items()}

    def partition_nodes(self, partition: str) -> NodeSelection:
        """Return the nodes of a partition. Raises KeyError for a partition that is not there,
        hpadmin.slurm.hostlist.HostlistError for a list that Slurm cannot read."""
        return self.select(self.partitions[partition].get("Nodes"))

    def select(self, nodes: str) -> NodeSelection:
        """Return the nodes that a list names: node names, NodeSets, ALL, ``feature{x}``.

        The rules are those of ``nodespec_to_hostlist`` (``src/slurmctld/read_config.c``): ALL counts only as
        the whole list. Raises hpadmin.slurm.hostlist.HostlistError.
        """
        if nodes.upper() == "ALL":
            return NodeSelection(frozenset(self.nodes))
        selected: set[str] = set()
        unknown: list[str] = []
        functions: list[str] = []
        names = hostlist.expand(nodes.translate(_BLANKS_TO_COMMAS))
        for name in names:
            if name in self.nodes:
                selected.add(name)
            elif name in self.node_sets:
                self._add_set(self.node_sets[name], selected, unknown)
            elif name.startswith("feature{") and name.endswith("}"):
                selected |= self._by_feature.get(name[8:-1], frozenset())
            elif "{" in name:
                functions.append(name)
            else:
                unknown.append(name)
        return NodeSelection(frozenset(selected), tuple(dict.fromkeys(unknown)), tuple(functions))

    def _add_set(self, node_set: Record, selected: set[str], unknown: list[str]) -> None:
        feature = node_set.get("Feature")
        if feature:
            selected |= self._by_feature.get(feature, frozenset())
        nodes = node_set.get("Nodes")
        if nodes.upper() == "ALL":
            selected.update(self.nodes)
        elif nodes:
            for name in hostlist.expand(nodes):
                if name in self.nodes:
                    selected.add(name)
                else:
                    unknown.append(name)

    @cached_property
    def troubles(self) -> tuple[Trouble, ...]:
        """What Slurm's parser refuses here, in the order of reading. Unknown keys are not its business."""
        found = list(self.syntax_troubles)
        for origin, statement in self.statements:
            leftover = self._leftover(statement)
            if leftover:
                found.append(Trouble(origin, f'Parse error: "{leftover}"'))
        for record in self.of("NodeName"):
            try:
                _ = record.names, record.each
            except hostlist.HostlistError as error:
                found.append(Trouble(record.origin, error.message))
        order = {name: number for number, name in enumerate(self.documents)}
        return tuple(sorted(found, key=lambda trouble: (order[trouble.origin.file], trouble.origin.line)))

    def _leftover(self, statement: Statement) -> str:
        if self.kind is FileKind.PLUGSTACK:
            return ""
        if statement.key.lower() in grammar.RECORDS[self.kind]:
            return statement.leftover
        if not statement.pairs:
            return statement.logical.text.strip(lexer.BLANKS)
        return statement.logical.text[statement.pairs[0].end :].strip(lexer.BLANKS)


_BLANKS_TO_COMMAS = {ord(blank): "," for blank in lexer.BLANKS}


def view(name: str, read: Reader, kind: FileKind | None = None) -> View:
    """Read the file `name` and everything that it includes.

    `kind` tells what the keys mean; left out, the name does (`hpadmin.slurmconf.grammar.file_kind`).
    A file that the reader does not have is an empty one; included files that it does not have are in
    `View.missing`. Pure: the reader is the only way out.
    """
    seen = View(name, grammar.file_kind(name) if kind is None else kind)
    _Builder(seen, read).read(name, ())
    return seen


class _Builder:
    def __init__(self, seen: View, read: Reader) -> None:
        self.seen = seen
        self.reader = read
        self.rules = grammar.RECORDS[seen.kind]
        self.defaults: dict[str, Record] = {}
        self.read_again = 0

    def read(self, name: str, ancestors: tuple[str, ...]) -> bool:
        document = self.seen.documents.get(name)
        if document is None:
            content = self.reader(name)
            if content is None:
                return False
            document = content if isinstance(content, Document) else loads(content)
            self.seen.documents[name] = document
        for index, (line, statement) in enumerate(document.numbered()):
            self._take(name, line, index, statement, ancestors)
        return True

    def _take(
        self, name: str, line: int, index: int, statement: Statement, ancestors: tuple[str, ...]
    ) -> None:
        head = statement.head
        seen = self.seen
        if head is None:
            if statement.is_silent:
                return
            origin = Origin(name, line, index)
            if statement.include is not None:
                self._include(statement, origin, (*ancestors, name))
            else:
                seen.statements.append((origin, statement))
            return
        key, value = head
        lowered = key.lower()
        origin = Origin(name, line, index)
        seen.statements.append((origin, statement))
        rule = self.rules.get(lowered)
        if rule is None:
            seen.settings.setdefault(lowered, []).append(Setting(key, value, origin, statement))
            return
        record = Record(rule, value, statement, origin, self.defaults.get(lowered) if rule.defaults else None)
        if rule.defaults and value.upper() == "DEFAULT":
            self.defaults[lowered] = record
            seen.default_records.setdefault(lowered, []).append(record)
        else:
            seen.records.setdefault(lowered, []).append(record)

    def _include(self, statement: Statement, origin: Origin, ancestors: tuple[str, ...]) -> None:
        seen = self.seen
        written = statement.include or ""
        if seen.kind is not FileKind.PLUGSTACK:
            if statement.leftover:
                seen.syntax_troubles.append(Trouble(origin, f'Parse error: "{statement.leftover}"'))
            elif not statement.logical.text[-1:].isspace():
                seen.syntax_troubles.append(Trouble(origin, UNENDED_INCLUDE))
        trouble = ""
        name = written
        if self.seen.kind is FileKind.PLUGSTACK:
            return
        if "%c" in written:
            cluster = seen.value("ClusterName")
            if cluster:
                name = written.replace("%c", cluster.lower())
            else:
                trouble = "Include names the cluster (%c) before ClusterName is set"
        if not trouble:
            name = _relative(name, seen.name)
            if "*" in name:
                trouble = f"Slurm does not support patterns in Include: {name}"
            elif not written:
                trouble = "Include names no file"
            elif name in ancestors:
                trouble = f"Include of {name} within itself"
            elif len(ancestors) > MAX_INCLUDE_DEPTH or len(seen.includes) >= MAX_INCLUDES:
                trouble = "too many Includes"
            elif name in seen.documents:
                self.read_again += len(seen.documents[name])
                if self.read_again > MAX_READ_AGAIN:
                    trouble = f"too many Includes of what was read already: {name}"
        if trouble:
            seen.syntax_troubles.append(Trouble(origin, trouble))
            return
        seen.includes.append((name, origin))
        if not self.read(name, ancestors):
            seen.missing.append((name, origin))
            seen.syntax_troubles.append(Trouble(origin, f"Include of {name}, which is not there"))


def _relative(written: str, top: str) -> str:
    """Return the name under which the reader knows an included file: next to the top-level file."""
    if written.startswith("/"):
        return written
    folder = PurePosixPath(top).parent
    return str(folder / written) if folder != PurePosixPath() else written


def effective_settings(seen: View) -> Iterator[tuple[str, list[Setting]]]:
    """Yield each key of `View.settings` with the occurrences that count: all of keys that accumulate."""
    accumulating = grammar.ACCUMULATING.get(seen.kind, frozenset())
    for key, occurrences in seen.settings.items():
        yield key, occurrences if key in accumulating else occurrences[-1:]
