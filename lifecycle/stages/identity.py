"""Host name and /etc/hosts: a node is called what Slurm calls it, and knows where its controllers are.

Other nodes are left to DNS: a line for each would be wrong as soon as one is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpadmin.model import Node
from lifecycle import facts
from lifecycle.engine import Stage
from lifecycle.machine import Machine
from lifecycle.situation import Situation
from lifecycle.step import Block, File, Step

_ANY = "0.0.0.0 any-address.invalid"
"""slurmctld and slurmd look up a name for the address that they listen on, each time they are reconfigured, and serve
nobody meanwhile (`_set_connection_name`, src/conmgr/con.c): a name service that is away must not hold that up. No host
is called so (RFC 2606)."""


@dataclass(frozen=True, slots=True)
class HostName:
    """The kernel's host name."""

    name: str

    def lacking(self, machine: Machine) -> str | None:
        return None if facts.host_name() == self.name else f"set the host name to {self.name}"

    def make(self, machine: Machine) -> None:
        machine.runner.run(["hostname", self.name], timeout=10).check()


def steps(situation: Situation) -> Iterator[Step]:
    """Yield the steps of the stage."""
    host = situation.node.host
    yield HostName(host)
    yield File("/etc/hostname", f"{host}\n")
    others = [node for node in situation.cluster.controllers if node.name != situation.name]
    yield Block("/etc/hosts", (*(_line(node) for node in (situation.node, *others)), _ANY))


def _line(node: Node) -> str:
    """Return a line of hosts(5): the machine's own name, and Slurm's where that is another."""
    return " ".join(dict.fromkeys((node.instance.address, node.host, node.name)))


STAGE = Stage("identity", "host name and hosts", steps)
