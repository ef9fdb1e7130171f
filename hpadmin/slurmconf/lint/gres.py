"""Rules about generic resources: GresTypes, the nodes' Gres and gres.conf (``src/interfaces/gres.c``)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hpadmin.slurm.hostlist import HostlistError, expand, fold
from hpadmin.slurmconf.lint.facts import Speller
from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, error, warning
from hpadmin.slurmconf.records import Record
from hpadmin.slurmconf.view import View

_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}
_DETECTORS = frozenset({"nvml", "nvidia", "rsmi", "oneapi", "nrt", "off"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """One element of a node's Gres: ``gpu:h100:8``."""

    name: str
    type: str
    count: int


def count_of(text: str) -> int | None:
    """Read a count with Slurm's suffixes; None for what is none.

    >>> count_of("8"), count_of("2k"), count_of("two")
    (8, 2048, None)
    """
    match = re.match(r"(\d+)([kKmMgGtTpP]?)$", text)
    return int(match[1]) * _UNITS[match[2].lower()] if match else None


def wanted(text: str) -> Iterator[Wanted | str]:
    """Read a node's Gres; an element that Slurm misreads comes as it is written."""
    for element in text.split(","):
        parts = [part for part in re.sub(r"\(.*?\)", "", element).split(":") if part.lower() != "no_consume"]
        if not parts[0]:
            continue
        count = count_of(parts[-1]) if len(parts) > 1 else 1
        if count is None and len(parts) == 2:
            yield Wanted(parts[0], parts[1], 1)
        elif count is None or len(parts) > 3:
            yield element
        else:
            yield Wanted(parts[0], parts[1] if len(parts) == 3 else "", count)


def nodes(subject: Subject) -> Iterator[Finding]:
    """The nodes' Gres against GresTypes and against gres.conf."""
    view = subject.slurm
    if view is None:
        return
    types = [name for name in view.value("GresTypes").split(",") if name]
    devices = _Devices(subject.gres) if subject.whole else None
    for record in view.of("NodeName"):
        text = record.get("Gres")
        if not text or text.lower() == "none" or text == "(null)":
            continue
        asked: list[Wanted] = []
        for element in wanted(text):
            if isinstance(element, str):
                message = f"Gres={element} is not NAME[:TYPE]:COUNT, so Slurm takes its end for a type"
                yield error(record.origin, "bad-value", message)
            else:
                asked.append(element)
        for name in dict.fromkeys(item.name for item in asked):
            if name not in types and subject.references is not None:
                hint = (
                    subject.speller.did_you_mean(name, types) or f": set GresTypes={','.join([*types, name])}"
                )
                message = f"GresTypes does not name {name}, so nobody can use the node's {name}{hint}"
                yield error(record.origin, "gres-type-missing", message)
            elif devices is not None and not record.get("State").lower().startswith(("cloud", "future")):
                yield from _against(record, [item for item in asked if item.name == name], devices)


class _Devices:
    """gres.conf by node."""

    def __init__(self, view: View | None) -> None:
        self.everywhere: list[Record] = [] if view is None else view.of("Name")
        self.by_node: dict[str, list[Record]] = defaultdict(list)
        self.detected = False
        self.detected_on: dict[str, bool] = {}
        if view is None:
            return
        self.detected = _detects(view.value("AutoDetect"))
        for record in view.of("NodeName"):
            for name in _names(record):
                if "autodetect" in record.attributes:
                    self.detected_on[name] = _detects(record.get("AutoDetect"))
                if "name" in record.attributes:
                    self.by_node[name].append(record)

    def of(self, node: str, name: str) -> tuple[Record, ...]:
        """The lines for one GRES of one node."""
        mine = [record for record in self.by_node.get(node, ()) if record.get("Name") == name]
        return (*(record for record in self.everywhere if record.name == name), *mine)

    def detects(self, node: str, name: str) -> bool:
        """Whether slurmd of this node looks for the devices itself."""
        return name == "gpu" and self.detected_on.get(node, self.detected)


def _detects(value: str) -> bool:
    return value.lower() not in ("", "off")


