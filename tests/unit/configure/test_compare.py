"""Drift is meaning, not text, and says what, where and whose."""

from __future__ import annotations

import pytest

from hpadmin.configure.compare import DRIFT, PARTITION_DRIFT, PARTITION_MISMATCH, differences, drift
from hpadmin.configure.ownership import Owner
from hpadmin.slurmconf.difference import Subject

BASE = """\
ClusterName=lab
SlurmctldHost=c1(10.0.0.1)
SchedulerParameters=permit_job_expansion,bf_interval=30
TaskPlugin=task/none
SlurmdTimeout=300
Prolog=/p/a
NodeName=n[1-4] NodeAddr=10.0.0.[11-14] CPUs=8 RealMemory=16 Feature=a,b State=UNKNOWN
PartitionName=dev Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=n[1-2] MaxTime=1-0
"""


def changes(
    before: str, after: str, file: str = "slurm.conf", release: str = "24.11"
) -> list[tuple[str, str | None, str | None]]:
    return [
        (each.setting, each.before, each.after)
        for each in differences({file: before}, {file: after}, release=release)
    ]


@pytest.mark.parametrize(
    "after",
    [
        BASE.replace("\n", "\r\n"),
        "# c\n\n" + BASE.replace("=", " = ", 1).rstrip("\n") + "   # c",
        BASE.lower().replace("nodes=all", "nodes=ALL").replace("clustername=lab", "ClusterName=lab"),
        "".join(sorted(BASE.splitlines(keepends=True))),
        BASE.replace("permit_job_expansion,bf_interval=30", "bf_interval=30,permit_job_expansion"),
        BASE.replace("MaxTime=1-0", "MaxTime=24:00:00").replace("INFINITE", "UNLIMITED").replace("YES", "1"),
        BASE.replace("Nodes=ALL", "Nodes=n1,n[2-4]").replace("Nodes=n[1-2]", 'Nodes="n2 n1"'),
        BASE.replace("SlurmdTimeout=300", "SlurmdTimeout=1\nslurmdtimeout=0x12C"),
        BASE.replace(
            "NodeName=n[1-4] NodeAddr=10.0.0.[11-14] CPUs=8 RealMemory=16 Feature=a,b State=UNKNOWN\n",
            "NodeName=DEFAULT CPUs=8 Features=b,a State=unknown\n"
            "NodeName=n3 NodeAddr=10.0.0.13 RealMemory=16\nNodeName=n[4,1] NodeAddr=10.0.0.[14,11] RealMemory=16\n"
            "NodeName=n2 NodeHostname=n2 NodeAddr=10.0.0.12 RealMemory=16 CPUs=8\n",
        ),
    ],
)
def test_what_means_the_same_is_no_difference(after: str) -> None:
    assert changes(BASE, after) == []


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("SelectTypeParameters", "CR_Core_Memory,CR_Pack_Nodes", "CR_PACK_NODES,CR_CORE_MEMORY"),
        ("PreemptMode", "REQUEUE,GANG", "gang,requeue"),
        ("PrologFlags", "Alloc,Contain", "contain,alloc"),
        ("DebugFlags", "Backfill", "backfill"),
        ("PrivateData", "jobs", "Jobs"),
        ("PriorityFlags", "MAX_TRES", "max_tres"),
        ("AccountingStorageEnforce", "limits", "LIMITS"),
        ("HealthCheckNodeState", "ANY,CYCLE", "cycle,any"),
        ("SlurmctldDebug", "info", "3"),
        ("SlurmdDebug", "Debug2", "debug2"),
    ],
)
def test_words_that_slurm_reads_without_case_are_the_same(key: str, one: str, other: str) -> None:
    assert changes(f"{key}={one}\n", f"{key}={other}\n") == []
    assert changes(f"{key}={one}\n", f"{key}=x\n") == [(key, one, "x")]


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("TopologyPlugin", "topology/tree", "tree"),  # a plugin is a file: tree.so is none
        ("SchedulerParameters", "defer", "DEFER"),
        ("LaunchParameters", "use_interactive_step", "Use_Interactive_Step"),
        ("SlurmctldDebug", "info", "debug"),
        ("SlurmUser", "slurm", "Slurm"),
    ],
)
def test_other_words_are_not(key: str, one: str, other: str) -> None:
    assert changes(f"{key}={one}\n", f"{key}={other}\n") == [(key, one, other)]


def test_includes_are_part_of_what_a_file_means() -> None:
    head, tail = BASE[:100], BASE[100:]
    assert (
        differences(
            {"slurm.conf": BASE},
            {
                "slurm.conf": head.rpartition("\n")[0] + "\nInclude more.conf\n",
                "more.conf": head.rpartition("\n")[2] + tail,
            },
        )
        == ()
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("SlurmdTimeout=300", "SlurmdTimeout=400", ("SlurmdTimeout", "300", "400")),
        ("SlurmdTimeout=300\n", "", ("SlurmdTimeout", "300", None)),
        ("Prolog=/p/a\n", "Prolog=/p/a\nProlog=/p/b\n", ("Prolog", None, "/p/b")),
        ("RealMemory=16", "RealMemory=020", None),
        ("RealMemory=16", "RealMemory=20", ("NodeName=n[1-4] RealMemory", "16", "20")),
        ("10.0.0.[11-14]", "10.0.0.[11-13,15]", ("NodeName=n4 NodeAddr", "10.0.0.14", "10.0.0.15")),
        ("n[1-2] MaxTime", "n[1-3] MaxTime", ("PartitionName=gpu Nodes", "n[1-2]", "n[1-3]")),
        (
            "PartitionName=gpu Nodes=n[1-2] MaxTime=1-0\n",
            "",
            ("PartitionName=gpu", "Nodes=n[1-2] MaxTime=1-0", None),
        ),
        ("c1(10.0.0.1)", "c1(10.0.0.2)", None),
    ],
)
def test_what_differs_is_named(
    old: str, new: str, expected: tuple[str, str | None, str | None] | None
) -> None:
    found = changes(BASE, BASE.replace(old, new))
    if expected is None:
        assert len(found) == (0 if old.startswith("Real") else 2)
    else:
        assert found == [expected]


