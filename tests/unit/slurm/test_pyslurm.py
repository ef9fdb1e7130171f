"""pyslurm's reader on what a real pyslurm 24.11.0 told: the contract that the commands' reader keeps too.

Both were asked about one cluster at one moment (tests/slurm/nodes/record_readers.py), and must say the same.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.pyslurm_reader import PyslurmReader, best_reader, node_info
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.text import Unreadable
from tests.unit.slurm.recording import RECORDED, Recorded

BOTH = Recorded("24.11-both")
TOLD: dict[str, Any] = json.loads((RECORDED / BOTH.release / "pyslurm.json").read_text())


class PyslurmError(Exception):
    """Stands for pyslurm's own."""


def module(version: str = TOLD["version"], error: str = "", *, accounted: bool = False) -> Any:
    """Return a module like pyslurm that tells what was recorded; with `error` it fails as one without slurmctld.

    `accounted`: as in a cluster whose accounting counts GPUs (AccountingStorageTRES=gres/gpu).
    """
    nodes = [SimpleNamespace(**node) for node in TOLD["nodes"]]
    if accounted:
        used = {node.name: node.gres_used for node in CommandReader(BOTH).nodes()}
        for node in nodes:
            node.allocated_gres = {"gpu": int(count)} if (count := used[node.name][-1]) != "0" else {}
            if node.allocated_cpus and not node.allocated_gres:
                raise AssertionError(f"nothing would be known of the GPUs of {node.name}")

    def loading(records: list[SimpleNamespace]) -> SimpleNamespace:
        def load() -> dict[int, SimpleNamespace]:
            if error:
                raise PyslurmError(error)
            return dict(enumerate(records))

        return SimpleNamespace(load=load)

    made = ModuleType("pyslurm")
    made.__dict__.update(
        __version__=version,
        PyslurmError=PyslurmError,
        Nodes=loading(nodes),
        Jobs=loading([SimpleNamespace(**job) for job in TOLD["jobs"]]),
    )
    return made


def without_what_pyslurm_lacks(node: NodeInfo) -> NodeInfo:
    return replace(node, instance_id="", instance_type="", reservation="")


def test_both_readers_say_the_same_of_jobs() -> None:
    commands = CommandReader(BOTH)
    reader = PyslurmReader(module(), commands)
    said = {job.job_id: job for job in reader.jobs()}
    assert said == {job.job_id: job for job in commands.jobs()}
    assert {job.array_task for job in said.values()} == {"", "1", "2-5%1"}
    assert reader.release() == (24, 11)
    assert reader.partitions() == commands.partitions()


def test_both_readers_say_the_same_of_nodes() -> None:
    commands = CommandReader(BOTH)
    expected = [without_what_pyslurm_lacks(node) for node in commands.nodes()]
    assert expected[1].reason == "first line [x@y]\nsecond"
    assert list(PyslurmReader(module(accounted=True), commands).nodes()) == expected


def test_where_gpus_are_not_accounted_for_the_nodes_are_the_commands() -> None:
    """pyslurm knows of GRES in use what the accounting counts, and would call every GPU free."""
    commands = CommandReader(BOTH)
    assert PyslurmReader(module(), commands).nodes() == commands.nodes()
    idle = {node.name: node for node in commands.nodes() if not node.cpus_allocated}
    assert idle
    for told in TOLD["nodes"]:
        if told["name"] in idle:
            said = node_info(SimpleNamespace(**told))
            assert said == without_what_pyslurm_lacks(idle[told["name"]])


@pytest.mark.parametrize(
    ("configured", "allocated", "used"),
    [
        ({"gpu:h100": 8}, {"gpu": 3}, "gpu:h100:3"),
        ({"gpu:a100": 4, "gpu:h100": 8}, {"gpu": 5, "gpu:a100": 1, "gpu:h100": 4}, "gpu:a100:1,gpu:h100:4"),
        ({}, {}, ""),
    ],
)
def test_gres_by_type(configured: dict[str, int], allocated: dict[str, int], used: str) -> None:
    told = TOLD["nodes"][0] | {"configured_gres": configured, "allocated_gres": allocated}
    assert node_info(SimpleNamespace(**told)).gres_used == used


def test_a_node_without_a_state_is_never_taken_for_healthy() -> None:
    with pytest.raises(Unreadable):
        node_info(SimpleNamespace(**(TOLD["nodes"][0] | {"state": None})))


def test_slurm_is_asked_before_pyslurm_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing pyslurm where Slurm is not configured ends the process (fatal() of libslurm)."""

    def away(self: CommandReader) -> tuple[int, int]:
        raise OperationFailed("Unable to contact slurm controller")

    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr("importlib.import_module", lambda _: pytest.fail("imported"))
    monkeypatch.setattr(CommandReader, "release", away)
    with pytest.raises(OperationFailed):
        best_reader(BOTH)


def test_no_answer_is_an_error_and_never_an_empty_list() -> None:
    reader = PyslurmReader(module(error="Unable to contact slurm controller"), CommandReader(Recorded()))
    with pytest.raises(OperationFailed, match="Unable to contact"):
        reader.nodes()
    with pytest.raises(OperationFailed, match="Unable to contact"):
        reader.jobs()


@pytest.mark.parametrize(("version", "used"), [("24.11.0", True), ("25.11.2", False), ("24.5.1", False)])
def test_only_a_pyslurm_of_the_running_release_is_used(
    monkeypatch: pytest.MonkeyPatch, version: str, used: bool
) -> None:
    made = module(version)
    made.__spec__ = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "pyslurm", made)
    assert isinstance(best_reader(Recorded()), PyslurmReader) is used


def test_without_pyslurm_or_for_another_host_the_commands_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(best_reader(Recorded()), CommandReader)
    made = module()
    made.__spec__ = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "pyslurm", made)
    assert isinstance(best_reader(Recorded(), local=False), CommandReader)
