"""Runs on a bare machine: start its lifecycle again and again, and kill it at one place after another of every stage.

A place is a change that Python is about to make: a file opened to be written, a rename, a change of owner, a command.
The lifecycle is killed with all that it started and that did not detach: before the first, then before the second
change that it still has to make in a stage, and so on, until a run gets through the stage; or, where the first place is
0, before every change of the stage that no earlier run was killed at. A command is let run for a moment first: a kill
meets it in its middle.

Arguments: the first place of a stage and the last (with 0, the greatest number of kills), then the stages' names.
Prints the number of kills in each stage, and in the end the exit status of a run that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

LIFECYCLE = "/opt/hpadmin/lifecycle"
SECONDS = 600
QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}
"""Nothing that it leaves behind may hold on to our own output."""

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
        os._exit(99)  # what comes after the stage is left for the next victims
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
    command = ["/opt/hpadmin/bin/python3", "-c", VICTIM, above, stage, str(place)]
    with subprocess.Popen(command, **QUIET, start_new_session=True, cwd="/") as process:
        return process.wait(SECONDS)


def main() -> None:
    """Kill in every stage; then let it finish."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    kills = dict.fromkeys(sys.argv[3:], 0)
    for stage in kills:
        for place in range(first, last + 1) if first else (0,) * last:
            if run(stage, place) != -signal.SIGKILL:
                break
            kills[stage] += 1
    sys.stdout.write(json.dumps(kills) + "\n")
    done = subprocess.run([f"{LIFECYCLE}/on_create.sh"], **QUIET, check=False, timeout=SECONDS)
    sys.stdout.write(f"{done.returncode}\n")
    sys.stdout.flush()
    os._exit(0)


main()
