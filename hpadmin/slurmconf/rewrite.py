"""Change one statement and nothing around it: spacing, comment, continuation lines and line ending stay.

Every function returns a new statement and checks by reading it back that Slurm would see exactly the change.
Values are checked on the way in: what cannot stand in a Slurm file raises InvalidInput.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from hpadmin.errors import InvalidInput
from hpadmin.slurmconf import lexer
from hpadmin.slurmconf.document import Statement
from hpadmin.slurmconf.lexer import BLANKS, Pair

_KEY = re.compile(r"[A-Za-z0-9_.]+")
_ESCAPED = re.compile(r"[\\#]")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def value_text(value: str, *, quote: bool = False) -> str:
    """Return a value as it must be written for Slurm to read it back: quoted where needed, ``#`` escaped.

    `quote` asks for quotes also where they are not needed. Raises InvalidInput for a value that no writing can
    express: control characters, or quotes in a place where Slurm reads them otherwise.
    """
    if _CONTROL.search(value):
        raise InvalidInput(f"a control character cannot stand in a value: {value!r}")
    blank = not value or any(character in BLANKS for character in value)
    if '"' in value and (blank or value.startswith('"')):
        raise InvalidInput(f"a quote cannot stand in this value: {value!r}")
    written = _ESCAPED.sub(r"\\\g<0>", value)
    return f'"{written}"' if blank or (quote and '"' not in value) else written


def check_key(key: str) -> str:
    """Return the key; raise InvalidInput when it cannot be one."""
    if not _KEY.fullmatch(key) or key.lower() == "include":
        raise InvalidInput(f"not a key of a Slurm file: {key!r}")
    return key


def line_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a line of ``Key=value`` without line ending. Raises InvalidInput."""
    return " ".join([f"{check_key(key)}={value_text(value)}" for key, value in pairs])


def _checked(raw: str, expected: Sequence[tuple[str, str]]) -> Statement:
    """Return the statement for `raw` if it is one statement that reads as expected."""
    statement = Statement(raw)
    seen = [(pair.key, pair.value) for pair in statement.pairs]
    if seen != list(expected) or len(lexer.statements(raw)) > 1:
        raise InvalidInput(f"Slurm would not read this line as meant: {raw.rstrip()!r}")
    return statement


def _read(statement: Statement) -> list[tuple[str, str]]:
    return [(pair.key, pair.value) for pair in statement.pairs]


def _replaced(statement: Statement, number: int, value: str) -> Statement:
    pair = statement.pairs[number]
    start, end = statement.raw_span(pair.value_start, pair.end)
    text = value_text(value, quote=pair.quoted)
    expected = _read(statement)
    expected[number] = (pair.key, value)
    return _checked(statement.raw[:start] + text + statement.raw[end:], expected)


def with_name(statement: Statement, value: str) -> Statement:
    """Return the statement with another value of its first key: a setting's value, a record's name."""
    if not statement.pairs:
        raise InvalidInput(f"no setting: {statement.raw.rstrip()!r}")
    return statement if statement.pairs[0].value == value else _replaced(statement, 0, value)


def with_attribute(statement: Statement, key: str, value: str) -> Statement:
    """Return a record with an attribute set: changed in its place, or behind all others where it is new.

    Of an attribute that stands twice the last is changed, which is the one that Slurm takes.
    """
    lowered = key.lower()
    plain = _plainly_with(statement, lowered, value)
    if plain is not None:
        return plain
    pairs = statement.pairs
    for number in range(len(pairs) - 1, 0, -1):
        if pairs[number].key.lower() == lowered:
            return statement if pairs[number].value == value else _replaced(statement, number, value)
    if not pairs or statement.leftover:
        raise InvalidInput(
            f"Slurm cannot read this line, so nothing can be added to it: {statement.raw.rstrip()!r}"
        )
    _, end = statement.raw_span(pairs[-1].start, pairs[-1].end)
    written = f"{_cased(check_key(key), pairs)}={value_text(value)}"
    expected = [*_read(statement), (written.partition("=")[0], value)]
    return _checked(f"{statement.raw[:end]} {written}{statement.raw[end:]}", expected)


def _plainly_with(statement: Statement, lowered: str, value: str) -> Statement | None:
    """Do `with_attribute` for the plainest of lines and values, of which files are full; None for all others.

    Where a line is nothing but ``Key=value`` between single kinds of blanks, a token is an attribute, so nothing
    has to be read back.
    """
    if not _PLAIN_VALUE.fullmatch(value) or statement.logical.offsets is not None:
        return None
    text = statement.logical.text
    if lexer.tokens(text) is None:
        return None
    matches = list(_token(lowered).finditer(text))
    found = matches[-1] if matches else None
    if found is None or not found.start():
        return None
    start, end = found.span(1)
    return statement if found[1] == value else Statement(statement.raw[:start] + value + statement.raw[end:])


_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.,:/()\[\]-]+")


@lru_cache(maxsize=256)
def _token(lowered: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^ \t]){re.escape(lowered)}=([^ \t\r\n]+)", re.IGNORECASE | re.ASCII)


def without_attribute(statement: Statement, key: str) -> Statement:
    """Return a record without an attribute and the blanks before it; the same where it has none."""
    lowered = key.lower()
    raw = statement.raw
    pairs = statement.pairs
    for number in range(len(pairs) - 1, 0, -1):
        if pairs[number].key.lower() == lowered:
            _, before = statement.raw_span(pairs[number - 1].start, pairs[number - 1].end)
            _, end = statement.raw_span(pairs[number].start, pairs[number].end)
            raw = raw[:before] + raw[end:]
    if raw == statement.raw:
        return statement
    return _checked(
        raw,
        [(pair.key, pair.value) for pair in pairs[:1]]
        + [(pair.key, pair.value) for pair in pairs[1:] if pair.key.lower() != lowered],
    )


def without_comment(statement: Statement) -> Statement:
    """Return the statement without the comment at its end and the blanks before that."""
    start = lexer.comment_start(statement.raw)
    if start < 0:
        return statement
    body = statement.raw[:start].rstrip(" \t")
    return _checked(body + line_ending(statement.raw), _read(statement))


def _cased(key: str, pairs: Sequence[Pair]) -> str:
    """Return the key in the file's own case: lower where all keys of the line are."""
    return key.lower() if all(pair.key.islower() for pair in pairs) else key


def line_ending(raw: str) -> str:
    """Return the line ending of a raw statement; empty where the file ends without one."""
    return "\r\n" if raw.endswith("\r\n") else "\n" if raw.endswith("\n") else ""


def in_style_of(kin: Statement | None, pairs: Sequence[tuple[str, str]]) -> str:
    """Return a line of `pairs` without line ending that looks like its neighbour.

    Taken over are indentation, the blanks around ``=`` of the first key (keys that stand in a column stay in it)
    and lower-case keys. Raises InvalidInput.
    """
    text = line_text(pairs)
    if kin is None or not kin.pairs or "\\" in kin.raw:
        return text
    first = kin.pairs[0]
    logical = kin.logical.text
    sign = logical.index("=", first.start + len(first.key))
    if kin.pairs[0].operator:
        return text
    if all(pair.key.islower() for pair in kin.pairs):
        text = line_text((key.lower(), value) for key, value in pairs)
    key, _, rest = text.partition("=")
    padded = key.ljust(sign - first.start) if sign > first.start + len(first.key) else key
    if sign > first.start + len(first.key) and padded == key:
        padded += " "
    indent = logical[: first.start]
    return f"{indent}{padded}={logical[sign + 1 : first.value_start]}{rest}"
