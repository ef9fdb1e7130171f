"""Whether a running Slurm is what the files on disk say: slurmctld, and every node that has to follow. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpadmin.configure.layout import Layout, gres_of
from hpadmin.configure.live import Live, dynamic
from hpadmin.nodes import reasons
from hpadmin.nodes.reasons import Owner
from hpadmin.slurm import hostlist
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import NodeBase, NodeFlag
from hpadmin.slurmconf.view import Reader, view

_UNIT = re.compile(r"^(?:BlockName|SwitchName)=(?P<name>\S+)(?=.*?\sNodes=(?P<nodes>\S+))?", re.M)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What a running Slurm lacks."""

    faults: tuple[str, ...] = ()
    """Waiting does not mend these."""
    pending: tuple[str, ...] = ()
    """What may yet come."""

    @property
    def words(self) -> str:
        """All of it in one line."""
        return "; ".join((*self.faults, *self.pending))


def answering(live: Live) -> dict[str, float]:
    """The nodes that answer now, and when their slurmd started: those that must register anew."""
    return {name: node.slurmd_start_time for name, node in live.nodes.items() if _answers(node)}


def shortfall(
    live: Live, intent: Layout, must_register: Mapping[str, float], *, hashed: bool = True
) -> Shortfall:
    """Compare `live` with the files' layout.

    `must_register` are the nodes that answered before the reconfigure and when their slurmd had started then:
    a slurmd starts anew when it takes a configuration over, and registers after that. `hashed` says whether the
    files ask slurmctld to tell the hash of its slurm.conf.
    """
    pending = []
    if hashed and live.hashes and not live.runs_the_files:
        pending.append(
            f"slurmctld does not run the slurm.conf on disk ({live.settings.get('HASH_VAL', '?')})"
        )
    pending += _layout(live, intent)
    silent, invalid, down = [], {}, {}
    for name, started in must_register.items():
        node = live.nodes.get(name)
        if node is None or name not in intent.nodes:
            continue
        flags = node.state.flags
        if NodeFlag.INVALID_REG in flags:
            invalid[name] = node.reason
        elif _given_up(node):
            continue  # its host died meanwhile, or is under repair: no configuration mends or caused that
        elif node.state.base is NodeBase.DOWN and _registered(node, started):
            down[name] = node.reason
        elif not _answers(node) or not _registered(node, started):
            silent.append(name)
    if silent:
        pending.append(f"{hostlist.fold(silent)} did not come back with the new configuration")
    faults = [
        f"{name} does not fit its configuration: {reason}" for name, reason in sorted(invalid.items())
    ] + [f"{name} went down: {reason}" for name, reason in sorted(down.items())]
    return Shortfall(tuple(faults), tuple(pending))


def _given_up(node: NodeInfo) -> bool:
    """Tell whether the recovery agent, or an order to it, keeps a node out that is down or does not answer."""
    owner = reasons.read(node.reason).owner
    return node.state.kept_out and owner in (Owner.OURS, Owner.ORDER) and not _answers(node)


def waiting(live: Live, intent: Layout) -> tuple[str, ...]:
    """The nodes that have not registered with the running configuration."""
    return tuple(
        name
        for name, node in live.nodes.items()
        if name in intent.nodes and not intent.nodes[name].absent and not _answers(node)
    )


def misfits(live: Live, names: frozenset[str]) -> tuple[str, ...]:
    """Say which of the nodes `names` registered with less than they are configured to have."""
    return tuple(
        f"{name} does not fit its configuration: {node.reason}"
        for name, node in live.nodes.items()
        if name in names and NodeFlag.INVALID_REG in node.state.flags
    )


def topology_shortfall(shown: str, read: Reader) -> tuple[str, ...]:
    """Compare ``scontrol show topology`` with topology.conf: every block and switch, with its nodes."""
    seen = view("topology.conf", read)
    running = {found["name"]: found["nodes"] or "" for found in _UNIT.finditer(shown)}
    wrong = []
    for record in [*seen.of("BlockName"), *seen.of("SwitchName")]:
        if record.name not in running:
            wrong.append(f"slurmctld has no {record.rule.key}={record.name}")
        elif record.get("Nodes") and _names(record.get("Nodes")) != _names(running[record.name]):
            wrong.append(
                f"{record.rule.key}={record.name} has other nodes in slurmctld: {running[record.name]}"
            )
    return tuple(wrong)


def _layout(live: Live, intent: Layout) -> list[str]:
    found = []
    missing = [name for name, shape in intent.nodes.items() if name not in live.nodes and not shape.absent]
    extra = [name for name, node in live.nodes.items() if name not in intent.nodes and not dynamic(node)]
    gres = [
        name
        for name, node in live.nodes.items()
        if name in intent.nodes and not _same_gres(node, intent.nodes[name].gres)
    ]
    for names, words in (
        (missing, "slurmctld does not know {}"),
        (extra, "slurmctld still has {}"),
        (gres, "slurmctld has other GRES for {}"),
    ):
        if names:
            found.append(words.format(hostlist.fold(names)))
    if "keeppartinfo" in intent.settings.get("reconfigflags", "").lower():
        return found
    for name in sorted(set(intent.partitions) ^ set(live.partitions)):
        has = name in live.partitions
        found.append(f"slurmctld {'still has' if has else 'does not know'} partition {name}")
    for name, nodes in intent.partitions.items():
        running = live.partitions.get(name)
        if running is None or nodes is None:
            continue
        shown = {
            node for node in _names(running.nodes) if not (node in live.nodes and dynamic(live.nodes[node]))
        }
        if shown != {node for node in nodes if not intent.nodes[node].absent}:
            found.append(f"partition {name} has other nodes in slurmctld: {running.nodes or 'none'}")
    return found


def _same_gres(node: NodeInfo, wanted: frozenset[tuple[str, str, int]]) -> bool:
    """Compare by name and count: slurmctld adds the types that a node found."""
    if dynamic(node):
        return True

    def totals(gres: frozenset[tuple[str, str, int]]) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, _, count in gres:
            found[name] = found.get(name, 0) + count
        return {name: count for name, count in found.items() if count}

    return totals(gres_of(node.gres)) == totals(wanted)


def _registered(node: NodeInfo, started_before: float) -> bool:
    return node.slurmd_start_time not in (0, started_before)


def _answers(node: NodeInfo) -> bool:
    state = node.state
    if not node.slurmd_start_time or not state.responding:
        return False
    # One that registered with less than configured has no base state, but its slurmd is there.
    if NodeFlag.INVALID_REG in state.flags:
        return True
    return (
        not state.powered_away
        and state.base not in (NodeBase.DOWN, NodeBase.UNKNOWN, NodeBase.FUTURE, NodeBase.INVALID)
        and NodeFlag.REBOOT_ISSUED not in state.flags
    )


def _names(nodes: str) -> set[str]:
    return set(hostlist.expand(nodes)) if nodes else set()
