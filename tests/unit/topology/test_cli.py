from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from admin_cli.root import root

GUIDE = "BlockName=us1 Nodes=ultraserver1-[0-17]\nBlockName=us2 Nodes=ultraserver2-[0-17]\nBlockSizes=18\n"
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    path = tmp_path / "topology.conf"
    path.write_text(GUIDE)
    return path


def run(*args: str) -> Result:
    return CliRunner().invoke(root, ["topology", *args])


def test_place_in_json(topology: Path) -> None:
    done = run("place", "-N", "18", "--topology", str(topology), "--busy", "ultraserver2-0", "-o", "json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["result"] == "starts"
    assert answer["nodes"] == [f"ultraserver1-{slot}" for slot in range(18)]
    assert answer["blocks"] == ["us1"]
    assert answer["alternatives"] == []
    assert answer["fragmentation"]["free_nodes"] == [35, 17]


def test_place_waits_and_offers_what_starts(topology: Path) -> None:
    busy = ["--busy", "ultraserver1-[0-8]"]
    done = run("place", "-N", "24", "--segment", "12", "--topology", str(topology), *busy, "-o", "json")
    answer = json.loads(done.stdout)
    assert (answer["result"], answer["nodes"], answer["slurm_says"]) == ("pending", [], "Resources")
    assert "a segment of 12 fits in no block" in answer["reason"]
    assert answer["alternatives"][1] == {
        "nodes": 24,
        "segment": 8,
        "blocks": 2,
        "options": "-N24 --segment=8",
    }


@pytest.mark.parametrize(("release", "result"), [("24.11", "rejected"), ("26.05", "starts")])
def test_place_by_the_rules_of_a_release(topology: Path, release: str, result: str) -> None:
    where = ["--topology", str(topology), "--slurm-release", release, "-o", "json"]
    assert json.loads(run("place", "-N", "4", "--segment", "18", *where).stdout)["result"] == result


def test_place_in_words(topology: Path) -> None:
    started = run("place", "-N", "2", "--exclusive-topo", "--topology", str(topology))
    assert "starts now on ultraserver2-[0-1]" in started.output
    assert "in 1 block: us2" in started.output
    refused = run("place", "-N", "24", "--segment", "20", "--topology", str(topology))
    assert refused.exit_code == 0
    assert "would be rejected" in refused.output
    assert "would start now: sbatch -N24 --segment=12" in refused.output


def test_exclusive_is_written_as_for_sbatch(topology: Path) -> None:
    where = ["--topology", str(topology), "--busy", "ultraserver1-[0-1],ultraserver2-0"]
    topo, same = (run("place", "-N", "2", word, *where) for word in ("--exclusive=topo", "--exclusive-topo"))
    assert (topo.exit_code, topo.output) == (0, same.output)
    nodes = run("place", "--exclusive", "-N", "2", *where)
    assert "starts now on ultraserver1-[2-3]" in nodes.output
    assert run("place", "-N", "2", "--exclusive=mcs", *where).exit_code == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--busy", "nobody"], "nobody is no node of this cluster"),
        (["--busy", "n[2-1]"], "Invalid hostlist"),
        (["--nodelist", "nobody"], "nobody is not a node"),
        (["--partition", "none"], "there is no partition"),
        (["--slurm-release", "soon"], "is no Slurm release"),
        (["--constraint", "[a|b]"], "cannot be planned with"),
    ],
)
def test_wrong_input_exits_2(topology: Path, args: list[str], words: str) -> None:
    done = run("place", "-N", "2", "--topology", str(topology), *args)
    assert done.exit_code == 2
    assert words in done.output
    assert "Traceback" not in done.output


def test_broken_topology_exits_2_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "topology.conf"
    path.write_text("BlockName=a Nodes=n[1-4]\nBlockName=b Nodes=n[4-7]\nBlockSizes=4\n")
    done = run("place", "-N", "1", "--topology", str(path))
    assert done.exit_code == 2
    assert "topology.conf:2: node n4 is already in block a" in done.output


