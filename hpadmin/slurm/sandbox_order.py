"""What a throw-away slurmctld is given: a configuration that cannot reach out of its sandbox. Pure, but for Includes.

`hpadmin.slurm.sandbox` is the way to use it.
"""

from __future__ import annotations

import base64
import ipaddress
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from hpadmin.errors import InvalidInput
from hpadmin.slurm import hostlist
from hpadmin.slurm.command import Runner
from hpadmin.slurm.sandbox_host import OWN_ADDRESS
from hpadmin.slurmconf import Document, Statement, dumps, loads

ELSEWHERE = "198.18.0.2"
"""What every other host's name resolves to: there is no route to it, so nothing waits for an answer."""

DROPPED = frozenset(
    {
        # Logs belong on stderr, where we read them.
        "slurmctldlogfile", "slurmctldsyslogdebug",
        # Programs that slurmctld runs of its own accord: they may touch the real world.
        "epilogslurmctld", "prologslurmctld", "slurmctldprimaryonprog", "slurmctldprimaryoffprog",
        "resvprolog", "resvepilog",
    }
)  # fmt: skip
"""Keys whose lines are left out, in lower case."""
REACHING = {
    "jobcomptype": frozenset({"elasticsearch", "filetxt", "kafka", "lua", "mysql", "script"}),
    "burstbuffertype": frozenset({"datawarp", "lua"}),
}
"""Plugins that write or run something outside; others (misspelt ones, say) stay for slurmctld to refuse."""
WITHOUT_DATABASE = frozenset({"accountingstorageenforce", "accountingstoragetres", "priorityweighttres"})
"""Left out as well with slurmdbd but no state: slurmctld then has no copy of what slurmdbd knows."""
WEIGHTS = frozenset({"tresweights", "tresbillingweights"})
"""Attributes left out then too: they speak of resources that slurmdbd tracks."""
_TYPE = "accountingstoragetype"
HARMLESS = "/bin/true"
PROGRAMS = frozenset({"mailprog", "suspendprogram", "resumeprogram", "resumefailprogram", "rebootprogram"})
"""Programs whose presence means something: replaced by one that does nothing."""
SECRET = re.compile(r"(\.key|\.jwks|^slurmdbd\.conf)$")


@dataclass(frozen=True, slots=True)
class Order:
    """What is sent to the host: the files as slurmctld shall see them and the world around it."""

    folder: str
    files: Mapping[str, bytes]
    hostname: str
    hosts: Mapping[str, str]
    """Name to address."""
    addresses: tuple[str, ...]
    """Of this controller, besides the sandbox's own."""
    user: str
    state: str | None
    alone: bool
    """slurmdbd is configured, but was taken out, as nothing of what it knows is at hand."""

    def as_json(self) -> dict[str, object]:
        """The order with contents in base64."""
        return {
            "folder": self.folder,
            "files": {name: base64.b64encode(content).decode() for name, content in self.files.items()},
            "secret": [name for name in self.files if SECRET.search(name)],
            "hostname": self.hostname,
            "hosts": dict(self.hosts),
            "addresses": list(self.addresses),
            "user": self.user,
            "state": self.state,
        }


def prepare(
    files: Mapping[str, bytes],
    *,
    folder: str,
    state: str | None,
    overrides: Mapping[str, str],
    alone: bool = False,
) -> Order:
    """Turn a configuration into an order: nothing that it says may reach out of the sandbox. Pure.

    `alone` takes slurmdbd out even with state, where that holds no copy of what slurmdbd knows (a slurmctld
    writes it when it ends, and now and then). Lines that go are blanked, not removed, so that the line numbers
    in Slurm's messages stay true.
    """
    own = {
        "StateSaveLocation": f"{folder}/state",
        "SlurmctldPidFile": f"{folder}/slurmctld.pid",
        **overrides,
    }
    gone = DROPPED | {key.lower() for key in own}
    prepared: dict[str, bytes] = {}
    documents: list[Document] = []
    included = _included(files)
    accounting = [
        value for name in ("slurm.conf", *included) for value in _values([loads(files[name])], _TYPE)
    ]
    accounted = any(value.lower().endswith("/slurmdbd") for value in accounting)
    alone = accounted and (alone or state is None)
    gone = gone | WITHOUT_DATABASE if alone else gone
    for name, content in files.items():
        if name == "slurm.conf" or name in included:
            document = loads(content)
            documents.append(document)
            edited = Document(_tamed(s, gone, folder, alone=alone) for s in document.statements)
            prepared[name] = dumps(edited)
        else:
            prepared[name] = content
    # Two line ends: the first may be eaten by a continuation at the very end of the file.
    tail = "".join(f"{key}={value}\n" for key, value in own.items())
    prepared["slurm.conf"] += f"\n\n{tail}".encode("utf-8", "surrogateescape")
    controllers = list(_controllers(documents))
    name, address = controllers[0] if controllers else ("sandbox", "")
    others = [host for pair in controllers[1:] for host in pair if host]
    hosts = dict.fromkeys((n for n in (*others, *_host_names(documents)) if not _numeric(n)), ELSEWHERE)
    hosts |= {n: OWN_ADDRESS for n in (name, address, "localhost") if n and not _numeric(n)}
    return Order(
        folder=folder,
        files=prepared,
        hostname=name,
        hosts={n: a for n, a in hosts.items() if not re.search(r"\s", n)},
        addresses=(address,) if _numeric(address) else (),
        user={key.lower(): value for key, value in overrides.items()}.get("slurmuser")
        or next(_values(documents, "slurmuser"), "root"),
        state=state,
        alone=alone,
    )


