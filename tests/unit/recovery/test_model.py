"""Random histories of nodes, jobs, people and the provider, with the rules that keep jobs alive as invariants."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hpadmin.nodes import reasons
from hpadmin.nodes.provider import Answer, Repair
from hpadmin.nodes.reasons import Owner
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.recovery.agent import Agent
from hpadmin.recovery.book import Phase, RepairRecord
from hpadmin.recovery.journal import Journal
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.control import NewState
from hpadmin.slurm.reader import NodeInfo
from tests.unit.recovery.world import Eyes, Killed, World

NODES = 5
PATIENCE = 1e5
"""Seconds, of the world's time, in which everything that was begun must end."""
PROTECTED = "n4"
POLICY = Policy(
    max_in_flight=2, storm_nodes=3, max_failures=2, settle=60, verify_within=120, protected=(PROTECTED,)
)
NAMES = st.sampled_from([f"n{index}" for index in range(NODES)])
FOREIGN = ["bad PSU, ticket 4711", "maintenance", "action:replace", "hpadmin is wrong about this one"]


class Cluster(RuleBasedStateMachine):
    """What happens in a cluster, in any order; the agent looks now and then, and dies now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(NODES)
        self.start()
        self.calls_seen = 0
        self.downs_seen = 0

    def start(self) -> None:
        self.journal = Journal(Path(self.folder.name) / "journal.sqlite")
        self.agent = Agent(self.world, self.world, self.world, self.journal, POLICY, clock=self.world.clock)
        self.agent.prober = Eyes(world=self.world)

    def teardown(self) -> None:
        self._everything_ends()
        self.journal.close()
        self.folder.cleanup()

    # --- what happens ------------------------------------------------------------------------------------

    @initialize(bad=st.lists(st.booleans(), min_size=1, max_size=6))
    def replacements_may_be_bad(self, bad: list[bool]) -> None:
        self.world.bad_replacements = lambda n: bad[n % len(bad)] and n < 4

    @rule(names=st.sets(NAMES, min_size=1, max_size=3))
    def job_starts(self, names: set[str]) -> None:
        self.world.submit(*sorted(names))

    @precondition(lambda self: self.world.jobs_)
    @rule(data=st.data())
    def job_ends(self, data: st.DataObject) -> None:
        self.world.finish(data.draw(st.sampled_from(sorted(self.world.jobs_))))

    @rule(name=NAMES)
    def machine_dies(self, name: str) -> None:
        if not self.world.nodes_[name].machine.after:
            self.world.die(name)

    @rule(name=NAMES)
    def network_goes(self, name: str) -> None:
        if self.world.nodes_[name].machine.up and not self.world.nodes_[name].machine.after:
            self.world.cut(name)

    @rule(name=NAMES)
    def network_comes_back(self, name: str) -> None:
        self.world.mend(name)

    @rule()
    def somebody_reconfigures(self) -> None:
        self.world.reconfigure()

    @rule(name=NAMES)
    def hardware_breaks(self, name: str) -> None:
        self.world.break_gpu(name)

    @rule(
        name=NAMES,
        reason=st.sampled_from(
            [
                "Action:Reboot",
                "Action:Replace",
                "hpadmin: reboot by bob: x",
                "hpadmin: replace(now) by bob: x",
            ]
        ),
        state=st.sampled_from([NewState.FAIL, NewState.DOWN]),
    )
    def somebody_orders(self, name: str, reason: str, state: NewState) -> None:
        self.world.admin(name, state, reason)

    @rule(name=NAMES, reason=st.sampled_from(FOREIGN), state=st.sampled_from([NewState.DRAIN, NewState.FAIL]))
    def somebody_drains(self, name: str, reason: str, state: NewState) -> None:
        self.world.admin(name, state, reason)

    @precondition(lambda self: self.journal.book(since=0).open)
    @rule(data=st.data(), reason=st.sampled_from(FOREIGN))
    def somebody_takes_over(self, data: st.DataObject, reason: str) -> None:
        """A person acts on a node that is under repair, without asking anybody."""
        name = data.draw(st.sampled_from(sorted(self.journal.book(since=0).open)))
        self.world.admin(name, NewState.DRAIN, reason)

    @rule(name=NAMES)
    def somebody_resumes(self, name: str) -> None:
        self.world.admin(name, NewState.RESUME, "all good again")

    @rule(
        mood=st.lists(
            st.sampled_from([Answer.LATER, Answer.REFUSED, Answer.BUSY, Answer.ACCEPTED]), max_size=3
        )
    )
    def provider_has_moods(self, mood: list[Answer]) -> None:
        self.world.moods = mood

    @rule(down=st.booleans())
    def provider_goes_or_comes(self, down: bool) -> None:
        self.world.provider_down = down

    @rule(down=st.booleans())
    def slurmctld_goes_or_comes(self, down: bool) -> None:
        self.world.slurm_down = down

    @rule(seconds=st.sampled_from([10, 60, 400]))
    def time_passes(self, seconds: int) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from([10, 30]))
    def agent_looks(self, seconds: int) -> None:
        self.world.advance(seconds)
        self._cycle()

    @rule(step=st.integers(1, 8))
    def agent_is_killed(self, step: int) -> None:
        left = [step]

        def fuse(_: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        self.world.step_hook = fuse
        try:
            self._cycle()
        except Killed:
            self.journal.close()
            self.start()
        finally:
            self.world.step_hook = lambda _: None

    @rule()
    def agent_is_restarted(self) -> None:
        self.start()

    # --- what must hold ----------------------------------------------------------------------------------

    def _cycle(self) -> None:
        foreign = {
            name: node.reason
            for name, node in self.world.nodes_.items()
            if reasons.read(node.reason).owner is Owner.FOREIGN and self._somebody_keeps_out(node.info())
        }
        jobs = dict(self.world.jobs_)
        out = {name for name, node in self.world.nodes_.items() if node.info().state.kept_out}
        failed = self._failed()
        try:
            self.agent.cycle()
        finally:
            self._nothing_is_given_up_early(failed.keys())
            self._no_job_lost(jobs)
            self._only_sound_nodes_return(out)
            for name, reason in foreign.items():
                assert self.world.nodes_[name].reason == reason, f"{name}: a foreign Reason was overwritten"
                assert self.world.nodes_[name].info().state.kept_out, f"{name}: a foreign drain was cleared"

    @staticmethod
    def _somebody_keeps_out(node: NodeInfo) -> bool:
        """Not so where Slurm alone gave up a node that still carried the words of an earlier day."""
        return node.state.kept_out and (
            node.state.draining or node.state.failing or node.reason_user != "slurm"
        )

    def _only_sound_nodes_return(self, out: set[str]) -> None:
        """What the agent brings back runs, can be reached, and has nothing that its health check would find."""
        for name in out:
            node = self.world.nodes_[name]
            if not node.info().state.kept_out:
                machine = node.machine
                sound = machine.up and not machine.cut and not machine.after
                assert sound, f"{name} was brought back while its machine is away"
                report = HealthReport.read(node.extra)
                assert report is not None, f"{name} was brought back without a health report"
                assert report.verdict is Verdict.PASSED, f"{name} was brought back ill"

    def _failed(self) -> dict[int, RepairRecord]:
        closed = self.journal.book(since=0).closed
        return {record.number: record for record in closed if record.phase is Phase.FAILED}

    def _nothing_is_given_up_early(self, before: Collection[int]) -> None:
        """While the provider works on a machine, and has not had its time, nobody calls the repair failed."""
        followed = self.journal.book(since=0).open
        for number, record in self._failed().items():
            if number not in before and record.node not in followed:
                within = POLICY.reboot_within if record.action is Repair.REBOOT else POLICY.replace_within
                at_work = self.world.nodes_[record.node].machine.after
                overdue = self.world.now - record.asked > within
                assert not at_work or overdue, f"{record.node}: given up during its {at_work}"

    def _no_job_lost(self, before: dict[int, tuple[str, ...]]) -> None:
        """Only a dead node, or one that a person ordered to be repaired now, may take its jobs with it."""
        for job in before.keys() - self.world.jobs_.keys():
            guilty = [
                name
                for name, reason, jobs, up in self.world.down_calls[self.downs_seen :]
                if job in jobs and (not up or "(now)" in reason)
            ]
            assert guilty, f"job {job} was ended without need"
        self.downs_seen = len(self.world.down_calls)

    @invariant()
    def the_provider_is_asked_for_empty_nodes_only(self) -> None:
        for call in self.world.calls[self.calls_seen :]:
            assert not call.jobs, f"{call.node} was {call.action} while {call.jobs} ran there"
            ordered = call.reason.startswith(("Action:", "hpadmin:"))
            assert ordered, f"{call.node} was {call.action} under the Reason {call.reason!r}"
        self.calls_seen = len(self.world.calls)

    @invariant()
    def protected_nodes_are_never_touched(self) -> None:
        assert all(call.node != PROTECTED for call in self.world.calls)

    @invariant()
    def never_more_in_flight_than_the_limit(self) -> None:
        book = self.journal.book(since=0)
        assert sum(record.in_flight for record in book.open.values()) <= POLICY.max_in_flight

    def _everything_ends(self) -> None:
        """Left in peace, every marked node is back in service, or a person was told why not."""
        self.world.provider_down = self.world.slurm_down = False
        self.world.moods = []
        for job in list(self.world.jobs_):
            self.world.finish(job)
        quiet, end = 0, self.world.now + PATIENCE
        while quiet < 10 and self.world.now < end:
            self.world.advance(60)
            self._cycle()
            book = self.journal.book(since=0)
            quiet = 0 if book.open else quiet + 1
        assert not book.open, book.open
        for name, node in self.world.nodes_.items():
            info = node.info()
            if info.state.schedulable or not info.state.kept_out:
                continue
            owner = reasons.read(node.reason).owner
            told = any(name in key or key in ("storm", "breaker") for key in book.notices)
            failed = any(record.node == name and record.phase.value == "failed" for record in book.closed)
            assert owner is Owner.FOREIGN or told or failed, f"{name} is forgotten: {info}"


TestCluster = Cluster.TestCase
# The same histories in every run; others are for whoever changes the decisions (`broken`, or another seed).
TestCluster.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
