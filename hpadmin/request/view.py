"""What a rule sees of a request: the sound parts of it, joined with the request that came before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpadmin.request.shapes import Operation


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance group."""

    path: str
    sound: dict[str, Any]
    """Its members without those that the shape check refused."""
    raw: dict[str, Any]
    """As it was written."""

    @property
    def slurm(self) -> dict[str, Any]:
        """Its SlurmConfig as far as that is sound; empty without one."""
        found = self.sound.get("SlurmConfig")
        return found if isinstance(found, dict) else {}

    @property
    def node_type(self) -> str | None:
        node_type = self.slurm.get("NodeType")
        return node_type if isinstance(node_type, str) else None

    @property
    def types(self) -> list[tuple[str, str]]:
        """Path and name of each instance type of the group."""
        found = [(f"{self.path}.InstanceType", self.sound.get("InstanceType"))]
        listed = self.sound.get("InstanceRequirements", {}).get("InstanceTypes", [])
        found += [
            (f"{self.path}.InstanceRequirements.InstanceTypes[{i}]", name) for i, name in enumerate(listed)
        ]
        return [(path, name) for path, name in found if name is not None]


@dataclass(frozen=True, slots=True)
class View:
    """A request whose shapes were checked. Everything unsound is absent from `body` and from `Entry.sound`."""

    operation: Operation
    raw: Mapping[str, Any]
    """The request as written."""
    body: Mapping[str, Any]
    """Its sound part, over the previous request under UpdateCluster."""
    entries: tuple[Entry, ...]
    """All groups that the cluster will have; entries that are no objects are left out."""
    complete: bool
    """Whether `entries` are all: an UpdateCluster body by itself does not tell."""
    legacy: bool = False
    """A provisioning_parameters.json goes with the request."""
    previous: Mapping[str, Entry] = field(default_factory=dict)
    """Groups by name before an update."""
    previous_name: str = ""

    @property
    def deleted(self) -> tuple[str, ...]:
        """The sound part of `InstanceGroupsToDelete`."""
        return tuple(name for name in self.body.get("InstanceGroupsToDelete", []) if isinstance(name, str))

    @property
    def cluster_name(self) -> str:
        return str(self.body.get("ClusterName", ""))

    @property
    def orchestrator(self) -> Mapping[str, Any]:
        """`Orchestrator` as written, without judging its members; empty without one."""
        written = self.raw.get("Orchestrator", self.body.get("Orchestrator"))
        return written if isinstance(written, dict) else {}

    @property
    def slurm(self) -> Mapping[str, Any]:
        """The sound part of `Orchestrator.Slurm`."""
        found = self.body.get("Orchestrator", {}).get("Slurm")
        return found if isinstance(found, dict) else {}

    @property
    def eks(self) -> bool:
        return "Eks" in self.orchestrator

    @property
    def api_driven(self) -> bool:
        """Whether any part of the request configures Slurm itself."""
        return "Slurm" in self.orchestrator or any("SlurmConfig" in entry.raw for entry in self.entries)

    @property
    def roles_unclear(self) -> bool:
        """Whether some group's role could not be read, so that nothing can be said of all roles together."""
        written = self.raw.get("InstanceGroups", [])
        if not isinstance(written, list) or not all(isinstance(entry, dict) for entry in written):
            return True
        return any("SlurmConfig" in entry.raw and entry.node_type is None for entry in self.entries)

    def of_type(self, node_type: str) -> Iterator[Entry]:
        """Yield the groups of a node type."""
        return (entry for entry in self.entries if entry.node_type == node_type)


def make(
    operation: Operation,
    raw: Mapping[str, Any],
    sound: Mapping[str, Any],
    *,
    legacy: bool = False,
    previous: Mapping[str, Any] | None = None,
    previous_origin: str = "",
    previous_complete: bool = True,
) -> View:
    """Make the view of a request.

    `previous` is the valid CreateCluster form of what an update starts from; it is not complete when it was itself
    made of an update alone.
    """
    own = _entries(raw, sound)
    if previous is None:
        return View(operation, raw, sound, tuple(own), operation == "CreateCluster", legacy)
    before = {
        entry["InstanceGroupName"]: Entry(f"{previous_origin}:InstanceGroups[{index}]", entry, entry)
        for index, entry in enumerate(previous.get("InstanceGroups", []))
    }
    deleted = {name for name in sound.get("InstanceGroupsToDelete", []) if isinstance(name, str)}
    joined = {name: entry for name, entry in before.items() if name not in deleted}
    unnamed = []
    for entry in own:
        name = entry.sound.get("InstanceGroupName")
        if name in joined and joined[name].path not in {other.path for other in own}:
            old = joined[name]
            joined[name] = Entry(entry.path, _over(old.sound, entry.sound), _over(old.raw, entry.raw))
        elif name is None or name in joined:
            unnamed.append(entry)  # a second group of the same name stays visible to the rule that forbids it
        else:
            joined[name] = entry
    body = {**previous, **sound}
    if isinstance(sound.get("Orchestrator"), dict):
        body["Orchestrator"] = _orchestrator(previous.get("Orchestrator", {}), sound["Orchestrator"])
    entries = (*joined.values(), *unnamed)
    name = str(previous.get("ClusterName", ""))
    return View(operation, raw, body, entries, previous_complete, legacy, before, name)


def configures_slurm(raw: Mapping[str, Any]) -> bool:
    """Tell whether a request as written configures Slurm itself, in whatever part of it."""
    orchestrator, groups = raw.get("Orchestrator"), raw.get("InstanceGroups")
    if isinstance(orchestrator, dict) and "Slurm" in orchestrator:
        return True
    return isinstance(groups, list) and any(
        isinstance(entry, dict) and "SlurmConfig" in entry for entry in groups
    )


def effective_body(view: View) -> dict[str, Any]:
    """Return what a valid request amounts to, in CreateCluster's form."""
    body = {key: value for key, value in view.body.items() if key != "InstanceGroupsToDelete"}
    if view.previous_name:
        body["ClusterName"] = view.previous_name
    body["InstanceGroups"] = [entry.sound for entry in view.entries]
    return body


def _orchestrator(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Join what an update says of the orchestrator with what was said: another strategy does not take the database."""
    slurm = {**old.get("Slurm", {}), **new.get("Slurm", {})}
    return {**old, **new, **({"Slurm": slurm} if "Slurm" in new else {})}


def _over(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Join a group's members with an update's; what an update says of the type stands for all that was said of it."""
    ways = ("InstanceType", "InstanceRequirements")
    replaced = ways if any(way in new for way in ways) else ()
    return {**{key: value for key, value in old.items() if key not in replaced}, **new}


def _entries(raw: Mapping[str, Any], sound: Mapping[str, Any]) -> list[Entry]:
    written, checked = raw.get("InstanceGroups"), sound.get("InstanceGroups")
    if not isinstance(written, list) or not isinstance(checked, list):
        return []
    return [
        Entry(f"InstanceGroups[{index}]", good if isinstance(good, dict) else {}, entry)
        for index, (entry, good) in enumerate(zip(written, checked, strict=True))
        if isinstance(entry, dict)
    ]
