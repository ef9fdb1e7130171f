"""Metrics in Prometheus' text form: the HyperPod names, counted right."""

from __future__ import annotations

import re
from pathlib import Path

from hpadmin.nodes.provider import Repair
from hpadmin.recovery import metrics
from hpadmin.recovery.book import Book, Origin, Phase, RepairRecord
from hpadmin.recovery.observe import Observation, observe
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.control import NewState
from tests.unit.recovery.world import World
from tests.unit.slurm.recording import Recorded

_LINE = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+]+')


def values(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(_LINE.fullmatch(line) for line in lines), lines
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_a_recorded_cluster() -> None:
    reader = CommandReader(Recorded())
    nodes = {node.name: node for node in reader.nodes()}
    seen = Observation(at=1_795_355_000.25, nodes=nodes, jobs=reader.jobs(), instances={})
    told = values(metrics.render(seen, Book(), Policy()))
    assert told["hyperpod_cluster_node_count"] == 6
    assert told["hyperpod_cluster_failed_node_count"] == 1
    assert told["hyperpod_cluster_gpu_count"] == 12
    assert told["hyperpod_cluster_running_task_count"] == 4
    assert told["hyperpod_cluster_pending_task_count"] == 1
    assert told["hyperpod_cluster_max_task_wait_time"] == 1_795_355_000.25 - 1_795_354_786
    assert told["hpadmin_provider_up"] == 1
    assert told["hpadmin_last_look_seconds"] == seen.at


def test_repairs_and_health() -> None:
    world = World(3)
    world.advance(10)
    world.break_gpu("n1")
    world.admin("n1", NewState.FAIL, "Action:Replace")
    world.advance(10)
    world.provider_down = True
    record = RepairRecord(1, "n1", Repair.REPLACE, Origin.ORDER, "a", "x", False, Phase.DRAIN, 1, 1)
    told = values(metrics.render(observe(world, world, at=world.now), Book(open={"n1": record}), Policy()))
    assert told['hpadmin_node_health{health="passed"}'] == 2
    assert told['hpadmin_node_health{health="failed"}'] == 1
    assert told['hpadmin_repairs_open{phase="drain"}'] == 1
    assert told['hpadmin_repairs_closed{action="replace",result="failed"}'] == 0
    assert told["hpadmin_provider_up"] == 0
    assert told["hpadmin_breaker_open"] == 0


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "hpadmin.prom"
    metrics.write(path, "a 1\n")
    metrics.write(path, "b 2\n")
    assert path.read_text() == "b 2\n"
    assert [file.name for file in tmp_path.iterdir()] == ["hpadmin.prom"]
