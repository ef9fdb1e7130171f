"""pyslurm's reader against a module of the same shape: the contract that the commands' reader keeps too.

The shape is that of pyslurm 24.11 (pyslurm/core/node.pyx, pyslurm/core/job/job.pyx); the values are those that
the commands' reader found in the recording, so that both must say the same.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.pyslurm_reader import PyslurmReader, best_reader
from hpadmin.slurm.reader import JobInfo, NodeInfo
from tests.unit.slurm.recording import Recorded


class PyslurmError(Exception):
    """Stands for pyslurm's own."""


def _counts(gres: str) -> dict[str, int]:
    pairs = (part.rpartition(":") for part in gres.removeprefix("gres/").split(",") if part)
    return {name: int(count) for name, _, count in pairs}


def _as_pyslurm_node(node: NodeInfo) -> SimpleNamespace:
    return SimpleNamespace(
        name=node.name,
        state=str(node.state),
        reason=node.reason or None,
        reason_user=node.reason_user or None,
        reason_time=int(node.reason_time),
        address=node.address,
        hostname=node.hostname,
        slurmd_port=node.port,
        partitions=list(node.partitions),
        active_features=list(node.features),
        configured_gres=_counts(node.gres),
        allocated_gres=_counts(node.gres_used),
        total_cpus=node.cpus,
        allocated_cpus=node.cpus_allocated,
        sockets=1,
        cores_per_socket=node.cores,
        real_memory=node.memory,
        boot_time=int(node.boot_time),
        slurmd_start_time=int(node.slurmd_start_time),
        last_busy_time=int(node.last_busy),
        slurm_version=node.version,
        comment=node.comment or None,
        extra=node.extra or None,
    )


def _as_pyslurm_job(job: JobInfo) -> SimpleNamespace:
    waits = not job.array_task.isdigit()
    return SimpleNamespace(
        id=job.job_id,
        state=job.state.value,
        state_reason=job.reason or "None",
        user_name=job.user,
        account=job.account or None,
        partition=job.partition,
        qos=job.qos or None,
        num_nodes=job.node_count,
        allocated_nodes=job.nodes or None,
        batch_host=job.batch_host or None,
        gres_per_node=_counts(job.gres),
        submit_time=int(job.submit_time),
        start_time=int(job.start_time) or None,
        end_time=int(job.end_time) or None,
        array_id=job.array_job_id or None,
        array_task_id=None if waits else int(job.array_task),
        array_tasks_waiting=job.array_task or None if waits else None,
        reservation=job.reservation or None,
    )


def module(version: str = "24.11.0", error: str = "") -> Any:
    """Return a module like pyslurm, over the recorded cluster; with `error` it fails as one without slurmctld."""

    def loading(records: dict[Any, SimpleNamespace]) -> SimpleNamespace:
        def load() -> dict[Any, SimpleNamespace]:
            if error:
                raise PyslurmError(error)
            return records

        return SimpleNamespace(load=load)

    commands = CommandReader(Recorded())
    made = ModuleType("pyslurm")
    made.__dict__.update(
        __version__=version,
        PyslurmError=PyslurmError,
        Nodes=loading({node.name: _as_pyslurm_node(node) for node in commands.nodes()}),
        Jobs=loading({job.job_id: _as_pyslurm_job(job) for job in commands.jobs()}),
    )
    return made


def test_both_readers_say_the_same() -> None:
    commands = CommandReader(Recorded())
    reader = PyslurmReader(module(), commands)
    # What pyslurm does not have is empty, and only that.
    expected = [replace(node, instance_id="", instance_type="", reservation="") for node in commands.nodes()]
    assert list(reader.nodes()) == expected
    assert reader.jobs() == commands.jobs()
    assert reader.release() == (24, 11)
    assert reader.partitions() == commands.partitions()


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
