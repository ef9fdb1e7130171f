"""What is wrong with a configuration, found without a running Slurm.

>>> found = lint_files({"slurm.conf": b"ClusterName=c\\nSlurmctldHost=h\\nSlurmUsr=slurm\\n"})
>>> print(found[-1])
slurm.conf:3: error: Slurm's slurm.conf has no key SlurmUsr; did you mean SlurmUser? [unknown-key]

Each module holds the rules of one subject; each rule is a pure function of a `finding.Subject`. What Slurm really
does with each kind of mistake is recorded in the project's tests, and the rules are held against that.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from hpadmin.errors import InvalidInput
from hpadmin.slurmconf import grammar
from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.lint import (
    accounting,
    facts,
    gres,
    keys,
    nodes,
    partitions,
    permissions,
    plugins,
    resume,
    syntax,
    topology,
    topology_yaml,
    values,
)
from hpadmin.slurmconf.lint.finding import Finding, Host, Rule, Severity, Subject
from hpadmin.slurmconf.view import view

__all__ = ["RELEASE", "Finding", "Host", "Severity", "lint_files", "lint_path"]

RELEASE = "24.11"
"""The release that a configuration is taken to be for when nobody says."""

RULES: tuple[Rule, ...] = (
    *syntax.RULES,
    *keys.RULES,
    *plugins.RULES,
    *values.RULES,
    *nodes.RULES,
    *partitions.RULES,
    *accounting.RULES,
    *gres.RULES,
    *topology.RULES,
    *topology_yaml.RULES,
    *resume.RULES,
    *permissions.RULES,
)


def lint_files(
    files: Mapping[str, bytes],
    *,
    release: str = RELEASE,
    modes: Mapping[str, int] | None = None,
    host: Host | None = None,
) -> list[Finding]:
    """Judge a whole configuration folder: name of each file to its content, permission bits where known.

    Pure, but for `host`. Findings come in the order of files and lines. Raises InvalidInput for a release that
    is not known.
    """
    return _judge(
        lambda name: name in files,
        files.get,
        release=release,
        modes=modes or {},
        host=host,
        others=frozenset(files),
    )


def lint_path(path: Path, *, release: str = RELEASE, host: Host | None = None) -> list[Finding]:
    """Judge a configuration folder, or one file by itself (its name tells what it is, else slurm.conf).

    Raises InvalidInput for a path that cannot be read and for a release that is not known.
    """
    try:
        if path.is_dir():
            return _judge_folder(path, release, host)
        content = path.read_bytes()
    except OSError as problem:
        raise InvalidInput(f"{path} cannot be read: {problem.strerror}") from problem
    disk = _Disk(path.parent)
    kind = grammar.file_kind(path.name)
    seen = view(path.name, lambda name: content if name == path.name else disk.read(name), kind)
    named = path.name == kind.value
    subject = Subject(
        release=facts.release_of(release),
        whole=False,
        fragment=kind is FileKind.SLURM and not named and not seen.value("ClusterName"),
        modes={path.name: stat.S_IMODE(path.stat().st_mode)} if named else {},
        host=host,
        files={kind: seen},
    )
    return _sorted(subject)


class _Disk:
    """Reads files next to each other; what cannot be read is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> bytes | None:
        """The content of a file, None without one."""
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return None


def _judge_folder(path: Path, release: str, host: Host | None) -> list[Finding]:
    present = {entry.name: entry.stat().st_mode for entry in path.iterdir() if entry.is_file()}
    if not present.keys() & {kind.value for kind in FileKind}:
        raise InvalidInput(
            f"{path} holds none of Slurm's files", hint="name the folder with slurm.conf in it"
        )
    unreadable = [name for name in present if name in _TOP and not _readable(path / name)]
    if unreadable:
        raise InvalidInput(f"{path / unreadable[0]} cannot be read: permission denied")
    disk = _Disk(path)
    kept = {name for name in present if name in _TOP or Path(name).suffix in (".key", ".jwks", ".conf")}
    return _judge(
        present.__contains__,
        disk.read,
        release=release,
        modes={name: stat.S_IMODE(present[name]) for name in sorted(kept)},
        host=host,
        others=frozenset(present),
    )


_TOP = frozenset({*(kind.value for kind in FileKind), "topology.yaml"})


def _readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _judge(
    there: Callable[[str], bool],
    read: Callable[[str], bytes | None],
    *,
    release: str,
    modes: Mapping[str, int],
    host: Host | None,
    others: frozenset[str],
) -> list[Finding]:
    files = {kind: view(kind.value, read, kind) for kind in FileKind if there(kind.value)}
    subject = Subject(
        release=facts.release_of(release),
        files=files,
        modes=modes,
        host=host,
        others=others,
        topology_yaml_content=read("topology.yaml") if "topology.yaml" in others else None,
    )
    return _sorted(subject)


def _sorted(subject: Subject) -> list[Finding]:
    order: dict[str, int] = {}
    for seen in subject.files.values():
        for name in seen.documents:
            order.setdefault(name, len(order))
    found = {finding for rule in RULES for finding in rule(subject)}
    return sorted(found, key=lambda f: (order.get(f.file, len(order)), f.file, f.line, f.code, f.message))
