"""Which keys, words and plugins each release of Slurm knows: the facts of keys.json.

>>> known("slurm.conf")["prologtimeout"].releases
('25.05', '25.11', '26.05')
>>> when("24.11", known("slurm.conf")["cachegroups"].releases)
'15.08 was the last to have it'
>>> suggestion("SlurmUsr", ["SlurmUser", "SlurmdUser"])
'SlurmUser'

keys.json is derived from Slurm's source by ``tools/derive_slurm_keys.py``.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hpadmin.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one table."""

    name: str
    """As Slurm's source spells it."""
    kind: str
    """``string``, ``boolean``, ``float``, ``integer``, ``uint16``, ``uint32``, ``uint64`` or ``array``."""
    releases: tuple[str, ...]
    """Those that accept it, the oldest first; past ones are among them."""
    opens_line: bool
    """More ``Key=value`` may follow on its line."""
    defunct: frozenset[str]
    """Releases that complain of it and go on."""
    removed: frozenset[str]
    """Releases that know it and die of it."""


@functools.cache
def _facts() -> Mapping[str, Any]:
    source = resources.files("hpadmin.slurmconf.lint").joinpath("keys.json")
    facts: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return facts


def _expanded(spans: Iterable[str]) -> tuple[str, ...]:
    """Unfold spans such as ``24.11-26.05``."""
    order = [*_facts()["past"], *_facts()["releases"]]
    found: list[str] = []
    for span in spans:
        first, _, last = span.partition("-")
        found += order[order.index(first) : order.index(last) + 1]
    return tuple(found)


def when(release: str, having: tuple[str, ...]) -> str:
    """Tell, for a release that is not among those that have something, when it came or went."""
    if having[0] > release:
        return f"it came with {having[0]}"
    return f"{max(other for other in having if other < release)} was the last to have it"


@functools.cache
def known(table: str) -> Mapping[str, Key]:
    """Return a table by lower-case key: ``slurm.conf``, ``slurm.conf NodeName``, ``gres.conf`` and so on.

    A table that does not exist is empty.
    """
    return {
        name.lower(): Key(
            name=name,
            kind=fact["kind"],
            releases=_expanded(fact["releases"]),
            opens_line=fact.get("opens_line", False),
            defunct=frozenset(fact.get("defunct", ())),
            removed=frozenset(fact.get("removed", ())),
        )
        for name, fact in _facts()["tables"].get(table, {}).items()
    }


@functools.cache
def openers(file: str) -> Mapping[str, str]:
    """Return the keys that open a line of their own kind in a file: lower case to their spelling."""
    return {key: fact.name for key, fact in known(file).items() if fact.opens_line}


def words(key: str, release: str) -> tuple[str, ...]:
    """Return the words that a key's comma list may hold in a release; empty where they are not known."""
    return tuple(
        word for word, releases in _facts()["words"].get(key, {}).items() if release in _expanded(releases)
    )


def plugins(kind: str) -> Mapping[str, tuple[str, ...]]:
    """Return the plugins of a kind (``select``, ``topology``): name to the releases that have it."""
    return {name: _expanded(releases) for name, releases in _facts()["plugins"].get(kind, {}).items()}


def releases() -> tuple[str, ...]:
    """Return the releases that are known, the oldest first."""
    return tuple(_facts()["releases"])


def release_of(version: str) -> str:
    """Return the release that a version belongs to (``24.11.5`` to ``24.11``).

    Raises InvalidInput for one that is not known.
    """
    release = ".".join(version.split(".")[:2])
    if release not in releases():
        raise InvalidInput(f"Slurm {version} is not known: there are {', '.join(releases())}")
    return release


def suggestion(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that was most likely meant, None when none is close."""
    spelled = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.lower(), spelled, n=1, cutoff=0.75)
    return spelled[close[0]] if close else None


class Speller:
    """Says what misspelt words were meant to be, as long as that costs little: a file may be wrong in every line."""

    def __init__(self, budget: int = 100_000) -> None:
        self.budget = budget
        """Comparisons that are left; a second is enough for the first number."""

    def did_you_mean(self, word: str, candidates: Collection[str]) -> str:
        """Return ``; did you mean X?`` or nothing."""
        self.budget -= len(candidates)
        found = suggestion(word, candidates) if self.budget >= 0 else None
        return f"; did you mean {found}?" if found else ""
