"""What it takes for a change to count: nothing, a reconfigure, a daemon's restart, or nodes without jobs.

From slurm.conf(5), gres.conf(5), scontrol(1) and what 24.11 does: a reconfigure starts slurmctld and every slurmd
anew behind their open sockets, so that all counts but what those sockets, their keys and their places on disk are.
"""

from __future__ import annotations

from enum import StrEnum

from hpadmin.slurmconf.difference import Difference, Subject


class Requirement(StrEnum):
    """What a change needs."""

    NOTHING = "nothing"
    RECONFIGURE = "reconfigure"
    DRAIN = "drain nodes"
    """A reconfigure while no job uses what changes."""
    RESTART_SLURMD = "restart slurmd"
    RESTART_SLURMCTLD = "restart slurmctld"
    RESTART_ALL = "restart slurmctld and slurmd"
    RESTART_SLURMDBD = "restart slurmdbd"

    @property
    def by_reconfigure(self) -> bool:
        """A reconfigure makes it count (restarting slurmdbd is nobody's business here but the administrator's)."""
        return self in (
            Requirement.NOTHING,
            Requirement.RECONFIGURE,
            Requirement.DRAIN,
            Requirement.RESTART_SLURMDBD,
        )


_SETTINGS = {
    # Listening sockets are inherited by the new process (scontrol(1), reconfigure).
    "slurmctldport": Requirement.RESTART_ALL,
    "slurmdport": Requirement.RESTART_SLURMD,
    # Everybody must speak the same; the old keys are still in use while the new process starts.
    "authtype": Requirement.RESTART_ALL,
    "authinfo": Requirement.RESTART_ALL,
    "credtype": Requirement.RESTART_ALL,
    "hashplugin": Requirement.RESTART_ALL,
    "tlstype": Requirement.RESTART_ALL,
    # slurmctld must be stopped first, and the state moved by hand.
    "statesavelocation": Requirement.RESTART_SLURMCTLD,
    "clustername": Requirement.RESTART_SLURMCTLD,
    "slurmuser": Requirement.RESTART_SLURMCTLD,
    "slurmduser": Requirement.RESTART_SLURMD,
    # Running steps keep what they were started with (slurm.conf(5)).
    "slurmdspooldir": Requirement.DRAIN,
    "jobacctgathertype": Requirement.DRAIN,
    "proctracktype": Requirement.DRAIN,
    "switchtype": Requirement.DRAIN,
}
_SHAPE_KEYS = frozenset(
    {
        "cpus",
        "procs",
        "boards",
        "sockets",
        "socketsperboard",
        "corespersocket",
        "threadspercore",
        "gres",
        "state",
    }
)


def requirement(difference: Difference) -> Requirement:
    """Return what a difference needs, whatever runs at the moment."""
    key = difference.key.lower()
    if difference.file == "slurmdbd.conf":
        return Requirement.RESTART_SLURMDBD
    if difference.subject is Subject.SETTING and difference.file == "slurm.conf":
        return _SETTINGS.get(key, Requirement.RECONFIGURE)
    if difference.subject in (Subject.NODE, Subject.PARTITION) and not difference.key:
        return Requirement.RECONFIGURE if difference.after is not None else Requirement.DRAIN
    if difference.subject is Subject.NODE and key == "port":
        return Requirement.RESTART_SLURMD
    if difference.subject is Subject.NODE and key in _SHAPE_KEYS:
        return Requirement.DRAIN
    if difference.subject is Subject.NODE_ORDER:
        return Requirement.DRAIN
    old, new = difference.before, difference.after
    if (
        difference.subject is Subject.GRES
        and old is not None
        and new is not None
        and _cores(old) != _cores(new)
    ):
        # gres.conf(5), Cores: "A restart of the slurmctld is needed for changes to the Cores option".
        return Requirement.RESTART_SLURMCTLD
    return Requirement.RECONFIGURE


def _cores(texts: str) -> list[str]:
    return [word for word in texts.split() if word.lower().startswith(("cores=", "cpus="))]
