"""Machines that automatism never touches, and an hour in which nothing can be repaired."""

from __future__ import annotations

from pathlib import Path

from hpadmin.nodes.provider import Condition, ProviderInstance, Repair
from hpadmin.recovery.book import Phase
from hpadmin.slurm.control import NewState
from tests.unit.recovery.test_agent import Site
from tests.unit.recovery.world import Eyes, World


class WithOthers(World):
    """A provider that also tells of the cluster's login and controller instances, which have failed."""

    def instances(self) -> tuple[ProviderInstance, ...]:
        others = (
            ProviderInstance("i-login", "login-1", Condition.FAILED, group="login"),
            ProviderInstance("i-head", "head", Condition.FAILED, group="controller"),
        )
        return (*super().instances(), *others)


def test_login_nodes_and_controllers_that_fail_are_left_alone(tmp_path: Path) -> None:
    site = Site(tmp_path, WithOthers(4))
    site.run(900)
    assert not site.world.calls
    assert not site.closed()
    assert not site.open()


def test_a_machine_that_its_provider_is_making_is_not_dead(tmp_path: Path) -> None:
    """It joins slowly: Slurm has given its node up by now, and nobody can reach it yet."""
    site = Site(tmp_path, World(4))
    site.agent.prober = Eyes(world=site.world)
    site.world.cut("n1")
    machine = site.world.nodes_["n1"].machine
    machine.after, machine.busy_until = "reboot", 3000
    site.run(1200)
    assert not site.world.calls
    assert not site.open()


def test_a_controller_that_is_a_node_of_slurm_is_told_of_and_left_alone(tmp_path: Path) -> None:
    world = World(4)
    head = world.nodes_.pop("n0")
    head.name = "head"
    world.nodes_["head"] = head
    site = Site(tmp_path, world)
    world.die("head")
    world.admin("n1", NewState.FAIL, "Action:Reboot")
    site.run(900)
    assert [(call.action, call.node) for call in world.calls] == [(Repair.REBOOT, "n1")]
    assert "controllers and protected nodes are never touched" in site.notices()["protected:head"]


def test_a_provider_that_fails_for_an_hour_loses_and_doubles_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, World(8))
    site.world.admin("n1", NewState.FAIL, "Action:Replace")
    site.world.die("n2")
    site.world.break_gpu("n3")
    site.world.provider_down = True
    for quarter in range(4):
        site.run(900)
        assert not site.world.calls
        assert "does not answer" in site.notices()["provider"]
        if quarter == 1:
            site.start()  # the agent itself is restarted meanwhile
    assert set(site.open()) == {"n1", "n2", "n3"}
    site.world.provider_down = False
    site.world.nodes_["n3"].machine.faulty = False
    site.run(2400)
    assert sorted((call.node, call.action) for call in site.world.calls) == [
        ("n1", Repair.REPLACE),
        ("n2", Repair.REBOOT),
        ("n3", Repair.REBOOT),
    ]
    assert {phase for _, _, phase in site.closed()} == {Phase.REPAIRED}
    assert all(node.info().state.schedulable for node in site.world.nodes_.values())
    assert "provider" not in site.notices()
