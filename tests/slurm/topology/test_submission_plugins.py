"""The Lua plugins at submission: what can never start is refused with advice, everything else passes untouched."""

from __future__ import annotations

import json
import random
import re
import sys
from typing import Any

import pytest

from hpadmin.resources import directory
from tests.slurm.topology.record import ORACLE
from tests.support.box import Box

pytestmark = pytest.mark.slurm

SCRIPTS = directory("slurm_plugins") / "topology"
NODES = "NodeName=n[1-36] CPUs=4 State=CLOUD\nPartitionName=all Nodes=ALL Default=YES\n"
CLI, SUBMIT = "CliFilterPlugins=cli_filter/lua\n", "JobSubmitPlugins=lua\n"
CONF = "BlockName=us1 Nodes=n[1-18]\nBlockName=us2 Nodes=n[19-36]\nBlockSizes=18\n"
YAML = """\
- topology: ultraservers
  cluster_default: true
  block:
    block_sizes:
    - 18
    blocks:
    - block: us1
      nodes: n[1-18]
    - block: us2
      nodes: n[19-36]
"""


def files(release: str, plugins: str, **scripts: str) -> dict[str, str]:
    found = {"slurm.conf": NODES + "TopologyPlugin=topology/block\n" + plugins}
    if release == "24.11":
        found["topology.conf"] = CONF
    else:
        found["topology.yaml"] = YAML
    found["hpadmin_segments.lua"] = (SCRIPTS / "hpadmin_segments.lua").read_text()
    if CLI in plugins:
        found["cli_filter.lua"] = (SCRIPTS / "cli_filter.lua").read_text()
    if SUBMIT in plugins:
        found["job_submit.lua"] = (SCRIPTS / "job_submit.lua").read_text()
    return {**found, **{name.replace("__", "."): text for name, text in scripts.items()}}


def submit(machine: Box, written: dict[str, str], jobs: list[list[str]]) -> dict[str, Any]:
    machine.put("/tmp/oracle.py", ORACLE.read_text())
    text = json.dumps({"files": written, "sbatch": jobs}) + "\n"
    done = machine.run(["python3", "/tmp/oracle.py"], stdin=text, timeout=300).check()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def plugin_of(release: str) -> str:
    """Before 25.11 job_submit does not learn of segments."""
    return CLI if release == "24.11" else SUBMIT


def test_refuses_with_reason_and_alternative(slurm24: Box) -> None:
    answers = submit(slurm24, files("24.11", CLI), [["-N24", "--segment=20"], ["-N36", "--segment=12"]])[
        "answers"
    ]
    assert [answer["taken"] for answer in answers] == [False, False]
    assert "a segment of 20 is larger than the planning block of 18 nodes" in answers[0]["says"]
    assert "this would work: -N24 --segment=12" in answers[0]["says"]
    assert "-N36 --segment=18 or -N24 --segment=12" in answers[1]["says"]


def test_job_submit_speaks_through_slurmctld(slurm26: Box) -> None:
    [answer] = submit(slurm26, files("26.05", SUBMIT), [["-N36", "--segment=12"]])["answers"]
    assert not answer["taken"]
    assert "hpadmin: this job could never start: 3 segments of 12 nodes" in answer["says"]
    assert "Requested topology configuration is not available" in answer["says"]


@pytest.mark.parametrize("plugin", [CLI, SUBMIT])
def test_refuses_only_what_slurm_refuses(slurm: Box, release: str, plugin: str) -> None:
    dice = random.Random(f"{release} {plugin}")
    jobs = [
        ["-N36", "--segment=12"],
        ["-N24", "--segment=12"],
        ["-N2-4", "--segment=3"],
        ["-N4", "--segment=2", "-w", "n[1-4]"],
        ["-n9"],
    ]
    for _ in range(12):
        nodes, segment = dice.randint(1, 40), dice.choice([1, 2, 3, 4, 5, 6, 8, 9, 12, 16, 18, 20, 36])
        jobs.append([f"-N{dice.choice([nodes, segment * dice.randint(1, 4)])}", f"--segment={segment}"])
    plain = submit(slurm, files(release, ""), jobs)["answers"]
    filtered = submit(slurm, files(release, plugin), jobs)["answers"]
    refused = 0
    for job, without, with_plugin in zip(jobs, plain, filtered, strict=True):
        if "hpadmin" in with_plugin["says"]:
            refused += 1
            assert not without["taken"], f"{job} was refused by the plugin and taken by Slurm"
        assert with_plugin["taken"] == without["taken"], job
    # job_submit before 25.11 is not told of segments.
    assert bool(refused) is (plugin == CLI or release != "24.11")


