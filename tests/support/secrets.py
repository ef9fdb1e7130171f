"""Secrets of a node: where others could see them, and a token that is used as clients use theirs."""

from __future__ import annotations

from pathlib import Path

from hpadmin.lab.engine import ContainerRunner

PYTHON = "/opt/hpadmin/bin/python3"

_FIND = (Path(__file__).parents[1] / "lab" / "find_secrets.py").read_text()

_ASK = """
import sys, urllib.request, urllib.error
token = sys.stdin.readline().strip()
url = "http://127.0.0.1:6820/slurm/v0.0.41/ping"
for headers in ({"X-SLURM-USER-NAME": "ann", "X-SLURM-USER-TOKEN": token}, {}):
    try:
        print(urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=120).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
"""curl(1) is not on the nodes, and the token must not stand on a command line."""


def shown(node: ContainerRunner, *files: str) -> tuple[int, str]:
    """Look on a node for pieces of its keys, and of the secrets in `files`, where others could see them.

    Returns the number of secrets that were looked for, and the list of places as text.
    """
    done = node.run([PYTHON, "-", *files], stdin=_FIND, timeout=300).check()
    count, _, places = done.stdout.strip().partition(" ")
    return int(count), places


def token(controller: ContainerRunner) -> str:
    """Return a token for ann."""
    done = controller.run(["scontrol", "token", "username=ann"], timeout=120).check()
    return done.stdout.strip().partition("=")[2]


def answers_of_slurmrestd(controller: ContainerRunner, shows: str) -> list[str]:
    """Return the HTTP status that a request as ann gets with the token `shows`, and that of one without any."""
    return controller.run([PYTHON, "-c", _ASK], stdin=f"{shows}\n", timeout=300).check().stdout.split()
