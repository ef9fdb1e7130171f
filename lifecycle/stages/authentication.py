"""The key by which the cluster's nodes believe each other: munge's, or auth/slurm's.

It comes from the source of secrets, is never readable by others, not even while it is written, and never printed.
"""

from __future__ import annotations

from collections.abc import Iterator

from hpadmin.errors import OperationFailed
from lifecycle.daemon import Running, Stopped
from lifecycle.engine import Stage
from lifecycle.retry import Retry
from lifecycle.secrets import NoSecrets
from lifecycle.situation import Situation
from lifecycle.step import Directory, File, Step

KEY = "auth.key"
"""Name of the key in the source of secrets."""
MUNGE_KEY = "/etc/munge/munge.key"
_MUNGE_MINIMUM, _MUNGE_MAXIMUM = 32, 1024
"""Bytes of a key that munged accepts (munge(7))."""


def steps(situation: Situation) -> Iterator[Step]:
    """Yield the steps of the stage. Raises OperationFailed when the key is missing or unusable."""
    if situation.settings.auth == "slurm":
        yield from _slurm(situation)
    else:
        yield from _munge(situation)


def _munge(situation: Situation) -> Iterator[Step]:
    yield Directory("/etc/munge", 0o700, "munge")
    # Without a source the image's own key counts; munged says so when there is none.
    if not isinstance(situation.secrets, NoSecrets):
        key = situation.secrets.get(KEY)
        if not _MUNGE_MINIMUM <= len(key) <= _MUNGE_MAXIMUM:
            raise OperationFailed(
                f"the secret {KEY} has {len(key)} bytes: munge needs {_MUNGE_MINIMUM} to {_MUNGE_MAXIMUM}",
                hint="make one with: head -c 1024 /dev/urandom",
            )
        yield File(MUNGE_KEY, key, 0o400, "munge")
    yield Running(
        "munge", "munged", reads=(MUNGE_KEY,), probe=("munge", "-n"), log="/var/log/munge/munged.log"
    )


def _slurm(situation: Situation) -> Iterator[Step]:
    yield Stopped("munge", "munged")
    yield Directory(situation.conf_dir)
    yield File(f"{situation.conf_dir}/slurm.key", situation.secrets.get(KEY), 0o600, "slurm")


STAGE = Stage("authentication", "the cluster's key", steps, retry=Retry(deadline=300))