def _names(record: Record) -> tuple[str, ...]:
    try:
        return record.names
    except HostlistError:
        return ()


def _against(record: Record, asked: list[Wanted], devices: _Devices) -> Iterator[Finding]:
    """Compare what one NodeName line says of one GRES with gres.conf; nodes of the same lines at once."""
    name = asked[0].name
    typed = [bool(item.type) for item in asked]
    if any(typed) and not all(typed):
        message = f"some of the node's {name} have a type and others do not: slurmd dies of it"
        yield error(record.origin, "gres-mixed", message)
        return
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    lines: dict[tuple[int, ...], tuple[Record, ...]] = {}
    for node in _names(record):
        if not devices.detects(node, name):
            found = devices.of(node, name)
            key = tuple(id(line) for line in found)
            alike[key].append(node)
            lines[key] = found
    for key, names in alike.items():
        yield from _compared(record, asked, lines[key], fold(names))


def _compared(
    record: Record, asked: list[Wanted], lines: tuple[Record, ...], nodes: str
) -> Iterator[Finding]:
    name = asked[0].name
    if name not in ("gpu", "mps", "shard") and not lines:
        return  # a count in slurm.conf is enough for what has no devices
    if not lines:
        message = (
            f"gres.conf has no line for {name} on {nodes}, so they register with none and become invalid: "
            f"add NodeName={nodes} Name={name} File=..., or AutoDetect"
        )
        yield error(record.origin, "gres-not-in-gres-conf", message)
        return
    for key, spelled in (("type", "Type"), ("file", "File")):
        having = [line for line in lines if key in line.attributes or (key == "file" and _several(line))]
        if having and len(having) < len(lines):
            bare = next(line for line in lines if line not in having)
            message = f"{nodes}: some {name} lines have {spelled} and this one has not; slurmd dies of it"
            yield error(bare.origin, "gres-mixed", message)
            return
    if name in ("mps", "shard"):
        return  # their counts are spread over the GPUs
    there: dict[str, int] = defaultdict(int)
    for line in lines:
        there[line.get("Type").lower()] += _device_count(line)
    total = sum(there.values())
    for item in asked:
        if item.type:
            matching = there.get(item.type.lower(), 0) + there.get("", 0)
            if not matching and total:
                types = ", ".join(sorted(there))
                message = (
                    f"gres.conf has {name} of type {types} on {nodes}, not {item.type}: use one type in both"
                )
                yield error(record.origin, "gres-subtype", message)
                return
    want = sum(item.count for item in asked)
    if want > total:
        message = (
            f"{nodes}: {want} {name} here, {total} in gres.conf ({_places(lines)}), so the nodes become "
            f"invalid: correct one of them"
        )
        yield error(record.origin, "gres-count", message)
    elif want < total:
        message = f"{nodes}: {want} {name} here, {total} in gres.conf ({_places(lines)}); the rest is ignored"
        yield warning(record.origin, "gres-count", message)


def _places(lines: Iterable[Record]) -> str:
    return ", ".join(dict.fromkeys(str(line.origin) for line in lines))


def _files(line: Record) -> int | None:
    """How many devices a line names; None where it names no file, or no readable list."""
    if "file" not in line.attributes:
        return None
    try:
        return len(expand(line.get("File")))
    except HostlistError:
        return None


def _device_count(line: Record) -> int:
    files = _files(line)
    counted = count_of(line.get("Count"))
    if files is not None:
        return counted if counted is not None and _shared(line) else files
    if _several(line):
        return 1
    return counted if counted is not None else 1


def _several(line: Record) -> bool:
    return "multiplefiles" in line.attributes


def _shared(line: Record) -> bool:
    return _gres_name(line) in ("mps", "shard")


def _gres_name(line: Record) -> str:
    return line.name if line.rule.key == "Name" else line.get("Name")


