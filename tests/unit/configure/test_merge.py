"""The three strategies on one cluster that both sides changed."""

from __future__ import annotations

import pytest

from hpadmin.configure.merge import Outcome, combine
from hpadmin.configure.ownership import Owner
from hpadmin.configure.three_way import Clash, merge_value
from hpadmin.model import Strategy
from hpadmin.slurmconf.document import Statement
from hpadmin.slurmconf.grammar import ValueKind

LAST = {
    "slurm.conf": """\
ClusterName=lab
SchedulerParameters=permit_job_expansion
SlurmdTimeout=300
NodeName=n[1-4] NodeAddr=10.0.0.[1-4] CPUs=8 RealMemory=100 State=UNKNOWN
PartitionName=dev Nodes=ALL Default=YES
PartitionName=gpu Nodes=n[1-2]
""",
    "gres.conf": "NodeName=n[1-4] Name=gpu Type=h100 File=/dev/nvidia[0-7]\n",
    "plugstack.conf": "required pyxis.so\n",
}
WANTED = {
    "slurm.conf": """\
ClusterName=lab
SchedulerParameters=permit_job_expansion,bf_interval=60
SlurmdTimeout=400
ResumeTimeout=300
Include accounting.conf
NodeName=n[1-3] NodeAddr=10.0.0.[1-3] CPUs=8 RealMemory=200 State=UNKNOWN
NodeName=n[5-6] NodeAddr=10.0.0.[5-6] CPUs=16 RealMemory=200 State=UNKNOWN
PartitionName=dev Nodes=ALL Default=YES
PartitionName=gpu Nodes=n[1-2,5]
PartitionName=new Nodes=n6 MaxTime=10
""",
    "accounting.conf": "# Accounting\nAccountingStorageType=accounting_storage/slurmdbd\n",
    "gres.conf": "NodeName=n[1-3,5-6] Name=gpu Type=h100 File=/dev/nvidia[0-7]\n",
    "plugstack.conf": "required pyxis.so\noptional auto_resume.so\n",
}
DISK = {
    "slurm.conf": """\
# Our cluster.
ClusterName = lab   # short
SchedulerParameters=permit_job_expansion,defer
SlurmdTimeout=999  # slow disks
Include site.conf

NodeName=n1 NodeAddr=10.0.0.1 CPUs=8 RealMemory=100 State=UNKNOWN Weight=7  # special
NodeName=n[2-4] NodeAddr=10.0.0.[2-4] CPUs=8 RealMemory=100 State=UNKNOWN

# Partitions.
PartitionName=dev Nodes=ALL Default=YES MaxTime=1-0
PartitionName=gpu Nodes=n[1-3]
PartitionName=site Nodes=n1
Prolog=/opt/tool/prolog""",
    "site.conf": "Epilog=/opt/site/epilog\n",
    "gres.conf": "NodeName=n[1-4] Name=gpu Type=h100 File=/dev/nvidia[0-7] # ours\nName=shard Count=8\n",
    "plugstack.conf": "# plugins\nrequired pyxis.so # containers\noptional site.so\n",
    "notes.txt": "keep me",
}
MERGED = """\
# Our cluster.
ClusterName = lab   # short
SchedulerParameters=permit_job_expansion,defer,bf_interval=60
SlurmdTimeout=999  # slow disks
ResumeTimeout=300
Include site.conf
Include accounting.conf

NodeName=n1 NodeAddr=10.0.0.1 CPUs=8 RealMemory=200 State=UNKNOWN Weight=7  # special
NodeName=n[2-3] NodeAddr=10.0.0.[2-3] CPUs=8 RealMemory=200 State=UNKNOWN
NodeName=n[5-6] NodeAddr=10.0.0.[5-6] CPUs=16 RealMemory=200 State=UNKNOWN

# Partitions.
PartitionName=dev Nodes=ALL Default=YES MaxTime=1-0
PartitionName=gpu Nodes=n[1-3,5]
PartitionName=site Nodes=n1
PartitionName=new Nodes=n6 MaxTime=10
Prolog=/opt/tool/prolog"""


def apply(strategy: Strategy, last: dict[str, str] | None = LAST, disk: dict[str, str] = DISK) -> Outcome:
    return combine(strategy, last=last, disk=disk, wanted=WANTED)


