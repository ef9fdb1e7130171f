"""Compare configurations by what they mean to Slurm, not by their text.

    for difference in differences(applied_files, files_on_disk):
        print(difference.setting, difference.before, "->", difference.after)
    findings = drift(expected=applied_files, found=files_on_disk)

Files are a mapping from name (relative to the configuration folder) to content; an Include of an absolute path
is looked up under that path. What counts and what does not: `hpadmin.slurmconf.difference`.

Files that are none of Slurm's ``Key=value`` files are compared whole: YAML by its data, others by their bytes.
Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hpadmin.configure.ownership import Owner, owner
from hpadmin.slurmconf.difference import Difference, Subject, compare
from hpadmin.slurmconf.document import Document, loads
from hpadmin.slurmconf.facts import Facts, Interner, facts
from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.records import Origin
from hpadmin.slurmconf.view import view

Files = Mapping[str, "bytes | str"]
"""Contents by name, relative to the configuration folder."""

TOP_LEVEL = tuple(kind.value for kind in FileKind)
"""Files that are read with their Includes; all others are either included by these or compared whole."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A piece of drift: what the files should say, what they say, and whose that is."""

    file: str
    """File that says it; for something that is gone, the file that should say it."""
    line: int
    """Line in that file as found, from 1; 0 where nothing was found."""
    setting: str
    expected: str | None
    found: str | None
    owner: Owner
    message: str
    """HyperPod's public words for this kind of drift."""
    difference: Difference | None = None
    """What it was made from; None for a conflict that the request won."""


DRIFT = "Configuration drift detected."
PARTITION_DRIFT = "Partition configuration drift detected."
PARTITION_MISMATCH = "Partition configuration mismatch detected."


def drift(expected: Files, found: Files, *, release: str = "24.11") -> tuple[Finding, ...]:
    """Return what `found` says otherwise than `expected`, each with its place in `found`."""
    return tuple(map(finding, differences(expected, found, release=release)))


def finding(difference: Difference) -> Finding:
    """Return a difference (before: expected, after: found) as a piece of drift."""
    origin = difference.after_origin or difference.before_origin
    key = difference.record or difference.key
    if difference.subject is not Subject.PARTITION:
        message = DRIFT
    elif difference.key.lower() == "nodes":
        message = PARTITION_MISMATCH
    else:
        message = PARTITION_DRIFT
    return Finding(
        file=origin.file if origin else difference.file,
        line=difference.after_origin.line if difference.after_origin else 0,
        setting=difference.setting,
        expected=difference.before,
        found=difference.after,
        owner=owner(difference.file, key, rendered=difference.before is not None),
        message=message,
        difference=difference,
    )


def differences(
    before: Files, after: Files, *, release: str = "24.11", loader: Loader | None = None
) -> tuple[Difference, ...]:
    """Return everything that differs in meaning, file by file.

    `release` is the Slurm release that reads the files; it decides whether the order of NodeName lines counts.
    `loader` keeps what it read for further comparisons.
    Nodes that differ in the same way are one difference with many names.
    """
    loader = loader or Loader()
    found: list[Difference] = []
    seen: set[str] = set()
    for name in TOP_LEVEL:
        if name not in before and name not in after:
            continue
        old, new = loader.load(name, before), loader.load(name, after)
        seen.update(old.view.documents, new.view.documents)
        if old is not new:
            found.extend(compare(old, new, release=release))
    for name in sorted({*before, *after} - seen):
        found.extend(_whole(name, before.get(name), after.get(name)))
    return tuple(found)


class Loader:
    """Reads top-level files with their Includes, equal files once."""

    def __init__(self) -> None:
        self._interner = Interner()
        self._loaded: dict[str, list[Facts]] = {}
        self._documents: dict[str, Document] = {}

    def load(self, name: str, files: Files) -> Facts:
        """Return the facts of a top-level file out of `files`; of equal files with equal Includes the same object."""
        for loaded in self._loaded.get(name, ()):
            wanted = {name, *loaded.view.documents, *(missing for missing, _ in loaded.view.missing)}
            if all(self._document(files, part) is loaded.view.documents.get(part) for part in wanted):
                return loaded
        found = facts(view(name, lambda part: self._document(files, part)), self._interner)
        self._loaded.setdefault(name, []).append(found)
        return found

    def _document(self, files: Files, name: str) -> Document | None:
        content = files.get(name)
        if content is None:
            return None
        text = content if isinstance(content, str) else content.decode("utf-8", "surrogateescape")
        found = self._documents.get(text)
        if found is None:
            found = self._documents[text] = loads(text)
        return found


def _whole(name: str, before: bytes | str | None, after: bytes | str | None) -> Iterator[Difference]:
    if before is not None and after is not None and same_content(name, before, after):
        return
    origins = (
        None if before is None else Origin(name, 1, 0),
        None if after is None else Origin(name, 1, 0),
    )
    yield Difference(name, Subject.FILE, "", (), "", _size(before), _size(after), *origins)


def same_content(name: str, one: bytes | str, other: bytes | str) -> bool:
    """Tell whether two contents of a file that is not Slurm's ``Key=value`` mean the same."""
    if _bytes(one) == _bytes(other):
        return True
    if name.endswith((".yaml", ".yml")):
        first, second = _yaml(one), _yaml(other)
        return first is not None and first == second
    return False


def _yaml(content: bytes | str) -> Any:
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError:
        return None


def _bytes(content: bytes | str) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")


def _size(content: bytes | str | None) -> str | None:
    return None if content is None else f"{len(_bytes(content))} bytes"
