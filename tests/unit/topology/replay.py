"""Replays recorded (or fresh) scenarios of a real slurmctld against our placement model and counts agreement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpadmin.slurm.hostlist import expand, fold
from hpadmin.topology.graph import FlatTopology, NamedTopology, TopologySet
from hpadmin.topology.names import table_order
from hpadmin.topology.placement import (
    JobView,
    NodeView,
    PartitionView,
    Placement,
    Planner,
    Request,
    Snapshot,
)
from hpadmin.topology.read import read_conf, read_yaml
from hpadmin.topology.release import Release

LATER = {
    "Resources": "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
    "PartitionConfig": "PartitionNodeLimit",
}
"""Other words that a scheduler pass, when it comes between submission and reading, gives the same reason."""

CPUS = 4
GPUS = 4


@dataclass(slots=True)
class Tally:
    """Agreement between Slurm's answers and ours."""

    cases: int = 0
    can_run: int = 0
    started: int = 0
    same_blocks: int = 0
    same_nodes: int = 0
    says: int = 0
    says_of: int = 0
    disagreements: list[str] = field(default_factory=list)

    def add(self, label: str, slurm: Mapping[str, Any], ours: Placement, blocks: Mapping[str, str]) -> None:
        """Compare one case; `blocks` maps node names to the unit that they are in."""
        self.cases += 1
        theirs = str(slurm["result"])
        if theirs != ours.result:
            self.disagreements.append(f"{label}: slurm {slurm}, ours {ours.result} ({ours.why})")
            return
        self.can_run += 1
        if theirs != "starts":
            self.says_of += 1
            said = str(slurm["says"]).removeprefix("salloc: fatal: ")
            same = any(
                said.startswith(word) for word in (ours.slurm_says, LATER.get(ours.slurm_says)) if word
            )
            self.says += same
            if not same:
                self.disagreements.append(f"{label}: slurm says {slurm['says']}, ours {ours.slurm_says}")
            return
        self.started += 1
        nodes = expand(str(slurm["nodes"]))
        units = {blocks.get(name, "") for name in nodes}
        if units != {blocks.get(name, "") for name in ours.nodes}:
            self.disagreements.append(f"{label}: slurm {slurm['nodes']}, ours {fold(ours.nodes)}")
            return
        self.same_blocks += 1
        if set(nodes) != set(ours.nodes):
            self.disagreements.append(f"{label}: slurm {slurm['nodes']}, ours {fold(ours.nodes)}")
            return
        self.same_nodes += 1

    def report(self, title: str) -> str:
        """The three percentages, and how many cases each rests on."""

        def percent(part: int, whole: int) -> str:
            return f"{100 * part / whole:.2f} % of {whole}" if whole else "no case"

        return (
            f"{title}: can it run {percent(self.can_run, self.cases)}, "
            f"which blocks {percent(self.same_blocks, self.started)}, "
            f"which nodes {percent(self.same_nodes, self.started)}, "
            f"same words {percent(self.says, self.says_of)}"
        )


def replay(scenarios: Iterable[Mapping[str, Any]], tally: Tally) -> None:
    """Answer every submit step with our model, on the state that Slurm had then."""
    for scenario in scenarios:
        _replay(scenario, tally)


