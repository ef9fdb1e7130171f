"""Edit a document in place: settings and records, each new line next to its kin and in their style.

>>> from hpadmin.slurmconf import dumps, loads
>>> document = loads("SlurmctldPort=6817\\n\\nNodeName=n[1-4] CPUs=8 # rack 1\\n")
>>> set_setting(document, "SlurmdPort", "6818")
>>> _ = change_nodes(document, {"n2": {"CPUs": "4"}})
>>> print(dumps(document).decode(), end="")
SlurmctldPort=6817
SlurmdPort=6818
<BLANKLINE>
NodeName=n1 CPUs=8 # rack 1
NodeName=n2 CPUs=4
NodeName=n[3-4] CPUs=8

What an edit does not concern keeps its bytes. Values that cannot stand in a Slurm file raise InvalidInput
before anything is changed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise

from hpadmin.errors import InvalidInput
from hpadmin.slurm import hostlist
from hpadmin.slurmconf import lexer, rewrite
from hpadmin.slurmconf.document import Document, Statement
from hpadmin.slurmconf.grammar import RECORDS, FileKind

_RECORD_KEYS = frozenset(key for rules in RECORDS.values() for key in rules)
_PER_NAME = RECORDS[FileKind.SLURM]["nodename"].per_name
_KIN_LENGTH = 5
"""Letters that two keys must share at their start to belong together: SlurmctldPort and SlurmctldTimeout."""


def find(document: Document, key: str, value: str | None = None) -> list[int]:
    """Return where statements stand whose first key is `key` (and whose value is `value`), in order."""
    lowered = key.lower()
    found = []
    for place, statement in enumerate(document.statements):
        head = statement.head
        if head is not None and head[0].lower() == lowered and (value is None or head[1] == value):
            found.append(place)
    return found


def set_setting(document: Document, key: str, value: str) -> None:
    """Set a scalar: in the line that counts (the last), or in a new one. Raises InvalidInput."""
    places = find(document, key)
    if places:
        document.statements[places[-1]] = rewrite.with_name(document.statements[places[-1]], value)
    else:
        add_line(document, [(key, value)])


def remove_setting(document: Document, key: str, value: str | None = None) -> bool:
    """Remove all lines of a setting (or of one value of a key that accumulates); tell whether there were any."""
    places = set(find(document, key, value))
    if places:
        remove(document, places)
    return bool(places)


def remove(document: Document, places: Collection[int]) -> None:
    """Remove the statements at some places. A file that had no final newline stays without."""
    gone = set(places)
    unended = bool(document.statements) and not rewrite.line_ending(document.statements[-1].raw)
    document.statements[:] = [
        statement for place, statement in enumerate(document.statements) if place not in gone
    ]
    if unended and document.statements:
        _cut_final_newline(document)


def _cut_final_newline(document: Document) -> None:
    last = document.statements[-1]
    ending = rewrite.line_ending(last.raw)
    # An Include must be followed by a blank or newline (hpadmin.slurmconf.view.UNENDED_INCLUDE).
    if ending and last.raw != ending and "\\" not in last.raw and last.include is None:
        document.statements[-1] = Statement(last.raw[: -len(ending)])


def add_line(document: Document, pairs: Sequence[tuple[str, str]], *, after: int | None = None) -> int:
    """Add a setting or record behind the statement at `after` (-1: at the start), else next to its kin.

    Returns its place. Raises InvalidInput.
    """
    place, kin = beside(document, pairs[0][0], after=after)
    return insert(document, place, rewrite.in_style_of(kin, pairs))


def beside(document: Document, key: str, *, after: int | None = None) -> tuple[int, Statement | None]:
    """Return where `add_line` adds a line with this key, and the statement whose style it takes."""
    place = place_for(document, key) if after is None else after
    kin = document.statements[place] if place >= 0 else None
    if kin is not None and (
        kin.head is None or (kin.head[0].lower() in _RECORD_KEYS) != (key.lower() in _RECORD_KEYS)
    ):
        kin = next((document.statements[found] for found in reversed(find(document, key))), None)
    return place, kin


def change_lines(
    document: Document, gone: Collection[int], added: Sequence[Sequence[tuple[str, str]]]
) -> None:
    """Remove the statements at some places and add records next to their kin, in one pass. Raises InvalidInput."""
    neighbours: dict[str, tuple[int, Statement | None]] = {}
    lines: dict[int, list[str]] = {}
    for pairs in added:
        key = pairs[0][0].lower()
        if key not in neighbours:
            neighbours[key] = beside(document, key)
        place, kin = neighbours[key]
        lines.setdefault(place, []).append(rewrite.in_style_of(kin, pairs))
    exchange(document, gone, lines)


def exchange(document: Document, gone: Collection[int], lines: Mapping[int, Sequence[str]]) -> None:
    """Remove the statements at some places and insert lines behind others, all places being those of before."""
    removed = sorted(gone)
    moved: dict[int, list[str]] = {}
    for place in sorted(lines):
        moved.setdefault(place - bisect_right(removed, place), []).extend(lines[place])
    if removed:
        remove(document, removed)
    if moved:
        insert_all(document, moved)


def insert(document: Document, after: int, line: str) -> int:
    """Insert a line without line ending behind the statement at `after` (-1: at the start); return its place."""
    insert_all(document, {after: [line]})
    return after + 1


def insert_all(document: Document, lines: Mapping[int, Sequence[str]]) -> None:
    """Insert lines without line ending, in one pass, each behind a statement given by its place (-1: at the start)."""
    newline = document.newline
    statements = document.statements
    last = len(statements) - 1
    result = [Statement(line + newline) for line in lines.get(-1, ())]
    for place, statement in enumerate(statements):
        result.append(statement)
        added = lines.get(place, ())
        if added and place == last:
            raw = statement.raw
            unended = not rewrite.line_ending(raw)
            if unended:
                raw += newline
            if (
                len(lexer.statements(raw + "x")) == 1
            ):  # a backslash at the very end would swallow the new line
                raw += newline
            result[-1] = Statement(raw)
            result.extend(Statement(line + newline) for line in added)
            if unended:
                result[-1] = Statement(added[-1])
                if result[-1].include is not None:
                    result[-1] = Statement(added[-1] + newline)
        else:
            result.extend(Statement(line + newline) for line in added)
    statements[:] = result


def put(document: Document, place: int, statement: Statement) -> None:
    """Put a statement in the place of another. A file that had no final newline stays without."""
    unended = place == len(document) - 1 and not rewrite.line_ending(document.statements[place].raw)
    ended = rewrite.line_ending(statement.raw) != ""
    document.statements[place] = statement if ended else Statement(statement.raw + document.newline)
    if unended:
        _cut_final_newline(document)


def place_for(document: Document, key: str) -> int:
    """Return the place behind which a new line with this key belongs; -1 for the start."""
    lowered = key.lower()
    same = find(document, key)
    if same:
        return same[-1]
    heads = [statement.head for statement in document.statements]
    keys = [head[0].lower() if head else "" for head in heads]
    if lowered in _RECORD_KEYS:
        return _place_for_record(document, lowered, keys)
    commented = _commented_out(document, lowered)
    if commented is not None:
        return commented
    best, place = _KIN_LENGTH - 1, -1
    for number, other in enumerate(keys):
        if other and other not in _RECORD_KEYS:
            length = _shared(lowered, other)
            if length > best or (length == best and length >= _KIN_LENGTH):
                best, place = length, number
    if place >= 0:
        return place
    settings = [number for number, other in enumerate(keys) if other and other not in _RECORD_KEYS]
    records = [
        number for number, other in enumerate(keys) if other in _RECORD_KEYS and other != "slurmctldhost"
    ]
    before = [number for number in settings if not records or number < records[0]]
    if before:
        return before[-1]
    if records:
        return records[0] - 1
    return settings[-1] if settings else len(keys) - 1


def _place_for_record(document: Document, key: str, keys: Sequence[str]) -> int:
    """Nodes come before partitions, in Slurm's manual and in most files; partitions last."""
    if key == "slurmctldhost" and "clustername" in keys:
        return keys.index("clustername")
    if key in ("nodename", "nodeset", "downnodes") and "partitionname" in keys:
        place = keys.index("partitionname") - 1
        while place >= 0 and document.statements[place].is_silent and document.statements[place].comment:
            place -= 1  # the comment above the partitions stays with them
        return place
    return len(keys) - 1


