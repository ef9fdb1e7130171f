"""Small made-up clusters, written in the request's style or in a site's, for properties of comparing and merging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from hpadmin.slurm import hostlist

NODES = tuple(f"n{number}" for number in range(1, 7))
PARTITIONS = ("dev", "gpu", "cpu", "debug")

Attributes = dict[str, str]


@dataclass(frozen=True)
class World:
    """What a configuration says, without how it is written."""

    settings: dict[str, str] = field(default_factory=dict)
    prologs: tuple[str, ...] = ()
    nodes: dict[str, Attributes] = field(default_factory=dict)
    partitions: dict[str, Attributes] = field(default_factory=dict)
    gres: dict[str, str] = field(default_factory=dict)
    """Devices by node: the File of one GRES of type h100."""

    def facts(self) -> dict[tuple[str, ...], str]:
        """Every value by its place, for laws about single values."""
        found: dict[tuple[str, ...], str] = {("setting", key): value for key, value in self.settings.items()}
        found.update({("prolog", value): value for value in self.prologs})
        for kind, records in (("node", self.nodes), ("partition", self.partitions)):
            for name, attributes in records.items():
                found[kind, name] = ""
                found.update({(kind, name, key): value for key, value in attributes.items()})
        found.update({("gres", name): value for name, value in self.gres.items()})
        return found


SETTINGS: dict[str, st.SearchStrategy[str]] = {
    "SlurmdTimeout": st.sampled_from(["100", "200", "300"]),
    "ReturnToService": st.sampled_from(["0", "1", "2"]),
    "TaskPlugin": st.sampled_from(["task/none", "task/cgroup", "task/affinity"]),
    "RebootProgram": st.sampled_from(["/sbin/reboot", "/usr/bin/systemctl reboot"]),
    "MailProg": st.sampled_from(["/bin/true", "/usr/bin/a#b"]),
}
NODE_ATTRIBUTES: dict[str, st.SearchStrategy[str]] = {
    "CPUs": st.sampled_from(["4", "8", "16"]),
    "RealMemory": st.sampled_from(["1000", "2000"]),
    "State": st.sampled_from(["UNKNOWN", "CLOUD"]),
    "Weight": st.sampled_from(["1", "2"]),
    "NodeAddr": st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
    "Feature": st.sampled_from(["a", "a,b", "b,c", "d"]),
}
PARTITION_ATTRIBUTES: dict[str, st.SearchStrategy[str]] = {
    "Nodes": st.sampled_from(["ALL", "n[1-2]", "n[2-4]", "n1,n3", "n6"]),
    "AllowGroups": st.sampled_from(["staff", "staff,users", "users,guests"]),
    "MaxTime": st.sampled_from(["10", "1-0", "INFINITE"]),
    "Default": st.sampled_from(["YES", "NO"]),
    "State": st.sampled_from(["UP", "DOWN"]),
}


def _some(choices: dict[str, st.SearchStrategy[str]]) -> st.SearchStrategy[Attributes]:
    return st.fixed_dictionaries({}, optional=choices)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Any small configuration that holds together."""
    names = draw(st.lists(st.sampled_from(NODES), min_size=1, unique=True))
    nodes = {name: draw(_some(NODE_ATTRIBUTES)) for name in sorted(names)}
    partitions = {
        name: draw(_some(PARTITION_ATTRIBUTES))
        for name in draw(st.lists(st.sampled_from(PARTITIONS), unique=True))
    }
    return World(
        settings={"ClusterName": "lab", **draw(_some(SETTINGS))},
        prologs=tuple(draw(st.lists(st.sampled_from(["/p/a", "/p/b", "/p/c"]), unique=True, max_size=2))),
        nodes=nodes,
        partitions=partitions,
        gres={
            name: draw(st.sampled_from(["/dev/a[0-3]", "/dev/a[0-7]"]))
            for name in nodes
            if draw(st.booleans())
        },
    )


def _edited(
    draw: st.DrawFn, attributes: Attributes, choices: dict[str, st.SearchStrategy[str]]
) -> Attributes:
    result = dict(attributes)
    for key, values in choices.items():
        action = draw(st.sampled_from(["keep", "keep", "keep", "set", "remove"]))
        if action == "set":
            result[key] = draw(values)
        elif action == "remove":
            result.pop(key, None)
    return result


