"""Rules about nodes: NodeName, NodeSet and DownNodes lines (``_parse_nodename``, ``src/common/node_conf.c``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hpadmin.slurm.hostlist import HostlistError, expand, fold
from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, error, reason, warning
from hpadmin.slurmconf.lint.values import number
from hpadmin.slurmconf.records import Origin, Record
from hpadmin.slurmconf.view import View

BASES = frozenset({"unknown", "down", "idle", "allocated", "error", "mixed", "future"})
PREFIXES = ("cloud", "drain", "fail")
"""Words by whose beginning Slurm knows a state."""


def state_is_known(value: str, subject: Subject) -> bool:
    """Tell whether a node's State is one (``state_str2int``)."""
    lowered = value.lower()
    prefixes = (*PREFIXES, "external") if subject.since("25.05") else PREFIXES
    return lowered in BASES or lowered.startswith(prefixes)


def names(subject: Subject) -> Iterator[Finding]:
    """Names that are no host list, reserved, or given twice; lists of other lengths; DEFAULT lines."""
    view = subject.slurm
    if view is None:
        return
    where: dict[str, Origin] = {}
    count = 0
    for record in view.of("NodeName"):
        if record.name.upper() == "ALL":
            message = "ALL is no name for a node: it stands for every node in a partition's Nodes"
            yield error(record.origin, "reserved-name", message)
            continue
        try:
            listed = record.names
        except HostlistError as problem:
            yield error(
                record.origin, "bad-hostlist", f"NodeName={record.name} is no host list: {reason(problem)}"
            )
            continue
        count += len(listed)
        twice = [name for name in dict.fromkeys(listed) if name in where]
        if twice:
            message = f"{fold(twice)}: defined in {where[twice[0]]} already; keep one definition"
            yield error(record.origin, "duplicate-node", message)
        elif len(set(listed)) < len(listed):
            repeated = [name for name, times in Counter(listed).items() if times > 1]
            yield error(record.origin, "duplicate-node", f"{fold(repeated)}: named twice on this line")
        where.update(dict.fromkeys(listed, record.origin))
        yield from _lengths(record, len(listed))
    most = view.setting("MaxNodeCount")
    allowed = number(view, "MaxNodeCount")
    if most is not None and allowed is not None and allowed < count:
        message = f"MaxNodeCount={allowed} is less than the {count} nodes of this configuration"
        yield error(most.origin, "max-node-count", message)
    yield from _defaults(view)


def _lengths(record: Record, count: int) -> Iterator[Finding]:
    for key in record.rule.per_name:
        attribute = record.attributes.get(key)
        if attribute is None:
            continue
        try:
            values = record.each.get(key, ())
        except HostlistError as problem:
            message = f"{attribute.key}={attribute.value} is no list: {reason(problem)}"
            yield error(record.origin, "bad-hostlist", message)
            return
        if len(values) not in (1, count):
            message = f"{attribute.key} has {len(values)} values for {count} nodes: give one, or one for each"
            yield error(record.origin, "list-lengths", message)


def _defaults(view: View) -> Iterator[Finding]:
    for record in view.default_records.get("nodename", ()):
        for key in ("nodehostname", "nodeaddr", "bcastaddr"):
            if key in record.own:
                message = f"{record.own[key].key} cannot be given to NodeName=DEFAULT: it is each node's own"
                yield error(record.origin, "not-in-default", message)
    yield from defaults_without_effect(view, "nodename", "NodeName")


def defaults_without_effect(view: View, key: str, spelled: str) -> Iterator[Finding]:
    """DEFAULT lines with no line after them: they count for what follows only."""
    used: set[Origin] = set()
    for record in view.of(spelled):
        default = record.defaults
        while default is not None and default.origin not in used:
            used.add(default.origin)
            default = default.defaults
    for record in view.default_records.get(key, ()):
        if record.origin not in used:
            message = f"{spelled}=DEFAULT counts for the lines after it only, and there are none: move it up"
            yield warning(record.origin, "default-without-effect", message)