def test_merge_lands_the_request_among_the_sites_own() -> None:
    outcome = apply(Strategy.MERGE)
    assert outcome.files["slurm.conf"].decode() == MERGED
    assert outcome.files["site.conf"].decode() == DISK["site.conf"]
    assert outcome.files["accounting.conf"].decode() == WANTED["accounting.conf"]
    assert outcome.files["gres.conf"].decode() == (
        "NodeName=n[1-3] Name=gpu Type=h100 File=/dev/nvidia[0-7] # ours\n"
        "NodeName=n[5-6] Name=gpu Type=h100 File=/dev/nvidia[0-7]\nName=shard Count=8\n"
    )
    assert outcome.files["plugstack.conf"].decode() == (
        "# plugins\nrequired pyxis.so # containers\noptional auto_resume.so\noptional site.so\n"
    )
    assert "notes.txt" not in outcome.files
    assert outcome.removed == ()
    assert set(outcome.changed(DISK)) == {"slurm.conf", "accounting.conf", "gres.conf", "plugstack.conf"}


def test_the_one_conflict_is_named_with_its_rule() -> None:
    (conflict,) = apply(Strategy.MERGE).conflicts
    assert (conflict.setting, conflict.base, conflict.site, conflict.request) == (
        "SlurmdTimeout",
        "300",
        "999",
        "400",
    )
    assert (conflict.winner, conflict.owner) == ("site", Owner.NONE)
    assert "HyperPod does not own" in conflict.rule


def test_where_hyperpod_owns_the_request_wins_and_the_loss_is_told() -> None:
    disk = {**DISK, "slurm.conf": DISK["slurm.conf"].replace("CPUs=8 RealMemory=100", "CPUs=8 RealMemory=50")}
    outcome = apply(Strategy.MERGE, disk=disk)
    lost = [(each.setting, each.expected, each.found, each.owner) for each in outcome.lost]
    assert ("NodeName=n[1-3] RealMemory", "100", "50", Owner.HYPERPOD) in lost
    assert any(each.setting == "NodeName=n4" for each in outcome.conflicts), (
        "a changed node is removed, but not in silence"
    )
    assert b"RealMemory=50" not in outcome.files["slurm.conf"]


def test_managed_is_blocked_by_what_would_be_undone() -> None:
    outcome = apply(Strategy.MANAGED)
    assert outcome.blocked
    assert outcome.files == {}
    settings = {each.setting for each in outcome.blocking}
    assert {
        "SchedulerParameters",
        "SlurmdTimeout",
        "Prolog",
        "Epilog",
        "PartitionName=site",
        "site.so",
    } <= settings
    assert all(each.file in DISK and each.line for each in outcome.blocking)


def test_drift_that_the_request_took_over_does_not_block() -> None:
    disk = {**LAST, "slurm.conf": LAST["slurm.conf"].replace("SlurmdTimeout=300", "SlurmdTimeout=400")}
    outcome = apply(Strategy.MANAGED, disk=disk)
    assert [each.setting for each in outcome.drift] == ["SlurmdTimeout"]
    assert not outcome.blocked
    assert outcome.files == {name: text.encode() for name, text in WANTED.items()}


def test_overwrite_is_what_is_wanted_and_tells_what_it_loses() -> None:
    outcome = apply(Strategy.OVERWRITE)
    assert outcome.files == {name: text.encode() for name, text in WANTED.items()}
    assert {each.setting for each in outcome.lost} == {
        each.setting for each in apply(Strategy.MANAGED).blocking
    }


def test_files_that_the_request_drops_go() -> None:
    last = {**LAST, "topology.conf": "SwitchName=s1 Nodes=n[1-4]\n"}
    for disk, kept in (
        ({**LAST, "topology.conf": last["topology.conf"] + "# c\n"}, False),
        ({**LAST, "topology.conf": last["topology.conf"] + "SwitchName=site Nodes=n1\n"}, True),
    ):
        outcome = combine(Strategy.MERGE, last=last, disk=disk, wanted=WANTED)
        assert ("topology.conf" in outcome.removed) is not kept
        assert outcome.files.get("topology.conf") == (b"SwitchName=site Nodes=n1\n" if kept else None)
    assert combine(Strategy.OVERWRITE, last=last, disk=last, wanted=WANTED).removed == ("topology.conf",)


def test_a_new_cluster_is_simply_written() -> None:
    for strategy in Strategy:
        outcome = combine(strategy, last=None, disk={}, wanted=WANTED)
        assert outcome.files == {name: text.encode() for name, text in WANTED.items()}
        assert not outcome.blocking
        assert not outcome.conflicts
        assert not outcome.lost
        assert not outcome.removed


