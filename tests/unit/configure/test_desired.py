"""Rendering: golden trees, and what holds for every cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.configure import desired, templates
from hpadmin.configure.desired import file_mode, render, render_all
from hpadmin.configure.gres import NO_GRES
from hpadmin.configure.options import RenderOptions
from hpadmin.errors import InvalidInput
from hpadmin.model import Cluster, Node
from hpadmin.request import NodeNames, catalog
from hpadmin.slurm import hostlist
from tests.unit.configure.clusters import CASES, cluster, example

GOLDEN = Path(__file__).parent / "golden"


def tree(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def node_lines(text: str) -> list[dict[str, str]]:
    return [
        dict(part.split("=", 1) for part in line.split())
        for line in text.splitlines()
        if line.startswith("NodeName=") and "State=FUTURE" not in line
    ]


@pytest.mark.parametrize("name", CASES)
def test_golden_trees(name: str) -> None:
    """Made by tests/unit/configure/make_golden.py."""
    assert render(CASES[name].make(), CASES[name].options) == tree(GOLDEN / name)


def test_there_is_a_case_for_every_tree() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(CASES)


def test_nodes_named_after_their_instances_are_found_by_the_names_of_their_machines() -> None:
    made = example("guide", NodeNames.INSTANCE)

    def on_a_machine_of_its_own(node: Node) -> Node:
        host = f"ip-{node.instance.address.replace('.', '-')}"
        return replace(node, instance=replace(node.instance, hostname=host))

    made = replace(
        made,
        controllers=tuple(map(on_a_machine_of_its_own, made.controllers)),
        computes=tuple(map(on_a_machine_of_its_own, made.computes)),
    )
    files = render(made, RenderOptions(accounting=True))
    assert "SlurmctldHost=ip-10-1-1-10(10.1.1.10)\n" in files["slurm.conf"]
    assert "AccountingStorageHost=ip-10-1-1-10\n" in files["accounting.conf"]
    assert "DbdHost=ip-10-1-1-10\n" in files["slurmdbd.conf"]
    first = node_lines(files["slurm.conf"])[0]
    assert (first["NodeName"], first["NodeHostname"], first["NodeAddr"]) == (
        "gpu-compute-[1-8]",
        "ip-10-1-2-[3-10]",
        "10.1.2.[3-10]",
    )


@pytest.mark.parametrize("name", CASES)
def test_what_holds_for_every_cluster(name: str) -> None:
    made, options = CASES[name].make(), CASES[name].options
    files = render(made, options)
    lines = node_lines(files["slurm.conf"])
    by_name = {node.name: node for node in made.computes}

    # Every compute node is defined once, with its address and its hardware.
    defined = {}
    for line in lines:
        pairs = zip(hostlist.expand(line["NodeName"]), hostlist.expand(line["NodeAddr"]), strict=True)
        for node_name, address in pairs:
            assert node_name not in defined
            defined[node_name] = line
            node = by_name[node_name]
            assert address == node.instance.address
            assert int(line["CPUs"]) == node.cpus == int(line["CoresPerSocket"]) * int(line["ThreadsPerCore"])
            assert int(line["RealMemory"]) == catalog.real_memory(node.hardware.memory_mib)
    assert defined.keys() == by_name.keys()

    # GRES is one unit: Gres=, GresTypes and gres.conf say the same of the same nodes.
    types = [line for line in files["slurm.conf"].splitlines() if line.startswith("GresTypes=")]
    named = set(types[0].removeprefix("GresTypes=").split(",")) if types else set()
    requested = {name: line["Gres"] for name, line in defined.items() if "Gres" in line}
    assert {part.split(":")[0] for gres in requested.values() for part in gres.split(",")} == named
    backed = {node for line in node_lines(files["gres.conf"]) for node in hostlist.expand(line["NodeName"])}
    assert backed == requested.keys() == {node.name for node in made.computes if node.hardware.accelerator}

    # dev holds every node, and each node is in its group's partition.
    partitions = {
        parts[0].removeprefix("PartitionName="): parts[1].removeprefix("Nodes=").strip('"')
        for line in files["slurm.conf"].splitlines()
        if line.startswith("PartitionName=") and (parts := line.split())
    }
    everything = list(by_name)
    assert partitions["dev"] == "ALL" or hostlist.expand(partitions["dev"]) == everything
    for group in made.groups:
        if group.partition:
            members = [node.name for node in made.computes if node.instance.group == group.name]
            assert set(members) <= set(hostlist.expand(partitions[group.partition]))

    # Nothing stands twice that Slurm takes once, no line is blank at the end, and none carries a stray blank.
    keys = [line.split("=")[0] for line in files["slurm.conf"].splitlines() if line and line[0] != "#"]
    once = [key for key in keys if key not in ("NodeName", "PartitionName", "SlurmctldHost")]
    assert len(once) == len(set(once))
    for text in files.values():
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert not any(line != line.rstrip() for line in text.splitlines())


def test_rendering_twice_gives_the_same_bytes() -> None:
    assert render(example("guide")) == render(example("guide"))


def test_a_prolog_that_fails_does_not_hold_the_job() -> None:
    with_prolog = render(example("guide"), RenderOptions(prolog="/usr/local/lib/hpadmin/prolog"))[
        "slurm.conf"
    ]
    assert (
        "SchedulerParameters=permit_job_expansion,batch_sched_delay=1,nohold_on_prolog_fail\n" in with_prolog
    )
    assert "nohold_on_prolog_fail" not in render(example("guide"), RenderOptions())["slurm.conf"]


def test_modes() -> None:
    assert (file_mode("slurm.conf"), file_mode("slurmdbd.conf")) == (0o644, 0o600)


def test_threads_per_core_and_a_group_of_several_types() -> None:
    made = cluster((("cpu", "ml.c5.large", 2),))
    halved = replace(made, computes=tuple(replace(node, threads_per_core=1) for node in made.computes))
    line = node_lines(render(halved)["slurm.conf"])[0]
    assert (line["CPUs"], line["CoresPerSocket"], line["ThreadsPerCore"]) == ("1", "1", "1")
    first, second = made.computes
    other = replace(second, hardware=catalog.lookup("ml.c5.xlarge"))
    lines = node_lines(render(replace(made, computes=(first, other)))["slurm.conf"])
    assert [line["CPUs"] for line in lines] == ["2", "4"]


def test_lines_break_where_the_subnet_does() -> None:
    """A node that comes or goes changes the line of its subnet and no other."""
    made = cluster((("gpu", "ml.p5.48xlarge", 1000),))
    before = render(made)["slurm.conf"].splitlines()
    gone = replace(made, computes=made.computes[:300] + made.computes[301:])
    after = render(gone)["slurm.conf"].splitlines()
    assert sum(line.startswith("NodeName=") for line in before) == 4
    changed = [line.split("=")[0] for line in set(after) - set(before)]
    assert sorted(changed) == ["NodeName", "PartitionName"]


def test_without_a_controller_nothing_is_rendered() -> None:
    with pytest.raises(InvalidInput, match="no instance of the Controller group"):
        render(replace(example("guide"), controllers=()))


def test_several_controllers_in_order() -> None:
    made = example("guide")
    two = replace(made, controllers=(*made.controllers, made.logins[0]))
    text = render(two)["slurm.conf"]
    assert "SlurmctldHost=ip-10-1-1-10(10.1.1.10)\nSlurmctldHost=ip-10-1-1-20(10.1.1.20)\n" in text


def test_device_files_that_do_not_fit() -> None:
    options = RenderOptions(device_files={"gpu-compute": ("/dev/nvidia0", "/dev/nvidia1")})
    with pytest.raises(InvalidInput) as caught:
        render(example("guide"), options)
    assert str(caught.value.problems[0]) == (
        "gpu-compute: 2 device files for ml.p4d.24xlarge, which has 8 devices"
    )


def test_device_files_that_mean_nothing_are_told() -> None:
    files = {"gpu-compue": ("/dev/nvidia0",), "cpu-compute": ("/dev/nvidia0",), "controller": ("/dev/x",)}
    assert render_all(example("guide"), RenderOptions(device_files=files)).warnings == (
        "device_files of gpu-compue mean nothing: the request has no such group; did you mean gpu-compute?",
        "device_files of cpu-compute mean nothing: its instances have no devices",
    )


def test_a_cluster_name_that_is_too_long_for_slurmdbd() -> None:
    name = "c" * 41
    assert render(cluster((("cpu", "ml.c5.large", 1),), name=name))
    with pytest.raises(
        InvalidInput, match="ClusterName: must have at most 40 characters with accounting, got 41"
    ):
        render(cluster((("cpu", "ml.c5.large", 1),), name=name), RenderOptions(accounting=True))


def test_a_parameter_that_the_site_gives_a_value_stands_once() -> None:
    options = RenderOptions(settings={"SchedulerParameters": "Batch_Sched_Delay=10"})
    text = render(example("guide"), options)["slurm.conf"]
    assert "SchedulerParameters=permit_job_expansion,Batch_Sched_Delay=10\n" in text


def test_settings_of_the_site() -> None:
    given_settings = {"HealthCheckProgram": "/usr/bin/check --all", "HealthCheckInterval": "60"}
    text = render(example("guide"), RenderOptions(settings=given_settings))["slurm.conf"]
    assert 'HealthCheckInterval=60\nHealthCheckProgram="/usr/bin/check --all"\n' in text
    with pytest.raises(InvalidInput, match=r"settings\.slurmdtimeout: is rendered already"):
        render(example("guide"), RenderOptions(settings={"slurmdtimeout": "1"}))


@pytest.mark.parametrize(
    ("release", "setting", "script"),
    [
        ("24.11", "CliFilterPlugins=cli_filter/lua\n", "cli_filter.lua"),
        ("25.11", "JobSubmitPlugins=lua\n", "job_submit.lua"),
    ],
)
def test_submission_plugins_are_those_that_the_release_tells_of_segments(
    release: str, setting: str, script: str
) -> None:
    without = render(example("guide"), RenderOptions(release=release))
    files = render(example("guide"), RenderOptions(release=release, submission_checks=True))
    assert set(files) - set(without) == {script, "hpadmin_segments.lua"}
    assert setting in files["slurm.conf"]
    assert "Plugins=lua" not in without["slurm.conf"]
    assert "refuses" in files[script]


def test_lists_of_parameters_are_added_to() -> None:
    added = {
        "SchedulerParameters": "bf_window=2880,permit_job_expansion",
        "SlurmdParameters": "l3cache_as_socket",
    }
    text = render(example("guide"), RenderOptions(settings=added, config_overrides=True))["slurm.conf"]
    assert "SchedulerParameters=permit_job_expansion,batch_sched_delay=1,bf_window=2880\n" in text
    assert "SlurmdParameters=config_overrides,l3cache_as_socket\n" in text


def test_mixed_ultraservers_are_told_what_to_do_instead() -> None:
    found = render_all(CASES["ultraservers_mixed"].make())
    assert "topology.conf" not in found.files
    assert any("topology/block is refused" in warning for warning in found.warnings)


HOSTILE = ["a\nInclude x", "a#b", 'a"b', "a'b", "a\\", "a\rb", "a\0b", "a\u2028b", "a\x85b"]


def test_no_value_begins_another_setting() -> None:
    made = example("guide")
    text = "a State=DOWN"
    for one in (replace(made, name=text), replace(made, partitions={text: ("gpu-compute",)})):
        with pytest.raises(InvalidInput, match="it holds ' '"):
            render(one)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_value_reaches_a_file_unchecked(text: str) -> None:
    """The second line of defence: nothing of this can come from a request or an inventory."""
    made = example("guide")
    first = made.computes[0]
    group = made.groups[2]
    broken: list[Cluster] = [
        replace(made, name=text),
        replace(made, controllers=(replace(made.controllers[0], name=text),)),
        replace(made, computes=(replace(first, instance=replace(first.instance, address=text)),)),
        replace(made, computes=(replace(first, instance=replace(first.instance, group=text)),)),
        replace(made, computes=(replace(first, hardware=replace(first.hardware, accelerator=text)),)),
        replace(made, partitions={text: (group.name,)}),
    ]
    for one in broken:
        with pytest.raises(InvalidInput):
            render(one)
    options = [
        RenderOptions(slurm_user=text),
        RenderOptions(state_directory=text),
        RenderOptions(log_directory=text),
        RenderOptions(reboot_program=text),
        RenderOptions(release=text),
        RenderOptions(device_prefix=text),
        RenderOptions(spank_plugins=(text,)),
        RenderOptions(settings={"HealthCheckProgram": text}),
    ]
    for choice in options:
        with pytest.raises(InvalidInput):
            render(made, choice)


@pytest.mark.parametrize(
    ("password", "written"),
    [("plain", '"plain"'), ("a b'c;d=e", '"a b\'c;d=e"'), ("a#b", r'"a\#b"'), ("a\\b", r'"a\\b"')],
)
def test_passwords_are_written_so_that_slurm_reads_them(password: str, written: str) -> None:
    assert templates.secret(password) == written


@pytest.mark.parametrize("password", ['a"b', "a\nb", "\0"])
def test_passwords_that_no_file_can_carry(password: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        templates.secret(password)
    assert password not in str(caught.value)


def test_the_password_is_in_no_repr() -> None:
    assert "hunter2" not in repr(RenderOptions(storage_password="hunter2"))


@given(st.lists(st.integers(1, 2000), unique=True, min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_folding_keeps_every_pair_of_name_and_address(numbers: list[int]) -> None:
    made = cluster((("cpu", "ml.c5.large", 1),))
    node = made.computes[0]
    nodes = tuple(
        replace(
            node,
            name=f"w-{number}",
            instance=replace(node.instance, address=f"10.0.{number % 7}.{number % 250}"),
        )
        for number in numbers
    )
    lines = list(desired.node_lines(nodes, dict.fromkeys([n.name for n in nodes], NO_GRES)))
    pairs = [
        pair
        for line in lines
        for pair in zip(hostlist.expand(line.names), hostlist.expand(line.addresses), strict=True)
    ]
    assert pairs == [(n.name, n.instance.address) for n in nodes]
