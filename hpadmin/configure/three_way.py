"""Three-way merging of single values: last applied, on disk, wanted.

The one rule, which decides everything else: where the site and the request both changed a thing, and not to the
same, the request wins what HyperPod owns (`hpadmin.configure.ownership`) and the site wins the rest. Comma lists
are merged element by element, host lists name by name, so that both sides' elements stand side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpadmin.slurm import hostlist
from hpadmin.slurmconf.grammar import ValueKind
from hpadmin.slurmconf.values import canonical, parts


@dataclass(frozen=True, slots=True)
class Clash:
    """A value, or one element of a list, that both sides changed differently. None: not there."""

    element: str
    """Name of the element; empty where the whole value is meant."""
    base: str | None
    site: str | None
    request: str | None


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged value and what had to be decided on the way."""

    value: str | None
    clashes: tuple[Clash, ...] = ()


def merge_value(
    kind: ValueKind, base: str | None, site: str | None, request: str | None, *, request_wins: bool
) -> Merged:
    """Return what a value becomes. None stands for a value that is not set; `base` also for one that is unknown."""
    if same(kind, site, request) or same(kind, base, request):
        return Merged(site)
    if same(kind, base, site):
        return Merged(request)
    if site is not None and request is not None:
        merged = _merge_elements(kind, base, site, request, request_wins=request_wins)
        if merged is not None:
            return merged
    return Merged(request if request_wins else site, (Clash("", base, site, request),))


def same(kind: ValueKind, one: str | None, other: str | None) -> bool:
    """Tell whether two values mean the same; not being set is a value of its own."""
    if one is None or other is None:
        return one is other
    return one == other or canonical(kind, one) == canonical(kind, other)


def _merge_elements(
    kind: ValueKind, base: str | None, site: str, request: str, *, request_wins: bool
) -> Merged | None:
    on_disk, wanted = parts(kind, site), parts(kind, request)
    before = parts(kind, base) if base is not None else []
    if on_disk is None or wanted is None or before is None:
        return None
    old = {element.name: element.text for element in before}
    theirs = {element.name: element.text for element in on_disk}
    ours = {element.name: element.text for element in wanted}
    clashes: list[Clash] = []
    result: list[str] = []
    for name in dict.fromkeys([*theirs, *ours]):
        first, mine, new = old.get(name), theirs.get(name), ours.get(name)
        if same(kind, mine, new) or same(kind, first, new):
            chosen = mine
        elif same(kind, first, mine):
            chosen = new
        else:
            clashes.append(Clash(name, first, mine, new))
            chosen = new if request_wins else mine
        if chosen is not None:
            result.append(chosen)
    text = hostlist.fold(result) if kind is ValueKind.HOST_SET else ",".join(result)
    return Merged(site if same(kind, text, site) else text, tuple(clashes))
