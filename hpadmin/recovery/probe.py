"""Is a host there at all: connecting to its slurmd, many at once and without waiting for any.

Slurm itself looks every third of SlurmdTimeout, minutes with the default. A connection that is refused comes from
a living host whose slurmd is not running, which Slurm judges; only a host that does not answer counts here.
A host that hangs with its network up accepts connections: that is for Slurm and the provider to notice.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from hpadmin.nodes import reasons
from hpadmin.nodes.provider import Condition
from hpadmin.nodes.reasons import Owner
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.rounds import rounds
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import NodeBase

_HOST_LOST = frozenset({errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EHOSTDOWN})
_OUR_SIDE = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EAGAIN, errno.EADDRNOTAVAIL})
"""No route from here, no port left here: that tells nothing of the host."""


def _answered(code: int) -> bool | None:
    return None if code in _OUR_SIDE else code not in _HOST_LOST


def reachable(targets: Mapping[str, tuple[str, int]], *, timeout: float) -> dict[str, bool | None]:
    """Try each (address, port); return whether the host behind it answered within `timeout` seconds, in any way.

    None where this host could not even try.

    That is for all together, in as few rounds as this process has descriptors for. Addresses must be numeric: names
    would be resolved one after the other.
    """
    answered: dict[str, bool | None] = {}
    for part in rounds(targets):
        answered.update(_round(part, timeout))
    return answered


def _round(targets: Mapping[str, tuple[str, int]], timeout: float) -> dict[str, bool | None]:
    answered: dict[str, bool | None] = {}
    waiting: dict[str, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for name, (address, port) in targets.items():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            attempt = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = attempt.connect_ex((address, port))
            if code == errno.EINPROGRESS:
                selector.register(attempt, selectors.EVENT_WRITE, name)
                waiting[name] = attempt
            else:
                answered[name] = _answered(code)
                attempt.close()
        deadline = time.monotonic() + timeout
        while waiting and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                attempt = waiting.pop(key.data)
                answered[key.data] = _answered(attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                selector.unregister(attempt)
                attempt.close()
        for name, attempt in waiting.items():
            answered[name] = False
            attempt.close()
    return answered


@dataclass
class Prober:
    """Probes a share of the nodes at each look, and remembers since when a host does not answer.

    What it remembers may be lost: it is found out again.
    """

    port: int = 6818
    """SlurmdPort, for nodes that tell none."""
    at_once: int = 500
    timeout: float = 2.0
    """Seconds that a host has to answer; also how long a look takes while one does not."""
    clock: Callable[[], float] = time.monotonic
    """Seconds that pass evenly: a host's clock that is set must not make a moment's silence an hour's."""
    _since: dict[str, float] = field(default_factory=dict, init=False)
    _next: int = field(default=0, init=False)

    def complete(self, seen: Observation) -> Observation:
        """Return the picture with what this probe adds to it."""
        now = self.clock()
        found = reachable(self._choose(seen), timeout=self.timeout)
        cut_off = _cut_off(found, seen)
        for name, there in found.items():
            if there:
                self._since.pop(name, None)
            elif there is False:
                # As long as the silence may be ours, no host's own has begun.
                self._since[name] = now if cut_off else self._since.get(name, now)
        for name in self._since.keys() - seen.nodes.keys():
            del self._since[name]
        unreachable = {name: seen.at - (now - since) for name, since in self._since.items()}
        return replace(seen, unreachable=unreachable, cut_off=cut_off)

    def _choose(self, seen: Observation) -> dict[str, tuple[str, int]]:
        able = {
            node.name: (address, node.port or self.port)
            for node in seen.nodes.values()
            if not node.state.powered_away
            and node.state.base is not NodeBase.FUTURE
            and (address := _address(node, seen))
        }
        if not able:
            return {}
        names = list(able)
        start = self._next % len(names)
        share = (names[start:] + names[:start])[: self.at_once]
        self._next = start + len(share)
        # Of a node that is kept out or was silent before, it must be known now: its repair depends on it.
        special = {
            node.name for node in seen.nodes.values() if not node.state.schedulable
        } | self._since.keys()
        return {name: able[name] for name in (*share, *(name for name in special if name in able))}


def _cut_off(found: Mapping[str, bool | None], seen: Observation) -> bool:
    """Whether of several machines that should answer none does: more likely this host has lost its network.

    Those that should are not: machines that the provider is at work on, or calls failed itself, and nodes that
    somebody, or a repair, keeps out.
    """
    expected = [there for name, there in found.items() if _should_answer(seen.nodes[name], seen)]
    return len(expected) > 1 and not any(expected)


def _should_answer(node: NodeInfo, seen: Observation) -> bool:
    if node.state.kept_out and reasons.read(node.reason).owner is not Owner.NOBODY:
        return False
    instance = (seen.instances or {}).get(node.name)
    return instance is None or instance.condition in (Condition.RUNNING, Condition.UNKNOWN)


def _address(node: NodeInfo, seen: Observation) -> str:
    """The numeric address of a node: Slurm's, else the provider's; empty when neither tells one."""
    instance = (seen.instances or {}).get(node.name)
    for address in (node.address, instance.address if instance is not None else ""):
        if address and _numeric(address):
            return address
    return ""


def _numeric(address: str) -> bool:
    try:
        socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True
