"""Slurm's host lists: `expand` as ``scontrol show hostnames``, `fold` as ``scontrol show hostlist``.

>>> expand("gpu[08-10]-ib,login1")
['gpu08-ib', 'gpu09-ib', 'gpu10-ib', 'login1']
>>> fold(["ip-10-1-2-3", "ip-10-1-2-4", "ip-10-1-2-6", "login"])
'ip-10-1-2-[3-4,6],login'

Both do what Slurm 24.11 does (``src/common/hostlist.c``, one dimension), also where that is surprising:

* Order and duplicates are kept; neighbours fold only where they follow each other, and only in the number
  that ends the name.
* The first number of a range fixes its zero padding: ``[08-11]`` is 08, 09, 10, 11.
* Of several brackets the last varies fastest, then the leftmost, the one before the last slowest.
* A number larger than 64 bits is read as 18446744073709551615.
* Where a list has three brackets or more, Slurm drops what it cannot read in the leftmost ones in silence.

One thing differs on purpose: input that makes Slurm crash, cut names or never end (neighbours of the largest
64-bit number, more than `MAX_HOSTS` names or `MAX_BRACKETS` brackets) is refused with `HostlistError`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from hpadmin.errors import InvalidInput, Problem

MAX_RANGE = 64 * 1024
"""Hosts that one range may have (``MAX_SLURM_NODES``)."""
MAX_PREFIXES = 64 * 1024
"""Hosts that one bracket before the last may stand for."""
MAX_RANGES = 256 * 1024
"""Ranges that one bracket may hold."""
MAX_HOSTS = 16 * MAX_RANGE
"""Hosts that a whole list may name here: 16 times a cluster. Slurm itself goes on until memory ends."""
MAX_BRACKETS = 100
"""Brackets that one name may have here."""

_ULONG_MAX = 2**64 - 1
_SEPARATORS = "\t, \n"
_SEPARATOR = re.compile(r"[\t, \n]")
_ONE_NAME = re.compile(r"[A-Za-z0-9_.-]{0,63}[A-Za-z_.-][0-9]{0,19}")
"""What most lists are: a name that stands for itself."""
_DIGITS = "0123456789"
_STRTOUL = re.compile(r"[ \t\n\v\f\r]*([+-]?)([0-9]+)")
_ODD_SPACE = re.compile(r"[\v\f\r]")

_Range = tuple[int, int, int]
"""Lowest number, highest number, width to which both are padded with zeros."""


class HostlistError(InvalidInput, ValueError):
    """The text is no host list. The message is that of ``scontrol``, the problems say where it is wrong."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(f"Invalid hostlist: {text}", [Problem("", reason)] if reason else [])


class _RangeError(Exception):
    """A part of a host list cannot be read; carries the reason."""


class _SizeError(Exception):
    """A host list names more hosts than anybody can have."""


class _Run:
    """Neighbouring hosts with one prefix: ``hostrange_t``. Without a number, `width` is -1."""

    __slots__ = ("high", "low", "prefix", "width")

    def __init__(self, prefix: str, low: int, high: int, width: int) -> None:
        self.prefix = prefix
        self.low = low
        self.high = high
        self.width = width


def expand(text: str) -> list[str]:
    """Return the names that a host list stands for, in its order, duplicates included.

    Raises HostlistError (an InvalidInput and a ValueError).
    """
    if _ONE_NAME.fullmatch(text):
        return [text]
    names: list[str] = []
    for run in _read(text):
        prefix, low, high, width = run.prefix, run.low, run.high, run.width
        if width < 0:
            names.append(prefix)
        elif low == high:
            names.append(f"{prefix}{low:0{width}d}")
        else:
            names.extend([f"{prefix}{number:0{width}d}" for number in range(low, high + 1)])
    return names


def fold(names: Iterable[str]) -> str:
    """Return the short form of names, which may themselves be host lists, in their order.

    Raises HostlistError when a name cannot be read as a host list.
    """
    text = names if isinstance(names, str) else ",".join(names)
    runs = _read(text)
    parts: list[str] = []
    position = 0
    while position < len(runs):
        first = runs[position]
        if first.width < 0:
            parts.append(first.prefix)
            position += 1
            continue
        numbers = [_numbers(first)]
        position += 1
        while position < len(runs) and _same_prefix(runs[position], runs[position - 1]):
            numbers.append(_numbers(runs[position]))
            position += 1
        if len(numbers) > 1 or first.low != first.high:
            parts.append(f"{first.prefix}[{','.join(numbers)}]")
        else:
            parts.append(first.prefix + numbers[0])
    return ",".join(parts)


