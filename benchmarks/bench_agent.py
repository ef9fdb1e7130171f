"""One look and one decision of the agent over a large cluster, from the very text that Slurm's commands print.

    python benchmarks/bench_agent.py [NODES [JOBS]]

Prints seconds of wall and CPU time, the peak of memory, and what the agent asks of slurmctld a minute. The text has
the form of 24.11 (`tests/unit/slurm/recorded`): nodes in all states, some with repairs, reports and foreign drains.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpadmin.nodes.provider import Condition, Outcome, ProviderInstance, Repair
from hpadmin.recovery.book import Book, Origin, Phase, RepairRecord
from hpadmin.recovery.decide import decide
from hpadmin.recovery.observe import observe
from hpadmin.recovery.policy import Policy, Settings
from hpadmin.slurm.command import Completed, Runner
from hpadmin.slurm.commands import CommandReader

NOW = 1_795_360_000
NODE = (
    "NodeName={name} Arch=x86_64 CoresPerSocket=96  CPUAlloc={alloc} CPUEfctv=192 CPUTot=192 CPULoad=0.41"
    " AvailableFeatures=workers,ml.p5.48xlarge ActiveFeatures=workers,ml.p5.48xlarge Gres=gpu:h100:8"
    " NodeAddr={address} NodeHostName={name} Version=24.11.5 OS=Linux 6.8.0-1021-aws #23-Ubuntu SMP Mon Nov 3 UTC 2026 "
    " RealMemory=2013265 AllocMem=0 FreeMem=1922522 Sockets=1 Boards=1 State={state} ThreadsPerCore=2 TmpDisk=0"
    " Weight=1 Owner=N/A MCS_label=N/A Partitions=dev,gpu  BootTime=1795000000 SlurmdStartTime=1795000060"
    " LastBusyTime=1795354763 ResumeAfterTime=None CfgTRES=cpu=192,mem=2013265M,billing=192 AllocTRES="
    " CurrentWatts=0 AveWatts=0 {tail}\n"
)
REPORT = '{"hpadmin":{"health":"passed","at":1795000070}}'
FAILED = '{"hpadmin":{"health":"failed","at":1795300000,"fault":"xid-79","action":"reboot","text":"PCI:0000:01:00"}}'


def names(count: int) -> list[tuple[str, str]]:
    """Return names and addresses as HyperPod gives them."""
    addresses = [f"10.{index // 62500 + 1}.{index // 250 % 250}.{index % 250 + 1}" for index in range(count)]
    return [(f"ip-{address.replace('.', '-')}", address) for address in addresses]


def nodes_text(count: int, busy: set[str]) -> str:
    """Return ``scontrol -o show nodes`` of a cluster where one node in fifty is out of service."""
    lines = []
    for index, (name, address) in enumerate(names(count)):
        state, tail = ("ALLOCATED" if name in busy else "IDLE"), f" Extra={REPORT}"
        match index % 250:
            case 1:
                state, tail = (
                    "IDLE+DRAIN",
                    f" Reason=bad PSU, ticket {index} [alice@1795200000] Extra={REPORT}",
                )
            case 2:
                state, tail = "DOWN+NOT_RESPONDING", " Reason=Not responding [slurm@1795300000]"
            case 3:
                state, tail = "ALLOCATED+FAIL", " Reason=Action:Replace [root@1795300000]"
            case 4:
                state, tail = (
                    "IDLE+FAIL",
                    f" Reason=hpadmin: reboot: xid-79: GPU [root@1795300000] Extra={FAILED}",
                )
            case 5:
                state, tail = "IDLE+FAIL", " Reason=action: replace [bob@1795300000]"
        alloc = 192 if state.startswith("ALLOCATED") else 0
        lines.append(NODE.format(name=name, address=address, state=state, alloc=alloc, tail=tail))
    return "".join(lines)


def jobs_text(count: int, nodes: list[str]) -> tuple[str, set[str]]:
    """Return ``squeue`` with half of the jobs running on a node or more each, and the nodes they hold."""
    lines, busy, free = [], set[str](), iter(nodes)
    for job in range(1, count + 1):
        held = [name for name, _ in zip(free, range(1 + job % 5), strict=False)] if job % 2 else []
        busy |= set(held)
        state = "RUNNING|None" if held else "PENDING|Resources"
        start = "1795300000" if held else "N/A"
        lines.append(
            f"{job}|{job}|N/A|{state}|u{job % 97}|research|gpu|normal|{len(held) or 1}|{','.join(held)}"
            f"|{held[0] if held else 'n/a'}|gres/gpu:8|1795200000|{start}|N/A|(null)\n"
        )
    return "".join(lines), busy


@dataclass
class Printed:
    """A runner that answers with prepared text, as fast as a pipe would."""

    answers: dict[str, str]
    asked: int = 0

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        self.asked += 1
        return Completed(tuple(argv), 0, self.answers["squeue" if "squeue" in argv else argv[-1]], "")


class Instances:
    """A provider with one running instance for every node."""

    name = "many"

    def __init__(self, count: int) -> None:
        self._all = tuple(
            ProviderInstance(f"i-{index:017x}", name, Condition.RUNNING, launched=1, address=address)
            for index, (name, address) in enumerate(names(count))
        )

    def instances(self) -> tuple[ProviderInstance, ...]:
        return self._all

    def node_recovery(self) -> bool:
        return True

    def repair(self, action: Repair, instance_ids: Sequence[str]) -> Mapping[str, Outcome]:
        return {}

    def runner(self, node: str) -> Runner | None:
        return None


def book(count: int) -> Book:
    """Return a journal with repairs under way, and a week of past ones."""
    open_, closed = {}, []
    for index, (name, _) in enumerate(names(count)):
        if index % 250 == 3:
            open_[name] = RepairRecord(
                index, name, Repair.REPLACE, Origin.ORDER, "root", "x", False, Phase.DRAIN, NOW - 60, NOW - 60
            )
        elif index % 100 == 7:
            closed.append(
                RepairRecord(
                    index,
                    name,
                    Repair.REBOOT,
                    Origin.HEALTH,
                    "",
                    "x",
                    False,
                    Phase.REPAIRED,
                    NOW - 9e4,
                    NOW - 9e4,
                )
            )
    return Book(open=open_, closed=tuple(closed))


def peak_mib() -> float:
    """Return the most memory that this program had resident, in MiB (proc_pid_status(5), VmHWM).

    Not getrusage's ru_maxrss: that keeps, over an exec, what the process that forked us had.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return round(int(found[1]) / 1024, 1)


