"""A lab's network goes when its containers have gone, and says so where the engine does not believe it."""

from __future__ import annotations

from typing import Any

import docker.errors
import pytest

from hpadmin.errors import OperationFailed
from hpadmin.lab.network import MiscountedError, remove_network


class Network:
    """A network of an engine that takes its time."""

    def __init__(
        self, refusals: int, explanation: str = "network x has active endpoints", *attached: str
    ) -> None:
        self.refusals, self.explanation = refusals, explanation
        self.asked = 0
        self.attached = attached
        self.attrs: dict[str, Any] = {}

    def reload(self) -> None:
        self.attrs["Containers"] = {f"id of {name}": {"Name": name} for name in self.attached}

    def remove(self) -> None:
        self.asked += 1
        if self.asked <= self.refusals:
            raise docker.errors.APIError("403", explanation=self.explanation)


def test_an_engine_that_has_not_seen_the_containers_go_is_asked_again() -> None:
    network = Network(2)
    remove_network(network)
    assert network.asked == 3


def test_an_engine_that_never_sees_them_go_is_told_of() -> None:
    with pytest.raises(MiscountedError, match="has active endpoints") as raised:
        remove_network(Network(10**6), patience=0)
    assert raised.value.hint == "no container is left on it: restart Docker's engine, then run this again"


def test_a_container_that_somebody_put_there_is_named() -> None:
    with pytest.raises(OperationFailed, match="has active endpoints") as raised:
        remove_network(Network(10**6, "network x has active endpoints", "b", "a"), patience=0)
    assert not isinstance(raised.value, MiscountedError)
    assert raised.value.hint == "remove what is left on it, then run this again: a, b"


def test_another_refusal_is_the_engines_own() -> None:
    with pytest.raises(docker.errors.APIError):
        remove_network(Network(1, "not allowed"))