def _commented_out(document: Document, key: str) -> int | None:
    for place, statement in enumerate(document.statements):
        comment = statement.raw.lstrip(lexer.BLANKS)
        if comment.startswith("#"):
            name, sign, _ = comment.lstrip("#").partition("=")
            if sign and name.strip(lexer.BLANKS).lower() == key:
                return place
    return None


def _shared(one: str, other: str) -> int:
    length = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        length += 1
    return length


def set_attribute(document: Document, place: int, key: str, value: str | None) -> None:
    """Set an attribute of the record at `place`; None removes it. Raises InvalidInput."""
    statement = document.statements[place]
    changed = (
        rewrite.without_attribute(statement, key)
        if value is None
        else rewrite.with_attribute(statement, key, value)
    )
    document.statements[place] = changed


def change_nodes(
    document: Document,
    changes: Mapping[str, Mapping[str, str | None]],
    *,
    gone: Collection[str] = (),
    single: bool = False,
) -> set[str]:
    """Set attributes of single nodes (None removes one), and remove nodes, in one pass over the document.

    A line of several nodes is split where they differ afterwards, in the order that it had; its comment stays
    with the first part. Lines of nodes that are not concerned keep their bytes. Returns the nodes that were
    found. `single` gives every node that is concerned a line of its own. Raises InvalidInput.
    """
    removed = frozenset(gone)
    found: set[str] = set()
    result: list[Statement] = []
    for statement in document.statements:
        head = statement.head
        if head is None or head[0].lower() != "nodename" or head[1].upper() == "DEFAULT":
            result.append(statement)
            continue
        try:
            names = hostlist.expand(head[1])
        except hostlist.HostlistError:
            result.append(statement)
            continue
        concerned = [name for name in names if name in changes or name in removed]
        if not concerned:
            result.append(statement)
            continue
        found.update(concerned)
        result.extend(_parts(statement, names, changes, removed, single=single))
    unended = bool(document.statements) and not rewrite.line_ending(document.statements[-1].raw)
    document.statements[:] = result
    if unended and result:
        _cut_final_newline(document)
    return found


