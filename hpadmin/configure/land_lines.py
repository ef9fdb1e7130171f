"""Carry out in the documents what `hpadmin.configure.land_ordered` decided about a list of lines."""

from __future__ import annotations

from collections.abc import Callable

from hpadmin.configure.land_ordered import Moves
from hpadmin.configure.landing import Landing
from hpadmin.slurmconf import edit
from hpadmin.slurmconf.document import Statement

Place = tuple[str, int]
"""A file and the index of a statement in its document."""


def carry_out(
    landing: Landing,
    moves: Moves,
    places: dict[str, list[Place]],
    *,
    renamed: Callable[[Statement, str], Statement],
    line: Callable[[Statement | None, str], str],
    home: Callable[[str], tuple[Place, Statement | None]],
) -> None:
    """Do it, `places` being where each element stands. Raises InvalidInput for a value that cannot be written.

    `renamed` makes a statement say another element, `line` writes a new one in the style of a neighbour, `home`
    says where the first of a list goes, and its neighbour.
    """
    gone: dict[str, list[int]] = {}
    for name in moves.gone:
        _collect(gone, places.pop(name))
    for name, other in moves.renamed.items():
        first, *more = places.pop(name)
        _collect(gone, more)
        places[other] = [first]
        edit.put(landing.documents[first[0]], first[1], renamed(_statement(landing, first), other))
    moving = [(places[slot][0], name, _statement(landing, places[name][0])) for slot, name in moves.order]
    for (file, place), name, statement in moving:
        edit.put(landing.documents[file], place, statement)
        places[name] = [(file, place)]
    lines: dict[str, dict[int, list[str]]] = {}
    added: dict[str, tuple[Place, Statement | None]] = {}
    for each in moves.added:
        if each.beside is None:
            spot = home(each.name)
        elif each.beside in added:
            spot = added[each.beside]
        else:
            file, place = places[each.beside][-1 if each.behind else 0]
            spot = (file, place if each.behind else place - 1), _statement(landing, (file, place))
        added[each.name] = spot
        (file, place), kin = spot
        lines.setdefault(file, {}).setdefault(place, []).append(line(kin, each.name))
    for file in {**gone, **lines}:
        edit.exchange(landing.documents[file], gone.get(file, ()), lines.get(file, {}))


def _collect(gone: dict[str, list[int]], places: list[Place]) -> None:
    for file, place in places:
        gone.setdefault(file, []).append(place)


def _statement(landing: Landing, place: Place) -> Statement:
    return landing.documents[place[0]].statements[place[1]]