def split(text: str) -> list[str]:
    """Cut a host list at the separators outside brackets: ``a[1,2],b`` is ``a[1,2]`` and ``b``."""
    return list(_tokens(text))


def count(text: str) -> int:
    """Return how many names `expand` would give, without making them. Raises HostlistError."""
    return sum(run.high - run.low + 1 for run in _read(text))


def _read(text: str) -> list[_Run]:
    reader = _Reader()
    try:
        for token in _tokens(text.partition("\0")[0]):
            start = token.rfind("[")
            if start < 0:
                reader.push_name(token)
            else:
                reader.push_bracketed(token, start)
    except (_RangeError, _SizeError) as reason:
        raise HostlistError(text, str(reason)) from None
    return reader.runs


def _tokens(text: str) -> Iterator[str]:
    """Yield what stands between separators; separators between ``[`` and the next ``]`` do not count."""
    if "[" not in text:
        yield from filter(None, _SEPARATOR.split(text))
        return
    length = len(text)
    opening = closing = -1
    position = 0
    while True:
        while position < length and text[position] in _SEPARATORS:
            position += 1
        if position >= length:
            return
        start = look_from = position
        while True:
            found = _SEPARATOR.search(text, position)
            position = found.start() if found else length
            while True:
                if opening < look_from:
                    opening = _find(text, "[", look_from)
                if opening > position or opening == length:
                    break
                if closing < look_from:
                    closing = _find(text, "]", look_from)
                if closing == length or closing < opening or closing >= position:
                    break
                look_from = closing + 1
            if opening > position or opening == length or closing == length or closing < opening:
                break
            position = closing
        yield text[start:position]


def _find(text: str, wanted: str, start: int) -> int:
    found = text.find(wanted, start)
    return len(text) if found < 0 else found


class _Reader:
    """Collects the runs of one host list."""

    __slots__ = ("budget", "parsed", "runs")

    def __init__(self) -> None:
        self.runs: list[_Run] = []
        self.budget = MAX_HOSTS
        self.parsed: dict[str, list[_Range] | str] = {}
        """Brackets before the last, which come again for every number of those before them."""

    def push_name(self, name: str) -> None:
        prefix = name.rstrip(_DIGITS)
        digits = name[len(prefix) :]
        if digits:
            number = _clamp(digits)
            self._push(prefix, number, number, len(digits))
        else:
            self._push(prefix, 0, 0, -1)

    def push_bracketed(self, token: str, start: int) -> None:
        end = token.find("]", start)
        if end < 0:
            raise _RangeError(f"`[' without `]' in `{token}'")
        if token.count("[") > MAX_BRACKETS:
            raise _SizeError(f"more than {MAX_BRACKETS} brackets in one name")
        self._push_ranges(token[:start], token[end + 1 :], _ranges(token[start + 1 : end]))

    def _spend(self, hosts: int) -> None:
        self.budget -= hosts
        if self.budget < 0:
            raise _SizeError(f"more than {MAX_HOSTS} hosts")

    def _push(self, prefix: str, low: int, high: int, width: int) -> None:
        """Append a run, or lengthen the last one where the new one follows it (``hostlist_push_range``)."""
        runs = self.runs
        if runs and width >= 0:
            tail = runs[-1]
            if tail.high == (low - 1) & _ULONG_MAX and tail.width >= 0 and _equal(tail.prefix, prefix):
                agreed = _common_width(tail.low, tail.width, low, width)
                if agreed >= 0:
                    if _ULONG_MAX in (tail.high, high):
                        raise _SizeError(f"`{prefix}{high}' cannot stand in a row")
                    tail.high = high
                    tail.width = agreed
                    return
        runs.append(_Run(prefix, low, high, width))

    def _push_ranges(self, prefix: str, suffix: str, ranges: list[_Range]) -> None:
        """Append the ranges behind a prefix, whose own brackets are multiplied out (``_push_range_list``)."""
        start = prefix.rfind("[")
        end = prefix.rfind("]", start) if start >= 0 else -1
        if end < 0:
            self._push_plain(prefix, suffix, ranges)
            return
        before, after = prefix[:start], prefix[end + 1 :]
        several = "[" in before
        prefixes = 0
        for low, high, width in self._inner(prefix[start + 1 : end]):
            prefixes += high - low + 1
            if prefixes > MAX_PREFIXES:
                raise _RangeError(f"more than {MAX_PREFIXES} hosts in `[{prefix[start + 1 : end]}]'")
            for number in range(low, high + 1):
                inner = f"{before}{number:0{width}d}{after}"
                if several:
                    self._spend(1)
                    # Slurm loses the error of an inner bracket and keeps what it had pushed so far.
                    with contextlib.suppress(_RangeError):
                        self._push_ranges(inner, suffix, ranges)
                else:
                    self._push_plain(inner, suffix, ranges)

    def _inner(self, text: str) -> list[_Range]:
        found = self.parsed.get(text)
        if found is None:
            try:
                found = _ranges(text)
            except _RangeError as problem:
                found = str(problem)
            self.parsed[text] = found
        if isinstance(found, str):
            raise _RangeError(found)
        return found

    def _push_plain(self, prefix: str, suffix: str, ranges: list[_Range]) -> None:
        for low, high, width in ranges:
            self._spend(high - low + 1)
            if not suffix:
                self._push(prefix, low, high, width)
                continue
            for number in range(low, high + 1):
                self._push(f"{prefix}{number:0{width}d}{suffix}", 0, 0, -1)


