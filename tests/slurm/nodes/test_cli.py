"""``hpadmin node`` on real Slurm: what it prints, what it refuses, and that nothing is half done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner, Result

from admin_cli.root import root
from hpadmin.recovery import site as site_module
from hpadmin.slurm.control import NewState
from hpadmin.slurm.states import JobState
from tests.slurm.nodes.cluster import Cluster, cluster
from tests.support.labs import wait_until

pytestmark = pytest.mark.slurm


class Command(Protocol):
    """``hpadmin node`` with these words."""

    def __call__(self, *words: str, given: str | None = None) -> Result: ...


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster(count=3) as running:
        yield running


@pytest.fixture
def hpadmin(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command line, with Slurm's commands run in the box."""
    monkeypatch.setattr(site_module, "_slurm_runner", lambda _: slurm.box)

    def run(*words: str, given: str | None = None) -> Result:
        options: Sequence[str] = ["--state-dir", str(tmp_path), "--config", str(tmp_path / "agent.toml")]
        return CliRunner().invoke(root, ["node", *words, *options], input=given)

    yield run
    for node in slurm.reader.nodes():
        if node.state.kept_out:
            slurm.control.set_state([node.name], NewState.RESUME, "x")
    wait_until(lambda: all(node.state.responding for node in slurm.reader.nodes()), 60, "all nodes answer")


def states(slurm: Cluster) -> list[tuple[str, str, str]]:
    return [
        (node.name, str(node.state), node.reason if node.state.kept_out else "")
        for node in slurm.reader.nodes()
    ]


def test_list_in_json_has_its_promised_members(slurm: Cluster, hpadmin: Command) -> None:
    slurm.control.set_state(["n2"], NewState.DRAIN, "bad PSU")
    result = hpadmin("list", "-o", "json")
    assert result.exit_code == 0, result.output
    nodes = {node["name"]: node for node in json.loads(result.stdout)["nodes"]}
    assert {"name", "state", "reason", "group", "instance_id", "block", "health"} <= nodes["n1"].keys()
    assert (nodes["n2"]["state"], nodes["n2"]["reason"], nodes["n2"]["owner"]) == (
        "IDLE+DRAIN",
        "bad PSU",
        "root",
    )
    assert nodes["n1"]["health"] == "unknown"
    assert "n3" in hpadmin("list").stdout


def test_show(slurm: Cluster, hpadmin: Command) -> None:
    result = hpadmin("show", "n1", "-o", "json")
    [node] = json.loads(result.stdout)["nodes"]
    assert (node["name"], node["state"], node["events"]) == ("n1", "IDLE", [])


def test_health_is_checked_through_slurm_where_the_provider_has_no_way(
    slurm: Cluster, hpadmin: Command
) -> None:
    slurm.control.set_state(["n2"], NewState.DRAIN, "bad PSU")
    job = int(slurm.sh("sbatch", "--parsable", "-D", "/tmp", "-w", "n1", "--mem=100", "--wrap", "sleep 600"))
    wait_until(lambda: slurm.state("n1") == "MIXED", 240, "a job has a part of n1 and of its memory")
    result = hpadmin("health", "n[1-2]", "-o", "json")
    slurm.sh("scancel", str(job))
    assert result.exit_code == 1, result.output
    first, second = json.loads(result.stdout)["nodes"]
    assert (first["name"], first["health"]) == ("n1", "passed")
    assert (second["name"], second["health"]) == ("n2", "unknown")
    assert "srun: error" in second["error"]


@pytest.mark.parametrize("words", [["nowhere"], ["n1", "n[2-9]"], ["i-0123456789abcdef0"], ["n1,n[1"], [""]])
def test_bad_words_end_with_2_and_change_nothing(slurm: Cluster, hpadmin: Command, words: list[str]) -> None:
    before = states(slurm)
    result = hpadmin("replace", *words, "--yes")
    assert result.exit_code == 2, result.output
    assert "nothing was done" in result.stderr
    assert states(slurm) == before


def test_a_foreign_drain_is_refused_with_its_owner(slurm: Cluster, hpadmin: Command) -> None:
    slurm.control.set_state(["n2"], NewState.DRAIN, "bad PSU")
    result = hpadmin("reboot", "n[1-2]", "--yes")
    assert result.exit_code == 2
    assert "n2: root keeps it out: 'bad PSU'" in result.stderr
    assert states(slurm)[0] == ("n1", "IDLE", "")


def test_it_asks_first_and_tells_what_would_be_hit(slurm: Cluster, hpadmin: Command) -> None:
    job = slurm.sh("sbatch", "--parsable", "-D", "/tmp", "-w", "n3", "--wrap", "sleep 600").strip()
    wait_until(lambda: slurm.reader.jobs()[0].state is JobState.RUNNING, 240, "the job runs")
    before = states(slurm)
    result = hpadmin("replace", "n3", "--now", given="n\n")
    assert result.exit_code == 1
    assert f"job {job} of root" in result.stderr
    assert "will be ended" in result.stderr
    assert [name for name, _, _ in states(slurm)] == [name for name, _, _ in before]
    assert not any(reason for _, _, reason in states(slurm))
    slurm.sh("scancel", job)


def test_an_order_names_who_and_why(
    slurm: Cluster, hpadmin: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    result = hpadmin("reboot", "n1", "--yes", "--no-wait", "--reason", "kernel update")
    assert result.exit_code == 0, result.output
    assert states(slurm)[0] == ("n1", "IDLE+FAIL", "hpadmin: reboot by alice: kernel update")
    again = hpadmin("reboot", "n1", "--yes", "--no-wait")
    assert "ordered already, going on: n1" in again.stderr
    assert states(slurm)[0][2] == "hpadmin: reboot by alice: kernel update"


def test_without_rights_slurm_refuses_and_it_is_said(slurm: Cluster) -> None:
    script = (
        "from hpadmin.slurm.command import Local; from hpadmin.slurm.commands import CommandReader;"
        "from hpadmin.slurm.control import CommandControl; from hpadmin.recovery import operate;"
        "from hpadmin.nodes.provider import Repair; from hpadmin.errors import OperationFailed\n"
        "try:\n"
        "    operate.order(['n1'], Repair.REBOOT, author='u', why='x', now=False,"
        " reader=CommandReader(Local()), control=CommandControl(Local()))\n"
        "except OperationFailed as error:\n"
        "    print(error.message, '|', error.hint)\n"
    )
    said = slurm.sh(
        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "python3", "-c", script
    )
    assert "you may not change nodes of this cluster" in said, (said, sys.version)
    assert states(slurm)[0][1] == "IDLE"