def _parts(
    statement: Statement,
    names: Sequence[str],
    changes: Mapping[str, Mapping[str, str | None]],
    removed: Collection[str],
    *,
    single: bool,
) -> list[Statement]:
    """Split a line into runs of nodes that are changed alike; those that are removed are left out."""
    nothing: Mapping[str, str | None] = {}
    runs: list[tuple[Mapping[str, str | None], list[int]]] = []
    for number, name in enumerate(names):
        if name in removed:
            continue
        change = changes.get(name, nothing)
        if runs and runs[-1][0] == change and not (single and name in changes):
            runs[-1][1].append(number)
        else:
            runs.append((change, [number]))
    parts = []
    base = statement
    newline = rewrite.line_ending(statement.raw) or "\n"
    for change, numbers in runs:
        part = base if len(numbers) == len(names) else subset(base, names, numbers)
        for key, value in change.items():
            part = (
                rewrite.without_attribute(part, key)
                if value is None
                else rewrite.with_attribute(part, key, value)
            )
        if not rewrite.line_ending(part.raw):
            part = Statement(part.raw + newline)
        parts.append(part)
        base = rewrite.without_comment(statement)
    return parts


def subset(statement: Statement, names: Sequence[str], numbers: Sequence[int]) -> Statement:
    """Return a NodeName line with some of its nodes; lists over them (NodeAddr …) shrink with them."""
    result = rewrite.with_name(statement, hostlist.fold(names[number] for number in numbers))
    for pair in statement.attributes:
        if pair.key.lower() not in _PER_NAME:
            continue
        text = pair.value
        bracketed = pair.key.lower() == "port" and not text.startswith("[") and ("-" in text or "," in text)
        values = hostlist.expand(f"[{text}]" if bracketed else text)
        if len(values) == len(names) and len(values) > 1:
            folded = hostlist.fold(values[number] for number in numbers)
            if bracketed and len(numbers) > 1:
                folded = folded.strip("[]")
            result = rewrite.with_attribute(result, pair.key, folded)
    return result


