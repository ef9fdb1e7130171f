"""IMEX: which nodes share memory over NVLink, and the node list that the IMEX daemon of each of them reads.

`switch/nvidia_imex` hands out channels inside a domain; the domain itself is
`/etc/nvidia-imex/nodes_config.cfg`, one address a line, the same file on every node of an UltraServer (NVIDIA
IMEX guide)."""

from __future__ import annotations

from dataclasses import dataclass

from hpadmin.model import Cluster

NODES_CONFIG = "/etc/nvidia-imex/nodes_config.cfg"
"""Where the IMEX daemon expects its node list."""


@dataclass(frozen=True, slots=True)
class ImexDomain:
    """One NVLink domain: its UltraServer, its nodes and their addresses in the same order."""

    name: str
    nodes: tuple[str, ...]
    addresses: tuple[str, ...]

    @property
    def nodes_config(self) -> str:
        """Text of nodes_config.cfg on every node of this domain."""
        return "".join(f"{address}\n" for address in self.addresses)


def imex_domains(cluster: Cluster) -> tuple[ImexDomain, ...]:
    """The domains of `cluster`, by UltraServer id; nodes in the cluster's order, as IMEX numbers nodes by
    line."""
    members: dict[str, list[tuple[str, str]]] = {}
    for node in cluster.computes:
        if node.instance.ultraserver is not None:
            members.setdefault(node.instance.ultraserver, []).append((node.name, node.instance.address))
    return tuple(
        ImexDomain(name, tuple(node for node, _ in found), tuple(address for _, address in found))
        for name, found in sorted(members.items())
    )
