"""Names that may stand in a topology file: what Slurm reads as one plain name.

Slurm reads switch and block names as host lists (`hostlist_create` on them in switch_record.c and
block_record.c), so a comma or a bracket would make several names of one; a ``#``, a blank or a line end would
change the file."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_NAME = 64
"""HOST_NAME_MAX, the limit of a SwitchName (switch_record.c)."""

_TOO_LONG_NUMBER = re.compile(r"\d{19,}")
"""Slurm reads numbers above 64 bits as the largest one: two such switches would be one, which is fatal."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_plain(name: str) -> bool:
    """Whether `name` can be written into a topology file as it is."""
    return (
        len(name) <= MAX_NAME and _PLAIN.fullmatch(name) is not None and _TOO_LONG_NUMBER.search(name) is None
    )


def why_not(kind: str, name: str) -> str:
    """A message for a name that is not plain; `kind` is ``node``, ``block`` or ``switch``."""
    return (
        f"{name!r} cannot be a {kind} name: only letters, digits, '.', '_' and '-' are allowed, "
        f"starting with a letter or digit, at most {MAX_NAME} characters and 18 digits in a row"
    )


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts ``n9`` before ``n10``, as Slurm orders its nodes."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part)


def table_order(names: Iterable[str], *, as_written: bool) -> list[str]:
    """The order of Slurm's node table, which decides ties between nodes.

    With topology/block before 25.05 it is the order of the NodeName lines (`as_written`), in every other case
    the natural order of names (node_record sorting in node_conf.c)."""
    return list(names) if as_written else sorted(names, key=natural)
