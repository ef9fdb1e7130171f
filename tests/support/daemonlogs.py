"""Which lines of slurmctld's and slurmd's logs are complaints, and which of them say something about the files."""

from __future__ import annotations

STARTING_UP = (
    "Could not open node state file",
    "Could not open job state file",
    "Could not open reservation state file",
    "Could not open trigger state file",
    "Could not open power_save state file",
    "Could not open fed_mgr state file",
    "No last decay",
    "NOTE: Trying backup state save file",
    "Information may be lost",
    "Jobs may be lost",
    "Triggers may be lost",
    "Reservations may be lost",
    "No Assoc usage file",
    "No dyn",
    "state file",
    "state save file",
    "to recover",
)
"""What a controller says at its very first start, when there is no state to recover yet."""

BETWEEN_PROCESSES = (
    "slurm_send_node_msg",
    "slurm_receive_msg",
    "Connection reset by peer",
    "Socket timed out",
    "stepd_connect to StepId=",
)
"""What says nothing of configuration: an srun or a slurmstepd that ended before somebody spoke to it."""


SLOW_MACHINE = ("High latency for 1000 calls to gettimeofday",)
"""What says something of the machine alone."""


def complains(line: str) -> bool:
    """Tell whether a line is an error or a warning that our files can have caused."""
    serious = any(word in line for word in ("error:", "warning:", "fatal:"))
    return serious and not any(known in line for known in STARTING_UP + BETWEEN_PROCESSES + SLOW_MACHINE)
