"""When two values of Slurm's configuration mean the same.

>>> canonical(ValueKind.NUMBER, "0x10") == canonical(ValueKind.NUMBER, "16")
True
>>> canonical(ValueKind.SET, "bf_interval=30,defer") == canonical(ValueKind.SET, "defer,bf_interval=30")
True
>>> canonical(ValueKind.TIME, "1-0") == canonical(ValueKind.TIME, "24:00:00")
True

A value that cannot be read as its kind stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from hpadmin.slurm import hostlist
from hpadmin.slurmconf import lexer
from hpadmin.slurmconf.grammar import ValueKind

_TRUE = frozenset({"yes", "up", "true", "1"})
_FALSE = frozenset({"no", "down", "false", "0"})
_ENDLESS = frozenset({"infinite", "unlimited"})
_NUMBER = re.compile(
    r"[ \t\n\v\f\r]*\+?(?:0[xX](?P<hex>[0-9a-fA-F]+)|0(?P<octal>[0-7]*)|(?P<decimal>[1-9][0-9]*))"
)
_TIME = re.compile(r"(?:(?P<days>[0-9]+)-)?(?P<rest>[0-9]+(?::[0-9]+){0,2})")
_LEADING_DIGITS = re.compile(r"[0-9]+")
_LEVELS = ("quiet", "fatal", "error", "info", "verbose", "debug", "debug2", "debug3", "debug4", "debug5")
_BLANK_OR_COMMA = re.compile(r"[ \t\n\v\f\r,]+")


def canonical(kind: ValueKind, value: str) -> Hashable:
    """Return something that is equal for values that mean the same, and only for those."""
    return _CANONICAL[kind](value)


def _boolean(value: str) -> Hashable:
    lowered = value.lower()
    return True if lowered in _TRUE else False if lowered in _FALSE else value


def number(value: str) -> int | float | None:
    """Read a number as ``strtoul`` with base 0 does: ``010`` is eight, ``1k`` is 1024; infinity for INFINITE.

    None for anything else (``src/common/parse_value.c``).
    """
    match = _NUMBER.match(value)
    if match is None:
        return float("inf") if value.lower() in _ENDLESS else None
    suffix = value[match.end() :]
    if suffix not in ("", "k", "K"):
        return None
    if len(match.group()) > 40:
        return None
    if match["hex"] is not None:
        result = int(match["hex"], 16)
    elif match["octal"] is not None:
        result = int(match["octal"] or "0", 8)
    else:
        result = int(match["decimal"])
    return result * 1024 if suffix else result


def _number(value: str) -> Hashable:
    found = number(value)
    if found is not None:
        return found
    try:
        return float(value)
    except ValueError:
        return value


def seconds(value: str) -> int | float | None:
    """Read a time limit: ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours`` and so on.

    In seconds, infinity without limit, None for anything else (``src/common/parse_time.c``).
    """
    if value.lower() in _ENDLESS or value == "-1":
        return float("inf")
    match = _TIME.fullmatch(value)
    if match is None or len(value) > 40:
        return None
    parts = [int(part) for part in match["rest"].split(":")]
    if match["days"] is not None:
        hours, minutes, rest = (*parts, 0, 0)[:3]
        return ((int(match["days"]) * 24 + hours) * 60 + minutes) * 60 + rest
    if len(parts) == 3:
        return (parts[0] * 60 + parts[1]) * 60 + parts[2]
    return parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)


def _time(value: str) -> Hashable:
    found = seconds(value)
    return value if found is None else found


def _hosts(value: str) -> Hashable:
    try:
        return tuple(hostlist.expand(value))
    except hostlist.HostlistError:
        return value


def _host_set(value: str) -> Hashable:
    if value.upper() == "ALL":
        return "ALL"
    names = host_names(value)
    return value if names is None else frozenset(names)


def host_names(value: str) -> list[str] | None:
    """Return the names of a list that blanks may separate too; None where Slurm cannot read it."""
    try:
        return hostlist.expand(_BLANK_OR_COMMA.sub(",", value))
    except hostlist.HostlistError:
        return None


def elements(value: str) -> list[str]:
    """Cut a comma list into its elements; empty ones do not count."""
    return [element for element in value.split(",") if element]


def _set(value: str) -> Hashable:
    return frozenset(elements(value)) if "," in value else frozenset((value,)) if value else frozenset()


def _flags(value: str) -> Hashable:
    return frozenset(elements(value.lower()))


def _level(value: str) -> Hashable:
    """Read a level as ``log_string2num`` does (``src/common/slurm_protocol_defs.c``)."""
    digits = _LEADING_DIGITS.match(value)
    if digits:
        return int(digits.group()) if len(digits.group()) < 9 else value
    lowered = value.lower()
    return _LEVELS.index(lowered) if lowered in _LEVELS else value


def _list(value: str) -> Hashable:
    return tuple(elements(value))


_CANONICAL: dict[ValueKind, Callable[[str], Hashable]] = {
    ValueKind.TEXT: str,
    ValueKind.WORD: str.lower,
    ValueKind.BOOLEAN: _boolean,
    ValueKind.NUMBER: _number,
    ValueKind.TIME: _time,
    ValueKind.HOSTS: _hosts,
    ValueKind.HOST_SET: _host_set,
    ValueKind.SET: _set,
    ValueKind.LIST: _list,
    ValueKind.FLAGS: _flags,
    ValueKind.CHOICE: _flags,
    ValueKind.LEVEL: _level,
    ValueKind.SEQUENCE: _list,
}


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a comma list: ``bf_interval=30`` has the name ``bf_interval``."""

    name: str
    """In lower case: what makes two elements the same setting."""
    text: str


def parts(kind: ValueKind, value: str) -> list[Element] | None:
    """Return the elements of a value that is a list, in its order; None for a value that is one piece.

    Host lists are cut into single names, which keep their case.
    """
    if kind in (ValueKind.SET, ValueKind.FLAGS, ValueKind.LIST):
        return [Element(element_name(text), text) for text in elements(value)]
    if kind is ValueKind.HOST_SET and value.upper() != "ALL":
        names = host_names(value)
        return None if names is None else [Element(name, name) for name in names]
    return None


def element_name(text: str) -> str:
    """Return what names an element: what stands before ``=``, or before the last ``:`` with a count behind it."""
    name, sign, _ = text.partition("=")
    if not sign:
        head, colon, count = text.rpartition(":")
        if colon and count[:1].isdigit():
            name = head
    return name.strip(lexer.BLANKS).lower()
