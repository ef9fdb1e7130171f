"""The configurations of real sites, made to start in a sandbox, and what slurmctld then says they are."""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hpadmin.slurm import hostlist
from hpadmin.slurmconf import dumps, edit, loads
from hpadmin.slurmconf.hardware import hardware
from hpadmin.slurmconf.values import seconds
from hpadmin.slurmconf.view import View, view
from tests.support.box import Box

CORPUS = Path(__file__).parents[2] / "data" / "corpus"
_FOLDER = "/tmp/corpus"

FORCED = {
    "AuthType": "auth/none",
    "CredType": "cred/none",
    "SlurmUser": "root",
    "StateSaveLocation": f"{_FOLDER}/state",
    "SlurmctldPidFile": f"{_FOLDER}/slurmctld.pid",
    "SlurmctldParameters": "cloud_dns",
    "SelectType": "select/cons_tres",
    "MailProg": "/bin/true",
}
"""Settings that every configuration gets, whatever it says: a slurmctld alone on one host."""

DROPPED = (
    *("ControlMachine", "ControlAddr", "BackupController", "BackupAddr", "SlurmctldHost"),
    *(
        "AccountingStorageType",
        "AccountingStorageHost",
        "AccountingStorageBackupHost",
        "AccountingStorageLoc",
    ),
    *("AccountingStoragePass", "AccountingStoragePort", "AccountingStorageUser", "AccountingStorageEnforce"),
    *("AccountingStorageTRES", "PriorityWeightTRES", "FastSchedule", "AccountingStoreJobComment"),
    *("AccountingStoragePassword", "AcctGatherNodeFreq", "AcctGatherEnergyType"),
    *(
        "AcctGatherFilesystemType",
        "AcctGatherInfinibandType",
        "AcctGatherInterconnectType",
        "AcctGatherProfileType",
    ),
    *(
        "JobCompType",
        "JobCompLoc",
        "JobCompHost",
        "JobCompPass",
        "JobCompUser",
        "JobCompPort",
        "JobCompParams",
    ),
    *("PluginDir", "PlugStackConfig", "JobSubmitPlugins", "CliFilterPlugins", "NodeFeaturesPlugins"),
    *("AuthInfo", "AuthAltTypes", "AuthAltParameters", "CryptoType", "JobContainerType", "BurstBufferType"),
    *("SlurmctldLogFile", "SlurmdLogFile", "SlurmSchedLogFile", "SlurmdPidFile", "SlurmdUser", "FirstJobId"),
    *("Prolog", "Epilog", "PrologSlurmctld", "EpilogSlurmctld", "HealthCheckProgram", "ResumeProgram"),
    *("SuspendProgram", "ResumeFailProgram", "SlurmctldPrimaryOnProg", "SlurmctldPrimaryOffProg"),
    *(
        "TopologyPlugin",
        "TopologyParam",
        "RoutePlugin",
        "SwitchType",
        "SwitchParameters",
        "MpiDefault",
        "MpiParams",
    ),
    *("ProctrackType", "TaskPlugin", "TaskPluginParam", "JobAcctGatherType", "PriorityType", "PreemptType"),
    *(
        "PreemptMode",
        "CommunicationParameters",
        "SlurmSchedLogLevel",
        "PrEpPlugins",
        "MCSPlugin",
        "MCSParameters",
        "SelectTypeParameters",
        "LaunchType",
        "FederationParameters",
    ),
)
"""Settings that are taken out: they ask for other hosts, databases, programs, plugins or files of the site.

FastSchedule and AccountingStoreJobComment are gone because 24.11 knows them only to refuse them."""


@dataclass(frozen=True)
class Adapted:
    """A configuration that the sandbox can start, and what was done to it besides FORCED and DROPPED."""

    name: str
    files: dict[str, bytes]
    notes: tuple[str, ...]

    @property
    def view(self) -> View:
        return view("slurm.conf", self.files.get)


