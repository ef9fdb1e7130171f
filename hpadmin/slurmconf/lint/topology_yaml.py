"""Rules about topology.yaml, which Slurm reads from 25.05 on; what is wrong in it `hpadmin.topology` knows."""

from __future__ import annotations

from collections.abc import Iterator

from hpadmin.errors import InvalidInput
from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, error, warning
from hpadmin.slurmconf.records import Origin

TOP = Origin("topology.yaml", 0, 0)


def topology_yaml(subject: Subject) -> Iterator[Finding]:
    """Mistakes in topology.yaml, and partitions whose Topology is not there."""
    if not subject.since("25.05"):
        return
    names = ["default"]
    if subject.topology_yaml:
        read = list(_entries(subject))
        yield from (entry for entry in read if isinstance(entry, Finding))
        names = [entry for entry in read if isinstance(entry, str)]
    view = subject.references
    if view is None or not subject.whole or not names:
        return
    for record in view.of("PartitionName"):
        name = record.get("Topology")
        if name and name not in names:
            hint = subject.speller.did_you_mean(name, names) or f": there are {', '.join(names)}"
            message = (
                f"partition {record.name}: there is no topology {name}, and slurmctld dies of that{hint}"
            )
            yield error(record.origin, "unknown-topology", message)


def _entries(subject: Subject) -> Iterator[str | Finding]:
    """The names of the topologies, and what is wrong with them."""
    from hpadmin.topology.check import check
    from hpadmin.topology.read import read_yaml
    from hpadmin.topology.release import Release

    release = Release.parse(subject.release)
    slurm = subject.references
    # Nodes that come at run time are not in slurm.conf.
    nodes = None if slurm is None or slurm.value("MaxNodeCount") else list(slurm.nodes)
    text = (subject.topology_yaml_content or b"").decode("utf-8", "replace")
    try:
        topologies = read_yaml(text, "topology.yaml", release, nodes)
    except InvalidInput as wrong:
        for problem in wrong.problems:
            line = problem.path.rpartition(":")[2] if problem.path.startswith("topology.yaml:") else ""
            origin = TOP._replace(line=int(line)) if line.isdecimal() else TOP
            place = "" if problem.path.startswith("topology.yaml") else f"{problem.path}: "
            yield error(origin, "topology-yaml", f"{place}{' '.join(problem.message.split())}")
        return
    yield from (named.name for named in topologies)
    # Other topologies are for partitions that choose them and need not hold every node.
    for problem in check(topologies.default.topology, release, nodes).warnings:
        message = f"{topologies.default.name}: {problem.path} {problem.message}"
        yield warning(TOP, "topology-yaml", " ".join(message.split()))


RULES: tuple[Rule, ...] = (topology_yaml,)
