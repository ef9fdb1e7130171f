"""Is a host there: an answer of any kind says yes, silence says no, and nothing waits for one host alone."""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hpadmin.nodes.provider import Condition, ProviderInstance
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.probe import Prober, reachable
from hpadmin.recovery.resume.facts import Reach
from hpadmin.recovery.resume.reach import reach
from hpadmin.recovery.rounds import allow_many, rounds
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import NodeState

HOST = "127.0.0.1"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that does not answer: its queue of connections is full, so the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind((HOST, 0))
        server.listen(0)
        port: int = server.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            )
            filler.connect_ex((HOST, port))
        yield port


def listening() -> socket.socket:
    server = socket.create_server((HOST, 0))
    server.settimeout(5)
    return server


def test_a_listener_and_a_refusal_come_from_living_hosts() -> None:
    with listening() as server:
        port = server.getsockname()[1]
        with listening() as other:
            closed = other.getsockname()[1]
        found = reachable({"up": (HOST, port), "slurmd-gone": (HOST, closed)}, timeout=5)
    assert found == {"up": True, "slurmd-gone": True}


def test_silence_costs_one_timeout_for_all(silent: int) -> None:
    started = time.monotonic()
    found = reachable({f"n{index}": (HOST, silent) for index in range(400)}, timeout=0.5)
    assert not any(found.values())
    assert len(found) == 400
    assert time.monotonic() - started < 100, "one after the other it were 200"


def node(name: str, address: str, state: str = "IDLE", port: int = 1) -> NodeInfo:
    return NodeInfo(name, NodeState.parse(state), address=address, port=port)


def test_since_when_a_host_is_silent_and_that_it_came_back(silent: int) -> None:
    with listening() as server:
        port = server.getsockname()[1]
        passed = [0.0]
        prober = Prober(timeout=0.2, clock=lambda: passed[0])
        nodes = {
            "a": node("a", HOST, port=port),
            "b": node("b", HOST, port=silent),
            "c": node("c", "no-address"),
        }
        seen = prober.complete(Observation(at=10, nodes=nodes))
        assert dict(seen.unreachable) == {"b": 10}
        passed[0] = 10
        seen = prober.complete(Observation(at=20, nodes=nodes))
        assert dict(seen.unreachable) == {"b": 10}
        passed[0] = 12
        seen = prober.complete(Observation(at=3622, nodes=nodes))  # the host's clock was set
        assert seen.at - seen.unreachable["b"] == 12
        back = {**nodes, "b": replace(nodes["b"], port=port)}
        assert dict(prober.complete(Observation(at=30, nodes=back)).unreachable) == {}


def test_when_no_machine_answers_it_is_our_own_network(silent: int) -> None:
    passed = [0.0]
    prober = Prober(timeout=0.1, clock=lambda: passed[0])
    nodes = {name: node(name, HOST, port=silent) for name in ("a", "b")}
    for passed[0] in (0, 100):
        seen = prober.complete(Observation(at=1000 + passed[0], nodes=nodes))
        assert seen.cut_off
        assert dict(seen.unreachable) == dict.fromkeys("ab", seen.at)
    passed[0] = 130
    known = {"b": ProviderInstance("i-b", "b", Condition.STARTING)}
    seen = prober.complete(Observation(at=1130, nodes=nodes, instances=known))
    assert not seen.cut_off, "of the one that is being made no answer is due"
    assert dict(seen.unreachable) == dict.fromkeys("ab", 1100)
    drained = {**nodes, "b": replace(nodes["b"], state=NodeState.parse("DOWN+DRAIN"), reason="moving rack")}
    assert not prober.complete(Observation(at=1130, nodes=drained)).cut_off, "nor of one that is kept out"
    with listening() as server:
        answers = {**nodes, "b": node("b", HOST, port=server.getsockname()[1])}
        seen = prober.complete(Observation(at=1130, nodes=answers))
    assert not seen.cut_off
    assert dict(seen.unreachable) == {"a": 1100}


def test_no_route_from_here_tells_nothing_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.ENETUNREACH)
    assert reachable({"a": (HOST, 1)}, timeout=1) == {"a": None}
    seen = Prober().complete(Observation(at=1, nodes={name: node(name, HOST) for name in ("a", "b")}))
    assert (seen.unreachable, seen.cut_off) == ({}, True)


def test_nodes_that_are_powered_away_are_not_missed(silent: int) -> None:
    prober = Prober(timeout=0.2)
    nodes = {"a": node("a", HOST, "IDLE+CLOUD+POWERED_DOWN", silent)}
    assert dict(prober.complete(Observation(at=1, nodes=nodes)).unreachable) == {}


def test_a_share_at_a_time_and_the_silent_ones_always(silent: int) -> None:
    prober = Prober(timeout=0.1, at_once=2)
    nodes = {f"n{index}": node(f"n{index}", HOST, port=silent) for index in range(5)}
    sizes = [len(prober.complete(Observation(at=at, nodes=nodes)).unreachable) for at in range(3)]
    assert sizes == [2, 4, 5]


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """May this process have so many open, as a service that nobody gave more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_hosts_than_descriptors_are_spoken_to_in_rounds(silent: int) -> None:
    """Of a thousand hosts that do not answer, no connection is let go before its time is over."""
    targets = {f"n{index}": (HOST, silent) for index in range(1000)}
    with descriptors(512):
        assert reachable(targets, timeout=0.05) == dict.fromkeys(targets, False)
        assert reach(targets, timeout=0.05, greeter=silent) == dict.fromkeys(targets, Reach.LOST)


def test_the_agent_takes_all_descriptors_that_it_may_have() -> None:
    targets = {f"n{index}": index for index in range(1000)}
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with descriptors(1024):
        assert [len(part) for part in rounds(targets)] == [256, 256, 256, 232]
        allow_many()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert [name for part in rounds(targets) for name in part] == list(targets)
