"""What the keys of Slurm's files mean to a reader: which accumulate, which open a record, how values compare.

Taken from the option tables of Slurm 24.11: ``src/common/read_config.c`` (slurm.conf), ``src/interfaces/gres.c``,
``src/plugins/topology/{tree,block}``, ``src/interfaces/cgroup.c``, ``src/slurmdbd/read_config.c``; and from
slurm.conf(5). Keys are written in lower case here, as Slurm compares them without case. A key that is not
listed is a scalar whose value is text.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import PurePosixPath


class FileKind(StrEnum):
    """The files that are understood. An included file has the kind of the file that includes it."""

    SLURM = "slurm.conf"
    GRES = "gres.conf"
    TOPOLOGY = "topology.conf"
    CGROUP = "cgroup.conf"
    SLURMDBD = "slurmdbd.conf"
    PLUGSTACK = "plugstack.conf"


class ValueKind(Enum):
    """When two values mean the same."""

    TEXT = "exactly the same characters"
    WORD = "the same without case"
    BOOLEAN = "yes, up, true and 1 are one; no, down, false and 0 the other"
    NUMBER = "the same number; INFINITE and UNLIMITED are one"
    TIME = "the same time in any of Slurm's formats"
    HOSTS = "the same names in the same order"
    HOST_SET = "the same names in any order"
    SET = "the same elements in any order"
    LIST = "the same elements in the same order"
    FLAGS = "the same elements in any order, without case"
    CHOICE = "the same elements in any order, without case, but chosen together: not to be mixed with others"
    LEVEL = "the same level of a log, by name without case or by number"
    SEQUENCE = "the same elements in the same order, chosen together"


@dataclass(frozen=True, slots=True)
class RecordRule:
    """A key that opens a record: further ``Key=value`` may follow on its line."""

    key: str
    """As Slurm's manual writes it."""
    defaults: bool = False
    """Whether a record named DEFAULT gives values to those after it."""
    not_inherited: frozenset[str] = frozenset()
    """Attributes that Slurm does not take from DEFAULT."""
    per_name: frozenset[str] = frozenset()
    """Attributes that are host lists with one name for all or one for each name of the record."""
    aliases: tuple[tuple[str, str], ...] = ()
    """Pairs (name, other name) of one attribute; the first wins."""
    ordered: bool = False
    """Whether the order of these records has a meaning of its own."""


_NODE = RecordRule(
    "NodeName",
    defaults=True,
    per_name=frozenset({"nodeaddr", "nodehostname", "port", "bcastaddr"}),
    aliases=(("feature", "features"), ("cpus", "procs")),
)
_PARTITION = RecordRule(
    "PartitionName",
    defaults=True,
    not_inherited=frozenset(
        {
            "disablerootjobs",
            "exclusiveuser",
            "exclusivetopo",
            "powerdownonidle",
            "selecttypeparameters",
            "suspendtime",
        }
    ),
    aliases=(("oversubscribe", "shared"),),
)

RECORDS: dict[FileKind, dict[str, RecordRule]] = {
    FileKind.SLURM: {
        "nodename": _NODE,
        "partitionname": _PARTITION,
        "downnodes": RecordRule("DownNodes"),
        "nodeset": RecordRule("NodeSet"),
        "frontendname": RecordRule("FrontendName", defaults=True),
        "slurmctldhost": RecordRule("SlurmctldHost", ordered=True),
    },
    FileKind.GRES: {
        "nodename": RecordRule("NodeName", aliases=(("file", "files"), ("cores", "cpus"), ("link", "links"))),
        "name": RecordRule("Name", aliases=(("file", "files"), ("cores", "cpus"), ("link", "links"))),
    },
    FileKind.TOPOLOGY: {
        "switchname": RecordRule("SwitchName"),
        "blockname": RecordRule("BlockName", ordered=True),
    },
    FileKind.CGROUP: {},
    FileKind.SLURMDBD: {},
    FileKind.PLUGSTACK: {},
}
"""The keys that open a record, by the kind of file."""

ACCUMULATING: dict[FileKind, frozenset[str]] = {
    FileKind.SLURM: frozenset({"prolog", "epilog", "prologslurmctld", "epilogslurmctld"}),
}
"""Keys without attributes that may come several times and all count, in their order (``S_P_ARRAY``)."""