def test_managed_does_not_overwrite_what_it_never_wrote() -> None:
    assert apply(Strategy.MANAGED, last=None).blocked
    adopted = apply(Strategy.MERGE, last=None).files["slurm.conf"]
    for kept in (
        b"PartitionName=site",
        b"Weight=7",
        b"SlurmdTimeout=999",
        b"defer",
        b"bf_interval=60",
        b"NodeName=n[5-6]",
    ):
        assert kept in adopted


def test_a_changed_order_of_blocks_lands() -> None:
    last = {"topology.conf": "BlockName=a Nodes=n1\nBlockName=b Nodes=n2\n"}
    wanted = {"topology.conf": "BlockName=b Nodes=n2\nBlockName=a Nodes=n1\n"}
    disk = {"topology.conf": "# ours\nBlockName=a Nodes=n1 # first\nBlockName=b Nodes=n2"}
    outcome = combine(Strategy.MERGE, last=last, disk=disk, wanted=wanted)
    assert outcome.files["topology.conf"] == b"# ours\nBlockName=b Nodes=n2\nBlockName=a Nodes=n1 # first"


def merged(last: str | None, disk: str, wanted: str, *, file: str = "slurm.conf") -> tuple[str, list[str]]:
    """Merge one file; return it and what conflicted."""
    base = None if last is None else {file: last}
    outcome = combine(Strategy.MERGE, last=base, disk={file: disk}, wanted={file: wanted})
    return outcome.files[file].decode(), [each.setting for each in outcome.conflicts]


@pytest.mark.parametrize(
    ("last", "disk", "wanted", "expected"),
    [
        ("Prolog=/a\n", "Prolog=/a # ours\nProlog=/s\n", "Prolog=/b\n", "Prolog=/b # ours\nProlog=/s\n"),
        ("Prolog=/a\n", "Prolog=/a\n# c\n", "Prolog=/a\nProlog=/b\n", "Prolog=/a\nProlog=/b\n# c\n"),
        ("Prolog=/a\n", "Prolog=/s\nProlog=/a\n", "", "Prolog=/s\n"),
        (
            "Prolog=/a\nProlog=/b\n",
            "Prolog=/a # 1\nProlog=/s\nProlog=/b # 2\n",
            "Prolog=/b\nProlog=/a\n",
            "Prolog=/b # 2\nProlog=/s\nProlog=/a # 1\n",
        ),
        (
            "Epilog=/a\nEpilog=/b\n",
            "Epilog=/a\nEpilog=/b\nEpilog=/s\n",
            "Epilog=/c\nEpilog=/d\n",
            "Epilog=/c\nEpilog=/d\nEpilog=/s\n",
        ),
        (None, "Prolog=/s\n", "Prolog=/a\nProlog=/b\n", "Prolog=/a\nProlog=/b\nProlog=/s\n"),
        (
            "Prolog=/a\n",
            "Prolog=/a\n# c\n",
            "Prolog=/b\nProlog=/b\nProlog=/a\n",
            "Prolog=/b\nProlog=/a\n# c\n",
        ),
    ],
)
def test_programs_that_accumulate_land_once_and_in_order(
    last: str | None, disk: str, wanted: str, expected: str
) -> None:
    assert merged(last, disk, wanted) == (expected, [])
    assert merged(wanted, expected, wanted) == (expected, [])
    assert merged(last, expected, wanted) == (expected, [])


@pytest.mark.parametrize(
    ("last", "disk", "wanted", "expected", "conflicts"),
    [
        ("a", "a # main\nbackup", "b", "b # main\nbackup", []),
        ("a(1)", "a(1) # main\nbackup", "a(2)", "a(2) # main\nbackup", []),
        ("a", "# c\na\nbackup", "a\nb", "# c\na\nb\nbackup", []),
        ("a\nb", "a\nbackup\nb", "b", "backup\nb", []),
        ("a\nb", "b\na\nbackup", "a\nb\nc", "b\nc\na\nbackup", []),
        ("a\nb", "a # 1\nb # 2\nbackup", "b\na", "b # 2\na # 1\nbackup", []),
        ("a(1)", "a(9) # moved\nbackup", "a(2)", "a(2) # moved\nbackup", ["SlurmctldHost"]),
        ("a(1)\nb(1)", "a(1)\nb(9)\nbackup", "a(1)", "a(1)\nbackup", ["SlurmctldHost"]),
        (None, "a # main\nbackup", "a(1)", "a(1) # main\nbackup", ["SlurmctldHost"]),
        (None, "backup", "a", "a\nbackup", []),
    ],
)
def test_the_request_s_controllers_keep_their_place_among_the_sites(
    last: str | None, disk: str, wanted: str, expected: str, conflicts: list[str]
) -> None:
    def conf(hosts: str) -> str:
        lines = [line if line.startswith("#") else f"SlurmctldHost={line}" for line in hosts.split("\n")]
        return "\n".join(["ClusterName=c", *lines, "NodeName=n1", ""])

    base = None if last is None else conf(last)
    assert merged(base, conf(disk), conf(wanted)) == (conf(expected), conflicts)
    assert merged(conf(wanted), conf(expected), conf(wanted)) == (conf(expected), [])
    assert merged(base, conf(expected), conf(wanted)) == (conf(expected), [])