def _ranges(text: str) -> list[_Range]:
    parts = text.split(",")
    if len(parts) > MAX_RANGES:
        raise _RangeError("Too many ranges, can't process entire list")
    return [_range(part) for part in parts]


def _range(text: str) -> _Range:
    """Read ``7``, ``7-`` or ``007-012`` with the rules of ``strtoul``: blanks and a sign may come first."""
    if text.isascii() and text.isdigit():
        number = _clamp(text)
        return number, number, len(text)
    invalid = _RangeError(f"Invalid range: `{text}'")
    first, dash, second = text.partition("-")
    if "x" in text or second.startswith("-"):
        raise invalid
    lowest = _STRTOUL.match(first)
    if lowest is None:
        raise invalid
    low = _ulong(lowest)
    if dash and second:
        highest = _STRTOUL.match(second)
        if highest is None or highest.end() != len(second):
            raise invalid
        high = _ulong(highest)
    else:
        if lowest.end() != len(first):
            raise invalid
        high = low
    if low > high:
        raise invalid
    if high - low + 1 > MAX_RANGE or (high == _ULONG_MAX and low < high):
        raise _RangeError(f"Too many hosts in range `{text}'")
    return low, high, len(first)


def _ulong(match: re.Match[str]) -> int:
    value = _clamp(match.group(2))
    return -value & _ULONG_MAX if match.group(1) == "-" and value < _ULONG_MAX else value


def _clamp(digits: str) -> int:
    """Return the number, at most the largest of 64 bits, in time linear in its digits."""
    if len(digits) < 20:
        return int(digits)
    digits = digits.lstrip("0")
    return min(int(digits or "0"), _ULONG_MAX) if len(digits) < 21 else _ULONG_MAX


def _numbers(run: _Run) -> str:
    low = f"{run.low:0{run.width}d}"
    return f"{low}-{run.high:0{run.width}d}" if run.low < run.high else low


def _same_prefix(run: _Run, before: _Run) -> bool:
    return run.width >= 0 and before.width >= 0 and _equal(run.prefix, before.prefix)


def _padding(number: int, width: int) -> int:
    return max(0, width - len(str(number)))


def _common_width(first: int, first_width: int, second: int, second_width: int) -> int:
    """Return a width that pads both numbers as their own widths do, else -1 (``_width_equiv``)."""
    if first_width == second_width or (first_width == len(str(first)) and second_width == len(str(second))):
        return first_width
    changes_first = _padding(first, first_width) != _padding(first, second_width)
    changes_second = _padding(second, second_width) != _padding(second, first_width)
    if changes_first and changes_second:
        return -1
    return first_width if changes_first else second_width


def _equal(one: str, other: str) -> bool:
    """Tell whether prefixes are the same to ``strnatcmp``, which skips blanks that do not separate names."""
    if one == other:
        return True
    if not (_ODD_SPACE.search(one) or _ODD_SPACE.search(other)):
        return False
    return _natural(one) == _natural(other)


def _natural(text: str) -> list[str]:
    """Return the digit runs and single characters that ``strnatcmp`` compares."""
    return re.findall(r"[0-9]+|[^0-9\v\f\r \t\n]", text)
