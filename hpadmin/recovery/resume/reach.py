"""Speaking to slurmds, many at once: does the process behind the port live, not only its host's kernel?

A connection is opened and our side of it closed at once. A living slurmd reads the end and closes too, within
milliseconds; a host that hangs accepts the connection (its kernel does) and then says nothing. slurmd logs
two lines for it, so this is done only where something is suspected.

slurmd looks up the name of whoever connects as it accepts, one connection after the other, and remembers no failure
(`_set_connection_name`, src/conmgr/con.c): where the name service is slow, a healthy slurmd is silent too. So a host
that is silent can be listened to at a second port, sshd's, which greets whoever connects before it does anything else
(RFC 4253, section 4.2).
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hpadmin.recovery.resume.facts import Reach
from hpadmin.recovery.rounds import rounds

CONNECT_SECONDS = 2.0
"""A connection is the kernels' work: its first packet, where it is lost, is sent again after one second and after
three (RFC 6298; ``TCP_TIMEOUT_INIT``). More time than that would bring no further attempt."""

MANY = 3
"""So many silent hosts, more than answer, are no coincidence."""


def reach(
    targets: Mapping[str, tuple[str, int]], *, timeout: float, greeter: int | None = None
) -> dict[str, Reach]:
    """Speak to each (address, port) and return what happened within `timeout` seconds, for all together
    (in as few rounds as this process has descriptors for).

    A host with which no connection stands after `CONNECT_SECONDS` is lost already. `greeter` is the port of a server
    that speaks first: a host whose slurmd is silent, and where that one greets, is `Reach.MUTE`.
    """
    found: dict[str, Reach] = {}
    for part in rounds(targets):
        found.update(_round(part, timeout, greeter))
    return found


def _round(targets: Mapping[str, tuple[str, int]], timeout: float, greeter: int | None) -> dict[str, Reach]:
    with selectors.DefaultSelector() as selector:
        talks = _Talks(selector)
        try:
            for name, (address, port) in targets.items():
                talks.open(name, address, port)
                if greeter is not None and name not in talks.found:
                    talks.listen(name, address, greeter)
            begun = time.monotonic()
            while talks.open_ones:
                # Only a host with which a connection stands is given all the time.
                left = begun + (timeout if talks.silent else min(timeout, CONNECT_SECONDS)) - time.monotonic()
                if left <= 0:
                    break
                for key, _ in selector.select(left):
                    talks.progress(key)
            return talks.result()
        finally:
            talks.close()


def doubted(found: Mapping[str, Reach]) -> dict[str, Reach]:
    """Return what is known of all hosts that were spoken to, with doubt where most of them do not answer.

    Their silence then has a reason that is none of theirs. Hosts that are mute do not excuse one that is silent: what
    it does not say at sshd's port has nothing to do with what keeps slurmds from answering.

    >>> doubted({"n1": Reach.MUTE, "n2": Reach.MUTE, "n3": Reach.MUTE, "n4": Reach.SILENT})["n4"]
    <Reach.SILENT: 'silent'>
    """
    count = Counter(found.values())
    doubtful = set()
    if count[Reach.MUTE] >= MANY and count[Reach.MUTE] > count[Reach.ANSWERS]:
        doubtful.add(Reach.MUTE)
    if count[Reach.SILENT] >= MANY and count[Reach.SILENT] > count[Reach.ANSWERS] + count[Reach.MUTE]:
        doubtful.add(Reach.SILENT)
    return {name: Reach.DOUBTFUL if how in doubtful else how for name, how in found.items()}


@dataclass
class _Talks:
    """All connections of one round, by what is known through them so far."""

    selector: selectors.BaseSelector
    found: dict[str, Reach] = field(default_factory=dict)
    open_ones: set[str] = field(default_factory=set)
    """Hosts whose slurmd has not ended the talk."""
    silent: set[str] = field(default_factory=set)
    """Those of them with which a connection stands."""
    greeted: set[str] = field(default_factory=set)

    def open(self, name: str, address: str, port: int) -> None:
        """Begin to speak to a slurmd."""
        connection, error = _connecting(address, port)
        if connection is None:
            self.found[name] = Reach.REFUSES if error == errno.ECONNREFUSED else Reach.LOST
        else:
            self.selector.register(connection, selectors.EVENT_WRITE, name)
            self.open_ones.add(name)

    def listen(self, name: str, address: str, port: int) -> None:
        """Begin to wait for a greeting; where nobody can be connected to, there is none."""
        connection, _ = _connecting(address, port)
        if connection is not None:
            self.selector.register(connection, selectors.EVENT_READ, _Greeting(name))

    def progress(self, key: selectors.SelectorKey) -> None:
        """Take one step with a connection that is ready for it."""
        connection = key.fileobj
        assert isinstance(connection, socket.socket)
        if isinstance(key.data, _Greeting):
            self._greeting(connection, key.data.host)
        elif key.events == selectors.EVENT_WRITE:
            self._connected(connection, key.data)
        else:
            self._heard(connection, key.data)

    def result(self) -> dict[str, Reach]:
        """Return what is known when the time is over."""
        for name in self.open_ones:
            if name in self.greeted:
                self.found[name] = Reach.MUTE
            else:
                self.found[name] = Reach.SILENT if name in self.silent else Reach.LOST
        return self.found

    def close(self) -> None:
        """Close whatever is open."""
        for key in list(self.selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            self._drop(key.fileobj)

    def _connected(self, connection: socket.socket, name: str) -> None:
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            how = Reach.REFUSES if error == errno.ECONNREFUSED else Reach.LOST
            self._ended(connection, name, how)
            return
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # it was closed from the other side already
            self._ended(connection, name, Reach.ANSWERS)
            return
        self.selector.modify(connection, selectors.EVENT_READ, name)
        self.silent.add(name)

    def _heard(self, connection: socket.socket, name: str) -> None:
        try:
            if connection.recv(4096):
                return  # it says something, and has not ended
        except ConnectionError:
            pass
        except OSError:
            self._ended(connection, name, Reach.LOST)
            return
        self._ended(connection, name, Reach.ANSWERS)

    def _greeting(self, connection: socket.socket, name: str) -> None:
        try:
            if connection.recv(4096):
                self.greeted.add(name)
        except OSError:  # nobody is there, which tells nothing
            pass
        self._drop(connection)

    def _ended(self, connection: socket.socket, name: str, how: Reach) -> None:
        self.found[name] = how
        self.open_ones.discard(name)
        self.silent.discard(name)
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self.selector.unregister(connection)
        connection.close()


@dataclass(frozen=True, slots=True)
class _Greeting:
    """Marks a connection on which a greeting is waited for."""

    host: str


def _connecting(address: str, port: int) -> tuple[socket.socket | None, int]:
    """Return a connection that is being made, or why none can be (errno(3))."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    error = connection.connect_ex((address, port))
    if error in (0, errno.EINPROGRESS):
        return connection, 0
    connection.close()
    return None, error
