"""Runs on a bare machine: start its lifecycle again and again, and kill it at one place after another of every stage.

A place is a change that Python is about to make: a file opened to be written, a rename, a change of owner, a command.
The lifecycle is killed with all that it started and that did not detach: before the first, then before the second
change that it still has to make in a stage, and so on, until a run gets through the stage; or, where the first place is
0, before every change of the stage that no earlier run was killed at. A command is let run for a moment first: a kill
meets it in its middle.

A run that ends by itself before it is through the stage, or that finds something to do for ever, ends it all: none of
the kills before may have left what the next run cannot mend.

Arguments: the first place of a stage and the last (with 0, the greatest number of kills), then the stages' names.
Prints a line with the number of kills in each stage, and one with the exit status of a run that nobody disturbed, or of
the run that failed. What the runs say is in the lifecycle's own log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

LIFECYCLE = "/opt/hpadmin/lifecycle"
LOG = Path("/var/log/provision/provisioning.log")
SECONDS = 600
THROUGH, ENDLESS = 99, 98
"""Exit statuses of a run that got through its stage, and of stages that no run gets through."""

VICTIM = """
import os, re, runpy, signal, sys, threading
sys.path.insert(0, sys.argv.pop(1))
stage, place = sys.argv.pop(1), int(sys.argv.pop(1))
from lifecycle import engine

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink"}
now, seen, passed, dying, work = "", 0, False, False, engine._stage
record = os.open("/root/killed-at", os.O_RDWR | os.O_CREAT | os.O_APPEND)
met = set(open(record, closefd=False).read().splitlines())
told, tell = os.pipe()


def watched(machine, situation, which, clock):
    global now, passed
    if passed:
        os._exit(THROUGH)  # what comes after the stage is left for the next victims
    now = which.name
    try:
        return work(machine, situation, which, clock)
    finally:
        if dying:
            signal.pause()  # its last command was quicker than its death, which is on its way
        passed, now = now == stage, ""


def executioner():
    os.read(told, 1)
    os.killpg(os.getpid(), signal.SIGKILL)


def die():
    # A child that works as a user may not kill root's processes: it asks.
    os.write(tell, b"x")
    signal.pause()


def hook(event, arguments):
    global seen, dying
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if now != stage or not (writes or event in CHANGES or event == "subprocess.Popen"):
        return
    if dying:
        signal.pause()  # a command was quicker than the death that meets it: no other change comes before that
    seen += 1
    # Numbers of processes, times and random names are others in every run.
    change = re.sub(r"/tmp/\\w+|[0-9a-f]{8,}|[0-9]+", "#", f"{stage} {event} {arguments[:2]}")
    if seen != place if place else change in met:
        return
    dying = True
    os.write(record, change.encode() + bytes([10]))
    if event == "subprocess.Popen":
        threading.Timer(0.02, die).start()
    else:
        die()


threading.Thread(target=executioner, daemon=True).start()
engine._stage = watched
sys.addaudithook(hook)
sys.argv[0] = "lifecycle"
runpy.run_module("lifecycle", run_name="__main__")
"""


def run(stage: str, place: int) -> int:
    """Run the lifecycle, killed at a place of a stage; return its exit status."""
    above = str(Path(LIFECYCLE).resolve().parent)
    program = VICTIM.replace("THROUGH", str(THROUGH))
    LOG.parent.mkdir(parents=True, exist_ok=True)
    # Nothing that it leaves behind may hold on to our own output.
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            ["/opt/hpadmin/bin/python3", "-c", program, above, stage, str(place)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    return process.wait(SECONDS)


def kill(stage: str, first: int, last: int) -> tuple[int, int]:
    """Kill at all places of a stage; return how often, and the status of a run that nobody killed, 0 without one."""
    for kills, place in enumerate(range(first, last + 1) if first else (0,) * last):
        status = run(stage, place)
        if status != -signal.SIGKILL:
            return kills, 0 if status == THROUGH else status
    return (last - first + 1, 0) if first else (last, ENDLESS)


def main() -> None:
    """Kill in every stage; then let it finish."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    kills = dict.fromkeys(sys.argv[3:], 0)
    status = 0
    for stage in kills:
        kills[stage], status = kill(stage, first, last)
        if status:
            break
    sys.stdout.write(json.dumps(kills) + "\n")
    if not status:
        quiet = subprocess.DEVNULL
        command = [f"{LIFECYCLE}/on_create.sh"]
        status = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=SECONDS).returncode
    sys.stdout.write(f"{status}\n")
    sys.stdout.flush()
    os._exit(0)


main()
