"""On a node: is the slurmstepd of a step alive, ended, or killed? Run there by the supervisor, as the user.

    srun --overlap --ntasks-per-node=1 python3 -I -m hpadmin.recovery.resume.stepcheck SPOOL JOB STEP [--sweep]

Every slurmstepd listens on a socket in SlurmdSpoolDir, ``<node>_<job>.<step>``, and removes it when it ends
(src/common/stepd_api.c). So an absent socket is a step that ended here in the ordinary way, also when tasks
elsewhere go on; a socket that refuses is a slurmstepd that was killed. Nothing else tells the two apart: to
srun and to sstat both look the same.

``--sweep`` ends what still lives of this very step: what its slurmstepd counts to it (``scontrol listpids``), and
processes of the calling user whose environment names job, step and node, which is all that is known of what a killed
slurmstepd left behind. Prints ``<node> alive|ended|killed|unknown <processes ended> <processes left>``.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ENDING_SECONDS = 10.0
"""A process that SIGKILL has not ended after so long hangs in the kernel."""


class Stepd(StrEnum):
    """What became of a slurmstepd."""

    ALIVE = "alive"
    ENDED = "ended"
    KILLED = "killed"
    UNKNOWN = "unknown"
    """The socket cannot be judged, for example because SlurmdSpoolDir is closed to users."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the check saw on one node."""

    state: Stepd
    """Before anything was ended."""
    ended: int = 0
    left: int = 0
    """Processes of the step that could not be ended."""

    def line(self, node: str) -> str:
        """Return it as the check prints it."""
        return f"{node} {self.state} {self.ended} {self.left}"


def read_line(line: str) -> tuple[str, Found] | None:
    """Read a line that the check printed; None where it is somebody else's.

    >>> read_line("n1 alive 2 0")
    ('n1', Found(state=<Stepd.ALIVE: 'alive'>, ended=2, left=0))
    """
    words = line.split()
    if len(words) != 4 or words[1] not in set(Stepd) or not (words[2].isdigit() and words[3].isdigit()):
        return None
    return words[0], Found(Stepd(words[1]), int(words[2]), int(words[3]))


def stepd(spool: Path, node: str, job_id: int, step: int) -> Stepd:
    """Judge the slurmstepd of a step on this node by its socket."""
    path = spool / f"{node}_{job_id}.{step}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return Stepd.ENDED if os.access(spool, os.R_OK | os.X_OK) else Stepd.UNKNOWN
        except ConnectionRefusedError:
            return Stepd.KILLED if path.is_socket() else Stepd.UNKNOWN
        except OSError:
            return Stepd.UNKNOWN
    return Stepd.ALIVE


def leftovers(job_id: int, step: int, node: str, proc: Path = Path("/proc")) -> list[int]:
    """Return the processes of the calling user whose environment names this job, step and node."""
    wanted = {
        f"SLURM_JOB_ID={job_id}".encode(),
        f"SLURM_STEP_ID={step}".encode(),
        f"SLURMD_NODENAME={node}".encode(),
    }
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if folder.stat().st_uid == os.getuid():
                variables = set((folder / "environ").read_bytes().split(b"\0"))
                if wanted <= variables:
                    found.append(int(folder.name))
        except OSError:  # it ended meanwhile, or is not ours to read
            continue
    return found


def members(job_id: int, step: int, node: str, proc: Path = Path("/proc")) -> list[int]:
    """Return the processes of the calling user that the slurmstepd of a step counts to it; none where it is gone."""
    argv = ["scontrol", "listpids", f"{job_id}.{step}", node]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = []
    for line in done.stdout.splitlines():
        pid = line.split()[0] if line.split() else ""
        try:
            if pid.isdigit() and (proc / pid).stat().st_uid == os.getuid():
                found.append(int(pid))
        except OSError:  # it ended meanwhile
            continue
    return found


def end(pids: Collection[int], seconds: float) -> list[int]:
    """Kill processes and wait until they have ended; return those that have not within `seconds`."""
    waiting: dict[int, int] = {}
    poll, deadline = select.poll(), time.monotonic() + seconds
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        waiting[descriptor] = pid
        poll.register(descriptor, select.POLLIN)  # readable once it ended (pidfd_open(2))
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    try:
        while waiting and (rest := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(rest * 1000):
                poll.unregister(descriptor)
                os.close(descriptor)
                del waiting[descriptor]
    finally:
        for descriptor in waiting:
            os.close(descriptor)
    return sorted(waiting.values())


def sweep(job_id: int, step: int, node: str, *, alive: bool) -> tuple[int, int]:
    """End what lives of a step here; return how many processes ended, and how many did not.

    `alive`: its slurmstepd can be asked. It ends as well, once the last of its tasks has.
    """
    ended, deadline = set[int](), time.monotonic() + ENDING_SECONDS
    while True:
        found = {*leftovers(job_id, step, node), *(members(job_id, step, node) if alive else ())} - ended
        if not found:
            return len(ended), 0
        left = end(found, deadline - time.monotonic())
        ended |= found.difference(left)
        if left:
            return len(ended), len(left)


def spool_directory(setting: str, node: str) -> Path:
    """Expand SlurmdSpoolDir as slurm.conf(5) says: ``%n`` is the node's name, ``%h`` its host's.

    >>> str(spool_directory("/var/spool/slurmd-%n", "n1"))
    '/var/spool/slurmd-n1'
    """
    return Path(setting.replace("%h", socket.gethostname().partition(".")[0]).replace("%n", node))


def main(argv: list[str]) -> int:
    """Judge, sweep if asked to, and print one line."""
    setting, job_id, step = argv[0], int(argv[1]), int(argv[2])
    node = os.environ["SLURMD_NODENAME"]
    state = stepd(spool_directory(setting, node), node, job_id, step)
    found = Found(state)
    if "--sweep" in argv[3:]:
        found = Found(state, *sweep(job_id, step, node, alive=state is Stepd.ALIVE))
    sys.stdout.write(f"{found.line(node)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
