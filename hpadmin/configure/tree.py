"""Writing a rendered configuration to a directory: each file whole or not at all, with the mode it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpadmin.configure import atomic
from hpadmin.configure.desired import file_mode
from hpadmin.errors import OperationFailed

MISLEADING = ("topology.conf", "topology.yaml")
"""Files that Slurm reads wherever they lie beside slurm.conf: a stale one would change where jobs go."""


def write(directory: Path, files: Mapping[str, str]) -> tuple[Path, ...]:
    """Write `files` (relative name to text) into `directory`, which is made where it is missing.

    Returns the stale topology files that were removed. slurm.conf is written last, so that whatever it names is
    there before it. Raises OperationFailed when a file cannot be written.
    """
    removed = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == "slurm.conf"):
            atomic.replace(directory / name, files[name].encode(), mode=file_mode(name))
        for name in MISLEADING:
            path = directory / name
            if name not in files and path.exists():
                atomic.remove(path)
                removed.append(path)
    except OSError as error:
        raise OperationFailed(f"cannot write {error.filename or directory}: {error.strerror}") from error
    return tuple(removed)
