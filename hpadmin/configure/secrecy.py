"""Values that nobody should read over somebody's shoulder: they are never shown, only that they changed."""

from __future__ import annotations

import re

HIDDEN = "(not shown)"

_SECRET = re.compile(r"(AccountingStorage|JobComp|Storage)Pass(word)?", re.IGNORECASE)
"""slurm.conf(5) and slurmdbd.conf(5). With auth/munge or auth/slurm AccountingStoragePass is a socket; hiding it
costs nothing."""


def shown(setting: str, value: str | None) -> str | None:
    """Return what may be shown of the value of a setting; None stays None."""
    return HIDDEN if value is not None and _SECRET.search(setting) else value
