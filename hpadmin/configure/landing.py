"""What every part of landing a request on manual changes works with: three states, edited documents, conflicts.

`hpadmin.configure.land` lands settings, partitions and plugins, `hpadmin.configure.land_nodes` nodes and GRES.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpadmin.configure.ownership import Owner, hyperpod_owns, owner
from hpadmin.configure.three_way import Clash, merge_value
from hpadmin.slurmconf.document import Document
from hpadmin.slurmconf.facts import Facts
from hpadmin.slurmconf.grammar import ValueKind


@dataclass(frozen=True, slots=True)
class Conflict:
    """A thing that the site and the request both changed, differently, and who won. None: not set, or gone."""

    file: str
    setting: str
    base: str | None
    """As last applied; None also where nothing was applied before."""
    site: str | None
    request: str | None
    owner: Owner
    winner: str
    """``request`` or ``site``."""

    @property
    def rule(self) -> str:
        """The rule that decided, in words."""
        if self.winner == "request":
            return "HyperPod owns this setting: the request wins"
        return "HyperPod does not own this setting: the manual change wins"


class Landing:
    """Edits the documents of one top-level file. `base` is None where nothing was applied before."""

    def __init__(self, base: Facts | None, disk: Facts, wanted: Facts, *, release: str) -> None:
        self.base = base
        self.disk = disk
        self.wanted = wanted
        self.release = release
        self.file = wanted.view.name
        self.kind = wanted.view.kind
        self.documents = {name: document.copy() for name, document in disk.view.documents.items()}
        self.created: set[str] = set()
        """Included files that the request brings and that are taken over as they are."""
        self.dropped: set[str] = set()
        """Included files that the request drops and that hold nothing of the site."""
        self.conflicts: list[Conflict] = []

    def decide(
        self,
        setting: str,
        key: str,
        kind: ValueKind,
        values: tuple[str | None, str | None, str | None],
    ) -> str | None:
        """Return the merged value of base, disk and wanted; note the conflict if there is one.

        `key` is the setting, or the key that opens the record.
        """
        request_wins = hyperpod_owns(self.file, key)
        merged = merge_value(kind, *values, request_wins=request_wins)
        for clash in merged.clashes:
            self.note(setting, key, clash, request_wins=request_wins)
        return merged.value

    def note(self, setting: str, key: str, clash: Clash, *, request_wins: bool) -> None:
        """Record a conflict."""
        self.conflicts.append(
            Conflict(
                self.file,
                f"{setting} ({clash.element})" if clash.element else setting,
                clash.base,
                clash.site,
                clash.request,
                owner(self.file, key, rendered=True),
                "request" if request_wins else "site",
            )
        )

    def home(self, file: str) -> Document:
        """Return the document on disk for a file of the request; the top-level one where there is no such."""
        return self.documents[self.home_of(file)]

    def home_of(self, file: str) -> str:
        """Return the name of `home`."""
        if file in self.documents:
            return file
        self.documents.setdefault(self.file, Document())
        return self.file
