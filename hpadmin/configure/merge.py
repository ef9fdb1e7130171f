"""The three strategies: what an application of the request writes, given what was applied last and what is on disk.

    outcome = combine(Strategy.MERGE, last=applied, disk=on_disk, wanted=render(cluster))
    if outcome.blocked: raise DriftBlocks(...)          # outcome.blocking says what and where
    write(outcome.files); delete(outcome.removed)       # then record `wanted`, not `outcome.files`, as applied

* **Managed**: a manual change that the request would undo blocks (`Outcome.blocked`); nothing is to be written.
  What the request itself asks for by now (the change was adopted into it) does not block.
* **Overwrite**: the wanted files, whatever was there. `Outcome.lost` is what that loses.
* **Merge**: the site's changes stay and the request's land among them, in the files as the site wrote them:
  comments, order, Includes, alignment. Where both changed the same thing and not to the same, the request wins
  what HyperPod owns and the site wins the rest (`hpadmin.configure.ownership`); `Outcome.conflicts` names each.
  Lines of the site that would name nodes which the request removes block, as slurmctld would not start with them.

`last` are the files that the request wanted when it was last applied, not what Merge made of them: only so does a
manual change stay one at the next application. None means that nothing was applied before; then what the disk has
and the request does not is the site's.

All files are mappings from name (relative to the configuration folder) to content. Give every file that is
included too, under the name by which it is included. Everything here is pure.

Laws (tests/unit/configure/test_merge_laws.py): merging twice changes nothing more; what only the site changed
stays; what only the request changed lands; Overwrite gives the wanted files after anything; Managed without drift
equals Overwrite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hpadmin.configure.compare import (
    DRIFT,
    TOP_LEVEL,
    Files,
    Finding,
    Loader,
    differences,
    finding,
    same_content,
)
from hpadmin.configure.land import Lander
from hpadmin.configure.landing import Conflict
from hpadmin.configure.ownership import hyperpod_owns, owner
from hpadmin.configure.stranded import stranded
from hpadmin.model import Strategy
from hpadmin.slurmconf.difference import Difference, compare
from hpadmin.slurmconf.document import dumps
from hpadmin.slurmconf.facts import Facts
from hpadmin.slurmconf.grammar import FileKind


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy makes of three states of the files."""

    files: dict[str, bytes]
    """Every file that the application governs, with the content that it should have. Empty when drift blocks."""
    removed: tuple[str, ...]
    """Files on disk that should go."""
    drift: tuple[Finding, ...]
    """What the disk says otherwise than what was last applied; where nothing was, than what is wanted."""
    blocking: tuple[Finding, ...]
    """Managed: the part of `drift` that the request would undo. Merge: lines of the site that name nodes which
    would be gone. Nothing may be written while there is any."""
    conflicts: tuple[Conflict, ...]
    """Merge: what both sides changed, and who won."""
    lost: tuple[Finding, ...]
    """Manual changes that are undone: expected is what was last applied, found is what is lost."""

    @property
    def blocked(self) -> bool:
        """Whether nothing may be written."""
        return bool(self.blocking)

    def changed(self, disk: Files) -> dict[str, bytes]:
        """Return the files whose bytes differ from those on disk."""
        return {name: content for name, content in self.files.items() if _bytes(disk.get(name)) != content}


def combine(
    strategy: Strategy,
    *,
    last: Files | None,
    disk: Files,
    wanted: Files,
    release: str = "24.11",
    loader: Loader | None = None,
) -> Outcome:
    """Apply a strategy. `release` is the Slurm release of the cluster.

    Share a `loader` with `hpadmin.configure.compare.differences` to have the same files read once.

    Raises InvalidInput when a value of the request cannot be written into a file on disk.
    """
    loader = loader or Loader()
    drifted = differences(wanted if last is None else last, disk, release=release, loader=loader)
    if last is None:
        drifted = tuple(each for each in drifted if each.after is not None)
    undone = () if strategy is Strategy.MERGE else _undone(drifted, disk, wanted, release, loader)
    drift = tuple(map(finding, drifted))
    if strategy is Strategy.MANAGED and undone:
        return Outcome({}, (), drift, undone, (), ())
    if strategy is not Strategy.MERGE:
        files = {name: _bytes(content) or b"" for name, content in wanted.items()}
        return Outcome(files, _obsolete(last, disk, files), drift, (), (), undone)
    files, conflicts, removed = _merge(last, disk, wanted, release, loader)
    after = {**{name: content for name, content in disk.items() if name not in removed}, **files}
    return Outcome(files, removed, drift, stranded(disk, after, loader), conflicts, tuple(_lost(conflicts)))


def _lost(conflicts: Iterable[Conflict]) -> Iterator[Finding]:
    """Yield the manual changes that conflicts undid."""
    for each in conflicts:
        if each.winner == "request":
            yield Finding(each.file, 0, each.setting, each.base, each.site, each.owner, DRIFT)


