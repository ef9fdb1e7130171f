"""The semantic view: what Slurm's parser makes of odd and of ordinary files (src/common/parse_config.c)."""

from __future__ import annotations

import pytest

from hpadmin.slurmconf.hardware import hardware
from hpadmin.slurmconf.view import MAX_INCLUDE_DEPTH, MAX_READ_AGAIN, UNENDED_INCLUDE, View, view


def read(text: str, **others: str) -> View:
    files = {"slurm.conf": text, **{name.replace("_", "."): content for name, content in others.items()}}
    return view("slurm.conf", files.get)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("MailProg=/a", "/a"),
        ("  mailprog  =  /a  # why", "/a"),
        ('MAILPROG="/a b"', "/a b"),
        ('MailProg="a # b"', '"a'),
        (r'MailProg="a \# b"', "a # b"),
        (r"MailProg=a\\b", r"a\b"),
        (r"MailProg=a\bc", "abc"),
        ('MailProg="a"b c', '"a"b'),
        ('MailProg=a"b c"', 'a"b'),
        ('MailProg=""', ""),
        ("MailProg=\nSlurmdPort=1", None),
        ("MailProg=/a \\\n", "/a"),
        ("MailProg= \\\n  /a", "/a"),
        ("MailProg=/a\\\nb", "/ab"),
        ("MailProg=/a\\ # joins too\nb", "/ab"),
        ("MailProg=/a\\\n# ends the statement\nb", "/a"),
        ("MailProg=/a\0b", "/a"),
        ("MailProg=/a\r", "/a"),
        ("MailProg=/a\nmailprog=/b", "/b"),
        ("\ufeffMailProg=/a", None),
        ("MailProg+=/a", "/a"),
    ],
)
def test_a_value_is_what_slurm_reads(line: str, value: str | None) -> None:
    setting = read(line).setting("MailProg")
    assert (setting.value if setting else None) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("JobRequeue=0 KillOnBadExit=1", 'Parse error: "KillOnBadExit=1"'),
        ("MailProg=", 'Parse error: "MailProg="'),
        ("just words", 'Parse error: "just words"'),
        ('NodeName=n1 Reason="a b', 'Parse error: "b"'),
        (" Include a.conf", 'Parse error: "Include a.conf"'),
        ("Include a.conf b", 'Parse error: "b"'),
        ("Include a.conf\n", "Include of a.conf, which is not there"),
        ("Include b.conf", UNENDED_INCLUDE),
        ("Include b.conf# c\n", UNENDED_INCLUDE),
        ("Include %c.conf\n", "Include names the cluster (%c) before ClusterName is set"),
        ("Include a*.conf\n", "Slurm does not support patterns in Include: a*.conf"),
        ("Include slurm.conf\n", "Include of slurm.conf within itself"),
        ("NodeName=n[1", "Invalid hostlist: n[1"),
        ("NodeName=n1 NodeAddr=[", "Invalid hostlist: ["),
    ],
)
def test_what_the_parser_refuses_is_told_with_its_place(text: str, told: str) -> None:
    others = {"a_conf": ""} if text.endswith(" b") else {}
    (trouble,) = read("# first\n" + text, b_conf="", **others).troubles
    assert (str(trouble.origin), trouble.message) == ("slurm.conf:2", told)


def test_ordinary_files_are_no_trouble() -> None:
    assert read("ClusterName=a\nNodeName=n[1-2] CPUs=1\n\n# x\nPartitionName=p Nodes=ALL\n").troubles == ()


def test_a_continued_statement_has_the_line_of_its_start() -> None:
    seen = read("ClusterName=a\n\nNodeName=n1 \\\n  CPUs=4\nSlurmdPort=1\n")
    assert str(seen.nodes["n1"].record.origin) == "slurm.conf:3"
    setting = seen.setting("slurmdport")
    assert setting is not None
    assert str(setting.origin) == "slurm.conf:5"


def test_default_lines_merge_and_hold_for_what_follows() -> None:
    seen = read(
        "NodeName=a CPUs=1\n"
        "NodeName=DEFAULT CPUs=2 RealMemory=10 Features=x\n"
        "NodeName=b\n"
        "nodename=default CPUs=4\n"
        "NodeName=c Feature=y RealMemory=20\n"
        "NodeName=d Features=z\n"
    )
    got = {
        name: [node.get(key) for key in ("CPUs", "RealMemory", "Feature")]
        for name, node in seen.nodes.items()
    }
    assert got == {
        "a": ["1", "", ""],
        "b": ["2", "10", "x"],
        "c": ["4", "20", "y"],
        "d": ["4", "10", "z"],
    }


def test_other_names_of_an_attribute_rank_as_in_slurm() -> None:
    seen = read(
        "NodeName=DEFAULT CPUs=2\nNodeName=a Procs=8\n"
        "PartitionName=DEFAULT Shared=YES\nPartitionName=p OverSubscribe=NO\nPartitionName=q\n"
    )
    assert seen.nodes["a"].get("CPUs") == "2", "DEFAULT's CPUs come before the line's Procs"
    assert seen.partitions["p"].get("OverSubscribe") == "NO"
    assert seen.partitions["q"].get("OverSubscribe") == "YES"