def corpus(kind: str = "slurm") -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file of one kind, in order."""
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
        names = [row["file"] for row in csv.DictReader(index, delimiter="\t") if row["kind"] == kind]
    for name in sorted(names):
        yield name, (CORPUS / kind / name).read_bytes()


def adapt(name: str, content: bytes, host: str) -> Adapted:
    """Take out of a configuration what a slurmctld alone on `host` cannot have. Nodes and partitions stay."""
    document = loads(content)
    notes = []
    unknown = {key.lower() for key in DROPPED}
    for setting in (*FORCED, "SlurmctldPort"):
        edit.remove_setting(document, setting)
    edit.keep(document, lambda statement: statement.key.lower() not in unknown)
    if not edit.find(document, "ClusterName"):
        edit.set_setting(document, "ClusterName", "corpus")
        notes.append("ClusterName added")
    includes = [statement.include for statement in document.statements if statement.include is not None]
    if includes:
        edit.keep(document, lambda statement: statement.include is None)
        notes.append(f"{len(includes)} Include of files that are not published removed")
    for place in edit.find(document, "PartitionName"):
        if any(pair.key.lower() == "tresbillingweights" for pair in document.statements[place].attributes):
            edit.set_attribute(document, place, "TRESBillingWeights", None)
            notes.append(f"TRESBillingWeights of partition {document.statements[place].value} removed")
    first = edit.find(document, "ClusterName")[0]
    for key, value in [("SlurmctldHost", host), ("SlurmctldPort", _port(name)), *FORCED.items()]:
        first = edit.add_line(document, [(key, value)], after=first)
    return Adapted(
        name, {"slurm.conf": dumps(document), "cgroup.conf": b"CgroupPlugin=disabled\n"}, tuple(notes)
    )


def _port(name: str) -> str:
    """Return a port of its own for each, as one is not free at once after the one before."""
    return str(20_000 + zlib.crc32(name.encode()) % 20_000)


@dataclass(frozen=True)
class Told:
    """What slurmctld says: fields of nodes and of partitions by name; or why it did not start."""

    nodes: dict[str, dict[str, str]]
    partitions: dict[str, dict[str, str]]
    refused: str = ""


_FIELD = re.compile(r"(?:^| )([A-Za-z/]+)=")


def _fields(line: str) -> dict[str, str]:
    found: dict[str, str] = {}
    matches = list(_FIELD.finditer(line))
    for number, match in enumerate(matches):
        end = matches[number + 1].start() if number + 1 < len(matches) else len(line)
        found.setdefault(match[1], line[match.end() : end].strip())
    return found


_START = f"""
cd {_FOLDER}
slurmctld -D -i -f $SLURM_CONF >log 2>&1 &
pid=$!
until timeout 100 scontrol -a -o -F show nodes >nodes 2>/dev/null; do
  kill -0 $pid 2>/dev/null || {{ echo dead; cat log; exit; }}
  [ $SECONDS -lt 120 ] || {{ echo silent; kill -9 $pid; exit; }}
done
scontrol -a -o show partitions >partitions
echo up; cat nodes; printf '\\f'; cat partitions
kill -9 $pid; wait $pid 2>/dev/null; true
"""
"""Prints ``up``, the nodes and the partitions, ``dead`` and the log, or ``silent``."""


def ask(running: Box, adapted: Adapted) -> Told:
    """Start slurmctld on a configuration in its own folder and return what scontrol shows."""
    running.run(["rm", "-rf", _FOLDER], timeout=240).check()
    running.run(["mkdir", "-p", f"{_FOLDER}/state", "/var/spool/slurmd"], timeout=240).check()
    for name, content in adapted.files.items():
        running.put(f"{_FOLDER}/{name}", content)
    env = {"SLURM_CONF": f"{_FOLDER}/slurm.conf"}
    refused = parse(running, env)
    if refused:
        return Told({}, {}, _reason(refused))
    running.put("/tmp/corpus-hosts", _hosts(adapted.view))
    # The container's engine writes /etc/hosts, so it can be overwritten but not replaced.
    running.run(
        ["sh", "-c", "cp -n /etc/hosts /tmp/hosts.own; cat /tmp/hosts.own /tmp/corpus-hosts > /etc/hosts"],
        timeout=240,
    ).check()
    running.run(
        [
            "sh",
            "-c",
            "echo 'hosts: files' > /etc/nsswitch.hosts; sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf",
        ],
        timeout=240,
    ).check()
    told = running.run(["bash", "-c", _START], timeout=300, env=env).check().stdout
    verdict, _, rest = told.partition("\n")
    if verdict == "silent":
        return Told({}, {}, "slurmctld starts, but answers nothing within two minutes")
    if verdict != "up":
        return Told({}, {}, _reason(rest))
    shown, _, parts = rest.partition("\f")
    nodes = {fields["NodeName"]: fields for fields in map(_fields, shown.split("\n")) if "NodeName" in fields}
    partitions = {
        fields["PartitionName"]: fields
        for fields in map(_fields, parts.split("\n"))
        if "PartitionName" in fields
    }
    return Told(nodes, partitions)


def parse(running: Box, env: dict[str, str]) -> str:
    """Let Slurm's own parser read the configuration; return what it complains of."""
    checked = running.run(["scontrol", "show", "hostnames", "x"], timeout=120, env=env)
    return checked.stderr if checked.returncode else ""