@st.composite
def changed(draw: st.DrawFn, world: World) -> World:
    """A configuration a few changes away."""
    nodes = {name: _edited(draw, attributes, NODE_ATTRIBUTES) for name, attributes in world.nodes.items()}
    partitions = {
        name: _edited(draw, attributes, PARTITION_ATTRIBUTES) for name, attributes in world.partitions.items()
    }
    gres = dict(world.gres)
    if draw(st.booleans()):
        name = draw(st.sampled_from(NODES))
        if name in nodes and len(nodes) > 1:
            del nodes[name]
            gres.pop(name, None)
        else:
            nodes[name] = draw(_some(NODE_ATTRIBUTES))
    if draw(st.booleans()):
        name = draw(st.sampled_from(PARTITIONS))
        if name in partitions:
            del partitions[name]
        else:
            partitions[name] = draw(_some(PARTITION_ATTRIBUTES))
    if draw(st.booleans()):
        gres[draw(st.sampled_from(sorted(nodes)))] = draw(st.sampled_from(["/dev/a[0-1]", "/dev/a[0-7]"]))
    prologs = list(world.prologs)
    if draw(st.booleans()):
        prologs = draw(st.lists(st.sampled_from(["/p/a", "/p/b", "/p/c", "/p/d"]), unique=True, max_size=3))
    return replace(
        world,
        settings=_edited(draw, world.settings, SETTINGS),
        prologs=tuple(prologs),
        nodes=nodes,
        partitions=partitions,
        gres=gres,
    )


def _value(text: str) -> str:
    written = text.replace("#", "\\#")
    return f'"{written}"' if " " in written else written


def _line(key: str, name: str, attributes: Attributes) -> str:
    return " ".join([f"{key}={name}", *[f"{key}={_value(value)}" for key, value in attributes.items()]])


def request_style(world: World) -> dict[str, str]:
    """The files as a program renders them."""
    lines = ["# rendered", *[f"{key}={_value(value)}" for key, value in world.settings.items()]]
    lines += [f"Prolog={value}" for value in world.prologs]
    lines += ["", *[_line("NodeName", name, attributes) for name, attributes in sorted(world.nodes.items())]]
    lines += [
        "",
        *[_line("PartitionName", name, attributes) for name, attributes in sorted(world.partitions.items())],
    ]
    gres = [f"NodeName={name} Name=gpu Type=h100 File={file}" for name, file in sorted(world.gres.items())]
    return {"slurm.conf": "\n".join(lines) + "\n", "gres.conf": "\n".join(["# rendered", *gres]) + "\n"}


@st.composite
def site_style(draw: st.DrawFn, world: World) -> dict[str, str]:
    """The same, as people write it: folded, reordered, commented, in another case, with an Include."""
    cases: list[Callable[[str], str]] = [str, str.lower, str.upper]
    case = draw(st.sampled_from(cases))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    sign = draw(st.sampled_from(["=", " = "]))

    def commented(line: str) -> str:
        return line + draw(st.sampled_from(["", "", " # why", "   #x=y"]))

    settings = [
        commented(f"{case(key)}{sign}{_value(value)}")
        for key, value in world.settings.items()
        if key != "ClusterName"
    ]
    prologs = iter([commented(f"{case('Prolog')}={value}") for value in world.prologs])
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, attributes in world.nodes.items():
        groups.setdefault(tuple(attributes.items()), []).append(name)
    nodes = [
        commented(
            _line(case("NodeName"), hostlist.fold(names), {case(key): value for key, value in attributes})
        )
        for attributes, names in groups.items()
    ]
    partitions = [
        commented(_line(case("PartitionName"), name, {case(key): value for key, value in attributes.items()}))
        for name, attributes in world.partitions.items()
    ]
    devices: dict[str, list[str]] = {}
    for name, file in world.gres.items():
        devices.setdefault(file, []).append(name)
    gres = [
        commented(f"{case('NodeName')}={hostlist.fold(names)} type=h100 Name=gpu file={file}")
        for file, names in devices.items()
    ]
    lines = [*settings, *nodes, *partitions, "", "# a comment", "#MailProg=/x", *world.prologs]
    shuffled = draw(st.permutations(lines))
    body = [
        next(prologs) if line in world.prologs else line for line in shuffled
    ]  # their order has a meaning
    cut = draw(st.integers(0, len(body)))
    head = [f"ClusterName{sign}{world.settings['ClusterName']}"]
    files = {"gres.conf": newline.join(draw(st.permutations(gres)))}
    if draw(st.booleans()):
        files["more.conf"] = newline.join(body[cut:])
        body = [*body[:cut], "Include more.conf  # ours"]
    files["slurm.conf"] = newline.join([*head, *body]) + draw(st.sampled_from(["", newline]))
    return files
