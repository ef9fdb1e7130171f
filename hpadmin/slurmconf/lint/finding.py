"""What a rule says about a configuration, and what rules look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hpadmin.slurm.hostlist import HostlistError
from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.lint.facts import Speller
from hpadmin.slurmconf.records import Origin
from hpadmin.slurmconf.view import View


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """slurmctld, slurmd or slurmdbd dies of it, nodes go invalid, or hardware that is named is lost to jobs."""
    WARNING = "warning"
    """Slurm complains and goes on, or reads something else than what seems to be meant."""
    INFO = "info"
    """Works, but probably not as it could."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    file: str
    """Relative to the configuration folder."""
    line: int
    """From 1; 0 where the finding belongs to the file as a whole."""
    severity: Severity
    code: str
    """One of `hpadmin.slurmconf.lint.codes.CODES`."""
    message: str
    """What is wrong and what to do."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message} [{self.code}]"


def error(origin: Origin, code: str, message: str) -> Finding:
    """A finding of severity ERROR at `origin`."""
    return Finding(origin.file, origin.line, Severity.ERROR, code, message)


def warning(origin: Origin, code: str, message: str) -> Finding:
    """A finding of severity WARNING at `origin`."""
    return Finding(origin.file, origin.line, Severity.WARNING, code, message)


def info(origin: Origin, code: str, message: str) -> Finding:
    """A finding of severity INFO at `origin`."""
    return Finding(origin.file, origin.line, Severity.INFO, code, message)


def reason(problem: HostlistError) -> str:
    """Why a text is no host list, in one line."""
    return problem.problems[0].message if problem.problems else problem.message


class Host(Protocol):
    """What only a machine of the cluster can tell."""

    def has_user(self, name: str) -> bool:
        """Whether a user of this name (or number) exists there."""
        ...

    def resolves(self, name: str) -> bool:
        """Whether a host name or address can be resolved there."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """The configuration that rules look at. Pure data, but for what may be spent on spelling; `host`, where
    given, asks a machine."""

    release: str
    """Slurm's release as ``major.minor``, such as 24.11."""
    files: Mapping[FileKind, View] = field(default_factory=dict)
    """Each file that is there, with its Includes."""
    others: frozenset[str] = frozenset()
    """Names of all files in the folder."""
    topology_yaml_content: bytes | None = None
    whole: bool = True
    """A whole configuration folder: what is not there is missing. False for a file that is looked at alone."""
    fragment: bool = False
    """A file that another one includes: what it refers to may stand elsewhere."""
    modes: Mapping[str, int] = field(default_factory=dict)
    """Permission bits of files, for those that are known."""
    host: Host | None = None
    speller: Speller = field(default_factory=Speller, compare=False, repr=False)

    @property
    def slurm(self) -> View | None:
        """slurm.conf."""
        return self.files.get(FileKind.SLURM)

    @property
    def gres(self) -> View | None:
        """gres.conf."""
        return self.files.get(FileKind.GRES)

    @property
    def topology(self) -> View | None:
        """topology.conf."""
        return self.files.get(FileKind.TOPOLOGY)

    def since(self, release: str) -> bool:
        """Whether the configuration is for `release` or a later one."""
        return _ordered(self.release) >= _ordered(release)

    @property
    def topology_yaml(self) -> bool:
        """Whether a topology.yaml lies there that Slurm reads: it stands above topology.conf and TopologyPlugin."""
        return "topology.yaml" in self.others and self.since("25.05")

    @property
    def topology_plugin(self) -> str:
        """The name of TopologyPlugin without its kind, in lower case: ``block``, ``tree``, ``default``."""
        if self.slurm is None:
            return ""
        return self.slurm.value("TopologyPlugin", "topology/default").lower().removeprefix("topology/")

    @property
    def references(self) -> View | None:
        """slurm.conf, when everything that it refers to can be seen; None for a part of one."""
        if self.slurm is None or self.fragment or self.slurm.missing:
            return None
        return self.slurm


Rule = Callable[[Subject], Iterator[Finding]]
"""Looks at a configuration for one kind of mistake. Pure."""


def _ordered(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))
