"""Rules about who may read and write the files, and about secrets in them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, error, warning
from hpadmin.slurmconf.records import Origin

_SECRETS = {"accountingstoragepass": "AccountingStoragePass", "jobcomppass": "JobCompPass"}
_FOR_EVERYBODY = (
    "slurm.conf",
    "topology.conf",
    "topology.yaml",
    "gres.conf",
    "plugstack.conf",
    "cgroup.conf",
)


def modes(subject: Subject) -> Iterator[Finding]:
    """slurmdbd and auth/slurm refuse files that others can read; commands need to read slurm.conf."""
    private = set(subject.files[FileKind.SLURMDBD].documents) if FileKind.SLURMDBD in subject.files else set()
    public = set(subject.slurm.documents) if subject.slurm is not None else set()
    for name, mode in subject.modes.items():
        bits = stat.S_IMODE(mode)
        top = Origin(name, 0, 0)
        suffix = PurePosixPath(name).suffix
        if name in private:
            if bits != 0o600:
                message = f"slurmdbd starts only when it has mode 0600, not {bits:04o}: chmod 600 {name}"
                yield error(top, "permissions", message)
        elif suffix in (".key", ".jwks"):
            if bits & 0o007:
                message = f"a key that others can reach (mode {bits:04o}) is refused: chmod 600 {name}"
                yield error(top, "permissions", message)
        elif bits & 0o002:
            message = (
                f"everybody can write it (mode {bits:04o}) and so run programs as root: chmod 644 {name}"
            )
            yield error(top, "permissions", message)
        elif (name in public or name in _FOR_EVERYBODY) and not bits & 0o004:
            message = f"users' commands cannot read it (mode {bits:04o}): chmod 644 {name}"
            yield warning(top, "permissions", message)


def secrets(subject: Subject) -> Iterator[Finding]:
    """Passwords in slurm.conf, which every user reads."""
    if subject.slurm is None:
        return
    for key, spelled in _SECRETS.items():
        setting = subject.slurm.setting(key)
        # With slurmdbd the value may be the path of munge's socket, which is no secret.
        if setting is not None and setting.value and not setting.value.startswith("/"):
            message = f"{spelled} can be read by every user here: passwords belong in slurmdbd.conf"
            yield warning(setting.origin, "secret-in-slurm-conf", message)


RULES: tuple[Rule, ...] = (modes, secrets)
