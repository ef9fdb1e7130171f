"""Is every part of a running step still there? Two signs, neither of which is srun's own word.

srun does not notice when a slurmstepd dies without its node being marked DOWN, nor a node that falls silent
before SlurmdTimeout. So the supervisor looks itself:

* at srun's own connections: each slurmstepd holds one, and the kernel of a living node closes it at once
  when its slurmstepd dies (free, every second);
* at ``sstat --pidformat``, which asks the slurmd of every node of the step for the step's processes, with
  Slurm's own authentication (one small RPC to slurmctld and one to each node, every few seconds).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED = "01"
_UNREACHED = re.compile(r"unknown return given from ([^\s:]+)")
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class StepView:
    """What ``sstat --pidformat`` told about a step."""

    present: frozenset[str]
    """Nodes that answered and run processes of the step."""
    silent: frozenset[str]
    """Nodes that sstat named because they did not answer."""
    told: bool
    """Something can be concluded: sstat reached the step at all."""


def read_sstat(stdout: str, stderr: str, step: str) -> StepView:
    """Read the output of ``sstat -j STEP --pidformat -P -n``.

    >>> read_sstat("1.0|n1|441\\n1.0|n3|442\\n", "", "1.0").present == {"n1", "n3"}
    True
    """
    present = set()
    for line in stdout.splitlines():
        fields = line.split("|")
        if len(fields) >= 3 and fields[0] == step and fields[2].strip():
            present.add(fields[1])
    silent = frozenset(_UNREACHED.findall(stderr))
    return StepView(frozenset(present), silent, bool(present or silent))


def connections(pid: int, proc: Path = Path("/proc")) -> frozenset[str]:
    """Return srun's established TCP connections that others opened to it: its slurmstepds (proc_pid_net(5)).

    Empty when the process is gone.
    """
    try:
        inodes = {
            found[1]
            for link in (proc / str(pid) / "fd").iterdir()
            if (found := _SOCKET.fullmatch(_target(link)))
        }
        tables = [(proc / str(pid) / "net" / name).read_text() for name in ("tcp", "tcp6")]
    except OSError:
        return frozenset()
    return _accepted(tables, inodes)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed between listing and looking
        return ""


def _accepted(tables: Collection[str], inodes: Collection[str]) -> frozenset[str]:
    """Pick the connections of `inodes` whose local port is one that a socket of `inodes` listens on."""
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    own = [row for row in rows if len(row) > 9 and row[9] in inodes]
    listening = {_port(row[1]) for row in own if row[3] == "0A"}
    return frozenset(
        f"{row[2]}>{_port(row[1])}" for row in own if row[3] == _ESTABLISHED and _port(row[1]) in listening
    )


def _port(address: str) -> str:
    return address.rpartition(":")[2]
