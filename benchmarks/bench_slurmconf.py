"""How long a slurm.conf of 16,000 nodes takes, next to others: ``python benchmarks/bench_slurmconf.py``.

Prints seconds and peak memory of each step and of each library on what it can do, one process each, and ratios.
Others are measured where benchmarks/requirements.txt is installed; slurmutils at 20 lines, as it is not linear.
slurmctld's own parse is that of ``scontrol show hostnames x`` in a container of Slurm 24.11, where Docker answers.
Exit code 1 when the whole plan of 16,000 single lines takes more than a second of processor time.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NODES = 16_000
BLOCKS = 2_000
FEW = 20
"""Lines that slurmutils gets."""
TARGET = 1.0
"""Seconds for parse, compare, plan and dump of NODES single lines."""

_HEAD = "ClusterName=bench\nSlurmctldHost=localhost\nSchedulerParameters=permit_job_expansion\n"
_TAIL = "PartitionName=dev Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
_SHAPE = (
    "CPUs=192 Boards=1 SocketsPerBoard=2 CoresPerSocket=48 ThreadsPerCore=2 RealMemory={memory} State=CLOUD"
)


def name(number: int) -> str:
    """A node's name, as HyperPod makes it of the address."""
    return f"ip-10-{number >> 16}-{number >> 8 & 255}-{number & 255}"


def single(nodes: int, memory: int = 2_000_000) -> bytes:
    """A slurm.conf with a line for each node."""
    shape = _SHAPE.format(memory=memory)
    lines = [
        f"NodeName={name(number)} NodeAddr=10.{number >> 16}.{number >> 8 & 255}.{number & 255} {shape}\n"
        for number in range(nodes)
    ]
    return "".join([_HEAD, *lines, _TAIL]).encode()


