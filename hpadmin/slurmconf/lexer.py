"""How Slurm reads the lines of its files: comments, continuations, escapes, ``Key=value`` pairs.

The rules are those of ``src/common/parse_config.c`` (Slurm 24.11), in the C locale that the daemons run in:

* A physical line ends at its newline; of a line with a NUL byte Slurm sees what stands before it.
* ``#`` starts a comment, inside quotes too, unless an odd number of backslashes stands before it.
* An odd number of backslashes at the end, blanks behind them or not, joins the next physical line.
* Then every backslash is dropped and the character behind it kept.
* A value is quoted only when it starts with ``"`` and a blank or the end follows the closing ``"``.

Everything here is pure and linear in the length of its input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

BLANKS = " \t\n\v\f\r"
"""What ``isspace`` accepts in the C locale."""

_PHYSICAL = re.compile(r"[^\n]*\n|[^\n]+")
_PAIR = re.compile(
    r"[ \t\n\v\f\r]*+"
    r"(?P<key>[A-Za-z0-9_.]++)[ \t\n\v\f\r]*+(?P<operator>[-*+/]?)=[ \t\n\v\f\r]*+"
    r'(?:"(?P<quoted>[^"]*+)"(?=[ \t\n\v\f\r]|\Z)|(?P<plain>[^ \t\n\v\f\r]++))'
)
_KEY = re.compile(r"[A-Za-z0-9_.]+")
_INCLUDE = re.compile(r"include[ \t\n\v\f\r]++(?P<name>[^ \t\n\v\f\r]*+)", re.IGNORECASE | re.ASCII)


class Pair(NamedTuple):
    """One ``Key=value`` as Slurm reads it. Positions count in the logical line."""

    key: str
    """As written; Slurm compares keys without case."""
    operator: str
    """``+``, ``-``, ``*`` or ``/`` of ``+=`` and the like, else empty. slurm.conf ignores it."""
    value: str
    quoted: bool
    start: int
    """Where the key starts."""
    value_start: int
    """Where the value starts, its opening quote included."""
    end: int
    """Behind the value, its closing quote included."""


def physical_lines(text: str) -> list[str]:
    """Cut a file at its newlines, which stay with their lines."""
    return _PHYSICAL.findall(text)


def _visible_end(line: str) -> int:
    """Return where the part ends that Slurm looks at: before a NUL byte or a comment."""
    end = line.find("\0")
    if end < 0:
        end = len(line)
    hash_at = line.find("#", 0, end)
    while hash_at >= 0:
        start = hash_at
        while start and line[start - 1] == "\\":
            start -= 1
        if (hash_at - start) % 2 == 0:
            return hash_at
        hash_at = line.find("#", hash_at + 1, end)
    return end


def _continued_at(line: str, end: int) -> int:
    """Return where the backslash stands that joins the next line, -1 when none does."""
    last = end
    while last and line[last - 1] in BLANKS:
        last -= 1
    first = last
    while first and line[first - 1] == "\\":
        first -= 1
    return last - 1 if (last - first) % 2 else -1


def statements(text: str) -> list[str]:
    """Cut a file into logical lines: each one or more physical lines. Joined they are the text again."""
    lines = physical_lines(text)
    if "\\" not in text:
        return lines
    joined: list[str] = []
    pending: list[str] = []
    for line in lines:
        if "\\" in line and _continued_at(line, _visible_end(line)) >= 0:
            pending.append(line)
        elif pending:
            pending.append(line)
            joined.append("".join(pending))
            pending = []
        else:
            joined.append(line)
    if pending:
        joined.append("".join(pending))
    return joined


class Logical(NamedTuple):
    """What Slurm parses of one statement."""

    text: str
    offsets: tuple[int, ...] | None
    """Where each character of `text` stands in the raw statement; None when they stand at the same place."""

    def raw_position(self, position: int, raw_length: int) -> int:
        """Translate a position in `text` (its end included) to one in the raw statement."""
        if self.offsets is None:
            return position
        if position < len(self.offsets):
            return self.offsets[position]
        return self.offsets[-1] + 1 if self.offsets else raw_length


def logical(raw: str) -> Logical:
    """Return what is left of a raw statement without comments, continuations and escapes."""
    if "\\" not in raw and "\n" not in raw[:-1]:
        end = _visible_end(raw) if "#" in raw or "\0" in raw else len(raw)
        return Logical(raw[:end], None)
    characters: list[str] = []
    offsets: list[int] = []
    base = 0
    for line in physical_lines(raw):
        end = _visible_end(line)
        continued = _continued_at(line, end)
        stop = end if continued < 0 else continued
        position = 0
        while position < stop:
            if line[position] == "\\":
                position += 1
                if position >= stop:
                    break
            characters.append(line[position])
            offsets.append(base + position)
            position += 1
        base += len(line)
    return Logical("".join(characters), tuple(offsets))


def pairs(text: str) -> tuple[list[Pair], int]:
    """Return the ``Key=value`` pairs at the start of a logical line and where the last of them ends."""
    found: list[Pair] = []
    position = 0
    match = _PAIR.match(text)
    while match:
        quoted = match["quoted"]
        value = match["plain"] if quoted is None else quoted
        position = match.end()
        value_start = match.start("plain") if quoted is None else match.start("quoted") - 1
        found.append(
            Pair(
                match["key"],
                match["operator"],
                value,
                quoted is not None,
                match.start("key"),
                value_start,
                position,
            )
        )
        match = _PAIR.match(text, position)
    return found, position


def head(text: str) -> tuple[str, str] | None:
    """Return the first key of a logical line and its value; None for an Include or where there is none."""
    match = _PAIR.match(text)
    if match is None or (text[:1] in "iI" and _INCLUDE.match(text)):
        return None
    quoted = match["quoted"]
    return match["key"], match["plain"] if quoted is None else quoted


def include(text: str) -> tuple[str, int] | None:
    """Return the file name of an ``Include`` line and where it ends; None when the line is none.

    The word must stand in the first column.
    """
    match = _INCLUDE.match(text)
    return (match["name"], match.end("name")) if match else None


def is_blank(text: str) -> bool:
    """Tell whether Slurm takes the text for blanks only."""
    return not text.strip(BLANKS)


def comment_start(raw: str) -> int:
    """Return where the comment of a statement starts (of its last physical line); -1 without one."""
    start = raw.rfind("\n", 0, len(raw) - 1) + 1
    line = raw[start:]
    end = _visible_end(line)
    return start + end if end < len(line) and line[end] == "#" else -1


def numbered(parts: list[str]) -> Iterator[tuple[int, str]]:
    """Yield each statement with the number of its first physical line, from 1."""
    line = 1
    for part in parts:
        yield line, part
        line += part.count("\n") or 1


def assignments(text: str) -> list[tuple[str, str]] | None:
    """Return all keys and values of a logical line, without their places; None when the line is not clean.

    The fast way for what most lines are: ``Key=value`` with blanks between and nothing else.
    """
    bare = text.strip(BLANKS)
    if bare.isprintable() and '"' not in bare:
        found = []
        for token in bare.split(" "):
            key, sign, value = token.partition("=")
            if not token:
                continue
            if not (sign and value and _KEY.fullmatch(key)):
                break
            found.append((key, value))
        else:
            return found
    slow, end = pairs(text)
    return [(pair.key, pair.value) for pair in slow] if is_blank(text[end:]) else None


def tokens(text: str) -> list[str] | None:
    """Cut a logical line at its blanks, where that cuts it into ``Key=value`` for sure; else None."""
    bare = text.strip(BLANKS)
    if not bare.isprintable() or '"' in bare or "= " in bare or " =" in bare:
        return None
    return bare.split()
