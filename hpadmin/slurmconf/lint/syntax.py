"""Rules about lines as such: what Slurm's parser (``src/common/parse_config.c``) refuses or reads otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpadmin.slurmconf import lexer
from hpadmin.slurmconf.document import Statement
from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.lint import facts
from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, error, warning
from hpadmin.slurmconf.records import Origin
from hpadmin.slurmconf.view import View

_NO_VALUE = re.compile(r"^\s*(\w+)\s*=\s*$")
_CURLY = "“”‘’„"


def lines(subject: Subject) -> Iterator[Finding]:
    """What is left of a line, bytes that Slurm does not see, quotes and comments in the wrong places."""
    for view in subject.files.values():
        if view.kind is FileKind.PLUGSTACK:
            continue
        for origin, statement in view.statements:
            if statement.raw.startswith("\ufeff"):
                yield error(
                    origin,
                    "byte-order-mark",
                    "the file starts with a byte order mark, which Slurm takes for a part of its first line: "
                    "save it as UTF-8 without one",
                )
                continue
            if "\0" in statement.raw:
                yield warning(
                    origin, "nul-byte", "Slurm does not see what stands behind the NUL byte: remove it"
                )
            yield from _comments(origin, statement)
            yield from _leftover(view, origin, statement)


def _leftover(view: View, origin: Origin, statement: Statement) -> Iterator[Finding]:
    text = statement.logical.text
    pairs = statement.pairs
    if not pairs:
        yield _no_pair(origin, text)
        return
    opener = facts.openers(view.kind.value).get(pairs[0].key.lower())
    if opener is None:
        left = text[pairs[0].end :].strip(lexer.BLANKS)
    elif any(pair.key.lower() not in facts.known(f"{view.kind.value} {opener}") for pair in pairs[1:]):
        return  # the rule for keys says which one stops Slurm here
    else:
        left = statement.leftover
    if not left:
        return
    if statement.comment and '"' in statement.comment and text.count('"') % 2:
        message = f"a # starts a comment, inside quotes too: Slurm cannot read {left!r}; write \\# for a #"
        yield error(origin, "comment-in-quotes", message)
        return
    yield error(origin, "leftover-text", f"Slurm cannot read {left!r} here: {_advice(left, text, opener)}")


def _advice(left: str, text: str, opener: str | None) -> str:
    if any(mark in text for mark in _CURLY):
        return 'it knows no quotes but "'
    if text.count('"') % 2:
        return 'a " is missing'
    if opener is None and re.match(r"\w+\s*=", left):
        return "a line has one setting; give each its own line"
    if opener is not None and not re.match(r"\w+\s*=", left):
        return 'a value with blanks needs quotes (Key="a b"), a list has no blanks'
    return 'a value with blanks needs quotes: Key="a b"'


def _no_pair(origin: Origin, text: str) -> Finding:
    if re.match(r"\s+include\s", text, re.IGNORECASE):
        message = "Include counts only in the first column: remove the blanks before it"
        return error(origin, "include-indented", message)
    empty = _NO_VALUE.match(text)
    if empty:
        message = f'{empty[1]} has no value: write {empty[1]}="", or remove the line'
    else:
        message = f"{text.strip()[:60]!r} is no Key=value: remove it, or make it a comment (#)"
    return error(origin, "leftover-text", message)


def _comments(origin: Origin, statement: Statement) -> Iterator[Finding]:
    for pair in statement.pairs:
        if pair.quoted or '"' not in pair.value:
            continue
        if pair.value.startswith('"') and statement.comment and '"' in statement.comment:
            message = (
                f"{pair.key} is cut off at the #, which starts a comment inside quotes too: "
                f"Slurm reads {pair.value!r}; write \\# for a #"
            )
            yield warning(origin, "comment-in-quotes", message)
        elif not (pair.value.startswith('"') and pair.value.count('"') == 1):
            message = (
                f"{pair.key} keeps its quotes: Slurm reads {pair.value!r}; quote the whole value or nothing"
            )
            yield warning(origin, "quote-in-value", message)
    start = lexer.comment_start(statement.raw)
    if start > 0 and statement.pairs and statement.raw[start - 1] not in f'{lexer.BLANKS}"':
        message = (
            f"Slurm reads {statement.pairs[-1].key}={statement.pairs[-1].value} and takes the rest for a comment: "
            "write \\# for a #, or a blank before the comment"
        )
        yield warning(origin, "comment-in-value", message)


def includes(subject: Subject) -> Iterator[Finding]:
    """Includes that lead nowhere. Slurm looks for a missing file for a minute, in every command, then fails."""
    for view in subject.files.values():
        missing = {origin for _, origin in view.missing}
        for trouble in view.syntax_troubles:
            origin = trouble.origin
            name = view.documents[origin.file].statements[origin.place].include or ""
            if origin in missing:
                message = (
                    f"there is no {name}: every Slurm command hangs for a minute and then fails; "
                    "create it (it may be empty) before this line"
                )
                yield error(origin, "include-missing", message)
            elif "*" in name:
                message = f"Slurm knows no patterns in Include: name the files of {name} one by one"
                yield error(origin, "include-pattern", message)
            elif "%c" in name:
                message = f"{name} needs the cluster's name: put ClusterName before it"
                yield error(origin, "include-cluster-unknown", message)
            else:
                yield error(origin, "include-circle", f"{trouble.message}: remove the Include of {name}")


def broken_continuations(view: View) -> set[Origin]:
    """Return where a line stands that was meant to go on with the one before, but a comment came between.

    A blank or comment line ends a continued statement: Slurm reads the next line on its own.
    """
    found = set()
    for name, document in view.documents.items():
        broken = False
        for index, (line, statement) in enumerate(document.numbered()):
            if broken and not statement.is_silent and statement.include is None:
                found.add(Origin(name, line, index))
            physical = lexer.physical_lines(statement.raw)
            last = physical[-1].strip(lexer.BLANKS) if physical else ""
            broken = len(physical) > 1 and (not last or last.startswith("#"))
    return found


def repeated(subject: Subject) -> Iterator[Finding]:
    """Scalars and attributes that are given twice: the last counts, and Slurm's daemons complain."""
    for view in subject.files.values():
        file = view.kind.value
        for key, occurrences in view.settings.items():
            fact = facts.known(file).get(key)
            if fact is None or fact.kind == "array" or subject.release in fact.defunct:
                continue
            for setting in occurrences[1:]:
                first = occurrences[0].origin
                message = f"{fact.name} was set in {first} already; the last counts: keep one"
                yield warning(setting.origin, "repeated-key", message)
        for origin, statement in view.statements:
            seen = set[str]()
            for pair in statement.attributes:
                if pair.key.lower() in seen:
                    message = f"{pair.key} stands twice on this line; the last counts: keep one"
                    yield warning(origin, "repeated-key", message)
                seen.add(pair.key.lower())


RULES: tuple[Rule, ...] = (lines, includes, repeated)
