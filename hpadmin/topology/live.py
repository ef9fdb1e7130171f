"""A snapshot of a running Slurm, read through its commands in their text forms."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Runner
from hpadmin.slurm.commands import CLEAN
from hpadmin.slurm.hostlist import expand
from hpadmin.slurm.states import NodeBase, NodeFlag, NodeState
from hpadmin.slurm.text import parse_configuration, parse_nodes
from hpadmin.topology.graph import (
    Block,
    BlockTopology,
    FlatTopology,
    NamedTopology,
    Switch,
    TopologySet,
    TreeTopology,
)
from hpadmin.topology.offline import ReadFile, enforced, from_configuration, parse_gres, part_limit
from hpadmin.topology.placement.state import JobView, NodeView, PartitionView, Snapshot
from hpadmin.topology.release import Release

ReadFrom = Callable[[str], ReadFile]
"""Makes a `ReadFile` of a folder."""

_NODE_START = re.compile(r"\n(?=NodeName=)")
_WHOLE = ("NO", "USER", "MCS")
"""What squeue's ``%h`` shows for jobs that share their nodes with no stranger, before 26.05."""
NOT_FOUND = 127
"""What env(1) exits with when there is no such command."""
OFFLINE_HINT = "Without a running Slurm, plan from files: --conf-dir DIR or --topology FILE."
EXCLUSIVE_FIELD = Release(26, 5)
"""From here on ``%h`` is NO for every job, and ``Exclusive`` tells NO, NODE, USER, MCS or TOPO instead."""


def from_running(
    runner: Runner, read_from: ReadFrom, *, release: Release | None = None, timeout: float = 30.0
) -> Snapshot:
    """Read nodes, jobs, partitions and topology. Raises OperationFailed when Slurm does not answer.

    The topology is read from the folder of the running slurm.conf where that can be read; elsewhere (a login
    node without configuration) it is what ``scontrol show topology`` tells, which knows one topology only.
    """

    def ask(*argv: str) -> str:
        done = runner.run([*CLEAN, *argv], timeout=timeout, env={"SLURM_TIME_FORMAT": "%s"})
        if done.returncode == NOT_FOUND:
            raise OperationFailed(f"{argv[0]} is not installed here, or not on PATH", hint=OFFLINE_HINT)
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or "nothing"
            raise OperationFailed(f"{' '.join(argv)} failed and said: {said}", hint=OFFLINE_HINT)
        return done.stdout

    configuration = parse_configuration(ask("scontrol", "show", "config"))
    release = release or Release.parse(configuration.get("SLURM_VERSION", ""))
    nodes = _nodes(ask("scontrol", "-d", "-o", "show", "nodes"), release)
    partitions = _partitions(ask("scontrol", "-a", "-o", "show", "partitions"))
    states = "R,CF,CG,S"
    exclusive: dict[str, str] = {}
    if release >= EXCLUSIVE_FIELD:
        listed = ask("squeue", "-a", "-h", "-t", states, "-O", "JobArrayID:64,Exclusive:16")
        exclusive = dict(line.split() for line in listed.splitlines())
    whole = {one.name for one in partitions if one.whole}
    jobs = _jobs(ask("squeue", "-a", "-h", "-t", states, "-o", "%i|%u|%P|%h|%N"), exclusive, whole)
    folder = configuration.get("SLURM_CONF", "").rpartition("/")[0]
    read = read_from(folder)
    if folder and read("slurm.conf") is not None:
        topologies = from_configuration(read, release).topologies
    else:
        plugin = configuration.get("TopologyPlugin", "")
        topologies = parse_topology(
            ask("scontrol", "show", "topology") if plugin.endswith(("block", "tree")) else "", nodes
        )
    enforce = enforced(configuration.get("EnforcePartLimits", ""))
    return Snapshot(nodes, topologies, release, partitions, jobs, enforce)