def test_six_partition_keys_are_not_inherited() -> None:
    keys = (
        "DisableRootJobs",
        "ExclusiveUser",
        "ExclusiveTopo",
        "PowerDownOnIdle",
        "SelectTypeParameters",
        "SuspendTime",
    )
    given = " ".join(f"{key}=YES" for key in keys)
    seen = read(f"PartitionName=DEFAULT {given} MaxTime=5\nPartitionName=p\nPartitionName=q {given}\n")
    assert [seen.partitions["p"].get(key) for key in (*keys, "MaxTime")] == [""] * 6 + ["5"]
    assert [seen.partitions["q"].get(key) for key in keys] == ["YES"] * 6


def test_names_keep_their_case_and_keys_do_not() -> None:
    seen = read("NODENAME=N1 cpus=2\nNodeName=n1 CPUS=4\npartitionname=P nodes=ALL\n")
    assert {name: node.get("CpUs") for name, node in seen.nodes.items()} == {"N1": "2", "n1": "4"}
    assert list(seen.partitions) == ["P"]


def test_lists_over_nodes_give_each_its_own() -> None:
    seen = read(
        "NodeName=n[1-3] NodeHostname=h[1-3] NodeAddr=10.0.0.[7-9] Port=17001-17003\nNodeName=m[1-2] Port=5\n"
    )
    n2, m2 = seen.nodes["n2"], seen.nodes["m2"]
    assert [n2.get(key) for key in ("NodeHostname", "NodeAddr", "Port")] == ["h2", "10.0.0.8", "17002"]
    assert [m2.get(key) for key in ("NodeHostname", "NodeAddr", "Port")] == ["m2", "m2", "5"]


def test_partitions_name_nodes_sets_features_and_all() -> None:
    seen = read(
        "NodeName=a[1-3] Feature=gpu,big\nNodeName=b[1-2] Feature=cpu\n"
        "NodeSet=gpus Feature=gpu\nNodeSet=two Nodes=a1,b1\nNodeSet=every Nodes=ALL\n"
        "PartitionName=p1 Nodes=ALL\nPartitionName=p2 Nodes=gpus,b2\nPartitionName=p3 Nodes=two\n"
        'PartitionName=p4 Nodes="a1 b1"\nPartitionName=p5 Nodes=feature{cpu},block{b7}\n'
        "PartitionName=p6 Nodes=every,zz9\nPartitionName=p7\n"
    )
    got = {name: sorted(seen.partition_nodes(name).names) for name in seen.partitions}
    every = ["a1", "a2", "a3", "b1", "b2"]
    assert got == {
        "p1": every,
        "p2": ["a1", "a2", "a3", "b2"],
        "p3": ["a1", "b1"],
        "p4": ["a1", "b1"],
        "p5": ["b1", "b2"],
        "p6": every,
        "p7": [],
    }
    assert seen.partition_nodes("p5").functions == ("block{b7}",)
    assert seen.partition_nodes("p6").unknown == ("zz9",)


def test_includes_are_followed_in_their_place() -> None:
    seen = read(
        "ClusterName=LAB\nSlurmdPort=1\nInclude %c.conf\nSlurmdPort=3\nInclude lab.conf\ninclude /etc/x.conf\n",
        lab_conf="SlurmdPort=2\nProlog=/p\n",
    )
    assert seen.value("SlurmdPort") == "2"
    assert seen.values("Prolog") == ["/p", "/p"], "read twice, it counts twice"
    assert [name for name, _ in seen.missing] == ["/etc/x.conf"]
    assert list(seen.documents) == ["slurm.conf", "lab.conf"]


def test_includes_that_multiply_come_to_an_end() -> None:
    files = {f"{number}.conf": f"Include {number + 1}.conf\n" * 2 for number in range(200)}
    seen = view("0.conf", files.get)
    assert any("too many" in trouble.message for trouble in seen.troubles)
    assert len(seen.documents) <= MAX_INCLUDE_DEPTH + 2


@pytest.mark.parametrize("count", [50, 500])
def test_files_that_include_each_other_over_and_over_are_not_read_as_often(count: int) -> None:
    files = {
        "a.conf": "Include b.conf\n" * count,
        "b.conf": "Include c.conf\n" * count,
        "c.conf": "NodeName=n1\n" * count,
    }
    seen = view("a.conf", files.get)
    assert len(seen.statements) <= MAX_READ_AGAIN + 3 * count
    assert any("of what was read already" in trouble.message for trouble in seen.troubles)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", (1, 1, 1, 1, 1)),
        ("CPUs=8", (1, 8, 1, 1, 8)),
        ("CPUs=8 CoresPerSocket=4", (1, 2, 4, 1, 8)),
        ("CPUs=8 CoresPerSocket=3", (1, 1, 3, 1, 3)),
        ("Sockets=2 CoresPerSocket=4 ThreadsPerCore=2", (1, 2, 4, 2, 16)),
        ("Sockets=2 CoresPerSocket=4 ThreadsPerCore=2 CPUs=8", (1, 2, 4, 2, 8)),
        ("Boards=2 SocketsPerBoard=2 CoresPerSocket=4", (2, 4, 4, 1, 16)),
        ("Boards=2 SocketsPerBoard=2 Sockets=9 CPUs=4", (2, 4, 1, 1, 4)),
        ("CPUs=0 Sockets=0", (1, 1, 1, 1, 1)),
        ("CPUs=010", (1, 8, 1, 1, 8)),
    ],
)
def test_hardware_is_inferred_as_slurmctld_does(attributes: str, expected: tuple[int, ...]) -> None:
    found = hardware(read(f"NodeName=n1 {attributes}").nodes["n1"])
    assert (
        found.boards,
        found.sockets,
        found.cores_per_socket,
        found.threads_per_core,
        found.cpus,
    ) == expected
