"""Three-way merging of lists whose order Slurm gives a meaning: Prolog and its like, controllers, plugins, blocks.

Everything here is pure; `hpadmin.configure.land` carries it out in the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from hpadmin.configure.three_way import Clash


@dataclass(frozen=True, slots=True)
class Addition:
    """A new element and the one that it stands beside; None where the list is empty."""

    name: str
    beside: str | None
    behind: bool


@dataclass(frozen=True, slots=True)
class Moves:
    """What becomes of the list on disk, in this order."""

    gone: tuple[str, ...]
    renamed: Mapping[str, str]
    """Elements that take the place of others, by those."""
    order: tuple[tuple[str, str], ...]
    """Elements, as renamed, and which of them each leaves its place to; empty where all stay."""
    added: tuple[Addition, ...]
    clashes: tuple[Clash, ...]


def merge_ordered(
    base: Sequence[str] | None,
    site: Sequence[str],
    wanted: Sequence[str],
    *,
    request_wins: bool,
    in_place: bool = True,
    identity: Callable[[str], str] = str,
) -> Moves:
    """Say how the list on disk takes over what the request changed of its own.

    What the site added stays where it is: an element that the request exchanges for another leaves it its place
    (`in_place`), and a new one comes behind the one before it in the request, or before the one behind it. Elements
    of one `identity` are one thing: a controller with another address. `base` is None where nothing was applied.
    """
    before, wanted = list(dict.fromkeys(base or ())), list(dict.fromkeys(wanted))
    gone = [name for name in before if name not in wanted and name in site]
    new = [name for name in wanted if name not in before and name not in site]
    renamed: dict[str, str] = {}
    clashes = []
    for name, other in _edited(before, site, wanted, identity):
        if other is not None:
            renamed[name] = other
        if name not in gone:
            known = next((each for each in before if identity(each) == identity(name)), None)
            clashes.append(Clash("", known, name, other))
            if request_wins:
                gone.append(name)
            else:
                renamed.pop(name, None)
    if in_place:
        for name, other in _exchanged(before, wanted):
            if name in gone and name not in renamed and other in new and other not in renamed.values():
                renamed[name] = other
    gone = [name for name in gone if name not in renamed]
    current = [renamed.get(name, name) for name in dict.fromkeys(site) if name not in gone]
    before = [renamed.get(name, name) for name in before]
    lands, clash = order_lands(None if base is None else before, current, wanted, request_wins=request_wins)
    if clash is not None:
        clashes.append(clash)
    order: list[tuple[str, str]] = []
    if lands:
        asked = [name for name in wanted if name in current]
        order = list(zip([name for name in current if name in wanted], asked, strict=True))
        leaves = dict(order)
        current = [leaves.get(name, name) for name in current]
    added = _added([name for name in new if name not in renamed.values()], current, wanted)
    return Moves(
        tuple(gone), renamed, tuple(pair for pair in order if pair[0] != pair[1]), added, tuple(clashes)
    )


def order_lands(
    base: Sequence[str] | None, site: Sequence[str], wanted: Sequence[str], *, request_wins: bool
) -> tuple[bool, Clash | None]:
    """Tell whether the request's order is to be made that of the disk, and what both sides ordered differently."""
    common = set(site) & set(wanted)
    if base is not None:
        common &= set(base)
    known, found, asked = (
        [name for name in side or () if name in common] for side in (base, dict.fromkeys(site), wanted)
    )
    if found == asked or (base is not None and known == found):
        return True, None
    if known == asked:
        return False, None
    return request_wins, Clash("order", " ".join(known) or None, " ".join(found), " ".join(asked))


def _edited(
    before: Sequence[str], site: Sequence[str], wanted: Sequence[str], identity: Callable[[str], str]
) -> list[tuple[str, str | None]]:
    """Pair what is on disk and not asked for with what is asked for of the same thing; None where that goes."""
    asked = {identity(name): name for name in wanted}
    known = {identity(name): name for name in before}
    found: list[tuple[str, str | None]] = []
    for name in dict.fromkeys(site):
        if name in wanted:
            continue
        same = identity(name)
        other = asked.get(same)
        if other is not None and other not in before and other not in site:
            found.append((name, other))
        elif other is None and name not in before and same in known:
            found.append((name, None))
    return found


def _exchanged(before: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, str]]:
    """Pair the elements that stand at the same place of two lists and differ."""
    found: list[tuple[str, str]] = []
    for what, start, end, first, last in SequenceMatcher(None, before, wanted, autojunk=False).get_opcodes():
        if what == "replace":
            found.extend(zip(before[start:end], wanted[first:last], strict=False))
    return found


def _added(new: Sequence[str], current: Sequence[str], wanted: Sequence[str]) -> tuple[Addition, ...]:
    present = list(current)
    added = []
    for name in new:
        place = wanted.index(name)
        before = next((other for other in reversed(wanted[:place]) if other in present), None)
        behind = next((other for other in wanted[place:] if other in present), None)
        beside = before or behind or (present[0] if present else None)
        added.append(Addition(name, beside, behind=before is not None))
        at = present.index(beside) + (before is not None) if beside is not None else 0
        present.insert(at, name)
    return tuple(added)