@pytest.mark.parametrize(
    "broken",
    [
        {"hpadmin_segments__lua": "this is no Lua"},
        {"hpadmin_segments__lua": "return { refusal = function() error('boom') end }"},
        {"hpadmin_segments__lua": "return nil"},
    ],
)
def test_own_faults_never_block_a_job(slurm: Box, release: str, broken: dict[str, str]) -> None:
    written = files(release, plugin_of(release), **broken)
    answers = submit(slurm, written, [["-N18", "--segment=9"], ["-N4"]])["answers"]
    assert [answer["taken"] for answer in answers] == [True, True]


def test_other_topologies_pass(slurm24: Box) -> None:
    tree = "SwitchName=s1 Nodes=n[1-18]\nSwitchName=s2 Nodes=n[19-36]\nSwitchName=top Switches=s[1-2]\n"
    written = files("24.11", CLI, topology__conf=tree)
    written["slurm.conf"] = NODES + "TopologyPlugin=topology/tree\n" + CLI
    [answer] = submit(slurm24, written, [["-N5", "--segment=2"]])["answers"]
    assert answer["taken"]


FLOW = """\
- topology: t
  cluster_default: true
  block:
    block_sizes: [6]
    blocks:
    - {block: b0, nodes: "n[1-24]"}
    - block: b1
      nodes: n[25-30]
    - block: b2
      nodes: n[31-36]
"""
TWO_SIZES = "BlockSizes=4\nBlockName=us1 Nodes=n[1-18]\nBlockName=us2 Nodes=n[19-36]\nBlockSizes=18\n"


def test_what_is_written_otherwise_is_not_judged(slurm: Box, release: str) -> None:
    """A list of blocks in YAML's short form, and BlockSizes twice, of which Slurm takes one."""
    name, text, job = (
        ("topology.conf", TWO_SIZES, ["-N18", "--segment=18"])
        if release == "24.11"
        else ("topology.yaml", FLOW, ["-N24", "--segment=6"])
    )
    written = {**files(release, plugin_of(release)), name: text}
    plain = {**files(release, ""), name: text}
    assert submit(slurm, plain, [job])["answers"][0]["taken"]
    assert submit(slurm, written, [job])["answers"][0]["taken"]


def test_placeholders_are_no_room(slurm24: Box) -> None:
    """us2 has 17 nodes: Slurm would take both jobs and never start the first."""
    written = files("24.11", CLI)
    written["slurm.conf"] = NODES.replace("n[1-36]", "n[1-35]") + (
        f"NodeName=pad-us2-1 CPUs=4 State=FUTURE\nTopologyPlugin=topology/block\n{CLI}"
    )
    written["topology.conf"] = CONF.replace("n[19-36]", "n[19-35],pad-us2-1")
    never, fits = submit(slurm24, written, [["-N35", "--segment=5"], ["-N34", "--segment=17"]])["answers"]
    assert "7 segments of 5 nodes are asked for and all blocks together have room for 6" in never["says"]
    assert fits["taken"]


@pytest.mark.parametrize("blocks", [2, 64])
def test_costs_less_than_a_millisecond(
    slurm: Box, release: str, blocks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Timed inside the plugin's own interpreter; 64 UltraServers are 1,152 nodes."""
    names = f"n[1-{blocks * 18}]"
    entries = [(f"us{one}", f"n[{18 * one - 17}-{18 * one}]") for one in range(1, blocks + 1)]
    written = files(release, plugin_of(release))
    written["slurm.conf"] = (
        f"NodeName={names} CPUs=4 State=CLOUD\nPartitionName=all Nodes=ALL Default=YES\n"
        f"TopologyPlugin=topology/block\n{plugin_of(release)}"
    )
    script, function = (
        ("cli_filter.lua", "slurm_cli_pre_submit")
        if release == "24.11"
        else ("job_submit.lua", "slurm_job_submit")
    )
    if release == "24.11":
        written["topology.conf"] = (
            "".join(f"BlockName={name} Nodes={nodes}\n" for name, nodes in entries) + "BlockSizes=18\n"
        )
    else:
        listed = "".join(f"    - block: {name}\n      nodes: {nodes}\n" for name, nodes in entries)
        written["topology.yaml"] = YAML.split("    - block: us1")[0] + listed
    written[script] += f"""
local plain = {function}
function {function}(...)
    local times, result = {{}}, nil
    for i = 1, 101 do
        local start = os.clock()
        result = plain(...)
        times[i] = os.clock() - start
    end
    local first = times[1]
    table.sort(times)
    slurm.log_error("first %.6f median %.6f", first, times[51])
    return result
end
"""
    answer = submit(slurm, written, [["-N36", "--segment=9"]])
    [(first, median)] = re.findall(
        r"first ([0-9.]+) median ([0-9.]+)", answer["answers"][0]["says"] + answer["log"]
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{script}, {blocks} blocks: first call {first} s, median of 101 {median} s\n")
    assert answer["answers"][0]["taken"]
    assert float(median) < 0.001