def _replay(scenario: Mapping[str, Any], tally: Tally) -> None:
    release = Release.parse(scenario["release"])
    files = scenario["files"]
    if "topology.yaml" in files:
        found = read_yaml(files["topology.yaml"], "topology.yaml", release)
        topologies = TopologySet(found.topologies, scenario.get("partition_topology", {}))
    elif "topology.conf" in files:
        topologies = read_conf(files["topology.conf"], "topology.conf", release)
    else:
        topologies = TopologySet((NamedTopology("default", FlatTopology(tuple(scenario["nodes"])), True),))
    blocks = {}
    topology = topologies.default.topology
    for unit in [*getattr(topology, "blocks", ()), *getattr(topology, "switches", ())]:
        blocks.update(dict.fromkeys(unit.nodes, unit.name))
    as_written = scenario["plugin"] == "block" and not release.reads_yaml
    order = table_order(scenario["nodes"], as_written=as_written)
    limits = dict(scenario.get("partition_limits", {}))
    if scenario["exclusive_topo_partition"] and release.has_exclusive_partitions:
        limits["whole"] = True
    drained: set[str] = set(scenario.get("down", ()))
    jobs: list[tuple[JobView, dict[str, int]]] = []
    classes: Counter[str] = Counter()
    for number, step in enumerate(scenario["steps"]):
        if step["op"] == "drain":
            drained.update(step["nodes"])
            continue
        if step["op"] == "resume":
            drained.difference_update(step["nodes"])
            continue
        request = parse(step["args"])
        snapshot = Snapshot(
            tuple(_node(name, scenario, drained, jobs) for name in order),
            topologies,
            release,
            (
                PartitionView("all", frozenset(order), default=True),
                PartitionView(
                    "part",
                    frozenset(scenario["partition"]),
                    exclusive_topo=scenario["exclusive_topo_partition"],
                    **limits,
                ),
            ),
            tuple(job for job, _ in jobs),
        )
        ours = Planner(snapshot).place(request)
        outcome = step["outcome"]
        label = f"seed {scenario['seed']} step {number} {scenario['plugin']} {' '.join(step['args'])}"
        tally.add(label, outcome, ours, blocks)
        classes[outcome["result"]] += 1
        if outcome["result"] == "starts":
            partition_topo = scenario["exclusive_topo_partition"] and request.partition == "part"
            jobs.append(
                (
                    JobView(
                        str(number),
                        frozenset(expand(outcome["nodes"])),
                        whole=request.whole or bool(limits.get("whole") and request.partition == "part"),
                        exclusive_topo=request.exclusive_topo or partition_topo,
                        partition=request.partition or "all",
                    ),
                    dict(request.gres),
                )
            )


def _node(
    name: str, scenario: Mapping[str, Any], drained: set[str], jobs: list[tuple[JobView, dict[str, int]]]
) -> NodeView:
    facts = scenario["nodes"][name]
    here = [(job, gres) for job, gres in jobs if name in job.nodes]
    whole = any(job.whole for job, _ in here)
    cpus, gpus = facts.get("cpus", CPUS), facts.get("gpus", GPUS) if scenario["gres"] else 0
    return NodeView(
        name,
        usable=name not in drained,
        cpus=cpus,
        cpus_used=cpus if whole else len(here),
        weight=facts["weight"],
        boot=0 if name in scenario.get("down", ()) else 2,
        features=frozenset(facts["features"]),
        gres={"gpu": gpus} if gpus else {},
        gres_used={"gpu": gpus if whole else sum(gres.get("gpu", 0) for _, gres in here)},
    )


def parse(args: list[str]) -> Request:
    """The request that these arguments of sbatch make; only what the scenarios use."""
    found: dict[str, Any] = {}
    words = iter(args)
    for word in words:
        if word.startswith("-N"):
            found["nodes"] = int(word[2:])
        elif word == "-p":
            found["partition"] = next(words)
        elif word == "-C":
            found["constraint"] = next(words)
        elif word == "-w":
            found["nodelist"] = tuple(expand(next(words)))
        elif word == "-x":
            found["exclude"] = tuple(expand(next(words)))
        elif word == "--exclusive":
            found["whole"] = True
        elif word == "--exclusive=topo":
            found["exclusive_topo"] = True
        elif word.startswith("--gres=gpu:"):
            found["gres"] = {"gpu": int(word.removeprefix("--gres=gpu:"))}
        elif word in ("--spread-segments", "--consolidate-segments"):
            found[word[2:].replace("-", "_")] = True
        else:
            name, value = word[2:].split("=")
            found[name] = int(value)
    return Request(**found)