def folded(nodes: int, memory: int = 2_000_000) -> bytes:
    """The same with a line for 256 nodes."""
    shape = _SHAPE.format(memory=memory)
    lines = [
        f"NodeName=ip-10-0-{block}-[0-{min(255, nodes - block * 256 - 1)}] "
        f"NodeAddr=10.0.{block}.[0-{min(255, nodes - block * 256 - 1)}] {shape}\n"
        for block in range(-(-nodes // 256))
    ]
    return "".join([_HEAD, *lines, _TAIL]).encode()


def lower_case(nodes: int) -> str:
    """What slurmutils reads: it refuses values in upper case."""
    lines = [f"nodename=n{number} cpus=4 realmemory=1000 state=unknown\n" for number in range(nodes)]
    return "clustername=bench\n" + "".join(lines)


def _read(content: bytes) -> None:
    from hpadmin.slurmconf.view import view

    assert view("slurm.conf", {"slurm.conf": content}.get).of("NodeName")


def _parse(content: bytes) -> None:
    from hpadmin.slurmconf.facts import Interner, facts
    from hpadmin.slurmconf.view import view

    seen = facts(view("slurm.conf", {"slurm.conf": content}.get), Interner())
    assert len(seen.nodes) == NODES


def _plan(before: bytes, after: bytes) -> None:
    from hpadmin.configure.compare import Loader, differences
    from hpadmin.configure.merge import combine
    from hpadmin.model import Strategy

    disk, wanted = {"slurm.conf": before}, {"slurm.conf": after}
    loader = Loader()
    outcome = combine(Strategy.MANAGED, last=disk, disk=disk, wanted=wanted, loader=loader)
    assert differences(disk, outcome.files, loader=loader)
    assert outcome.changed(disk)


def _merge() -> None:
    from hpadmin.configure.merge import combine
    from hpadmin.model import Strategy

    last, wanted = {"slurm.conf": single(NODES)}, {"slurm.conf": single(NODES, 1_900_000)}
    disk = {"slurm.conf": last["slurm.conf"] + b"# by hand\nMailProg=/bin/true\n"}
    outcome = combine(Strategy.MERGE, last=last, disk=disk, wanted=wanted)
    assert b"MailProg" in outcome.files["slurm.conf"]


def _merge_blocks() -> None:
    from hpadmin.configure.merge import combine
    from hpadmin.model import Strategy

    def blocks(width: int) -> bytes:
        lines = [
            f"BlockName=b{number} Nodes=n[{number * 8}-{number * 8 + width - 1}]\n"
            for number in range(BLOCKS)
        ]
        return "".join([*lines, "BlockSizes=4\n"]).encode()

    last, wanted = {"topology.conf": blocks(8)}, {"topology.conf": blocks(7)}
    disk = {"topology.conf": last["topology.conf"] + b"# by hand\n"}
    outcome = combine(Strategy.MERGE, last=last, disk=disk, wanted=wanted)
    assert outcome.files["topology.conf"] == wanted["topology.conf"] + b"# by hand\n"


def _round_trip(content: bytes) -> None:
    from hpadmin.slurmconf import dumps, loads

    assert dumps(loads(content)) == content


def _hpadmin_fold() -> None:
    from hpadmin.slurm.hostlist import expand, fold

    assert len(expand(fold(map(name, range(NODES))))) == NODES


def _python_hostlist_fold() -> None:
    hostlist = importlib.import_module("hostlist")
    assert len(hostlist.expand_hostlist(hostlist.collect_hostlist(map(name, range(NODES))))) == NODES


def _clustershell_fold() -> None:
    NodeSet = importlib.import_module("ClusterShell.NodeSet").NodeSet  # noqa: N806 - a class
    assert len(NodeSet(str(NodeSet.fromlist(map(name, range(FEW * 50)))))) == FEW * 50


def _hpadmin_fold_few() -> None:
    from hpadmin.slurm.hostlist import expand, fold

    assert len(expand(fold(map(name, range(FEW * 50))))) == FEW * 50


def _slurmutils() -> None:
    slurmconfig = importlib.import_module("slurmutils").slurmconfig
    assert slurmconfig.dumps(slurmconfig.loads(lower_case(FEW)))


def _hpadmin_few() -> None:
    from hpadmin.slurmconf import dumps, loads
    from hpadmin.slurmconf.view import view

    text = lower_case(FEW)
    assert len(view("slurm.conf", {"slurm.conf": text}.get).nodes) == FEW
    assert dumps(loads(text))


CASES: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "round trip, single lines": lambda: _round_trip(single(NODES)),
    "parse, single lines": lambda: _read(single(NODES)),
    "parse, folded lines": lambda: _read(folded(NODES)),
    "parse and expand, single lines": lambda: _parse(single(NODES)),
    "parse and expand, folded lines": lambda: _parse(folded(NODES)),
    "parse, compare, plan, dump: single lines": lambda: _plan(single(NODES), single(NODES, 1_900_000)),
    "parse, compare, plan, dump: folded lines": lambda: _plan(folded(NODES), folded(NODES, 1_900_000)),
    "parse, compare, plan, dump: folded to single": lambda: _plan(folded(NODES), single(NODES, 1_900_000)),
    "merge a change of every node into a file edited by hand": _merge,
    f"merge a change of {BLOCKS:,} blocks into a file edited by hand": _merge_blocks,
    "fold and expand": _hpadmin_fold,
    "fold and expand, python-hostlist": _python_hostlist_fold,
    f"fold and expand {FEW * 50:,}": _hpadmin_fold_few,
    f"fold and expand {FEW * 50:,}, ClusterShell": _clustershell_fold,
    f"read and write {FEW} lines": _hpadmin_few,
    f"read and write {FEW} lines, slurmutils": _slurmutils,
}
NEEDS = {"python-hostlist": "hostlist", "ClusterShell": "ClusterShell", "slurmutils": "slurmutils"}
"""Distribution and the module that it brings."""


@dataclass(frozen=True)
class Measured:
    """What a case took."""

    seconds: float
    cpu: float
    """Seconds of processor time, which a busy machine changes less."""
    peak_mib: float


def measure(case: str) -> Measured:
    """Run one case in a process of its own."""
    done = subprocess.run([sys.executable, __file__, case], capture_output=True, text=True, check=True)
    return Measured(**json.loads(done.stdout))


def child(case: str) -> None:
    """Run a case and print what it took as JSON. Imports are paid for before."""
    import hpadmin.configure.merge  # noqa: F401 - to be loaded

    for distribution, module in NEEDS.items():
        if case.endswith(distribution):
            importlib.import_module(module)
    started, cpu = time.perf_counter(), time.process_time()
    CASES[case]()
    result = {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(result))


def slurm_parses(content: bytes) -> float:
    """Return the seconds that Slurm's own parser takes for a file, its start taken off."""
    from tests.support.box import Box, box

    def seconds(running: Box) -> float:
        timed = "TIMEFORMAT=%R; time scontrol show hostnames x >/dev/null"
        told: Any = running.run(
            ["bash", "-c", timed], timeout=300, env={"SLURM_CONF": "/tmp/slurm.conf"}
        ).check()
        return float(told.stderr.split()[-1])

    with box("24.11") as running:
        running.put("/tmp/slurm.conf", single(1))
        start = min(seconds(running) for _ in range(3))
        running.put("/tmp/slurm.conf", content)
        return max(min(seconds(running) for _ in range(3)) - start, 0.001)


def main() -> int:
    """Measure everything and print it."""
    measured: dict[str, Measured] = {}
    print(f"{NODES:,} nodes{'':48} {'seconds':>9} {'cpu':>7} {'peak MiB':>9}")
    for case in CASES:
        missing = [
            need for need in NEEDS if case.endswith(need) and not importlib.util.find_spec(NEEDS[need])
        ]
        if missing:
            print(f"{case:60} not installed: see benchmarks/requirements.txt")
            continue
        measured[case] = found = measure(case)
        print(f"{case:60} {found.seconds:9.3f} {found.cpu:7.3f} {found.peak_mib:9.0f}", flush=True)
    print()
    for case, other in measured.items():
        ours = measured.get(case.rpartition(", ")[0])
        if ours and case.endswith(tuple(NEEDS)):
            print(
                f"{case}: {other.cpu / ours.cpu:,.1f} times our time, {other.peak_mib / ours.peak_mib:.1f} our memory"
            )
    for kind, content in (("single", single(NODES)), ("folded", folded(NODES))):
        slurm = slurm_parses(content)
        ours = measured[f"parse, {kind} lines"]
        print(
            f"parse, {kind} lines: Slurm's own parser {slurm:.3f} s, ours {ours.seconds / slurm:.2f} times that"
        )
    whole = measured["parse, compare, plan, dump: single lines"].cpu
    print(f"\nwhole plan of {NODES:,} single lines: {whole:.2f} s of processor time, target {TARGET:g} s")
    return 0 if whole <= TARGET else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1])
    else:
        sys.exit(main())
