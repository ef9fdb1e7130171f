"""`shared_users.txt`: who has an account on the cluster, with the same ids on every node.

    user1,2001,/fsx/user1
    user2,2002

A line is a name, a user id (also the id of the user's own group) and the home directory; without one it is
/home/<name>. Blank lines and lines that start with # are skipped. What can be wrong is told for all lines at once,
before any account is made; a name or path is only ever one argument of a command, and of a narrow alphabet besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from hpadmin.errors import InvalidInput, Problem

FIRST_UID, LAST_UID = 1000, 60000
"""User ids that Debian leaves to people (adduser.conf(5), FIRST_UID and LAST_UID are 1000 and 59999)."""

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
"""useradd(8), CAVEATS; the trailing $ of Samba's machine accounts is left out."""
_HOME = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+")
_SYSTEM = frozenset(
    "bin boot dev etc lib lib32 lib64 libx32 opt proc root run sbin sys tmp usr var".split()  # noqa: SIM905
)
"""Top-level directories that are the system's own."""
_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com"
    r"|sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]{32,}={0,3}( [^\x00-\x1f\x7f]*)?"
)
"""A public key line of sshd(8), AUTHORIZED_KEYS FILE FORMAT, without options: those can run commands."""


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account. The group of the same name and id is the user's own."""

    name: str
    uid: int
    home: str
    keys: tuple[str, ...] = ()
    """Public keys that may log in."""


def parse(text: str, origin: str, *, reserved: Iterable[str] = ()) -> tuple[User, ...]:
    """Return the users in `text`. `reserved` are names that belong to the system.

    Raises InvalidInput with every problem and its line.

    >>> parse("ann,2001,/fsx/ann\\n", "shared_users.txt")
    (User(name='ann', uid=2001, home='/fsx/ann', keys=()),)
    """
    users: list[User] = []
    problems: list[Problem] = []
    taken = frozenset(reserved)
    seen: dict[str | int, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        where = f"{origin}:{number}"
        user, wrong = _line(stripped)
        if user.name in taken:
            wrong.append(f"the name {user.name} belongs to the system")
        if not wrong:
            for key in (user.name, user.uid, user.home):
                if seen.setdefault(key, number) != number:
                    wrong.append(f"{key} is already used in line {seen[key]}")
        problems += [Problem(where, message) for message in wrong]
        users.append(user)
    problems += _nested(users, seen, origin)
    if problems:
        raise InvalidInput(f"{origin} is not a valid list of users", problems)
    return tuple(users)


def _nested(users: Iterable[User], lines: Mapping[str | int, int], origin: str) -> list[Problem]:
    """Return which homes are inside others, whose user could move them away."""
    owners = {user.home: user.name for user in users}
    return [
        Problem(f"{origin}:{lines[home]}", f"{home!r} is inside the home of {owners[str(outer)]}")
        for home in owners
        for outer in PurePosixPath(home).parents
        if home in lines and str(outer) in lines and str(outer) in owners
    ]


def _line(line: str) -> tuple[User, list[str]]:
    """Read one line; return the user and what is wrong with it."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) not in (2, 3):
        return User(line, -1, ""), [f"must be NAME,UID[,HOME], got {line!r}"]
    wrong: list[str] = []
    name, number, home = [*fields, ""][:3]
    if not _NAME.fullmatch(name):
        wrong.append(
            f"{name!r} is no user name: lower-case letters, digits, - and _, at most 32, no digit first"
        )
    uid = int(number) if re.fullmatch(r"[0-9]{1,9}", number) else -1
    if not FIRST_UID <= uid < LAST_UID:
        wrong.append(f"{number!r} is no user id: it must be a number from {FIRST_UID} to {LAST_UID - 1}")
    if not home:
        return User(name, uid, f"/home/{name}"), wrong
    if not _HOME.fullmatch(home):
        wrong.append(
            f"{home!r} is no home directory: an absolute path of letters, digits, . _ and -, without .."
        )
    elif PurePosixPath(home).parts[1] in _SYSTEM or len(PurePosixPath(home).parts) < 3:
        wrong.append(f"{home!r} is no home directory: it is the system's own, or a whole file system")
    return User(name, uid, home), wrong


def parse_keys(text: str, origin: str) -> tuple[str, ...]:
    """Return the public keys in `text`, one a line.

    Raises InvalidInput for a line that is no plain public key; options such as ``command=`` are refused.
    """
    keys: list[str] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if _KEY.fullmatch(stripped):
            keys.append(stripped)
        else:
            problems.append(
                Problem(f"{origin}:{number}", "is no public key (type, key, comment; no options)")
            )
    if problems:
        raise InvalidInput(f"{origin} is not a valid list of public keys", problems)
    return tuple(keys)


def conflicts(
    users: Iterable[User], accounts: Iterable[tuple[str, int]], groups: Iterable[tuple[str, int]]
) -> list[Problem]:
    """Return what stands against making `users`, each with a group, beside existing names and their ids.

    An account, or a group, of the same name and id is the user's own from an earlier run.
    """
    found: list[Problem] = []
    existing = [(kind, dict(entries)) for kind, entries in (("user", accounts), ("group", groups))]
    for user in users:
        for kind, by_name in existing:
            by_id = {number: name for name, number in by_name.items()}
            if (number := by_name.get(user.name)) is not None and number != user.uid:
                found.append(
                    Problem(user.name, f"has {kind} id {number} on this machine, {user.uid} is wanted")
                )
            elif (name := by_id.get(user.uid)) is not None and name != user.name:
                found.append(Problem(user.name, f"{kind} id {user.uid} belongs to {name} on this machine"))
    return found
