"""What one look at the cluster shows: Slurm, the provider and our own probes, as one frozen picture."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from hpadmin.nodes.provider import Provider, ProviderError, ProviderInstance
from hpadmin.slurm.hostlist import expand
from hpadmin.slurm.reader import JobInfo, NodeInfo, SlurmReader

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Observation:
    """The cluster at one moment. Whatever is not in it is not known, and nothing is concluded from that."""

    at: float
    """Epoch seconds, by the agent's clock."""
    nodes: Mapping[str, NodeInfo]
    jobs: tuple[JobInfo, ...] = ()
    jobs_on: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Node to the jobs that hold it, in whole or in part, also those that are completing."""
    instances: Mapping[str, ProviderInstance] | None = None
    """Node to its instance; None while the provider does not answer."""
    provider_error: str = ""
    node_recovery: bool = True
    """False where the cluster's NodeRecovery is None."""
    protected: frozenset[str] = frozenset()
    """Controllers, the host that looks, and what the policy protects."""
    unknown: frozenset[str] = frozenset()
    """Names that the policy protects, and no node has."""
    unreachable: Mapping[str, float] = field(default_factory=dict)
    """Node to the time since when connecting to its slurmd fails."""
    cut_off: bool = False
    """No machine answers the agent, of several that should: nothing is concluded from their silence."""


def observe(
    reader: SlurmReader,
    provider: Provider,
    *,
    at: float,
    protected: Iterable[str] = (),
    unreachable: Mapping[str, float] | None = None,
) -> Observation:
    """Look once. Raises OperationFailed when Slurm cannot be read; a silent provider is part of the picture."""
    seen = observe_slurm(reader, at=at, protected=protected)
    return replace(with_instances(seen, provider), unreachable=unreachable or {})


def observe_slurm(reader: SlurmReader, *, at: float, protected: Iterable[str] = ()) -> Observation:
    """Look at Slurm alone. Raises OperationFailed when it cannot be read."""
    # Jobs first: a job that starts between the two reads shows in the state of its nodes.
    jobs = reader.jobs()
    nodes = {node.name: node for node in reader.nodes()}
    named = tuple(protected)
    found = on_hosts(nodes.values(), {*named, *controllers(reader.configuration()), socket.gethostname()})
    return Observation(
        at=at,
        nodes=nodes,
        jobs=jobs,
        jobs_on=jobs_by_node(jobs),
        protected=frozenset().union(*found.values()),
        unknown=frozenset(name for name in named if not found[name]),
    )


def with_instances(seen: Observation, provider: Provider) -> Observation:
    """Return the picture with the provider's instances in it, or with why there are none."""
    try:
        recovery = provider.node_recovery()
        instances = match_instances(seen.nodes.values(), provider.instances())
    except ProviderError as problem:
        log.warning("provider does not answer", extra={"provider": provider.name, "error": problem.message})
        return replace(seen, provider_error=problem.message)
    return replace(seen, instances=instances, node_recovery=recovery)


@lru_cache(maxsize=16384)
def _expanded(nodes: str) -> tuple[str, ...]:
    return tuple(expand(nodes))


def jobs_by_node(jobs: Iterable[JobInfo]) -> dict[str, tuple[int, ...]]:
    """Return which jobs hold which node."""
    found: dict[str, list[int]] = {}
    for job in jobs:
        if job.nodes and job.state.holds_nodes:
            for node in _expanded(job.nodes):
                found.setdefault(node, []).append(job.job_id)
    return {node: tuple(ids) for node, ids in found.items()}


def match_instances(
    nodes: Iterable[NodeInfo], instances: Iterable[ProviderInstance]
) -> dict[str, ProviderInstance]:
    """Return node to instance: by the provider's word, else by instance id, else by address.

    Of several instances for one node (an old one that is going, its successor) the newest counts.
    """
    by_name: dict[str, ProviderInstance] = {}
    by_id: dict[str, ProviderInstance] = {}
    by_address: dict[str, ProviderInstance] = {}
    for instance in sorted(instances, key=lambda each: each.launched):
        by_id[instance.instance_id] = instance
        if instance.node:
            by_name[instance.node] = instance
        if instance.address:
            by_address[instance.address] = instance
    matched = {}
    for node in nodes:
        found = (
            by_name.get(node.name)
            or (by_name.get(node.hostname) if node.hostname else None)
            or (by_id.get(node.instance_id) if node.instance_id else None)
            or (by_address.get(node.address) if node.address else None)
        )
        if found is not None:
            matched[node.name] = found
    return matched


def controllers(configuration: Mapping[str, str]) -> frozenset[str]:
    """Return the hosts of slurmctld, by ``SlurmctldHost[n]`` (``name`` or ``name(address)``)."""
    hosts = set[str]()
    for key, value in configuration.items():
        if key.startswith("SlurmctldHost"):
            name, _, address = value.partition("(")
            hosts |= {name.strip(), address.rstrip(")").strip()}
    return frozenset(hosts - {""})


def on_hosts(nodes: Iterable[NodeInfo], hosts: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return for each host the nodes that are it, by name, host name or address; whatever domain is told of either.

    >>> from hpadmin.slurm.states import NodeState
    >>> on_hosts([NodeInfo("head", NodeState.parse("IDLE"))], ["head.example.com"])
    {'head.example.com': frozenset({'head'})}
    """
    names = {host: _short(host) for host in hosts}
    found: dict[str, set[str]] = {short: set() for short in names.values()}
    for node in nodes:
        for known in (node.name, node.hostname, node.address):
            if known and (short := _short(known)) in found:
                found[short].add(node.name)
    return {host: frozenset(found[short]) for host, short in names.items()}


def _short(host: str) -> str:
    """A host's name without its domain; an address as it is."""
    name = host.partition(".")[0]
    return (host if name.isdigit() else name).lower()
