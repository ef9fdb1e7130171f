"""The running Slurm as a transaction needs it: kept free of jobs, told once, watched until every node follows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from hpadmin.configure import stakes
from hpadmin.configure.history import Fence
from hpadmin.configure.layout import Layout, layout
from hpadmin.configure.live import Live, WithConf, look
from hpadmin.configure.transaction import JobsAtStake, Verified
from hpadmin.configure.verify import answering, misfits, shortfall, topology_shortfall, waiting
from hpadmin.errors import OperationFailed
from hpadmin.slurm import hostlist
from hpadmin.slurm.control import CommandControl, NewState
from hpadmin.slurm.states import NodeFlag

FENCE_REASON = "hpadmin: its configuration changes"
"""Reason of the nodes that a fence drains: our own word first, so that nobody takes it for theirs."""

_UNFIT = re.compile(r"gres/\S+ count |Low (RealMemory|socket\*core\*thread count|CPUs|TmpDisk)")
"""How Slurm's Reason begins when a node registers with less than configured (validate_node_specs in node_mgr.c)."""
_DIFFERENT = re.compile(r"Node (\S+) appears to have a different slurm\.conf")
_SHOWN_JOBS = 10


@dataclass(slots=True)
class Clock:
    """Time, so that tests can do without waiting."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class SlurmService:
    """The `Service` of a real Slurm. `before` and `after` are all files that slurmctld reads, by name."""

    runner: WithConf
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    allowed: Collection[str] = ()
    """Jobs and reservations whose loss was allowed by name."""
    since: float = 0
    """When the change began, in seconds since the epoch: what Slurm drained since then, the change did."""
    timeout: float = 120
    """Seconds within which every node must follow."""
    clock: Clock = field(default_factory=Clock)
    _before_closing: Live | None = field(default=None, init=False)
    _seen: Live | None = field(default=None, init=False)
    """The last look, as long as nothing was changed since."""
    _must_register: dict[str, float] = field(default_factory=dict, init=False)
    _log_end: int = field(default=0, init=False)
    _in_memory: Layout | None = field(default=None, init=False)
    _layouts: dict[tuple[bool, tuple[int, int]], Layout] = field(default_factory=dict, init=False)
    _looked: bool = field(default=False, init=False)

    def fence(self) -> Fence:
        live = self._before_closing = look(self.runner)
        after = self._layout(self.after, live)
        changing = stakes.reshaped_nodes(live, self._running(live), after)
        return Fence(
            nodes=tuple(name for name in changing if not live.nodes[name].state.kept_out),
            partitions=tuple(
                (name, partition.state)
                for name, partition in live.partitions.items()
                if name not in after.partitions and partition.state != "INACTIVE"
            ),
        )

    def close(self, fence: Fence) -> None:
        self._before_closing = None
        if fence.nodes:
            CommandControl(self.runner).set_state(fence.nodes, NewState.DRAIN, FENCE_REASON)
        for name, _ in fence.partitions:
            self._scontrol("update", f"PartitionName={name}", "State=INACTIVE")

    def reopen(self, fence: Fence) -> None:
        live = self._seen or look(self.runner)
        self._seen = None
        drained = self._drained_by_us(fence, live)
        if drained:
            # For a node that never registered scontrol complains, and does it all the same: look, not listen.
            command = ["scontrol", "update", f"NodeName={hostlist.fold(drained)}", "State=UNDRAIN"]
            done = self.runner.run(command, timeout=30)
            left = self._drained_by_us(fence, look(self.runner))
            if left:
                raise OperationFailed(f"{hostlist.fold(left)} stays drained: {done.stderr.strip()}")
        for name, state in fence.partitions:
            if name in live.partitions and live.partitions[name].state == "INACTIVE":
                self._scontrol("update", f"PartitionName={name}", f"State={state}")

    def _drained_by_us(self, fence: Fence, live: Live) -> list[str]:
        """The nodes that the fence drained, or Slurm since, as they did not fit a configuration that is gone."""
        return [
            node.name
            for node in live.nodes.values()
            if node.state.draining
            and NodeFlag.INVALID_REG not in node.state.flags
            and (
                (node.name in fence.nodes and node.reason == FENCE_REASON)
                or (self.since <= node.reason_time and _UNFIT.match(node.reason))
            )
        ]

    def check_jobs(self) -> None:
        # Where nothing had to be closed, the look that said so still holds.
        live = self._seen = self._before_closing or look(self.runner)
        self._before_closing = None
        found = stakes.stakes(live, self._running(live), self._layout(self.after, live))
        self._refuse(stakes.not_allowed(found, self.allowed), "the change would end")

    def check_jobs_back(self) -> None:
        live = look(self.runner)
        found = stakes.stakes(live, self._layout(self.after, live), self._layout(self.before, live))
        self._refuse([stake for stake in found if stake.kind == "job"], "going back would end")

    def reconfigure(self) -> None:
        live = self._seen or look(self.runner)
        self._seen = None
        self._must_register = answering(live)
        self._log_end = self._log_size(live)
        # A slurmd's start is known to the second: one that starts anew within the same would go unseen.
        latest = max(self._must_register.values(), default=0)
        for _ in range(20):
            if int(self.clock.now()) > latest:
                break
            self.clock.sleep(0.1)
        done = self.runner.run(["scontrol", "reconfigure"], timeout=max(self.timeout, 60))
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise OperationFailed(f"slurmctld refused the configuration: {self._reason(live) or said}")

    def verify(self) -> Verified:
        live = self._watch(self.after)
        stale = self._stale(live)
        if stale:
            # A slurmd that registers before it has taken the files over is reported once; twice is no accident.
            self.reconfigure()
            live = self._watch(self.after)
            stale = self._stale(live)
        if stale:
            raise OperationFailed(
                f"{hostlist.fold(stale)} read another slurm.conf than slurmctld",
                hint="share the configuration folder with the nodes, or run them configless",
            )
        return self._verified(live)

    def verify_back(self) -> Verified:
        try:
            self._watch(self.before)
        except OperationFailed as failure:
            return Verified(remarks=(f"Slurm has its old files, but {failure.message}",))
        return Verified()

    def _verified(self, live: Live) -> Verified:
        intent = self._layout(self.after, live)
        new = frozenset(intent.nodes) - frozenset(self._must_register)
        return Verified(waiting(live, intent), misfits(live, new))

    def _watch(self, files: Mapping[str, bytes]) -> Live:
        """Look until Slurm is what `files` say, and every node that answered before follows.

        Raises OperationFailed when something is wrong that waiting does not mend, or the time is over.
        """
        deadline = self.clock.now() + self.timeout
        pause = 0.2
        while True:
            words = ""
            try:
                live = look(self.runner)
                intent = self._layout(files, live)
                hashed = "no_conf_hash" not in intent.settings.get("debugflags", "").lower()
                missing = shortfall(live, intent, self._must_register, hashed=hashed)
                topology = self._topology(files, intent)
            except OperationFailed as error:
                words = error.message
            else:
                if missing.faults:
                    raise OperationFailed(missing.words)
                words = "; ".join((*missing.pending, *topology))
                if not words:
                    self._seen = live
                    return live
            if self.clock.now() >= deadline:
                raise OperationFailed(f"after {self.timeout:g} s: {words}")
            self.clock.sleep(pause)
            pause = min(pause * 1.5, 3)

    def _topology(self, files: Mapping[str, bytes], intent: Layout) -> tuple[str, ...]:
        plugin = intent.settings.get("topologyplugin", "").lower().rpartition("/")[2]
        if plugin not in ("tree", "block") or "topology.conf" not in files or "topology.yaml" in files:
            return ()
        done = self.runner.run(["scontrol", "show", "topology"], timeout=30).check()
        return topology_shortfall(done.stdout, files.get)

    def _stale(self, live: Live) -> list[str]:
        """The nodes that slurmctld's log says read another slurm.conf, since the reconfigure."""
        said = set(_DIFFERENT.findall(self._log(live)))
        return [name for name in self._must_register if name in said]

    def _running(self, live: Live) -> Layout | None:
        """What slurmctld has in memory: the files from before, where it was seen to run them."""
        if not self._looked:
            self._looked = True
            if live.runs_the_files:
                self._in_memory = self._layout(self.before, live)
        return self._in_memory

    def _layout(self, files: Mapping[str, bytes], live: Live) -> Layout:
        key = (files is self.after, live.release)
        if key not in self._layouts:
            self._layouts[key] = layout(files, live.release)
        return self._layouts[key]

    def _refuse(self, found: Collection[stakes.Stake], words: str) -> None:
        if not found:
            return
        shown = "; ".join(str(stake) for stake in list(found)[:_SHOWN_JOBS])
        more = f"; and {len(found) - _SHOWN_JOBS} more" if len(found) > _SHOWN_JOBS else ""
        names = ",".join(stake.name for stake in found)
        raise JobsAtStake(
            f"{words} {shown}{more}",
            hint=f"wait for them, or drain and cancel; to lose them say --allow-job-loss {names}",
        )

    def _reason(self, live: Live) -> str:
        """The last error in slurmctld's log since the reconfigure: scontrol itself gives none."""
        lines = [line for line in self._log(live).splitlines() if "error:" in line or "fatal:" in line]
        fatal = [line for line in lines if "fatal:" in line]
        return (fatal or lines or [""])[-1].partition("] ")[2]

    def _log_size(self, live: Live) -> int:
        done = self.runner.run(["stat", "-L", "-c", "%s", self._log_file(live)], timeout=30)
        return int(done.stdout) if done.returncode == 0 else 0

    def _log(self, live: Live) -> str:
        done = self.runner.run(["tail", "-c", f"+{self._log_end + 1}", self._log_file(live)], timeout=30)
        return done.stdout if done.returncode == 0 else ""

    def _log_file(self, live: Live) -> str:
        return live.settings.get("SlurmctldLogFile") or "/dev/null"

    def _scontrol(self, *words: str) -> None:
        self.runner.run(["scontrol", *words], timeout=30).check()
