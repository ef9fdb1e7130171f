"""The half of the sandbox that runs on the controller's host: sent there as text, needs only Python's own library.

`hpadmin.slurm.sandbox` sends this file and a call of `main` to ``unshare --net --mount --uts -- python3 -``.
Nothing of it leaves the namespaces that unshare made: no packet reaches a node, a database or a controller,
and the host's own /etc/hosts and host name stay as they are.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OWN_ADDRESS = "198.18.0.1"
"""Of the throw-away controller (RFC 2544's range for tests). glibc resolves nothing for a host without one."""
RUN = Path("/run/slurmctld")
PRIMARY = "Running as primary controller"
STARTED = "Saving all slurm state"
"""Said when a slurmctld that shall end has got through its start."""
WAITING = "retrying in 1sec up to 60sec"
"""Said when a file is missing: Slurm looks for it for a minute and then dies. Nobody should wait for that."""
NEEDS_DATABASE = "Retrying initial connection to slurmdbd"
"""Said when the state has no copy of what slurmdbd knows: slurmctld then waits for slurmdbd, for ever."""
KEPT_FROM_STATE = re.compile(r"^(trigger_state|heartbeat)")
"""State that is not copied: triggers run programs, heartbeats are another controller's."""


def main(order: dict[str, Any]) -> None:
    """Do what `order` says and print the outcome as one line of JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(order["folder"])
    folder.mkdir(mode=0o700)
    try:
        lay_out(folder, order)
        isolate(folder, order)
        print(json.dumps(run(folder, order)))  # noqa: T201 - stdout is how this program answers
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lay_out(folder: Path, order: dict[str, Any]) -> None:
    """Write the configuration and a copy of the state, readable for the user that slurmctld becomes."""
    conf, state = folder / "conf", folder / "state"
    if order["beside"]:
        shutil.copytree(order["beside"], conf, ignore_dangling_symlinks=True)
    else:
        conf.mkdir(mode=0o755)
    for name in order["absent"]:
        (conf / name).unlink(missing_ok=True)
    for name, content in order["files"].items():
        path = conf / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o600 if name in order["secret"] else 0o644)
        path.write_bytes(base64.b64decode(content))
    if order["state"]:
        shutil.copytree(
            order["state"],
            state,
            ignore=lambda _, names: [name for name in names if KEPT_FROM_STATE.match(name)],
        )
    else:
        state.mkdir(mode=0o700)
    (folder / "run").mkdir(mode=0o755)
    try:
        owner = pwd.getpwnam(order["user"])
    except KeyError:
        return  # slurmctld itself says that it does not know this user
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def isolate(folder: Path, order: dict[str, Any]) -> None:
    """Give the empty namespaces a host name, an address and the names of all hosts."""
    socket.sethostname(order["hostname"])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (OWN_ADDRESS, *order["addresses"]):
        subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
    hosts = folder / "hosts"
    hosts.write_text(
        "".join(f"{address} {name}\n" for name, address in order["hosts"].items()), encoding="utf-8"
    )
    hosts.chmod(0o644)
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    # With auth/slurm, slurmctld takes over the socket there: the real controller's must stay its own.
    RUN.mkdir(mode=0o755, exist_ok=True)
    subprocess.run(["mount", "--bind", str(folder / "run"), str(RUN)], check=True)


def run(folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """Run slurmctld until it says that it controls, then end it; return what it said.

    It is asked to end at once, but works through the rest of its start first: what it dies of after that
    line (schedulers, MCS) is seen too. Then it is killed; one that hangs in its end is after the grace.
    """
    started = time.monotonic()
    deadline = started + order["timeout"]
    process = subprocess.Popen(
        [order["program"], "-D", "-i", "-v", "-f", str(folder / "conf" / "slurm.conf")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder / "state",
        env={name: value for name, value in os.environ.items() if not name.startswith("SLURM")},
    )
    assert process.stderr is not None
    lines: list[str] = []
    primary = ended = waiting = database = False
    rest = b""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stderr, selectors.EVENT_READ)
            while not ended and (left := deadline - time.monotonic()) > 0:
                if not selector.select(left):
                    continue
                chunk = os.read(process.stderr.fileno(), 65536)
                ended = not chunk
                *whole, rest = (rest + chunk).split(b"\n")
                lines += [line.decode("utf-8", "replace") for line in whole]
                said = lines[len(lines) - len(whole) :]
                if not primary and any(line.endswith(PRIMARY) for line in said):
                    primary = True
                    process.send_signal(signal.SIGTERM)
                    deadline = time.monotonic() + order["grace"]
                waiting = any(line.endswith(WAITING) for line in said)
                database = any(line.endswith(NEEDS_DATABASE) for line in said)
                if waiting or database or (primary and any(line.endswith(STARTED) for line in said)):
                    break  # nothing that comes now matters
        if ended:
            process.wait(timeout=order["grace"])
    finally:
        process.kill()
        process.wait()
    return {
        "lines": lines,
        "primary": primary,
        "ended": ended or waiting,
        "needs_database": database,
        "returncode": process.returncode,
        "seconds": round(time.monotonic() - started, 3),
    }