def addresses(subject: Subject) -> Iterator[Finding]:
    """Two nodes under one address and port, or of one host name; names that cannot be resolved."""
    view = subject.slurm
    if view is None:
        return
    addresses: dict[tuple[str, str], str] = {}
    hosts: dict[str, str] = {}
    for record in view.of("NodeName"):
        if record.get("State").lower().startswith(("cloud", "future")):
            continue
        try:
            nodes = [view.nodes[name] for name in record.names if name in view.nodes]
            facts = [
                (node.name, node.get("NodeAddr"), node.get("Port"), node.get("NodeHostname"))
                for node in nodes
            ]
        except HostlistError:
            continue
        shared = [
            (name, addresses[a, p]) for name, a, p, _ in facts if addresses.setdefault((a, p), name) != name
        ]
        if shared:
            (name, other), *_ = shared
            message = f"{name} has the address and port of {other}: one of them is wrong"
            yield warning(record.origin, "duplicate-address", message)
        same = [(name, hosts[h]) for name, _, _, h in facts if hosts.setdefault(h, name) != name]
        if same:
            (name, other), *_ = same
            message = (
                f"{name} has the NodeHostname of {other}: slurmd finds itself by it, so only one can start"
            )
            yield warning(record.origin, "duplicate-hostname", message)
        if subject.host is not None:
            lost = [name for name, address, _, _ in facts if not subject.host.resolves(address)]
            if lost:
                message = (
                    f"{fold(lost)}: no address can be found; slurmctld waits ten seconds for each and then "
                    "takes the node for a FUTURE one: set NodeAddr"
                )
                yield error(record.origin, "unresolvable-node", message)


def hardware(subject: Subject) -> Iterator[Finding]:
    """Counts that do not fit together: Slurm corrects them, and the node may register with others."""
    view = subject.slurm
    if view is None:
        return
    bare: list[Record] = []
    memory = "memory" in view.value("SelectTypeParameters", "CR_Core_Memory").lower()
    for record in view.of("NodeName"):
        state = record.get("State")
        if state and not state_is_known(state, subject):
            message = f"State={state} is none: UNKNOWN, DOWN, DRAIN, FAIL, CLOUD or FUTURE"
            yield error(record.origin, "bad-value", message)
        yield from _counts(record)
        if memory and "realmemory" not in record.attributes and state.lower() != "future":
            bare.append(record)
    if bare:
        nodes = fold(name for record in bare for name in _readable(record))
        message = f"{nodes}: without RealMemory (MB) they have 1 MB, and jobs that ask for memory never start"
        yield warning(bare[0].origin, "no-memory", message)


def _readable(record: Record) -> tuple[str, ...]:
    try:
        return record.names
    except HostlistError:
        return ()


def _counts(record: Record) -> Iterator[Finding]:
    """The order and the arithmetic are those of ``_parse_nodename``."""
    given = {key: record.get(key) for key in _COUNTS if key in record.attributes}
    if not all(value.isdecimal() for value in given.values()):
        return
    count = {key: int(value) for key, value in given.items()}
    for key in ("cpus", "boards", "sockets", "socketsperboard", "corespersocket", "threadspercore"):
        if count.get(key) == 0:
            message = f"{record.attributes[key].key}=0 is taken for 1"
            yield warning(record.origin, "zero-value", message)
            count[key] = 1
    boards, cores, threads = (count.get(key, 1) for key in ("boards", "corespersocket", "threadspercore"))
    sockets = count.get("sockets")
    if "socketsperboard" in count:
        if sockets is not None:
            message = "SocketsPerBoard and Sockets exclude each other; SocketsPerBoard counts: keep one"
            yield warning(record.origin, "sockets-twice", message)
        sockets = boards * count["socketsperboard"]
    elif sockets is None:
        per = cores * threads
        cpus = count.get("cpus", 0)
        sockets = cpus // per if cpus and cpus % per == 0 else boards
    cpus = count.get("cpus", sockets * cores * threads)
    if sockets < boards:
        message = f"Boards={boards} is more than its {sockets} sockets; taken for 1"
        yield warning(record.origin, "boards-exceed-sockets", message)
    if cpus not in (sockets, sockets * cores, sockets * cores * threads):
        right = sockets * cores * threads
        message = (
            f"CPUs={cpus} is neither sockets, cores nor threads of the node; taken for {right}: write that"
        )
        yield warning(record.origin, "cpus-do-not-match", message)
        cpus = right
    if count.get("corespeccount", 0) >= sockets * cores:
        message = f"CoreSpecCount keeps back all {sockets * cores} cores; taken for 1"
        yield warning(record.origin, "corespec-exceeds", message)
    if "memspeclimit" in count and count["memspeclimit"] >= count.get("realmemory", 1):
        message = "MemSpecLimit keeps back all memory (RealMemory); taken for 0"
        yield warning(record.origin, "memspeclimit-exceeds", message)
    cpu_list = record.get("CPUSpecList")
    if cpu_list and not _fits(cpu_list, cpus):
        message = f"CPUSpecList={cpu_list} does not fit the node's {cpus} CPUs and is ignored"
        yield warning(record.origin, "cpuspeclist-exceeds", message)


