"""On a node: is the slurmstepd of a step alive, ended, or killed? Run there by the supervisor, as the user.

    srun --overlap --ntasks-per-node=1 python3 -I -m hpadmin.recovery.resume.stepcheck SPOOL JOB STEP [--sweep]

Every slurmstepd listens on a socket in SlurmdSpoolDir, ``<node>_<job>.<step>``, and removes it when it ends
(src/common/stepd_api.c). So an absent socket is a step that ended here in the ordinary way, also when tasks
elsewhere go on; a socket that refuses is a slurmstepd that was killed. Nothing else tells the two apart: to
srun and to sstat both look the same.

``--sweep`` kills what a killed slurmstepd left behind of this very step: processes of the calling user whose
environment names the job and the step. Prints ``<node> alive|ended|killed|unknown <processes killed>``.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from enum import StrEnum
from pathlib import Path


class Stepd(StrEnum):
    """What became of a slurmstepd."""

    ALIVE = "alive"
    ENDED = "ended"
    KILLED = "killed"
    UNKNOWN = "unknown"
    """The socket cannot be judged, for example because SlurmdSpoolDir is closed to users."""


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


def sweep(job_id: int, step: int, node: str) -> int:
    """Kill what is left of a step here; return how many processes that were."""
    left = leftovers(job_id, step, node)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(left)


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
    swept = sweep(job_id, step, node) if "--sweep" in argv[3:] and state is Stepd.KILLED else 0
    sys.stdout.write(f"{node} {state} {swept}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