def _records(kind: str, count: int, value: int) -> str:
    """A file of `count` records, whose values are not those of another `value`."""
    if kind == "partitions":
        return "".join(
            f"PartitionName=p{number} Nodes=n{number} MaxTime={value}\n" for number in range(count)
        )
    if kind == "blocks":
        return "".join(f"BlockName=b{number} Nodes=n[{number}-{number + value}]\n" for number in range(count))
    return "".join(f"NodeName=n{number} Name=gpu File=/dev/nvidia[0-{value}]\n" for number in range(count))


@pytest.mark.parametrize(
    ("kind", "file"), [("partitions", "slurm.conf"), ("blocks", "topology.conf"), ("devices", "gres.conf")]
)
@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_the_work_of_a_merge_is_linear_in_the_records(
    kind: str, file: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    head = vars(Statement)["head"].fget

    def counted(statement: Statement) -> tuple[str, str] | None:
        nonlocal looked
        looked += 1
        found: tuple[str, str] | None = head(statement)
        return found

    def work(count: int) -> int:
        nonlocal looked
        sizes = {"changed": (count, 3, count, 7), "added": (1, 3, count, 3), "removed": (count, 3, 1, 3)}
        first, value, second, other = sizes[change]
        last, wanted = _records(kind, first, value), _records(kind, second, other)
        looked = 0
        found, conflicts = merged(last, last + "# ours\n", wanted, file=file)
        assert not conflicts
        assert sorted(found.splitlines()) == sorted([*wanted.splitlines(), "# ours"])
        return looked

    monkeypatch.setattr(Statement, "head", property(counted))
    assert work(80) < 3 * work(40)


def test_plugins_keep_their_comments_and_take_the_request_s_order() -> None:
    last = "optional a.so x=1\nrequired b.so\n"
    disk = "optional\ta.so   x=1  # mine\nrequired site.so\nrequired b.so # last"
    changed = "required b.so\noptional a.so x=2\noptional c.so\n"
    expected = "required b.so # last\nrequired site.so\noptional a.so x=2  # mine\noptional c.so"
    assert merged(last, disk, changed, file="plugstack.conf") == (expected, [])
    assert merged(changed, expected, changed, file="plugstack.conf") == (expected, [])
    theirs = disk.replace("x=1", "x=3")
    kept, conflicts = merged(last, theirs, last.replace("x=1", "x=2"), file="plugstack.conf")
    assert (kept, conflicts) == (theirs, ["a.so"])


def test_an_order_that_both_sides_changed_is_a_conflict() -> None:
    last, disk, wanted = ("".join(f"Prolog=/{name}\n" for name in order) for order in ("abc", "bac", "acb"))
    assert merged(last, disk, wanted) == (disk, ["Prolog (order)"])
    hosts = [text.replace("Prolog=/", "SlurmctldHost=") for text in (last, disk, wanted)]
    assert merged(*hosts) == (hosts[2], ["SlurmctldHost (order)"])


def test_an_order_that_only_the_site_changed_stays() -> None:
    last = {"topology.conf": "BlockName=a Nodes=n1\nBlockName=b Nodes=n2\n"}
    disk = {"topology.conf": "BlockName=b Nodes=n2\nBlockName=a Nodes=n1\n"}
    wanted = {"topology.conf": "BlockName=a Nodes=n1\nBlockName=b Nodes=n2\nBlockName=c Nodes=n3\n"}
    outcome = combine(Strategy.MERGE, last=last, disk=disk, wanted=wanted)
    assert (
        outcome.files["topology.conf"]
        == b"BlockName=b Nodes=n2\nBlockName=a Nodes=n1\nBlockName=c Nodes=n3\n"
    )


def test_lines_of_the_site_that_name_a_removed_node_block() -> None:
    conf = "NodeName=n[1-4]\nPartitionName=p Nodes=n[1-4]\n"
    last = {"slurm.conf": conf}
    wanted = {"slurm.conf": conf.replace("n[1-4]", "n[1-3]")}
    theirs = (
        "PartitionName=site Nodes=n[3-4] # ours\nNodeSet=set Nodes=n4\nPartitionName=by_set Nodes=set\n"
        "NodeSet=unused Nodes=n4\nPartitionName=all Nodes=ALL\nPartitionName=rest Nodes=n1,n2\n"
        "PartitionName=broken Nodes=x9,n[\nDownNodes=n4 State=DOWN\n"
    )
    topology = "SwitchName=a Nodes=n[1-2]\nSwitchName=b Nodes=n[3-4]\n"
    disk = {"slurm.conf": conf + theirs, "topology.conf": topology}
    outcome = combine(Strategy.MERGE, last=last, disk=disk, wanted=wanted)
    assert [(each.file, each.line, each.setting, each.expected, each.found) for each in outcome.blocking] == [
        ("slurm.conf", 3, "PartitionName=site Nodes", "n3", "n[3-4]"),
        ("slurm.conf", 4, "NodeSet=set Nodes", "", "n4"),
    ]
    assert all("n4" in each.message for each in outcome.blocking)
    mended = {"slurm.conf": conf + theirs.replace("n[3-4]", "n3").replace("Nodes=n4", "Nodes=n3")}
    assert not combine(Strategy.MERGE, last=last, disk=mended, wanted=wanted).blocked
    assert combine(Strategy.OVERWRITE, last=last, disk=disk, wanted=wanted).blocking == ()


def test_a_partition_of_all_nodes_is_no_list_of_those_there_are() -> None:
    last = "NodeName=n[1-2]\nPartitionName=p Nodes=n2\n"
    wanted = "NodeName=n2\nPartitionName=p Nodes=ALL\n"
    assert merged(last, last + "# c\n", wanted) == (wanted + "# c\n", [])


@pytest.mark.parametrize(
    ("kind", "base", "site", "request_", "wins", "value", "clashes"),
    [
        (ValueKind.SET, "a,b", "a,b,c", "a,b,d", True, "a,b,c,d", 0),
        (ValueKind.SET, "a,b", "a", "a,b,d", True, "a,d", 0),
        (ValueKind.SET, "a,b=1", "a,b=2", "a,b=3", True, "a,b=3", 1),
        (ValueKind.SET, "a,b=1", "a,b=2", "a,b=3", False, "a,b=2", 1),
        (ValueKind.SET, "a,b=1", "a,b=2", "a,c", False, "a,b=2,c", 1),
        (ValueKind.SET, "gpu:h100:8", "gpu:h100:8,nic:2", "gpu:h100:4", True, "gpu:h100:4,nic:2", 0),
        (ValueKind.SET, None, "a,x", "a,y", True, "a,x,y", 0),
        (ValueKind.FLAGS, "Alloc", "alloc,X11", "Alloc,Contain", False, "alloc,X11,Contain", 0),
        (ValueKind.FLAGS, None, "contain,X11", "Contain,NoHold", False, "contain,X11,NoHold", 0),
        (ValueKind.CHOICE, "CR_Core", "cr_core", "CR_CPU", False, "CR_CPU", 0),
        (ValueKind.HOST_SET, "n[1-3]", "n[1-4]", "n[2-3]", True, "n[2-4]", 0),
        (ValueKind.HOST_SET, "ALL", "n[1-4]", "n[2-3]", True, "n[2-3]", 1),
        (ValueKind.SEQUENCE, "task/none", "task/affinity", "task/cgroup", True, "task/cgroup", 1),
        (ValueKind.NUMBER, "8", "0x8", "9", False, "9", 0),
        (ValueKind.TEXT, "1", None, "2", False, None, 1),
        (ValueKind.TEXT, "1", None, "1", True, None, 0),
        (ValueKind.TEXT, "1", "2", None, True, None, 1),
    ],
)
def test_single_values_follow_the_rule(
    kind: ValueKind,
    base: str | None,
    site: str | None,
    request_: str | None,
    wins: bool,
    value: str | None,
    clashes: int,
) -> None:
    merged = merge_value(kind, base, site, request_, request_wins=wins)
    assert merged.value == value
    assert len(merged.clashes) == clashes
    assert all(isinstance(clash, Clash) for clash in merged.clashes)