def lines(subject: Subject) -> Iterator[Finding]:
    """gres.conf by itself, and the nodes and GRES that it names."""
    view = subject.gres
    if view is None:
        return
    yield from _detectors(subject, view)
    seen: dict[tuple[str, str, str], Record] = {}
    for record in (*view.of("Name"), *view.of("NodeName")):
        name = _gres_name(record)
        yield from _one(record, name)
        if subject.references is not None and subject.whole:
            yield from _unknown(subject.references, record, name, subject.speller)
        yield from _repeated_devices(record, name, seen)


def _detectors(subject: Subject, view: View) -> Iterator[Finding]:
    allowed = _DETECTORS | {"full"} if subject.since("26.05") else _DETECTORS
    setting = view.setting("AutoDetect")
    found = [(setting.value, setting.origin)] if setting is not None else []
    for record in (*view.of("Name"), *view.of("NodeName")):
        if "autodetect" in record.attributes:
            found.append((record.get("AutoDetect"), record.origin))
            if record.rule.key == "Name":
                message = (
                    "AutoDetect on this line has no effect: give it a line of its own, or NodeName first"
                )
                yield warning(record.origin, "autodetect-ignored", message)
    for value, origin in found:
        # Slurm looks for the words anywhere in the value, and for "off" alone.
        if value.lower() != "off" and not any(word in value.lower() for word in allowed - {"off"}):
            message = f"AutoDetect={value} is none: there are {', '.join(sorted(allowed))}"
            yield error(origin, "bad-value", message)


def _one(record: Record, name: str) -> Iterator[Finding]:
    """What slurmd says of one line by itself."""
    if not name:
        return
    files, several = _files(record), record.get("MultipleFiles")
    if "file" in record.attributes and several:
        message = "File and MultipleFiles exclude each other, and slurmd dies of both: keep one"
        yield error(record.origin, "exclusive-keys", message)
        return
    if "file" in record.attributes and files is None:
        yield error(record.origin, "bad-hostlist", f"File={record.get('File')} is no list of files")
        return
    if several and not re.search(r"[\[,]", several):
        message = "MultipleFiles names one file only, and slurmd dies of it: use File"
        yield error(record.origin, "bad-value", message)
    count = record.get("Count")
    if count and count_of(count) is None:
        message = f"Count is a number, with k, m, g, t or p behind it; not {count!r}: slurmd dies of it"
        yield error(record.origin, "bad-value", message)
    elif count and files is not None and not _shared(record) and count_of(count) != files:
        message = f"Count={count}, but File names {files} devices, and slurmd dies of that: leave Count out"
        yield error(record.origin, "gres-count", message)
    if name == "gpu" and files is None and not several and "autodetect" not in record.attributes:
        message = "a GPU needs its device: add File=/dev/nvidia[0-7] or the like; Count alone is ignored"
        yield error(record.origin, "gres-without-file", message)


def _unknown(slurm: View, record: Record, name: str, speller: Speller) -> Iterator[Finding]:
    types = [word for word in slurm.value("GresTypes").split(",") if word]
    if name and name not in types:
        hint = speller.did_you_mean(name, types) or ": add it there"
        message = f"GresTypes in slurm.conf does not name {name}, so this line is ignored{hint}"
        yield warning(record.origin, "gres-type-missing", message)
    if record.rule.key == "NodeName":
        unknown = [node for node in _names(record) if node not in slurm.nodes]
        if unknown and not slurm.value("MaxNodeCount"):
            hint = speller.did_you_mean(unknown[0], list(slurm.nodes)[:4096])
            yield warning(record.origin, "unknown-node", f"slurm.conf has no node {fold(unknown)}{hint}")


def _repeated_devices(
    record: Record, name: str, seen: dict[tuple[str, str, str], Record]
) -> Iterator[Finding]:
    try:
        files = expand(record.get("File")) if record.get("File") else []
        nodes = record.names if record.rule.key == "NodeName" else ("",)
    except HostlistError:
        return
    if _shared(record):
        return
    for node in nodes:
        for file in files:
            other = seen.setdefault((node, name, file), record)
            if other is not record:
                message = f"{file} is a {name} of {node or 'every node'} in {other.origin} already: keep one"
                yield warning(record.origin, "duplicate-device", message)
                return


RULES: tuple[Rule, ...] = (nodes, lines)
