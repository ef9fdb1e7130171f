"""Runs on a lab's controller: ``hpadmin`` with something done just before one of the steps of an application.

Arguments: the step, by number from 0 or by name; a shell command; then hpadmin's own words. ``kill -KILL $PPID`` as
the command is a death at exactly that point.
"""

from __future__ import annotations

import subprocess
import sys

import admin_cli.config_changes as changes
from admin_cli.main import cli
from admin_cli.report import say

STEP, COMMAND, WORDS = sys.argv[1], sys.argv[2], sys.argv[3:]
PASSED = 0


def act(message: str) -> None:
    """Take the place of `say`, which every step passes through."""
    global PASSED
    if message.startswith("  "):
        if STEP in (str(PASSED), message.strip()):
            subprocess.run(["sh", "-c", COMMAND], check=False)
        PASSED += 1
    say(message)


vars(changes)["say"] = act
cli(WORDS)
