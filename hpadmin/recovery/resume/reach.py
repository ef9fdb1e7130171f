"""Speaking to slurmds, many at once: does the process behind the port live, not only its host's kernel?

A connection is opened and our side of it closed at once. A living slurmd reads the end and closes too, within
milliseconds; a host that hangs accepts the connection (its kernel does) and then says nothing. slurmd logs
two lines for it, so this is done only where something is suspected.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Mapping

from hpadmin.recovery.resume.facts import Reach

CONNECT_SECONDS = 2.0
"""A connection is the kernels' work: its first packet, where it is lost, is sent again after one second and after
three (RFC 6298; ``TCP_TIMEOUT_INIT``). More time than that would bring no further attempt."""


def reach(targets: Mapping[str, tuple[str, int]], *, timeout: float) -> dict[str, Reach]:
    """Speak to each (address, port) and return what happened within `timeout` seconds, for all together.

    A host with which no connection stands after `CONNECT_SECONDS` is lost already.
    """
    found: dict[str, Reach] = {}
    spoken: set[str] = set()  # connected, and silent so far
    with selectors.DefaultSelector() as selector:
        for name, (address, port) in targets.items():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                connection.connect((address, port))
            except BlockingIOError:
                pass
            except OSError as error:
                found[name] = Reach.REFUSES if isinstance(error, ConnectionRefusedError) else Reach.LOST
                connection.close()
                continue
            selector.register(connection, selectors.EVENT_WRITE, name)
        begun = time.monotonic()
        while selector.get_map():
            # Only a host with which a connection stands is given all the time.
            left = begun + (timeout if spoken else min(timeout, CONNECT_SECONDS)) - time.monotonic()
            if left <= 0:
                break
            for key, _ in selector.select(left):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                result = _progress(sock, selector, key.data)
                if result is Reach.SILENT:
                    spoken.add(key.data)
                elif result is not None:
                    found[key.data] = result
                    spoken.discard(key.data)
                    selector.unregister(sock)
                    sock.close()
        for key in list(selector.get_map().values()):
            found[key.data] = Reach.SILENT if key.data in spoken else Reach.LOST
            selector.unregister(key.fileobj)
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
    return found


def _progress(sock: socket.socket, selector: selectors.BaseSelector, name: str) -> Reach | None:
    """Take one step with a connection: SILENT once it stands and our side is closed, else how it ended."""
    if selector.get_key(sock).events == selectors.EVENT_WRITE:
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            return Reach.REFUSES if error == errno.ECONNREFUSED else Reach.LOST
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return Reach.ANSWERS  # it was closed from the other side already
        selector.modify(sock, selectors.EVENT_READ, name)
        return Reach.SILENT
    try:
        return Reach.ANSWERS if sock.recv(4096) == b"" else None
    except ConnectionError:
        return Reach.ANSWERS