def without_unknown_keys(running: Box, adapted: Adapted) -> Adapted:
    """Return the configuration without the settings that this release of Slurm does not know."""
    running.run(["mkdir", "-p", _FOLDER], timeout=240).check()
    gone: list[str] = []
    while True:
        running.put(f"{_FOLDER}/slurm.conf", adapted.files["slurm.conf"])
        unknown = _UNKNOWN.findall(parse(running, {"SLURM_CONF": f"{_FOLDER}/slurm.conf"}))
        document = loads(adapted.files["slurm.conf"])
        removed = [key for key in dict.fromkeys(unknown) if edit.remove_setting(document, key)]
        if not removed:
            break
        gone.extend(removed)
        adapted = replace(adapted, files={**adapted.files, "slurm.conf": dumps(document)})
    notes = (*adapted.notes, f"not in 24.11: {', '.join(gone)}") if gone else adapted.notes
    return replace(adapted, notes=notes)


_UNKNOWN = re.compile(r"_parse_next_key: Parsing error at unrecognized key: (\S+)")


def _reason(log: str) -> str:
    lines = log.splitlines()
    fatal = [
        line for line in lines if "fatal: " in line and "Unable to process configuration file" not in line
    ]
    errors = [line for line in lines if "error: " in line]
    chosen = fatal[0] if fatal else errors[0] if errors else log[-300:]
    return re.sub(r"^\S+ (?:error: |fatal: )?", "", chosen).strip()[:200]


def _hosts(seen: View) -> str:
    names: dict[str, None] = {}
    for name, node in seen.nodes.items():
        names.update(dict.fromkeys((name, node.get("NodeHostname"), node.get("NodeAddr"))))
    for record in seen.of("FrontendName"):
        names.update(dict.fromkeys(record.names))
    return "".join(
        f"127.0.0.1 {name}\n"
        for name in names
        if re.fullmatch(r"[A-Za-z0-9_.-]*[A-Za-z_-][A-Za-z0-9_.-]*", name)
    )


def differences(adapted: Adapted, told: Told) -> list[str]:
    """Return what slurmctld says otherwise than our view, one line each."""
    seen = adapted.view
    found = []
    if list(told.nodes) and set(told.nodes) != set(seen.nodes):
        found.append(f"nodes: {sorted(set(told.nodes) ^ set(seen.nodes))[:5]}")
    for name, fields in told.nodes.items():
        if name in seen.nodes:
            for key, value in expected_node(seen, name).items():
                if _normal(key, fields.get(key, "")) != _normal(key, value):
                    found.append(f"node {name}: {key}: we read {value!r}, slurmctld says {fields.get(key)!r}")
    if set(told.partitions) != set(seen.partitions):
        found.append(f"partitions: {sorted(set(told.partitions) ^ set(seen.partitions))}")
    for name, fields in told.partitions.items():
        if name in seen.partitions:
            for key, value in expected_partition(seen, name).items():
                if _normal(key, fields.get(key, "")) != _normal(key, value):
                    found.append(
                        f"partition {name}: {key}: we read {value!r}, slurmctld says {fields.get(key)!r}"
                    )
    return found


def _normal(key: str, value: str) -> object:
    if key == "Nodes":
        return frozenset(hostlist.expand("" if value == "(null)" else value))
    if key in ("AvailableFeatures", "Gres"):
        return frozenset(value.split(","))
    return value


