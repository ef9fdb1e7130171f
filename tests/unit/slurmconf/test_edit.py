"""Edits change what they mean to change, and no byte besides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.errors import InvalidInput
from hpadmin.slurmconf import Document, dumps, edit, loads, rewrite
from hpadmin.slurmconf.document import Statement
from hpadmin.slurmconf.view import view


def text(document: Document) -> str:
    return dumps(document).decode()


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("SlurmdPort=1\n", "2", "SlurmdPort=2\n"),
        ("  slurmdport =\t1   # why\r\n", "2", "  slurmdport =\t2   # why\r\n"),
        ("SlurmdPort=1", "2", "SlurmdPort=2"),
        ("SlurmdPort=1\nSlurmdPort=5\n", "2", "SlurmdPort=1\nSlurmdPort=2\n"),
        ("SlurmdPort= \\\n  1 # c\n", "2", "SlurmdPort= \\\n  2 # c\n"),
        ("SlurmdPort=\\#1\n", "2", "SlurmdPort=2\n"),
        ('SlurmdPort="1"\n', "2", 'SlurmdPort="2"\n'),
        ("SlurmdPort=1\n", "a b", 'SlurmdPort="a b"\n'),
        ("SlurmdPort=1\n", "a#b", "SlurmdPort=a\\#b\n"),
        ("SlurmdPort=1\n", "", 'SlurmdPort=""\n'),
        ("SlurmdPort=1\n", "a\\b", "SlurmdPort=a\\\\b\n"),
    ],
)
def test_a_setting_is_changed_in_its_place(before: str, value: str, after: str) -> None:
    document = loads(before)
    edit.set_setting(document, "SlurmdPort", value)
    assert text(document) == after
    assert view("slurm.conf", {"slurm.conf": document}.get).value("SlurmdPort") == value


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", 'a "b', '"a"', "\x1b[0m"])
def test_values_that_would_be_read_otherwise_are_refused(value: str) -> None:
    document = loads("SlurmdPort=1\nNodeName=n1 CPUs=1\n")
    for change in (
        lambda: edit.set_setting(document, "SlurmdPort", value),
        lambda: edit.set_setting(document, "MailProg", value),
        lambda: edit.set_attribute(document, 1, "Reason", value),
        lambda: edit.add_line(document, [("NodeName", value)]),
    ):
        with pytest.raises(InvalidInput):
            change()
    assert text(document) == "SlurmdPort=1\nNodeName=n1 CPUs=1\n"


@pytest.mark.parametrize("key", ["", "a b", "Include", "a=b", "a#", "é"])
def test_keys_that_are_none_are_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        edit.set_setting(loads(""), key, "1")


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        ("", "MailProg", "MailProg=/x\n"),
        ("ClusterName=a\n\nNodeName=n1\n", "MailProg", "ClusterName=a\nMailProg=/x\n\nNodeName=n1\n"),
        ("# top\nNodeName=n1\n", "MailProg", "# top\nMailProg=/x\nNodeName=n1\n"),
        (
            "ClusterName=a\n#MailProg=/y\nAuthType=z\n",
            "MailProg",
            "ClusterName=a\n#MailProg=/y\nMailProg=/x\nAuthType=z\n",
        ),
        (
            "SlurmctldPort=1\nClusterName=a\n",
            "SlurmctldDebug",
            "SlurmctldPort=1\nSlurmctldDebug=/x\nClusterName=a\n",
        ),
        ("ClusterName=a", "MailProg", "ClusterName=a\nMailProg=/x"),
        ("ClusterName=a\r\n", "MailProg", "ClusterName=a\r\nMailProg=/x\r\n"),
        ("clustername=a\n", "MailProg", "clustername=a\nmailprog=/x\n"),
        ("ClusterName    = a\n", "MailProg", "ClusterName    = a\nMailProg       = /x\n"),
        ("ClusterName=a\\\n", "MailProg", "ClusterName=a\\\n\nMailProg=/x\n"),
        ("ClusterName=a \\", "MailProg", "ClusterName=a \\\n\nMailProg=/x"),
    ],
)
def test_a_new_setting_stands_by_its_kin(before: str, key: str, after: str) -> None:
    document = loads(before)
    edit.set_setting(document, key, "/x")
    assert text(document) == after


def test_records_stand_by_their_kin() -> None:
    document = loads("ClusterName=a\n\n# nodes\nNodeName=n1\n\n# partitions\nPartitionName=p Nodes=ALL\n")
    edit.add_line(document, [("PartitionName", "q"), ("Nodes", "n1")])
    edit.add_line(document, [("NodeName", "n2"), ("CPUs", "4")])
    edit.add_line(document, [("NodeSet", "s"), ("Nodes", "n1")])
    edit.add_line(document, [("SlurmctldHost", "c1(10.0.0.1)")])
    assert text(document) == (
        "ClusterName=a\nSlurmctldHost=c1(10.0.0.1)\n\n# nodes\nNodeName=n1\nNodeName=n2 CPUs=4\n\nNodeSet=s Nodes=n1\n"
        "# partitions\nPartitionName=p Nodes=ALL\nPartitionName=q Nodes=n1\n"
    )


def test_attributes_come_and_go_on_their_line() -> None:
    document = loads("nodename=n1 \\\n  cpus=4 \\\n  state=IDLE # rack\n")
    edit.set_attribute(document, 0, "RealMemory", "10")
    edit.set_attribute(document, 0, "CPUs", "8")
    assert text(document) == "nodename=n1 \\\n  cpus=8 \\\n  state=IDLE realmemory=10 # rack\n"
    edit.set_attribute(document, 0, "CPUs", None)
    edit.set_attribute(document, 0, "Weight", None)
    assert text(document) == "nodename=n1 \\\n  state=IDLE realmemory=10 # rack\n"


def test_of_an_attribute_given_twice_the_one_that_counts_is_changed() -> None:
    document = loads("NodeName=n1 CPUs=1 CPUs=2\n")
    edit.set_attribute(document, 0, "CPUs", "4")
    assert text(document) == "NodeName=n1 CPUs=1 CPUs=4\n"
    edit.set_attribute(document, 0, "CPUs", None)
    assert text(document) == "NodeName=n1\n"


def test_a_folded_line_is_split_where_its_nodes_differ() -> None:
    document = loads(
        "NodeName=n[1-5] NodeAddr=10.0.0.[1-5] Port=7001-7005 CPUs=4 # rack\nNodeName=m1 CPUs=4\n"
    )
    found = edit.change_nodes(
        document, {"n2": {"CPUs": "8"}, "n3": {"CPUs": "8"}, "x9": {"CPUs": "8"}}, gone=["n5"]
    )
    assert found == {"n2", "n3", "n5"}
    assert text(document) == (
        "NodeName=n1 NodeAddr=10.0.0.1 Port=7001 CPUs=4 # rack\n"
        "NodeName=n[2-3] NodeAddr=10.0.0.[2-3] Port=7002-7003 CPUs=8\n"
        "NodeName=n4 NodeAddr=10.0.0.4 Port=7004 CPUs=4\n"
        "NodeName=m1 CPUs=4\n"
    )


def test_a_line_whose_nodes_all_change_alike_stays_one() -> None:
    document = loads("NodeName=n[1-3] CPUs=4   # rack")
    edit.change_nodes(document, {f"n{number}": {"CPUs": "8", "Weight": "2"} for number in (1, 2, 3)})
    assert text(document) == "NodeName=n[1-3] CPUs=8 Weight=2   # rack"


def test_nodes_are_put_in_order_by_moving_lines_or_by_splitting_them() -> None:
    document = loads("NodeName=c\n# x\nNodeName=a\nNodeName=b")
    edit.reorder_nodes(document, {"a": 0, "b": 1, "c": 2})
    assert text(document) == "NodeName=a\n# x\nNodeName=b\nNodeName=c"
    document = loads("NodeName=a[1-3] CPUs=1\nNodeName=b CPUs=2\n")
    edit.reorder_nodes(document, {"a1": 0, "b": 1, "a2": 2, "a3": 3})
    assert text(document) == "NodeName=a1 CPUs=1\nNodeName=b CPUs=2\nNodeName=a2 CPUs=1\nNodeName=a3 CPUs=1\n"


def test_lines_that_slurm_cannot_read_are_not_added_to() -> None:
    with pytest.raises(InvalidInput):
        rewrite.with_attribute(Statement('NodeName=n1 Reason="a b\n'), "CPUs", "1")


def test_includes_stand_together() -> None:
    document = loads("ClusterName=a\nInclude x.conf\nNodeName=n1\n")
    edit.add_include(document, "y.conf")
    assert text(document) == "ClusterName=a\nInclude x.conf\nInclude y.conf\nNodeName=n1\n"
    for name in ("a b", "", "a#b", "a\nb"):
        with pytest.raises(InvalidInput):
            edit.add_include(document, name)


values = st.text(alphabet=st.sampled_from('ab1,=[]/:# "\\éß-'), max_size=12)
lines = st.sampled_from(
    [
        "# c",
        "",
        "SlurmdPort=1",
        "slurmdport = 2 # x",
        "NodeName=n[1-3] CPUs=4",
        "Include a",
        "PartitionName=p",
        "x=\\",
        "\\",
    ]
)


@given(
    st.lists(lines, max_size=6),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["SlurmdPort", "MailProg"]),
    values,
)
@settings(max_examples=400, deadline=None)
def test_any_value_that_is_accepted_is_read_back(body: list[str], newline: str, key: str, value: str) -> None:
    before = newline.join(body)
    document = loads(before)
    try:
        edit.set_setting(document, key, value)
    except InvalidInput:
        assert '"' in value
        assert text(document) == before
        return
    assert view("slurm.conf", {"slurm.conf": dumps(document)}.get).value(key) == value
    kept = [
        statement.raw.strip() for statement in document.statements if statement.key.lower() != key.lower()
    ]
    was = [
        statement.raw.strip()
        for statement in loads(before).statements
        if statement.key.lower() != key.lower()
    ]
    assert kept == was
