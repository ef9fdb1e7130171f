"""The whole agent against a simulated cluster: every kind of fault ends in one repair, and only one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpadmin.nodes.provider import Answer, Repair
from hpadmin.recovery.agent import HOLD, Agent
from hpadmin.recovery.book import Origin, Phase
from hpadmin.recovery.journal import Journal, LostLeadership
from hpadmin.recovery.leadership import StandsBy, leadership
from hpadmin.recovery.observe import Observation, observe_slurm
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.control import NewState
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import NodeState
from hpadmin.slurm.text import parse_nodes
from tests.unit.recovery.world import World

POLICY = Policy(confirm_after=3, unreachable_after=15)


class Site:
    """A world and its agent, which can be started anew on the same journal."""

    def __init__(self, path: Path, world: World, policy: Policy = POLICY) -> None:
        self.path, self.world, self.policy = path, world, policy
        self.start()

    def start(self) -> None:
        world = self.world
        self.journal = Journal(self.path / "journal.sqlite")
        self.agent = Agent(world, world, world, self.journal, self.policy, clock=world.clock)

    def run(self, seconds: float, step: float = 10) -> None:
        for _ in range(int(seconds / step)):
            self.world.advance(step)
            self.agent.cycle()

    def open(self) -> dict[str, Phase]:
        return {name: record.phase for name, record in self.journal.book(since=0).open.items()}

    def closed(self) -> list[tuple[str, Repair, Phase]]:
        return [(r.node, r.action, r.phase) for r in reversed(self.journal.book(since=0).closed)]

    def notices(self) -> dict[str, str]:
        return dict(self.journal.book(since=0).notices)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, World(8))
    yield made
    made.journal.close()


def test_a_quiet_cluster_is_left_alone(site: Site) -> None:
    job = site.world.submit("n0", "n1")
    site.run(600)
    assert not site.world.calls
    assert not site.closed()
    assert not site.notices()
    assert job in site.world.jobs_


def test_a_repair_that_fails_under_somebodys_own_reason_leaves_it(site: Site) -> None:
    """A person drains the node while the provider works; the machine does not come back in time."""
    world = site.world
    world.replace_takes = 1e6
    world.admin("n0", NewState.FAIL, "Action:Replace")
    site.run(60)
    assert site.open() == {"n0": Phase.AWAIT}
    world.admin("n0", NewState.DRAIN, "bad PSU, ticket 4711")
    site.run(POLICY.replace_within + 600, step=60)
    assert world.nodes_["n0"].reason.partition(" : ")[0] == "bad PSU, ticket 4711"
    assert site.closed() == [("n0", Repair.REPLACE, Phase.FAILED)]
    [record] = site.journal.book(since=0).closed
    assert record.result.startswith("not back 3600 s after the request; left to ")


class Hurry:
    """A part that somebody waits for, or nobody."""

    hurried = False

    def cycle(self, seen: Observation) -> None:
        """Has nothing to do."""


def test_repairs_stand_back_for_a_part_in_a_hurry_and_not_for_long(site: Site) -> None:
    part = Hurry()
    site.agent.parts = [part]
    site.world.admin("n0", NewState.FAIL, "Action:Replace")
    part.hurried = True
    site.run(HOLD, step=1)
    assert not site.open()
    site.run(1, step=1)
    assert list(site.open()) == ["n0"]
    part.hurried = False
    site.run(900)
    assert site.closed() == [("n0", Repair.REPLACE, Phase.REPAIRED)]


def test_parts_work_at_every_look_before_repairs_go_on(site: Site) -> None:
    # A repair of several steps takes seconds where hosts are dead: jobs are looked after between any two of them.
    done: list[str] = []

    class Watcher(Hurry):
        def cycle(self, seen: Observation) -> None:
            done.append(f"look while {site.open().get('n0', 'well')}")

    site.agent.parts = [Watcher()]
    site.world.admin("n0", NewState.FAIL, "Action:Replace")
    site.agent.cycle()
    assert done == [f"look while {phase}" for phase in ("well", Phase.ISOLATE, Phase.AWAIT)]


def test_action_replace_waits_for_the_job_and_returns_once(site: Site) -> None:
    job = site.world.submit("n0", "n1")
    assert job is not None
    site.world.admin("n0", NewState.FAIL, "Action:Replace")
    site.run(300)
    assert not site.world.calls
    assert site.open() == {"n0": Phase.DRAIN}
    assert job in site.world.jobs_
    site.world.finish(job)
    site.run(900)
    assert [(call.action, call.node) for call in site.world.calls] == [(Repair.REPLACE, "n0")]
    assert site.closed() == [("n0", Repair.REPLACE, Phase.REPAIRED)]
    node = site.world.nodes_["n0"].info()
    assert node.state.schedulable
    assert node.reason.startswith("hpadmin: returned: replaced because of Action:Replace")


def test_action_reboot_with_slurms_suffix(site: Site) -> None:
    site.world.admin("n2", NewState.FAIL, "Action:Reboot")
    site.world.append_reason(site.world.nodes_["n2"], "Not responding")
    site.run(300)
    assert [call.action for call in site.world.calls] == [Repair.REBOOT]
    assert site.closed() == [("n2", Repair.REBOOT, Phase.REPAIRED)]


@pytest.mark.parametrize(
    "reason", ["action:replace", "Action: Replace", "Action:Replace.", "Action:Replace ", "replace"]
)
def test_near_misses_are_told_and_do_nothing(site: Site, reason: str) -> None:
    site.world.admin("n1", NewState.FAIL, reason)
    site.run(300)
    assert not site.world.calls
    assert "Action:Replace was probably meant" in site.notices()["near-miss:n1"]
    site.world.admin("n1", NewState.RESUME, "x")
    site.run(20)
    assert not site.notices()


def test_the_words_with_drain_are_a_near_miss(site: Site) -> None:
    site.world.admin("n1", NewState.DRAIN, "Action:Replace")
    site.run(100)
    assert not site.world.calls
    assert "fail or down only" in site.notices()["near-miss:n1"]


def test_a_leftover_reason_is_no_order(site: Site) -> None:
    site.world.admin("n1", NewState.FAIL, "Action:Replace")
    site.world.admin("n1", NewState.RESUME, "Action:Replace")
    site.world.moods = []
    site.world.die("n1")
    site.world.provider_down = True
    site.run(400)
    site.world.provider_down = False
    assert "went down by itself" in site.notices()["near-miss:n1"]
    assert not site.world.calls


def test_a_dead_node_is_noticed_its_jobs_end_and_it_is_rebooted(site: Site) -> None:
    job = site.world.submit("n3", "n4")
    other = site.world.submit("n5")
    assert job is not None
    site.world.die("n3")
    site.run(30)
    assert site.world.ended[job] == "down"
    site.run(300)
    assert [(call.action, call.node) for call in site.world.calls] == [(Repair.REBOOT, "n3")]
    assert site.world.nodes_["n3"].info().state.schedulable
    assert other in site.world.jobs_


def test_a_node_that_slurm_alone_gives_up_even_after_an_earlier_return(site: Site) -> None:
    site.world.blind = True
    site.world.admin("n3", NewState.FAIL, "Action:Reboot")
    site.run(300)
    assert site.closed() == [("n3", Repair.REBOOT, Phase.REPAIRED)]
    site.world.die("n3")
    site.run(270)
    assert len(site.world.calls) == 1
    site.run(600)
    assert site.world.nodes_["n3"].info().state.schedulable
    assert [call.action for call in site.world.calls] == [Repair.REBOOT, Repair.REBOOT]


def test_a_fault_found_by_the_node_waits_for_its_job(site: Site) -> None:
    job = site.world.submit("n0")
    assert job is not None
    site.world.break_gpu("n0")
    site.run(100)
    assert site.open() == {"n0": Phase.DRAIN}
    assert job in site.world.jobs_
    site.world.finish(job)
    # The reboot does not cure the card: the node is replaced then.
    site.run(1500)
    assert [call.action for call in site.world.calls] == [Repair.REBOOT, Repair.REPLACE]
    assert site.closed() == [("n0", Repair.REBOOT, Phase.FAILED), ("n0", Repair.REPLACE, Phase.REPAIRED)]
    assert site.world.nodes_["n0"].info().state.schedulable


def test_a_foreign_drain_is_never_touched(site: Site) -> None:
    site.world.admin("n0", NewState.DRAIN, "bad PSU, ticket 4711")
    site.world.break_gpu("n0")
    site.world.die("n1")
    site.world.admin("n1", NewState.DRAIN, "moving rack")
    site.run(900)
    assert not site.world.calls
    assert site.world.nodes_["n0"].reason == "bad PSU, ticket 4711"
    assert "alice keeps it out" in site.notices()["foreign:n0"]
    assert site.world.nodes_["n1"].reason.startswith("moving rack")


@pytest.mark.parametrize(
    "reason", ["Not responding on IPMI, alice is debugging", "Not responding : see INC-77"]
)
def test_a_reason_that_begins_with_slurms_words_is_its_authors(site: Site, reason: str) -> None:
    site.world.admin("n0", NewState.DOWN, reason)
    site.world.die("n1")
    site.world.admin("n1", NewState.DRAIN, reason)
    site.run(900)
    assert not site.world.calls
    assert site.world.nodes_["n0"].reason == reason
    assert site.world.nodes_["n1"].reason.startswith(reason)


def test_an_admin_who_takes_over_before_the_request_ends_it(site: Site) -> None:
    job = site.world.submit("n0")
    assert job is not None
    site.world.admin("n0", NewState.FAIL, "Action:Replace")
    site.run(50)
    site.world.admin("n0", NewState.DRAIN, "let me look first")
    site.world.finish(job)
    site.run(600)
    assert not site.world.calls
    assert site.closed() == [("n0", Repair.REPLACE, Phase.CANCELLED)]
    assert site.world.nodes_["n0"].reason == "let me look first"


def test_an_admin_who_takes_over_after_the_request_keeps_the_node(site: Site) -> None:
    site.world.admin("n0", NewState.FAIL, "Action:Replace")
    site.run(20)
    assert len(site.world.calls) == 1
    site.world.admin("n0", NewState.DRAIN, "burn-in first")
    site.run(900)
    assert not site.world.nodes_["n0"].info().state.schedulable
    assert site.world.nodes_["n0"].reason == "burn-in first"
    assert site.closed() == [("n0", Repair.REPLACE, Phase.CANCELLED)]


def test_a_changed_order_is_followed(site: Site) -> None:
    job = site.world.submit("n0")
    assert job is not None
    site.world.admin("n0", NewState.FAIL, "Action:Reboot")
    site.run(50)
    site.world.admin("n0", NewState.FAIL, "Action:Replace")
    site.world.finish(job)
    site.run(900)
    assert [call.action for call in site.world.calls] == [Repair.REPLACE]


@pytest.mark.parametrize("word", ["Action:Replace", "hpadmin: replace by alice: bad NIC"])
@pytest.mark.parametrize("comes_back", [True, False])
def test_a_replacement_ordered_while_the_machine_reboots_follows(
    site: Site, word: str, comes_back: bool
) -> None:
    site.world.admin("n0", NewState.FAIL, "Action:Reboot")
    site.run(20)
    assert site.open() == {"n0": Phase.AWAIT}
    site.world.admin("n0", NewState.FAIL, word)
    if not comes_back:
        site.world.die("n0")
        site.world.nodes_["n0"].machine.after = ""
    site.run(POLICY.reboot_within + 900)
    assert [call.action for call in site.world.calls] == [Repair.REBOOT, Repair.REPLACE]
    assert site.closed() == [("n0", Repair.REBOOT, Phase.CANCELLED), ("n0", Repair.REPLACE, Phase.REPAIRED)]


def test_an_order_with_state_down_sticks(site: Site) -> None:
    """DOWN alone is over as soon as the node registers again."""
    site.world.provider_down = True
    site.world.admin("n0", NewState.DOWN, "Action:Replace")
    site.run(20)
    assert site.world.nodes_["n0"].info().state.failing
    assert site.world.nodes_["n0"].reason == "Action:Replace"
    site.world.provider_down = False
    site.run(900)
    assert site.closed() == [("n0", Repair.REPLACE, Phase.REPAIRED)]


@pytest.mark.parametrize("word", ["Action:Reboot", "hpadmin: reboot by alice: seen the Xid"])
def test_what_waits_because_nobody_asked_for_it_begins_when_somebody_does(tmp_path: Path, word: str) -> None:
    site = Site(tmp_path, World(4), Policy(automatic=False))
    site.world.break_gpu("n0")
    site.run(100)
    assert site.open() == {"n0": Phase.READY}
    site.world.admin("n0", NewState.FAIL, word)
    site.world.nodes_["n0"].machine.faulty = False
    site.run(300)
    assert site.closed() == [("n0", Repair.REBOOT, Phase.CANCELLED), ("n0", Repair.REBOOT, Phase.REPAIRED)]


def test_an_order_that_comes_before_a_fault_is_marked_is_not_overwritten(site: Site) -> None:
    site.agent.journal.open(
        site.world.now,
        node="n0",
        action=Repair.REBOOT,
        origin=Origin.HEALTH,
        requester="",
        why="xid-79",
        now=False,
        fault="xid-79",
    )
    site.world.admin("n0", NewState.FAIL, "Action:Replace")
    site.run(900)
    assert [call.action for call in site.world.calls] == [Repair.REPLACE]


def test_now_ends_jobs_on_that_node_only(site: Site) -> None:
    job, other = site.world.submit("n0"), site.world.submit("n1")
    assert job is not None
    site.world.admin("n0", NewState.FAIL, "hpadmin: replace(now) by alice: bad NIC")
    site.run(20)
    assert site.world.ended[job] == "down"
    assert other in site.world.jobs_
    site.run(900)
    assert site.closed() == [("n0", Repair.REPLACE, Phase.REPAIRED)]


def test_words_that_are_no_utf_8_are_told_spelt_out_and_once(site: Site) -> None:
    """A checker of the site printed Latin-1, a person typed it, and some tool wrote half a surrogate pair as JSON."""
    record = "NodeName=n State=IDLE AveWatts=0\n   Reason={} [root@1000]\n   Extra={{}}\n"
    [ours] = parse_nodes(record.format("hpadmin: reboot: external: nhc: Ger\udce4t"))
    [foreign] = parse_nodes(record.format("Ger\udce4t defekt"))
    report = (
        '{"hpadmin":{"health":"failed","at":1000,"fault":"external","action":"reboot","text":"half \\ud83d"}}'
    )
    world = site.world
    world.health_reports = False
    world.moods = [Answer.REFUSED] * 2
    world.admin("n0", NewState.FAIL, ours.reason)
    world.admin("n2", NewState.DRAIN, foreign.reason)
    world.nodes_["n1"].extra = world.nodes_["n2"].extra = report
    site.run(60)
    assert {name: record.why for name, record in site.journal.book(since=0).open.items()} == {
        "n0": r"external: nhc: Ger\udce4t",
        "n1": r"external: half \ud83d",
    }
    assert site.notices()["foreign:n2"] == (
        r"n2 reports external: half \ud83d, but alice keeps it out: Ger\udce4t defekt"
    )
    told = len(site.journal.events(last=1000))
    site.run(60)
    assert len(site.journal.events(last=1000)) == told


def test_node_recovery_none_only_marks(site: Site) -> None:
    site.world.recovery = False
    site.world.break_gpu("n0")
    site.world.admin("n1", NewState.FAIL, "Action:Replace")
    site.world.admin("n2", NewState.FAIL, "hpadmin: reboot by alice: kernel update")
    site.run(900)
    assert [call.node for call in site.world.calls] == ["n2"]
    assert site.world.nodes_["n0"].info().state.failing
    assert "NodeRecovery is None" in site.notices()["waits:n0"]
    assert "NodeRecovery is None" in site.notices()["waits:n1"]


def test_without_a_health_report_a_node_stays_out(site: Site) -> None:
    site.world.health_reports = False
    site.world.admin("n0", NewState.FAIL, "Action:Reboot")
    site.run(900)
    assert site.closed() == [("n0", Repair.REBOOT, Phase.FAILED)]
    assert not site.world.nodes_["n0"].info().state.schedulable
    assert "without a health report" in site.world.nodes_["n0"].reason


def test_the_provider_fails_for_an_hour(site: Site) -> None:
    site.world.admin("n0", NewState.FAIL, "Action:Replace")
    site.run(20)
    assert len(site.world.calls) == 1
    site.world.provider_down = True
    site.world.break_gpu("n1")
    site.world.admin("n2", NewState.FAIL, "Action:Reboot")
    site.run(3600, step=30)
    assert len(site.world.calls) == 1
    assert site.notices()["provider"]
    assert site.open()["n2"] is Phase.READY
    site.world.provider_down = False
    site.run(1800)
    assert sorted((call.node, call.action) for call in site.world.calls) == [
        ("n0", Repair.REPLACE),
        ("n1", Repair.REBOOT),
        ("n1", Repair.REPLACE),
        ("n2", Repair.REBOOT),
    ]
    assert not site.open()
    assert not site.notices()
    assert all(node.info().state.schedulable for node in site.world.nodes_.values())


def test_throttling_is_waited_out(site: Site) -> None:
    site.world.moods = [Answer.LATER] * 5
    site.world.admin("n0", NewState.FAIL, "Action:Reboot")
    site.run(600)
    assert len(site.world.calls) == 1
    assert site.closed() == [("n0", Repair.REBOOT, Phase.REPAIRED)]


def test_a_refusal_is_told_and_tried_again_later(site: Site) -> None:
    site.world.moods = [Answer.REFUSED]
    site.world.admin("n0", NewState.FAIL, "Action:Reboot")
    site.run(100)
    assert "refuses" in site.notices()["waits:n0"]
    site.run(1200)
    assert site.closed() == [("n0", Repair.REBOOT, Phase.REPAIRED)]


def test_no_more_in_flight_than_the_limit(tmp_path: Path) -> None:
    site = Site(tmp_path, World(20), Policy(max_in_flight=2))
    for index in range(6):
        site.world.admin(f"n{index}", NewState.FAIL, "Action:Replace")
    for _ in range(300):
        site.run(10)
        flying = sum(phase.in_flight for phase in site.open().values())
        assert flying <= 2
    assert len(site.world.calls) == 6
    assert len(site.closed()) == 6


def test_a_storm_waits_for_a_person_but_orders_do_not(site: Site) -> None:
    for name in ("n0", "n1", "n2", "n3", "n4"):
        site.world.break_gpu(name)
    site.world.admin("n7", NewState.FAIL, "Action:Reboot")
    site.run(600)
    assert [call.node for call in site.world.calls] == ["n7"]
    assert "5 of 8 nodes are faulty at once" in site.notices()["storm"]


def test_the_breaker_opens_after_failed_replacements_and_can_be_reset(tmp_path: Path) -> None:
    site = Site(
        tmp_path,
        World(12, bad_replacements=lambda n: n < 3),
        Policy(max_failures=3, failure_window=1e6, recurrence=1e6, max_in_flight=1),
    )
    for name in ("n0", "n1", "n2"):
        site.world.break_gpu(name)
    site.run(4000)
    failed = [entry for entry in site.closed() if entry[1:] == (Repair.REPLACE, Phase.FAILED)]
    assert len(failed) == 3
    site.world.break_gpu("n5")
    calls = len(site.world.calls)
    site.run(600)
    assert len(site.world.calls) == calls
    assert "automatic repair has stopped" in site.notices()["breaker"]
    site.journal.reset_breaker(site.world.now, by="alice")
    site.run(3000)
    assert site.world.nodes_["n5"].info().state.schedulable
    assert "breaker" not in site.notices()


def test_the_same_fault_soon_after_a_reboot_is_replaced(site: Site) -> None:
    site.world.break_gpu("n0")
    site.run(30)
    site.world.nodes_["n0"].machine.faulty = False
    site.run(200)
    assert site.closed() == [("n0", Repair.REBOOT, Phase.REPAIRED)]
    site.world.break_gpu("n0")
    site.run(900)
    assert [call.action for call in site.world.calls] == [Repair.REBOOT, Repair.REPLACE]


def test_a_controller_is_never_touched(tmp_path: Path) -> None:
    world = World(3)
    world.nodes_["head"] = world.nodes_.pop("n2")
    world.nodes_["head"].name = "head"
    site = Site(tmp_path, world)
    world.admin("head", NewState.FAIL, "Action:Replace")
    site.run(300)
    assert not world.calls
    assert "never touched" in site.notices()["protected:head"]


@pytest.mark.parametrize("name", ["head", "HEAD.example.com", "n2", "10.0.0.7"])
def test_the_hosts_of_slurmctld_the_agents_own_and_those_of_the_policy_are_protected(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = NodeState.parse("IDLE")
    nodes = [NodeInfo("n1", state), NodeInfo("n2", state, hostname="head", address="10.0.0.7")]
    monkeypatch.setattr(World, "nodes", lambda _: nodes)
    world = World()
    assert observe_slurm(world, at=1, protected=[name, "nosuch"]).protected == {"n2"}
    assert observe_slurm(world, at=1, protected=[name, "nosuch"]).unknown == {"nosuch"}
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert observe_slurm(world, at=1).protected == {"n2"}
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    monkeypatch.setattr(World, "configuration", lambda _: {"SlurmctldHost[0]": f"{name}(10.9.9.9)"})
    assert observe_slurm(world, at=1).protected == {"n2"}


def test_a_protected_name_that_no_node_has_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path, World(3), Policy(protected=("n1", "n9", "n8")))
    site.run(10)
    assert site.notices() == {
        "protected": "agent.toml protects n[8-9], and Slurm has no such node: is it misspelt?"
    }


def test_slurm_away_changes_nothing(site: Site) -> None:
    site.world.admin("n0", NewState.FAIL, "Action:Reboot")
    site.world.slurm_down = True
    site.run(600)
    assert not site.world.calls
    site.world.slurm_down = False
    site.run(300)
    assert site.closed() == [("n0", Repair.REBOOT, Phase.REPAIRED)]


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    with leadership(tmp_path), pytest.raises(StandsBy, match="pid "), leadership(tmp_path):
        pass
    with leadership(tmp_path):
        pass


def test_a_former_leader_stops_at_its_next_write(site: Site) -> None:
    old = site.agent
    site.start()
    site.world.admin("n0", NewState.FAIL, "Action:Reboot")
    with pytest.raises(LostLeadership):
        old.cycle()
    assert not site.world.calls
    site.run(300)
    assert len(site.world.calls) == 1


def test_the_story_of_a_node(site: Site) -> None:
    site.world.admin("n0", NewState.FAIL, "Action:Replace", user="bob")
    site.run(900)
    kinds = [event.kind for event in site.journal.events("n0")]
    assert kinds == ["opened", "drain", "ready", "asking", "await", "verify", "return", "repaired"]
    assert "by bob" in site.journal.events("n0")[0].text
