"""Run inside the container: a command at a terminal of its own, and somebody who types.

    python3 terminal.py 'srun --pty bash' 'expect $' 'send exit\\r' …

``insist TEXT`` presses Ctrl-C again and again until TEXT comes.

Prints what was expected and came, then how the command ended; 1 when something did not come in time.
"""

from __future__ import annotations

import os
import pty
import select
import sys
import time

SECONDS = 120.0
PRESS_SECONDS = 0.4
"""Two within a second are what ends a step."""


def main(command: str, *talk: str) -> int:
    """Talk to `command`, and tell how it ended."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("bash", ["bash", "-c", command])
    said = ""
    for line in talk:
        verb, _, text = line.partition(" ")
        if verb == "send":
            os.write(terminal, text.encode().decode("unicode_escape").encode())
            continue
        deadline, pressed = time.monotonic() + SECONDS, 0.0
        while text not in said:
            if verb == "insist" and time.monotonic() - pressed > PRESS_SECONDS:
                os.write(terminal, b"\x03")
                pressed = time.monotonic()
            until = min(deadline, pressed + PRESS_SECONDS) if verb == "insist" else deadline
            more = _read(terminal, until)
            if more is None or (not more and time.monotonic() > deadline):
                sys.stdout.write(f"never came: {text!r}, but {said!r}\n")
                return 1
            said += more
        said = said.partition(text)[2]
        sys.stdout.write(f"came: {text}\n")
    while _read(terminal, time.monotonic() + SECONDS):
        pass
    _, status = os.waitpid(child, 0)
    sys.stdout.write(f"ended: {os.waitstatus_to_exitcode(status)}\n")
    return 0


def _read(terminal: int, deadline: float) -> str | None:
    """Read what is there, or comes before `deadline`; None at the end."""
    ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        return ""
    try:
        return os.read(terminal, 4096).decode("utf-8", "replace")
    except OSError:  # EIO: the command has closed its side
        return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