def measure(nodes: int, jobs: int) -> dict[str, float]:
    """Build the cluster, look and decide once; return the measurements."""
    queue, busy = jobs_text(jobs, [name for name, _ in names(nodes)])
    config = "Configuration data as of 1795360000\nClusterName = big\nSlurmctldHost[0] = head(10.0.0.1)\n"
    runner = Printed({"nodes": nodes_text(nodes, busy), "squeue": queue, "config": config})
    reader, provider, remembered = CommandReader(runner), Instances(nodes), book(nodes)
    before = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    seen = observe(reader, provider, at=NOW)
    looked = time.process_time()
    actions = decide(seen, remembered, Policy())
    done = time.process_time()
    return {
        "nodes": len(seen.nodes),
        "jobs": len(seen.jobs),
        "actions": len(actions),
        "wall_seconds": round(time.perf_counter() - wall, 3),
        "observe_cpu_seconds": round(looked - cpu, 3),
        "decide_cpu_seconds": round(done - looked, 3),
        "peak_mib": peak_mib(),
        "peak_mib_before": before,
        "rpcs_a_look": runner.asked,
        "rpcs_a_minute": round(runner.asked * 60 / Settings().interval),
    }


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    print(json.dumps(measure(*(arguments + [10_000, 5_000][len(arguments) :])), indent=2))
