"""The configuration folder on disk: every file that a configuration consists of, Includes followed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hpadmin.configure import atomic
from hpadmin.configure.compare import TOP_LEVEL
from hpadmin.configure.desired import file_mode
from hpadmin.errors import OperationFailed
from hpadmin.slurmconf.view import view

TOPOLOGY_YAML = "topology.yaml"


def read(conf_dir: Path, names: Collection[str] = ()) -> dict[str, bytes]:
    """Read Slurm's own files in `conf_dir`, what they include, and the files `names`; absent ones are left out.

    Keys are names relative to the folder; an Include of an absolute path stays one. Raises OperationFailed for
    a file that is there and cannot be read.
    """
    found: dict[str, bytes] = {}

    def load(name: str) -> bytes | None:
        if name not in found:
            try:
                file = atomic.read(conf_dir / name)
            except OSError as error:
                raise OperationFailed(f"{conf_dir / name} cannot be read: {error.strerror}") from error
            if file is None:
                return None
            found[name] = file.content
        return found[name]

    for name in TOP_LEVEL:
        view(name, load)
    for name in {TOPOLOGY_YAML, *names}:
        load(name)
    return found


def exposed(conf_dir: Path, names: Collection[str]) -> dict[str, int]:
    """Return those of the files `names` whose mode lets others at secrets, with that mode.

    Raises OperationFailed for a file that is there and cannot be looked at.
    """
    found = {}
    for name in names:
        try:
            mode = (conf_dir / name).stat().st_mode & 0o7777
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OperationFailed(f"{conf_dir / name} cannot be read: {error.strerror}") from error
        if atomic.allowed_mode(mode, file_mode(name)) != mode:
            found[name] = mode
    return found


def fingerprint(files: dict[str, bytes]) -> dict[str, str]:
    """Digests by name: equal ones say that nothing moved."""
    return {name: atomic.digest(content) for name, content in files.items()}