def _undone(
    drifted: Sequence[Difference],
    disk: Files,
    result: Files,
    release: str,
    loader: Loader,
) -> tuple[Finding, ...]:
    """Return the manual changes that `result` does not have."""
    if not drifted:
        return ()
    # By file, record and name: a change without names touches all, and is touched by all.
    changes: dict[tuple[str, str, str], dict[int, Difference]] = {}
    for number, change in enumerate(differences(disk, result, release=release, loader=loader)):
        for name in {*change.names, _ANY} if change.names else {"", _ANY}:
            changes.setdefault((change.file, change.record.lower(), name), {})[number] = change
    found = []
    for manual in drifted:
        names = {*manual.names, ""} if manual.names else {_ANY}
        candidates = (
            change
            for name in names
            for change in changes.get((manual.file, manual.record.lower(), name), {}).values()
        )
        if any(_same_key(manual, change) for change in candidates):
            found.append(finding(manual))
    return tuple(found)


_ANY = "*"


def _same_key(manual: Difference, change: Difference) -> bool:
    same = manual.key.lower() == change.key.lower()
    return same or bool("" in (manual.key, change.key) and (manual.record or not manual.key))


def _obsolete(last: Files | None, disk: Files, files: Files) -> tuple[str, ...]:
    """Return the files on disk that the wanted state does not have: ours of before, and Slurm's own."""
    ours = {*(last or ()), *TOP_LEVEL, "topology.yaml"}
    return tuple(sorted(name for name in disk if name in ours and name not in files))


def _merge(
    last: Files | None, disk: Files, wanted: Files, release: str, loader: Loader
) -> tuple[dict[str, bytes], tuple[Conflict, ...], tuple[str, ...]]:
    files: dict[str, bytes] = {}
    conflicts: list[Conflict] = []
    removed: list[str] = []
    handled: set[str] = set()
    for name in TOP_LEVEL:
        if name not in wanted and (last is None or name not in last):
            continue
        base = loader.load(name, last) if last is not None and name in last else None
        on_disk = loader.load(name, disk)
        new = loader.load(name, wanted)
        for state in (base, on_disk, new):
            handled.update(state.view.documents if state else ())
        result = _merge_file(name, base, on_disk, new, release, nothing_before=last is None)
        files.update(result.files)
        conflicts.extend(result.conflicts)
        removed.extend(result.removed)
    for name in sorted({*wanted, *(last or ())} - handled):
        _merge_whole(name, None if last is None else last.get(name), disk, wanted, files, conflicts, removed)
    return files, tuple(conflicts), tuple(sorted(set(removed)))


@dataclass(frozen=True, slots=True)
class _Result:
    files: dict[str, bytes]
    conflicts: tuple[Conflict, ...] = ()
    removed: tuple[str, ...] = ()


def _merge_file(
    name: str, base: Facts | None, disk: Facts, new: Facts, release: str, *, nothing_before: bool
) -> _Result:
    """Merge one top-level file and its Includes."""
    if name not in disk.view.documents:
        return _merge_absent(name, base, new)
    if base is not None and _texts(base) == _texts(disk):
        gone = tuple(file for file in disk.view.documents if file not in new.view.documents)
        return _Result(_contents(new), (), gone)
    if base is not None and _texts(base) == _texts(new):
        return _Result(_contents(disk))
    lander = Lander(
        base if base is not None or nothing_before else _nothing(name), disk, new, release=release
    )
    lander.land()
    files = {file: dumps(document) for file, document in lander.documents.items()}
    removed = set(lander.dropped)
    if name not in new.view.documents and all(each.is_silent for each in lander.documents[name].statements):
        removed.add(name)
        del files[name]
    return _Result(files, tuple(lander.conflicts), tuple(removed))


def _merge_absent(name: str, base: Facts | None, new: Facts) -> _Result:
    """A file that is not on disk: new, or removed by the site."""
    if name not in new.view.documents:
        return _Result({})
    if base is None:
        return _Result(_contents(new))
    if name != FileKind.SLURM and not any(True for _ in compare(base, new)):
        return _Result({})
    conflict = Conflict(
        name, name, "as last applied", None, "wanted", owner(name, "", rendered=True), "request"
    )
    return _Result(_contents(new), (conflict,))


def _nothing(name: str) -> Facts:
    return Loader().load(name, {})


def _texts(state: Facts) -> dict[str, str]:
    return {name: document.text for name, document in state.view.documents.items()}


def _contents(state: Facts) -> dict[str, bytes]:
    return {name: dumps(document) for name, document in state.view.documents.items()}


def _merge_whole(
    name: str,
    base: bytes | str | None,
    disk: Files,
    wanted: Files,
    files: dict[str, bytes],
    conflicts: list[Conflict],
    removed: list[str],
) -> None:
    """Merge a file that is not Slurm's ``Key=value``: it is one value."""
    site, new = disk.get(name), wanted.get(name)
    if new is None and site is None:
        return
    if _alike(name, site, new) or _alike(name, base, new):
        chosen = site
    elif _alike(name, base, site):
        chosen = new
    else:
        request_wins = hyperpod_owns(name, "")
        chosen = new if request_wins else site
        conflicts.append(
            Conflict(
                name,
                name,
                _described(base),
                _described(site),
                _described(new),
                owner(name, "", rendered=True),
                "request" if request_wins else "site",
            )
        )
    if chosen is not None:
        files[name] = _bytes(chosen) or b""
    elif site is not None:
        removed.append(name)


def _alike(name: str, one: bytes | str | None, other: bytes | str | None) -> bool:
    if one is None or other is None:
        return one is other
    return same_content(name, one, other)


def _described(content: bytes | str | None) -> str | None:
    return None if content is None else f"{len(_bytes(content) or b'')} bytes"


def _bytes(content: bytes | str | None) -> bytes | None:
    return content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
