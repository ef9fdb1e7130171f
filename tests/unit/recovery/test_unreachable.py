"""Hosts that nobody reaches although their machines run: one repair that can help, or none where none is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpadmin.nodes import reasons
from hpadmin.nodes.provider import Answer, Repair
from hpadmin.recovery.book import Origin, Phase
from hpadmin.recovery.faulty import judgeable
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.control import NewState
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import NodeBase, NodeState
from tests.unit.recovery.test_agent import POLICY, Site
from tests.unit.recovery.world import Eyes, World


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return watched(tmp_path, POLICY)


def watched(path: Path, policy: Policy) -> Site:
    made = Site(path, World(8), policy)
    made.agent.prober = Eyes(world=made.world)
    return made


def test_a_cut_network_is_one_replacement_and_no_reboot(site: Site) -> None:
    job, other = site.world.submit("n3", "n4"), site.world.submit("n5")
    assert job is not None
    site.world.cut("n3")
    site.run(900)
    assert site.world.ended[job] == "down"
    assert [(call.action, call.node) for call in site.world.calls] == [(Repair.REPLACE, "n3")]
    assert site.closed() == [("n3", Repair.REPLACE, Phase.REPAIRED)]
    assert site.world.nodes_["n3"].info().state.schedulable
    assert other in site.world.jobs_


def test_a_new_machine_returns_when_its_address_is_known_and_is_not_replaced_again(tmp_path: Path) -> None:
    """It has registered with slurmctld, whose NodeAddr is still that of the machine before."""
    late: set[str] = {"n3"}

    class OldAddress(Eyes):
        def complete(self, seen: Observation) -> Observation:
            found = super().complete(seen)
            return replace(found, unreachable={**dict.fromkeys(late, 1000.0), **found.unreachable})

    site = Site(tmp_path, World(8), POLICY)
    site.agent.prober = OldAddress(world=site.world)
    site.world.cut("n3")
    site.run(600)
    assert site.open() == {"n3": Phase.VERIFY}
    late.clear()
    site.run(600)
    assert [call.action for call in site.world.calls] == [Repair.REPLACE]
    assert site.closed() == [("n3", Repair.REPLACE, Phase.REPAIRED)]


def test_a_site_may_want_a_reboot_first(tmp_path: Path) -> None:
    site = watched(
        tmp_path, Policy(unreachable_after=15, reboot_within=200, actions={"unreachable": Repair.REBOOT})
    )
    site.world.cut("n3")
    site.run(1500)
    assert [call.action for call in site.world.calls] == [Repair.REBOOT, Repair.REPLACE]
    assert site.world.nodes_["n3"].info().state.schedulable


def test_a_machine_that_its_provider_calls_failed_is_rebooted(site: Site) -> None:
    site.world.die("n3")
    site.run(600)
    assert [call.action for call in site.world.calls] == [Repair.REBOOT]


def test_a_network_that_comes_back_while_the_provider_is_away_costs_no_machine(site: Site) -> None:
    site.world.provider_down = True
    site.world.cut("n3")
    site.run(600)
    assert site.open() == {"n3": Phase.READY}
    site.world.mend("n3")
    site.run(30)
    site.world.provider_down = False
    site.run(60)
    assert not site.world.calls
    node = site.world.nodes_["n3"].info()
    assert node.state.schedulable
    assert node.reason == "hpadmin: returned: came back by itself, was out of reach"


def test_one_that_comes_back_ill_is_repaired(site: Site) -> None:
    site.world.provider_down = True
    site.world.cut("n3")
    site.run(600)
    site.world.break_gpu("n3")
    site.world.mend("n3")
    site.run(30)
    site.world.provider_down = False
    site.run(900)
    assert [call.action for call in site.world.calls] == [Repair.REPLACE]


def test_a_short_silence_is_nothing(site: Site) -> None:
    site.world.cut("n3")
    site.run(10)
    site.world.mend("n3")
    site.run(600)
    assert not site.closed()


def test_a_reconfigure_during_the_repair_does_not_make_its_report_old(site: Site) -> None:
    """Slurmds start anew and do not check: the report of the new boot still holds."""
    site.world.cut("n3")
    site.run(330)
    site.world.reconfigure()
    site.run(60)
    assert site.closed() == [("n3", Repair.REPLACE, Phase.REPAIRED)]


@pytest.mark.parametrize("marked", [False, True], ids=["nobody knows", "a job has told"])
def test_a_dead_host_that_slurmctld_has_not_heard_since_its_start_is_repaired(
    site: Site, marked: bool
) -> None:
    """Slurm calls it unknown until SlurmdTimeout is over, which each reconfigure begins anew."""
    site.world.cut("n3")
    if marked:
        why = reasons.write("replace", "the host does not answer (found for job 7)")
        site.world.set_state(["n3"], NewState.FAIL, why)
    site.world.reconfigure()
    assert site.world.nodes_["n3"].info().state.unheard
    site.run(100)
    assert [(call.action, call.node) for call in site.world.calls] == [(Repair.REPLACE, "n3")]
    site.run(500)
    assert site.closed() == [("n3", Repair.REPLACE, Phase.REPAIRED)]


def test_a_job_on_a_host_that_slurmctld_has_not_heard_yet_is_not_ended_by_an_order_that_may_wait(
    site: Site,
) -> None:
    """Its state tells nothing of jobs, the queue does."""
    job = site.world.submit("n3")
    assert job is not None
    site.world.cut("n3")
    site.world.reconfigure()
    site.world.admin("n3", NewState.FAIL, "Action:Replace")
    site.run(200)
    assert not site.world.calls
    site.world.finish(job)
    site.run(30)
    assert [(call.action, call.node) for call in site.world.calls] == [(Repair.REPLACE, "n3")]


def test_a_host_that_lives_is_judged_when_slurmctld_has_heard_it() -> None:
    node = NodeInfo("n3", NodeState.parse("UNKNOWN+FAIL"), reason="Action:Replace")
    seen = Observation(at=1000, nodes={"n3": node})
    assert not judgeable(node, seen)
    assert judgeable(node, replace(seen, unreachable={"n3": 900.0}))
    strange = replace(node, state=NodeState.parse("UNKNOWN+FAIL+OFALATERRELEASE"))
    assert not judgeable(strange, replace(seen, unreachable={"n3": 900.0}))


def test_what_the_provider_refused_is_no_replacement_of_the_last_hour(tmp_path: Path) -> None:
    site = watched(tmp_path, replace(POLICY, max_replacements_per_hour=1, refused_after=1e6))
    site.world.blind = True
    site.world.moods = [Answer.REFUSED]
    site.world.cut("n3")
    site.run(60)
    assert site.open() == {"n3": Phase.READY}
    for name in ("n4", "n5"):
        site.world.cut(name)
        site.run(900)
    assert [call.node for call in site.world.calls] == ["n4"]
    assert "1 replacements in the last hour" in site.notices()["rate"]


class CutOff(Eyes):
    """The agent's host has lost its network, and slurmctld's with it."""

    def complete(self, seen: Observation) -> Observation:
        nobody = dict.fromkeys(seen.nodes, seen.at - 1000)
        return replace(seen, unreachable=nobody, cut_off=True)


def test_an_agent_that_is_cut_off_repairs_nothing_and_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, World(4), POLICY)
    world = site.world
    world.blind = True
    for name in world.nodes_:
        world.cut(name)
    site.agent.prober = CutOff(world=world)
    site.run(900)
    assert all(node.info().state.down for node in world.nodes_.values())
    assert not world.down_calls
    assert not world.calls
    assert set(site.notices()) == {"cut-off"}
    site.agent.prober = Eyes(world=world)
    for name in world.nodes_:
        world.mend(name)
        world.nodes_[name].base = NodeBase.IDLE
    site.run(100)
    assert not site.notices()
    assert not world.calls


def test_what_was_begun_for_a_silent_host_waits_while_the_agent_is_cut_off(site: Site) -> None:
    job = site.world.submit("n3")
    site.agent.journal.open(
        site.world.now,
        node="n3",
        action=Repair.REPLACE,
        origin=Origin.DEAD,
        requester="",
        why="out of reach",
        now=True,
        fault="unreachable",
    )
    site.world.blind = True
    site.agent.prober = CutOff(world=site.world)
    site.run(100)
    assert job in site.world.jobs_
    assert site.open() == {"n3": Phase.ISOLATE}