_COUNTS = (
    "cpus", "boards", "sockets", "socketsperboard", "corespersocket", "threadspercore", "realmemory",
    "corespeccount", "memspeclimit",
)  # fmt: skip


def _fits(text: str, size: int) -> bool:
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) >= size:
            return False
    return True


def sets(subject: Subject) -> Iterator[Finding]:
    """NodeSets: named like a node, of nothing, of unknown nodes."""
    view = subject.slurm
    if view is None:
        return
    whole = subject.references is not None
    for record in view.of("NodeSet"):
        if record.name in view.nodes:
            message = f"{record.name} is a node: give the NodeSet another name"
            yield error(record.origin, "nodeset-is-node", message)
        if not whole:
            continue
        try:
            selected = view.select(record.name) if record.name not in view.nodes else None
        except HostlistError as problem:
            yield error(record.origin, "bad-hostlist", f"Nodes={record.get('Nodes')}: {reason(problem)}")
            continue
        if selected is None:
            continue
        if selected.unknown:
            message = f"{fold(selected.unknown)}: no such node; partitions with this NodeSet stop slurmctld"
            yield error(record.origin, "unknown-node", message)
        elif not selected.names:
            message = (
                f"no node is in it: {record.get('Feature') or record.get('Nodes') or 'nothing'} matches none"
            )
            yield warning(record.origin, "empty-nodeset", f"NodeSet={record.name}: {message}")


def mentions(subject: Subject) -> Iterator[Finding]:
    """Nodes that DownNodes and power saving name, and their states."""
    view = subject.slurm
    if view is None:
        return
    for record in view.of("DownNodes"):
        state = record.get("State")
        if state and not state_is_known(state, subject):
            yield warning(record.origin, "bad-value", f"State={state} is none, so the line is ignored")
        yield from _unknown(subject, view, record.name, record.origin, "DownNodes")
    setting = view.setting("SuspendExcNodes")
    if setting is not None:
        # Elements may carry a count: n[1-10]:4 keeps four of them up.
        text = ",".join(part.partition(":")[0] for part in setting.value.split(","))
        yield from _unknown(subject, view, text, setting.origin, setting.key)


def _unknown(subject: Subject, view: View, text: str, origin: Origin, key: str) -> Iterator[Finding]:
    try:
        listed = expand(text)
    except HostlistError as problem:
        yield warning(origin, "bad-hostlist", f"{key}={text} is no host list: {reason(problem)}")
        return
    unknown = [name for name in listed if name not in view.nodes and name not in view.node_sets]
    if unknown and subject.references is not None:
        yield warning(origin, "unknown-node", f"{key}: there is no node {fold(unknown)}; it is ignored")


RULES: tuple[Rule, ...] = (names, addresses, hardware, sets, mentions)