def without_names(statement: Statement, gone: Collection[str]) -> Statement | None:
    """Return a NodeName line without some of its nodes; None when none is left. Raises InvalidInput."""
    names = hostlist.expand(statement.value)
    left = [number for number, name in enumerate(names) if name not in gone]
    if not left:
        return None
    return statement if len(left) == len(names) else subset(statement, names, left)


def reorder(document: Document, key: str, rank: Mapping[str, int]) -> None:
    """Put the records that `key` opens into an order, in the places that they have; unranked ones stay put."""
    places = [place for place in find(document, key) if document.statements[place].value in rank]
    _permute(document, places, lambda statement: rank[statement.value])


def reorder_nodes(document: Document, rank: Mapping[str, int]) -> None:
    """Put the NodeName lines into the order of their nodes. Lines that no order of lines can put right are split.

    Nodes without rank stay where they are. Raises InvalidInput.
    """
    places = find(document, "NodeName")
    names = {place: hostlist.expand(document.statements[place].value) for place in places}
    ranks = {place: [rank[name] for name in names[place] if name in rank] for place in places}
    ranked = [place for place in places if ranks[place]]
    if all(a < b for a, b in pairwise([number for place in ranked for number in ranks[place]])):
        return
    spans = sorted((ranks[place][0], ranks[place][-1]) for place in ranked)
    whole = all(ranks[place] == sorted(ranks[place]) for place in ranked)
    if not whole or any(last >= first for (_, last), (first, _) in pairwise(spans)):
        change_nodes(document, {name: {} for name in rank}, single=True)
        places = find(document, "NodeName")
        ranked = [place for place in places if document.statements[place].value in rank]
    _permute(
        document,
        ranked,
        lambda statement: min(rank[name] for name in hostlist.expand(statement.value) if name in rank),
    )


def _permute(document: Document, places: Sequence[int], order: Callable[[Statement], int]) -> None:
    chosen = sorted((document.statements[place] for place in places), key=order)
    unended = bool(document.statements) and not rewrite.line_ending(document.statements[-1].raw)
    newline = document.newline
    for place, statement in zip(places, chosen, strict=True):
        document.statements[place] = (
            statement if rewrite.line_ending(statement.raw) else Statement(statement.raw + newline)
        )
    if unended:
        _cut_final_newline(document)


def add_include(document: Document, name: str) -> int:
    """Add an Include behind the last one, else behind the last setting. Raises InvalidInput for such a name."""
    line = f"Include {name}"
    if (
        not name
        or lexer.include(Statement(line).logical.text) != (name, len(line))
        or len(lexer.statements(line)) > 1
    ):
        raise InvalidInput(f"Include cannot name such a file: {name!r}")
    places = [place for place, statement in enumerate(document.statements) if statement.include is not None]
    return insert(document, places[-1] if places else place_for(document, "Include"), line)


def keep(document: Document, wanted: Callable[[Statement], bool]) -> None:
    """Remove every statement of which `wanted` says no."""
    remove(document, [place for place, statement in enumerate(document.statements) if not wanted(statement)])


def attributes_of(statement: Statement) -> Iterable[tuple[str, str]]:
    """Yield key and value of a record's attributes, in the order of the line."""
    return ((pair.key, pair.value) for pair in statement.attributes)