def _nodes(text: str, release: Release) -> tuple[NodeView, ...]:
    facts = {node.name: node for node in parse_nodes(text)}
    found = []
    for record in _NODE_START.split(text):
        name = re.match(r"NodeName=(\S+)", record)
        if name is None or name[1] not in facts or facts[name[1]].state.base is NodeBase.FUTURE:
            continue
        node = facts[name[1]]
        weight = re.search(r" Weight=(\d+)", record)
        found.append(
            NodeView(
                node.name,
                state=str(node.state),
                usable=_usable(node.state),
                cpus=node.cpus,
                cpus_used=node.cpus_allocated,
                weight=int(weight[1]) if weight else 1,
                boot=_boot(node.state, release),
                features=frozenset(node.features),
                gres=parse_gres(node.gres),
                gres_used=parse_gres(node.gres_used),
                reason=node.reason,
            )
        )
    return tuple(found)


def _boot(state: NodeState, release: Release) -> int:
    if state.flags & {NodeFlag.POWERED_DOWN, NodeFlag.POWERING_DOWN}:
        return 2
    return int(NodeFlag.POWERING_UP in state.flags and release.prefers_booted)


def _usable(state: NodeState) -> bool:
    """Whether jobs may be put there: up, or down for saving power and sure to be started for a job."""
    if state.schedulable:
        return True
    powered = {NodeFlag.POWERED_DOWN, NodeFlag.POWERING_UP}
    return (
        bool(state.flags & powered)
        and state.base in (NodeBase.IDLE, NodeBase.MIXED, NodeBase.ALLOCATED)
        and not state.kept_out
        and not state.rebooting
    )


def _partitions(text: str) -> tuple[PartitionView, ...]:
    found = []
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "PartitionName" not in fields:
            continue
        nodes = fields.get("Nodes", "")
        found.append(
            PartitionView(
                fields["PartitionName"],
                frozenset(expand(nodes)) if nodes not in ("", "(null)") else frozenset(),
                default=fields.get("Default") == "YES",
                whole=fields.get("OverSubscribe") == "EXCLUSIVE"
                or fields.get("Exclusive") in ("NODE", "TOPO"),
                exclusive_topo=fields.get("ExclusiveTopo") == "YES" or fields.get("Exclusive") == "TOPO",
                max_nodes=part_limit(fields.get("MaxNodes", "")),
                min_nodes=part_limit(fields.get("MinNodes", "")) or 0,
                state=fields.get("State", "UP"),
            )
        )
    return tuple(found)


def _jobs(text: str, exclusive: Mapping[str, str], whole: Collection[str]) -> tuple[JobView, ...]:
    """Read squeue's lines; a job with blocks to itself has its nodes whole only in the partitions `whole`."""
    found = []
    for line in text.splitlines():
        job, user, partition, sharing, nodes = line.split("|", 4)
        if exclusive:
            sharing = {"NO": "OK", "NODE": "NO"}.get(exclusive.get(job, ""), exclusive.get(job, "NO"))
        if nodes and nodes != "(null)":
            found.append(
                JobView(
                    job,
                    frozenset(expand(nodes)),
                    user=user,
                    whole=sharing in _WHOLE or (sharing == "TOPO" and partition in whole),
                    exclusive_topo=sharing == "TOPO",
                    partition=partition,
                )
            )
    return tuple(found)


def parse_topology(text: str, nodes: tuple[NodeView, ...]) -> TopologySet:
    """Parse ``scontrol show topology`` of topology/block or topology/tree; anything else is flat.

    Aggregated blocks are left out: they follow from the sizes.
    """
    blocks: list[Block] = []
    sizes: set[int] = set()
    switches: list[Switch] = []
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "BlockSize" in fields:
            sizes.add(int(fields["BlockSize"]))
        if "BlockName" in fields:
            members = fields.get("Nodes", "")
            blocks.append(Block(fields["BlockName"], tuple(expand(members)) if members else ()))
        elif "SwitchName" in fields:
            below = fields.get("Switches", "")
            switches.append(
                Switch(
                    fields["SwitchName"],
                    () if below else tuple(expand(fields.get("Nodes", ""))),
                    tuple(expand(below)) if below else (),
                )
            )
    if blocks:
        return TopologySet(
            (NamedTopology("default", BlockTopology(tuple(blocks), tuple(sorted(sizes))), True),)
        )
    if switches:
        return TopologySet((NamedTopology("default", TreeTopology(tuple(switches)), True),))
    return TopologySet((NamedTopology("default", FlatTopology(tuple(node.name for node in nodes)), True),))
