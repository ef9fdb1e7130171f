"""Doing something as a user: what a user controls is never touched with root's rights.

A home directory is the user's to arrange; a link in it could lead root anywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable

from hpadmin.errors import OperationFailed

_SYSTEM_ERROR, _DEFECT = 2, 70


def as_user(uid: int, gid: int, what: Callable[[], str | None], *, timeout: float = 60.0) -> str:
    """Call `what` in a child process that has become the user, without supplementary groups, umask 077.

    Returns what it returned, empty for None. What it raises is raised here: OSError with number and file,
    OperationFailed with its message. It is ended, with all that it started, after `timeout` seconds: OperationFailed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(_child(uid, gid, what, writer))
    os.close(writer)
    ended = False
    try:
        said = _read(reader, timeout).decode(errors="replace")
        ended = True
    finally:
        os.close(reader)
        if not ended:
            _kill(child)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == _SYSTEM_ERROR and (fields := json.loads(said)):
        raise OSError(fields[0], fields[1], fields[2])
    if code:
        raise OperationFailed(said or f"a process of user id {uid} ended with {code}")
    return said


def _read(reader: int, timeout: float) -> bytes:
    """Read up to the end of the child. Raises OperationFailed when that does not come in time."""
    said = b""
    end = time.monotonic() + timeout
    while select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = os.read(reader, 65536)
        if not piece:
            return said
        said += piece
    raise OperationFailed(f"what is done as the user did not end within {timeout:g} s")


def _kill(child: int) -> None:
    # Before it has a session of its own, it is alone.
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    # Not waited for: the kernel lets nobody go from a file system that the user serves and that does not answer.
    os.waitpid(child, os.WNOHANG)


def _child(uid: int, gid: int, what: Callable[[], str | None], writer: int) -> int:
    try:
        # A session of its own: no terminal on which a program could ask for a passphrase, and one group to kill.
        os.setsid()
        os.umask(0o077)
        if os.geteuid() != uid:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        os.write(writer, (what() or "").encode())
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
