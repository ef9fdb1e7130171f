"""What the SPANK plugin runs in the place of an srun that was given ``--auto-resume``.

    python3 -I -c '…' MOST SPARES HEARTBEAT /usr/bin/srun -- srun ARGUMENTS…

where `…` calls `main` (slurm_plugins/spank_auto_resume.c), or runs srun plainly where it cannot be loaded.
It ends with srun's own exit code, or by the signal that ended srun.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hpadmin.errors import HpadminError
from hpadmin.recovery.resume import child, heartbeat, srunargs
from hpadmin.recovery.resume.ownjob import OwnJob, quiet
from hpadmin.recovery.resume.supervisor import Options, Supervisor
from hpadmin.recovery.resume.watch import Launch
from hpadmin.slurm.command import Local


def main(argv: Sequence[str]) -> int:
    """Run the srun that `argv` names until it is done, and end as it ended."""
    most, spares, beat, program, _, *srun = argv
    _open_standard_streams()
    environment, folder = _environment(), _folder()
    launch = Launch(program, srun, environment, folder)
    job_id = _job_id(environment)
    given = srunargs.parse(srun)
    try:
        options = Options(int(most), int(spares), heartbeat.parse(beat, folder))
    except HpadminError as error:
        _write(f"srun: error: {error.message}\n")
        return 1
    if given.interactive:
        return _plain(launch)
    why_not = ""
    if job_id is None or given.jobid:
        why_not = "Auto Resume can only run within an existing allocation; the step runs without it."
    elif given.heterogeneous and "SLURM_HET_SIZE" in environment:
        why_not = "Auto Resume cannot swap nodes of a heterogeneous job; the step runs without it."
    if why_not:
        _write(f"[Auto Resume] Info: JobID: {job_id or '-'} StepID: - {why_not}\n")
        return _plain(launch)
    beat_unseen = options.heartbeat.unseen(srun, environment) if options.heartbeat is not None else ""
    if beat_unseen:
        _write(f"[Auto Resume] Info: JobID: {job_id} StepID: - No heartbeat is watched: {beat_unseen}\n")
        options = replace(options, heartbeat=None)
    if options.spares and given.nodes is None:
        launch = _leaving_spares(launch, options.spares)

    # From here on our own commands see nothing of the step's environment; srun gets it back whole.
    os.environ.clear()
    os.environ.update(quiet(environment))
    os.chdir("/")
    assert job_id is not None
    return child.end_like(Supervisor(OwnJob(Local(), job_id), launch, options, _write).run())


def _leaving_spares(launch: Launch, spares: int) -> Launch:
    """Let the step use all nodes of the job but the spares, with the tasks of those alone."""
    held = launch.environment.get("SLURM_JOB_NUM_NODES", "")
    if not held.isdigit() or int(held) <= spares:
        return launch
    use = int(held) - spares
    environment = {**launch.environment, "SLURM_JOB_NUM_NODES": str(use), "SLURM_NNODES": str(use)}
    each = launch.environment.get("SLURM_NTASKS_PER_NODE", "")
    if each.isdigit():
        # sbatch counts these over all nodes of the job; a number that the user gave is another, and stays.
        for name in ("SLURM_NTASKS", "SLURM_NPROCS"):
            if environment.get(name) == str(int(held) * int(each)):
                environment[name] = str(use * int(each))
    return Launch(launch.program, launch.argv, environment, launch.folder)


def _plain(launch: Launch) -> int:
    """Run srun once, without watching it."""
    child.block_signals()
    environment = {**launch.environment, "HPADMIN_AUTO_RESUME_PARENT": str(os.getpid())}
    running = child.Child.start(launch.program, launch.argv, environment, launch.folder)
    while (status := running.wait(60.0)) is None:
        pass
    return child.end_like(status)


def _job_id(environment: Mapping[str, str]) -> int | None:
    text = environment.get("SLURM_JOB_ID", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _open_standard_streams() -> None:
    """Put /dev/null where standard input or an output is closed: no pipe of ours may end up in its place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open("/dev/null", os.O_RDWR), True)  # the lowest that is free


def _environment() -> dict[str, str]:
    """Return the environment that srun had: Python adds LC_CTYPE to its own in the C locale (PEP 538)."""
    block = Path("/proc/self/environ").read_bytes()
    pairs = (os.fsdecode(entry).partition("=") for entry in block.split(b"\0") if entry)
    return {name: value for name, equals, value in pairs if equals}


def _folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "/"


def _write(text: str) -> None:
    # Where nobody listens any more, nothing is said; the step goes on.
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