def expected_node(seen: View, name: str) -> dict[str, str]:
    """Return the fields that slurmctld should show for a node that never registered."""
    node = seen.nodes[name]
    found = hardware(node)
    return {
        "CPUTot": str(found.cpus),
        "Boards": str(found.boards),
        "Sockets": str(found.sockets),
        "CoresPerSocket": str(found.cores_per_socket),
        "ThreadsPerCore": str(found.threads_per_core),
        "RealMemory": str(found.memory),
        "TmpDisk": str(found.tmp_disk),
        "Weight": str(found.weight),
        "AvailableFeatures": node.get("Feature") or "(null)",
        "NodeAddr": node.get("NodeAddr"),
        "NodeHostName": node.get("NodeHostname"),
    }


def _yes(value: str) -> str:
    return "YES" if value.lower() in ("yes", "up", "true", "1") else "NO"


def _minutes(value: str, default: str) -> str:
    if not value:
        return default
    found = seconds(value)
    if found is None or found == float("inf"):
        return "UNLIMITED"
    minutes = -(-int(found) // 60)
    days, rest = divmod(minutes, 24 * 60)
    clock = f"{rest // 60:02d}:{rest % 60:02d}:00"
    return f"{days}-{clock}" if days else clock


def _default_time(value: str, longest: str) -> str:
    default, limit = seconds(value), seconds(longest) if longest else None
    if default is not None and default > (float("inf") if limit is None else limit):
        return "NONE"  # with "DefaultTime exceeds MaxTime" in the log
    return _minutes(value, "NONE")


def _endless(value: str) -> str:
    return "UNLIMITED" if not value or value.lower() in ("infinite", "unlimited") else value


def _share(value: str) -> str:
    upper = (value or "NO").upper()
    head, _, count = upper.partition(":")
    if head in ("NO", "EXCLUSIVE"):
        return head
    return f"{head}:{count or 4}" if head == "FORCE" or int(count or 4) > 1 else "NO"


def expected_partition(seen: View, name: str) -> dict[str, str]:
    """Return the fields that slurmctld should show for a partition."""
    part = seen.partitions[name]
    nodes = seen.partition_nodes(name).names
    defaults = [each.name for each in seen.partitions.values() if _yes(each.get("Default")) == "YES"]
    priority = part.get("Priority")
    accounts, qos = part.get("AllowAccounts").lower(), part.get("AllowQos").lower()
    found = {
        "Nodes": hostlist.fold(sorted(nodes)),
        "TotalNodes": str(len(nodes)),
        "TotalCPUs": str(sum(hardware(seen.nodes[node]).cpus for node in nodes)),
        "Default": "YES" if defaults and defaults[-1] == name else "NO",
        "MaxTime": _minutes(part.get("MaxTime"), "UNLIMITED"),
        "DefaultTime": _default_time(part.get("DefaultTime"), part.get("MaxTime")),
        "MaxNodes": _endless(part.get("MaxNodes")),
        "MinNodes": part.get("MinNodes", "0"),
        "Hidden": _yes(part.get("Hidden")),
        "RootOnly": _yes(part.get("RootOnly")),
        "ReqResv": _yes(part.get("ReqResv")),
        "LLN": _yes(part.get("LLN")),
        "ExclusiveUser": _yes(part.get("ExclusiveUser")),
        "GraceTime": part.get("GraceTime", "0"),
        "PriorityTier": priority or part.get("PriorityTier", "1"),
        "PriorityJobFactor": priority or part.get("PriorityJobFactor", "1"),
        "OverSubscribe": _share(part.get("OverSubscribe")),
        "MaxCPUsPerNode": _endless(part.get("MaxCPUsPerNode")),
        "State": part.get("State", "UP").upper(),
        "AllowGroups": _all(part.get("AllowGroups")),
        "AllocNodes": part.get("AllocNodes") or "ALL",
        "QoS": part.get("QOS") or "N/A",
    }
    if accounts not in ("", "all") or not part.get("DenyAccounts"):
        found["AllowAccounts"] = "ALL" if accounts in ("", "all") else accounts
    else:
        found["DenyAccounts"] = part.get("DenyAccounts").lower()
    if qos not in ("", "all") or not part.get("DenyQos"):
        found["AllowQos"] = "ALL" if qos in ("", "all") else qos
    else:
        found["DenyQos"] = part.get("DenyQos").lower()
    for key in ("DefMemPerCPU", "DefMemPerNode"):
        if part.get(key) and not (key == "DefMemPerCPU" and part.get("DefMemPerNode")):
            found[key] = part.get(key)
    return found


def _all(value: str) -> str:
    return "ALL" if value.lower() in ("", "all") else value