def test_a_finding_says_where_whose_and_in_hyperpods_words() -> None:
    after = (
        BASE.replace("bf_interval=30", "defer")
        .replace("SlurmdTimeout=300", "SlurmdTimeout=5")
        .replace("n[1-2] MaxTime", "n[2-3] MaxTime")
        + "MailProg=/x\nPartitionName=mine Nodes=n1\n"
    )
    found = {
        each.setting: (each.file, each.line, each.owner, each.message)
        for each in drift({"slurm.conf": BASE}, {"slurm.conf": after})
    }
    assert found == {
        "SchedulerParameters": ("slurm.conf", 3, Owner.HYPERPOD, DRIFT),
        "SlurmdTimeout": ("slurm.conf", 5, Owner.NONE, DRIFT),
        "MailProg": ("slurm.conf", 10, Owner.SITE, DRIFT),
        "PartitionName=gpu Nodes": ("slurm.conf", 9, Owner.HYPERPOD, PARTITION_MISMATCH),
        "PartitionName=mine": ("slurm.conf", 11, Owner.SITE, PARTITION_DRIFT),
    }


def test_nodes_that_come_and_go_are_one_difference() -> None:
    added = BASE.replace("n[1-4]", "n[1-9]").replace("[11-14]", "[11-19]")
    (one,) = differences({"slurm.conf": BASE}, {"slurm.conf": added})
    assert (one.subject, one.names, one.change) == (Subject.NODE, ("n5", "n6", "n7", "n8", "n9"), "added")


@pytest.mark.parametrize(
    ("plugin", "release", "counts"),
    [
        ("topology/block", "24.11", True),
        ("topology/block", "24.05.4", True),
        ("topology/block", "25.05", False),
        ("topology/tree", "24.11", False),
    ],
)
def test_the_order_of_node_lines_counts_where_slurm_gives_it_a_meaning(
    plugin: str, release: str, counts: bool
) -> None:
    head = f"TopologyPlugin={plugin}\n"
    found = changes(head + "NodeName=a\nNodeName=b\n", head + "NodeName=b\nNodeName=a\n", release=release)
    assert found == ([("NodeName order", "a,b", "b,a")] if counts else [])


def test_gres_lines_are_compared_node_by_node() -> None:
    before = "AutoDetect=nvml\nNodeName=n[1-4] Name=gpu Type=h100 File=/dev/nvidia[0-3]\nName=shard Count=8\n"
    same = (
        "name=SHARD count=8\nnodename=n4 Name=gpu Type=H100 Files=/dev/nvidia[0-1,2-3]\n"
        "NodeName=n[1-3] Type=h100 Name=gpu File=/dev/nvidia[0-3] # c\nAutoDetect=nvml\n"
    )
    assert changes(before, same, "gres.conf") == []
    other = before.replace("n[1-4] Name", "n[1-3] Name")
    assert changes(before, other, "gres.conf") == [("NodeName=n4 gpu:h100", "File=/dev/nvidia[0-3]", None)]
    assert changes(before, before.replace("Count=8", "Count=9"), "gres.conf") == [
        ("Name=shard", "Count=8", "Count=9")
    ]


def test_topology_plugins_and_other_files() -> None:
    blocks = "BlockName=b1 Nodes=n[1-2]\nBlockName=b2 Nodes=n[3-4]\nBlockSizes=2,4\n"
    assert changes(blocks, blocks.replace("n[1-2]", "n2,n1"), "topology.conf") == []
    swapped = "BlockName=b2 Nodes=n[3-4]\nBlockName=b1 Nodes=n[1-2]\nBlockSizes=2,4\n"
    assert changes(blocks, swapped, "topology.conf") == [("BlockName order", "b[1-2]", "b[2,1]")]
    assert changes(blocks, blocks.replace("2,4", "4,2"), "topology.conf") == [("BlockSizes", "2,4", "4,2")]
    stack = "required a.so x\noptional /opt/b.so\n"
    assert changes(stack, "# c\nrequired\ta.so  x # y\noptional /opt/b.so", "plugstack.conf") == []
    assert changes(stack, stack.replace("x", "y"), "plugstack.conf") == [
        ("a.so", "required a.so x", "required a.so y")
    ]
    assert changes("- {a: 1, b: 2}\n", "# c\n- b: 2\n  a: 1\n", "topology.yaml") == []
    assert changes("x", "y", "job_submit.lua") == [("job_submit.lua", "1 bytes", "1 bytes")]