def _tamed(statement: Statement, gone: Iterable[str], folder: str, *, alone: bool) -> Statement:
    """Make one statement harmless. `alone`: slurmdbd is configured, but nothing of it can be known here."""
    key, value = statement.key.lower(), statement.value
    if key in gone:
        return _blanked(statement)
    if value.lower().rpartition("/")[2] in REACHING.get(key, ()):
        return _blanked(statement)
    if key in PROGRAMS:
        return _replaced(statement, HARMLESS)
    if key == "slurmschedlogfile":
        return _replaced(statement, f"{folder}/sched.log")
    if alone and key == _TYPE and value.lower().endswith("/slurmdbd"):
        return _blanked(statement)
    if alone and key in ("nodename", "partitionname"):
        return _without(statement, WEIGHTS)
    return statement


def _blanked(statement: Statement) -> Statement:
    return Statement("#\n" * max(1, statement.raw.count("\n")))


def _without(statement: Statement, keys: Collection[str]) -> Statement:
    raw = statement.raw
    for pair in reversed(statement.attributes):
        if pair.key.lower() in keys:
            start, end = statement.raw_span(pair.start, pair.end)
            raw = raw[:start] + raw[end:]
    return Statement(raw)


def _replaced(statement: Statement, value: str) -> Statement:
    start, end = statement.raw_span(statement.pairs[0].value_start, statement.pairs[0].end)
    return Statement(statement.raw[:start] + value + statement.raw[end:])


def _included(files: Mapping[str, bytes]) -> set[str]:
    """The files that slurm.conf takes in, directly or not."""
    found: set[str] = set()
    waiting = ["slurm.conf"]
    while waiting:
        for statement in loads(files[waiting.pop()]).statements:
            name = statement.include
            if name is not None and name in files and name not in found:
                found.add(name)
                waiting.append(name)
    return found


def with_includes(
    runner: Runner,
    files: Mapping[str, bytes],
    conf_dir: str,
    *,
    beside: bool = False,
    absent: Collection[str] = (),
) -> dict[str, bytes]:
    """Return the files with every Include that leads out of the folder made to lead into it.

    What it names is taken from `files`, or read by `runner`. No name of the result leads out of a folder that the
    files are written to. With `beside`, relative ones that are not among the files are read from `conf_dir`.
    What the runner cannot read stays as it is: slurmctld says that it is missing.
    """
    result = {local_name(name, conf_dir): content for name, content in files.items()}
    gone = {local_name(name, conf_dir) for name in absent}
    waiting = [name for name in _INCLUDING if name in result]
    seen: set[str] = set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        document = loads(result[current])
        for index, statement in enumerate(document.statements):
            name = statement.include
            if name is None or "*" in name or "%" in name:
                continue
            new = local_name(name, conf_dir)
            if new not in result and new not in gone and (beside or name.startswith("/")):
                path = name if name.startswith("/") else f"{conf_dir}/{name}"
                done = runner.run(["cat", "--", path], timeout=30)
                if done.returncode == 0:
                    result[new] = done.stdout.encode("utf-8", "surrogateescape")
            if new not in result:
                continue
            if new != name:
                document.statements[index] = Statement(statement.raw.replace(name, new, 1))
            name = new
            if name in result:
                waiting.append(name)
        result[current] = dumps(document)
    return result


_INCLUDING = ("slurm.conf", "gres.conf", "topology.conf", "cgroup.conf")
"""Files whose Includes slurmctld follows."""


def local_name(path: str, conf_dir: str) -> str:
    """Return a name within the folder for a file that an Include names from `conf_dir`, wherever that file lies."""
    if not path.startswith("/") and ".." not in path.split("/"):
        return path
    inside = PurePosixPath(posixpath.normpath(posixpath.join(conf_dir, path)))
    if inside.is_relative_to(conf_dir):
        return str(inside.relative_to(conf_dir))
    return f"included/{str(inside).strip('/').replace('/', '_')}"


def _values(documents: Iterable[Document], key: str) -> Iterator[str]:
    for document in documents:
        for statement in document.statements:
            if statement.key.lower() == key:
                yield statement.value


def _controllers(documents: list[Document]) -> Iterator[tuple[str, str]]:
    """Every controller as (host name, address or empty), the primary first."""
    for value in _values(documents, "slurmctldhost"):
        name, _, rest = value.partition("(")
        yield ("sandbox" if name.lower() == "localhost" else name), rest.rstrip(")")
    yield from zip(_values(documents, "controlmachine"), _values(documents, "controladdr"), strict=False)
    yield from ((value, "") for value in _values(documents, "controlmachine"))
    yield from ((value, "") for value in _values(documents, "backupcontroller"))


def _host_names(documents: list[Document]) -> Iterator[str]:
    """Every name that slurmctld will resolve: nodes by their addresses, and the hosts of services."""
    keys = {"nodename", "nodehostname", "nodeaddr", "bcastaddr"}
    for document in documents:
        for statement in document.statements:
            first = statement.key.lower()
            if first == "nodename":
                for pair in statement.pairs:
                    if pair.key.lower() in keys:
                        yield from _expanded(pair.value)
            elif first in ("accountingstoragehost", "accountingstoragebackuphost", "backupaddr"):
                yield statement.value


def _expanded(text: str) -> Iterator[str]:
    try:
        yield from hostlist.expand(text)
    except InvalidInput:
        return  # slurmctld itself says so


def _numeric(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
