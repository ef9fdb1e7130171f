"""Runs on a bare machine: start its lifecycle again and again, and kill it in the middle of every stage in turn.

Arguments: names of the stages. Prints a line for each: the stage, whether the kill met it, and the exit status; the
last line is the exit status of a run that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ON_CREATE = "/opt/hpadmin/lifecycle/on_create.sh"
STATE = Path("/var/lib/hpadmin/lifecycle/state.json")
SECONDS = 240
QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}
"""Nothing that it leaves behind may hold on to our own output."""


def stage_now() -> str:
    """The stage that the record says is running."""
    try:
        return str(json.loads(STATE.read_text())["stage"])
    except (OSError, ValueError):
        return ""


def killed_in(stage: str) -> bool:
    """Start the lifecycle and kill it, with all that it started and that did not detach, once `stage` runs."""
    STATE.unlink(missing_ok=True)
    with subprocess.Popen([ON_CREATE], **QUIET, start_new_session=True) as process:
        end = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < end:
            if stage_now() == stage:
                time.sleep(0.03)  # into its middle
                break
        met = process.poll() is None
        if met:
            os.killpg(process.pid, signal.SIGKILL)
    return met


def main() -> None:
    """Kill in every stage; then let it finish."""
    for stage in sys.argv[1:]:
        sys.stdout.write(f"{stage} {'killed' if killed_in(stage) else 'was too quick'}\n")
    done = subprocess.run([ON_CREATE], **QUIET, check=False, timeout=SECONDS * 2)
    sys.stdout.write(f"{done.returncode}\n")


main()