def test_place_of_a_configuration_folder(tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text(
        "NodeName=ultraserver[1-2]-[0-17] CPUs=4\nPartitionName=p Nodes=ALL Default=YES\n"
        "TopologyPlugin=topology/block\n"
    )
    (tmp_path / "topology.conf").write_text(GUIDE)
    done = run("place", "-N", "36", "--conf-dir", str(tmp_path), "-o", "json")
    assert json.loads(done.stdout)["blocks"] == ["us1", "us2"]
    shown = run("show", "--conf-dir", str(tmp_path), "--busy", "ultraserver1-[0-3]", "-o", "json")
    assert [unit["free"] for unit in json.loads(shown.stdout)["topologies"][0]["units"]] == [14, 18]


def test_show_of_a_request_says_why() -> None:
    where = ["--inventory", str(EXAMPLES / "ultraservers.resource_config.json")]
    done = run("show", str(EXAMPLES / "ultraservers.json"), *where, "--slurm-release", "25.11")
    assert done.exit_code == 0, done.output
    assert "topology/block" in done.output


def test_show_of_a_request_takes_recorded_places(tmp_path: Path) -> None:
    """The inventory of this cluster tells no network nodes: without the file it is flat."""
    inventory = json.loads((EXAMPLES / "guide.resource_config.json").read_text())
    groups = inventory["InstanceGroups"]
    instances = [instance for group in groups for instance in group["Instances"]]
    for instance in instances:
        instance.pop("InstanceLabel", None)
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    places = [{"InstanceId": one["InstanceId"], "NetworkNodes": ["nn-1", "nn-2"]} for one in instances]
    (tmp_path / "places.json").write_text(json.dumps({"Instances": places}))
    where = [str(EXAMPLES / "guide.json"), "--inventory", str(tmp_path / "inventory.json"), "-o", "json"]
    where += ["--slurm-release", "26.05"]
    plain = run("show", *where)
    assert json.loads(plain.stdout)["topologies"][0]["kind"] == "flat", plain.output
    done = run("show", *where, "--network", str(tmp_path / "places.json"))
    assert json.loads(done.stdout)["topologies"][0]["kind"] == "tree", done.output


def test_show_writes_pictures(tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text("NodeName=n[1-4] CPUs=4\nPartitionName=p Nodes=ALL Default=YES\n")
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    done = run("show", "--conf-dir", str(tmp_path), "--svg", str(svg), "--html", str(html))
    assert done.exit_code == 0, done.output
    assert svg.read_text().startswith("<svg ")
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert run("show", "--conf-dir", str(tmp_path), "--svg", "/nowhere/a.svg").exit_code == 1


def test_help_has_examples() -> None:
    for command in ("show", "place"):
        done = run(command, "--help")
        assert done.exit_code == 0
        assert "Examples:\n" in done.output


def test_without_slurm_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "env").symlink_to("/usr/bin/env")
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("place", "-N", "2")
    assert done.exit_code == 1
    assert "scontrol is not installed here, or not on PATH" in done.output
    assert "--topology FILE" in done.output


YAML = "- {topology: t, block: {block_sizes: [18], blocks: [{block: us1, nodes: 'a[1-18]'}]}}\n"


def test_a_topology_yaml_is_planned_by_rules_of_a_release_that_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(YAML)
    done = run("place", "-N", "18", "--topology", str(path), "-o", "json")
    assert json.loads(done.stdout)["slurm_release"] == "26.05"
    assert "by the rules of 26.05" in done.stderr
    refused = run("place", "-N", "18", "--topology", str(path), "--slurm-release", "24.11")
    assert refused.exit_code == 2
    assert "Slurm 24.11 does not read topology.yaml" in refused.output


def test_a_folder_with_topology_yaml_says_which_rules_count(tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text("NodeName=a[1-18]\nPartitionName=p Nodes=ALL Default=YES\n")
    (tmp_path / "topology.yaml").write_text(YAML)
    new = run("place", "-N", "18", "--conf-dir", str(tmp_path), "-o", "json")
    assert (json.loads(new.stdout)["topology"], json.loads(new.stdout)["slurm_release"]) == ("block", "26.05")
    old = run("place", "-N", "18", "--conf-dir", str(tmp_path), "--slurm-release", "24.11", "-o", "json")
    assert json.loads(old.stdout)["topology"] == "flat"
    assert "Slurm 24.11 ignores topology.yaml" in old.stderr


def test_place_with_nodes_that_are_down(topology: Path) -> None:
    done = run("place", "-N", "18", "--topology", str(topology), "--down", "ultraserver[1-2]-0", "-o", "json")
    assert json.loads(done.stdout)["result"] == "pending"
    assert run("place", "-N", "1", "--topology", str(topology), "--down", "nobody").exit_code == 2
