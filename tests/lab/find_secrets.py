"""Runs on a node: look for pieces of its keys wherever somebody else could read them.

Arguments: further files that hold a secret each. Prints the number of secrets that it knows, and the files, processes
and commands that show a piece of one.
"""

from __future__ import annotations

import base64
import subprocess
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
    for path in (*KEYS, *ROOTS_OF_HOMES, *map(Path, sys.argv[1:])):
        if path.exists():
            if path.stat().st_mode & 0o077:
                sys.exit(f"{path} is open to others")
            yield path


ROOTS_OF_HOMES = (
    *Path("/opt/ml/secrets").glob("*"),
    *Path("/home").glob("*/.ssh/id_ed25519"),
    *Path("/etc/ssh").glob("ssh_host_*_key"),
)

ASKED = (
    ("journalctl", "--all", "--no-pager", "--output=export"),
    ("systemctl", "show", "--all"),
    ("systemctl", "show", "--all", "*"),
    ("systemctl", "cat", "*"),
)
"""What tells the journal, with the fields that journald adds, and units with all that they are given."""


def pieces(secret: bytes) -> Iterator[bytes]:
    """A key as it is, and as programs print bytes."""
    if secret.startswith(b"-----"):
        # The first lines of an OpenSSH key say what it is; its middle is the key.
        yield b"".join(secret.splitlines()[3:5])[:40]
        yield secret.splitlines()[4][:30]
    else:
        # The end of a token, as its beginning is that of all of its kind.
        yield from (secret[:24], secret.strip()[-24:])
        yield from (secret.hex()[:40].encode(), base64.b64encode(secret)[:40])
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


def said() -> Iterator[tuple[str, bytes]]:
    """What systemd tells, where it runs: each command and its output."""
    if not Path("/run/systemd/system").is_dir():
        return
    for command in ASKED:
        told = subprocess.run(command, capture_output=True, check=False).stdout
        if not told:
            sys.exit(f"{' '.join(command)} said nothing")
        yield " ".join(command), told


def contents() -> Iterator[tuple[str, bytes]]:
    """All that is looked through: where it is, and what is there."""
    for path in readable():
        try:
            yield str(path), path.read_bytes()
        except OSError:
            continue
    yield from said()


def main() -> None:
    """Look, and print what was found."""
    known = list(keys())
    wanted = [piece for path in known for piece in pieces(path.read_bytes())]
    found = [where for where, data in contents() if any(piece in data for piece in wanted)]
    sys.stdout.write(f"{len(known)} {sorted(found)}\n")


main()
