"""Doing something as a user: what a user controls is never touched with root's rights.

A home directory is the user's to arrange; a link in it could lead root anywhere.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable

from hpadmin.errors import OperationFailed

_SYSTEM_ERROR, _DEFECT = 2, 70


def as_user(uid: int, gid: int, what: Callable[[], None]) -> None:
    """Call `what` in a child process that has become the user, without supplementary groups, umask 077.

    What the child raises is raised here: OSError with number and file, OperationFailed with its message.
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
    code = os.waitstatus_to_exitcode(status)
    if code == _SYSTEM_ERROR and (fields := json.loads(said)):
        raise OSError(fields[0], fields[1], fields[2])
    if code:
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
        os.write(
            writer, json.dumps([error.errno, error.strerror, error.filename and str(error.filename)]).encode()
        )
        return _SYSTEM_ERROR
    except BaseException:
        # Nothing may return into the copy of the caller that this process is.
        traceback.print_exc(file=sys.stderr)
        return _DEFECT
    return 0