_BOOLEANS = """
accountingstorejobcomment allowspecresourcesusage disablerootjobs priorityfavorsmall trackwckey usepam
default exclusiveuser exclusivetopo hidden lln powerdownonidle rootonly reqresv
cgroupautomount constraincores constrainramspace constrainswapspace memorylimitenforcement constraindevices
ignoresystemd ignoresystemdonfailure enablecontrollers signalchildrenprocesses
allownodefacct allresourcesabsolute archiveevents archivejobs archiveresvs archivesteps archivesuspend archivetxn
archiveusage disablecoorddbd trackslurmctlddown
"""
_NUMBERS = """
accountingstorageport acctgathernodefreq batchstarttimeout completewait defcpupergpu defmempercpu defmempergpu
defmempernode eiotimeout epilogmsgtime fairsharedampeningfactor firstjobid getenvtimeout groupupdateforce
groupupdatetime healthcheckinterval inactivelimit jobcompport jobfileappend jobrequeue keepalivetime killonbadexit
killwait maxarraysize maxbatchrequeue maxdbdmsgs maxjobcount maxjobid maxmempercpu maxmempernode maxnodecount
maxstepcount maxtaskspernode messagetimeout minjobage overtimelimit priorityweightage priorityweightassoc
priorityweightfairshare priorityweightjobsize priorityweightpartition priorityweightqos prologepilogtimeout
propagateprioprocess resumerate resumetimeout resvoverrun returntoservice schedulertimeslice slurmctldtimeout
slurmdport slurmdtimeout slurmschedloglevel suspendrate suspendtimeout suspendtime tcptimeout treewidth
unkillablesteptimeout vsizefactor waittime
boards corespeccount corespersocket cpus memspeclimit procs realmemory restrictedcorespergpu sockets
socketsperboard threadspercore tmpdisk weight
gracetime maxcpuspernode maxcpuspersocket maxnodes minnodes priority priorityjobfactor prioritytier
linkspeed allowedramspace maxrampercent minramspace allowedswapspace maxswappercent memorylimitthreshold
memoryswappiness systemdtimeout commitdelay dbdport storageport jobpurge steppurge
"""
_TIMES = "maxtime defaulttime preemptexempttime prioritydecayhalflife prioritymaxage"
_WORDS = "state oversubscribe shared enforcepartlimits preempttype propagateresourcelimits schedulertype selecttype"
_HOST_SETS = "nodes switches suspendexcnodes allocnodes"
_SETS = """
accountingstoragetres authaltparameters authalttypes authinfo
bcastexclude bcastparameters burstbufferparameters communicationparameters dataparserparameters
dependencyparameters federationparameters grestypes jobacctgatherfrequency jobacctgatherparams
jobcompparams launchparameters licenses mcsparameters mpiparams preemptparameters prepparameters
priorityparameters prioritysitefactorparameters priorityweighttres
requeueexit requeueexithold sbcastparameters schedulerparameters scronparameters
slurmctldparameters slurmdparameters suspendexcparts suspendexcstates switchparameters tlsparameters
topologyparam x11parameters certmgrparameters accountingstorageparameters cpufreqgovernors
feature features gres tresweights flags
allowaccounts allowgroups allowqos denyaccounts denyqos tresbillingweights
parameters storageparameters
"""
# Read with xstrcasecmp or xstrcasestr (src/common/read_config.c); of other lists each plugin reads its own elements.
_FLAGS = """
accountingstorageenforce accountingstoreflags debugflags priorityflags privatedata prologflags reconfigflags
taskpluginparam
"""
_LEVELS = "slurmctlddebug slurmddebug slurmctldsyslogdebug slurmdsyslogdebug debuglevel debuglevelsyslog"
_LISTS = "jobsubmitplugins clifilterplugins nodefeaturesplugins prepplugins"
_CHOICES = "selecttypeparameters preemptmode healthchecknodestate"
_SEQUENCES = "taskplugin blocksizes"


def _kinds() -> dict[str, ValueKind]:
    kinds: dict[str, ValueKind] = {}
    for names, kind in (
        (_BOOLEANS, ValueKind.BOOLEAN),
        (_NUMBERS, ValueKind.NUMBER),
        (_TIMES, ValueKind.TIME),
        (_WORDS, ValueKind.WORD),
        (_HOST_SETS, ValueKind.HOST_SET),
        (_SETS, ValueKind.SET),
        (_FLAGS, ValueKind.FLAGS),
        (_LEVELS, ValueKind.LEVEL),
        (_LISTS, ValueKind.LIST),
        (_CHOICES, ValueKind.CHOICE),
        (_SEQUENCES, ValueKind.SEQUENCE),
    ):
        kinds.update(dict.fromkeys(names.split(), kind))
    return kinds


_VALUE_KINDS = _kinds()
_EXCEPTIONS: dict[FileKind, dict[str, ValueKind]] = {
    # In gres.conf these are lists of devices and of cores, whose order is that of the devices.
    FileKind.GRES: {"cpus": ValueKind.TEXT, "file": ValueKind.HOSTS, "files": ValueKind.HOSTS},
    # slurmdbd.conf's are times to keep records, such as 12months.
    FileKind.SLURMDBD: {"parameters": ValueKind.SET},
}


def value_kind(kind: FileKind, key: str) -> ValueKind:
    """Return how values of a key compare; `key` may be written in any case."""
    lowered = key.lower()
    found = _EXCEPTIONS.get(kind, {}).get(lowered)
    return found if found is not None else _VALUE_KINDS.get(lowered, ValueKind.TEXT)


def file_kind(name: str) -> FileKind:
    """Return the kind of a top-level file by its name; slurm.conf for any name that is not known."""
    try:
        return FileKind(PurePosixPath(name).name)
    except ValueError:
        return FileKind.SLURM
