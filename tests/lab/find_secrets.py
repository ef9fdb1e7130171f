"""Runs on a node: look for pieces of its keys wherever somebody else could read them.

Prints the number of keys that it knows, and the files and processes that show a piece of one.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

ROOTS = ("/etc", "/home", "/opt/ml", "/run", "/tmp", "/usr/local", "/var")


KEYS = (
    Path("/etc/munge/munge.key"),
    Path("/var/spool/slurmctld/jwt_hs256.key"),
    Path("/etc/hpadmin/database-password"),
)


def keys() -> Iterator[Path]:
    """The files that hold keys; each must be closed to others."""
    for path in (*KEYS, *ROOTS_OF_HOMES):
        if path.exists():
            if path.stat().st_mode & 0o077:
                sys.exit(f"{path} is open to others")
            yield path


ROOTS_OF_HOMES = (
    *Path("/opt/ml/secrets").glob("*"),
    *Path("/home").glob("*/.ssh/id_ed25519"),
    *Path("/etc/ssh").glob("ssh_host_*_key"),
)


def pieces(secret: bytes) -> Iterator[bytes]:
    """A key as it is, and as programs print bytes."""
    if secret.startswith(b"-----"):
        # The first lines of an OpenSSH key say what it is; its middle is the key.
        yield b"".join(secret.splitlines()[3:5])[:40]
        yield secret.splitlines()[4][:30]
    else:
        yield from (secret[:24], secret.hex()[:40].encode(), base64.b64encode(secret)[:40])
        yield repr(secret)[2:40].encode()


def readable() -> Iterator[Path]:
    """Every log, and every file that others may read."""
    for root in ROOTS:
        for path in Path(root).rglob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            if path.is_relative_to("/var/log") or path.stat().st_mode & 0o044:
                yield path
    for process in Path("/proc").glob("[0-9]*"):
        yield from (process / "cmdline", process / "environ")


def main() -> None:
    """Look, and print what was found."""
    known = list(keys())
    wanted = [piece for path in known for piece in pieces(path.read_bytes())]
    found = []
    for path in readable():
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if any(piece in data for piece in wanted):
            found.append(str(path))
    sys.stdout.write(f"{len(known)} {sorted(found)}\n")


main()
