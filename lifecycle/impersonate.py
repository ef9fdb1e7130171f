"""Doing something as a user: what a user controls is never touched with root's rights.

A home directory is the user's to arrange; a link in it could lead root anywhere.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from hpadmin.errors import OperationFailed


def as_user(uid: int, gid: int, what: Callable[[], None]) -> None:
    """Call `what` in a child process that has become the user, without supplementary groups, umask 077.

    Raises OperationFailed with the child's reason. `what` may raise OSError or OperationFailed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(_child(uid, gid, what, writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise OperationFailed(said or f"a process of user id {uid} ended with {code}")


def _child(uid: int, gid: int, what: Callable[[], None], writer: int) -> int:
    try:
        os.umask(0o077)
        if os.geteuid() != uid:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        what()
    except OperationFailed as error:
        os.write(writer, str(error).encode())
        return 1
    except OSError as error:
        os.write(writer, f"{error.filename or 'as this user'}: {error.strerror}".encode())
        return 1
    except BaseException:
        # Nothing may return into the copy of the caller that this process is.
        traceback.print_exc(file=sys.stderr)
        return 70
    return 0
