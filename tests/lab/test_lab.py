"""The lab itself: it converges, breaks machines on request, replaces them, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.lab import rebooting
from hpadmin.lab.cluster import Lab
from hpadmin.lab.engine import connect
from hpadmin.nodes.providers.docker import Docker
from hpadmin.request import Source
from tests.support import labs

pytestmark = pytest.mark.lab


def cluster(workers: int) -> Source:
    return labs.request(
        ("controller", "ml.c5.xlarge", 1, "Controller", None),
        ("workers", "ml.g5.12xlarge", workers, "Compute", "gpu"),
    )


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labs.running_lab(cluster(2)) as running:
        yield running


def everything() -> set[str]:
    """Every container and network that any lab made."""
    client = connect()
    # Labs of other tests go at any time.
    listed = client.containers.list(all=True, filters={"label": "hpadmin.lab"}, ignore_removed=True)
    return {str(one.name) for one in listed} | {
        str(one.name) for one in client.networks.list(filters={"label": "hpadmin.lab"})
    }


def facts(lab: Lab) -> dict[str, tuple[str, str]]:
    return {node.instance.name: (node.instance.instance_id, node.instance.address) for node in lab.nodes()}


def started(lab: Lab) -> dict[str, str]:
    """When each container of the lab was started last."""
    containers = connect().containers
    return {
        node.container: containers.get(node.container).attrs["State"]["StartedAt"] for node in lab.nodes()
    }


def test_a_second_up_changes_nothing(lab: Lab) -> None:
    before = facts(lab), started(lab)
    lab.up(cluster(2), lifecycle=labs.unattended(), say=lambda _: None)
    assert (facts(lab), started(lab)) == before


def test_nodes_know_their_host_without_asking_a_name_service(lab: Lab) -> None:
    """slurmd looks up whoever connects, one after the other: an agent on the host must not have it ask far away."""
    [network] = (
        connect().containers.get(lab.controller().container).attrs["NetworkSettings"]["Networks"].values()
    )
    for node in lab.nodes():
        said = lab.runner(node.instance.name).run(
            ["getent", "-s", "files", "hosts", network["Gateway"]], timeout=60
        )
        assert said.check().stdout.split()[0] == network["Gateway"]


def test_a_group_grows_while_a_job_runs_and_shrinks_again(lab: Lab) -> None:
    before = facts(lab)
    job = labs.submit(lab, "-p", "gpu", "-N1", "--wrap", "sleep 600")
    labs.wait_for_state(lab, job, "RUNNING")
    lab.up(cluster(3), lifecycle=labs.unattended(), say=lambda _: None)
    assert set(facts(lab)) == {*before, "workers-3"}
    assert len(lab.slurm_states()) == 3
    lab.up(cluster(2), lifecycle=labs.unattended(), say=lambda _: None)
    assert facts(lab) == before
    assert len(lab.slurm_states()) == 2
    assert labs.job_field(lab, job, "JobState") == "RUNNING"
    assert labs.job_field(lab, job, "Restarts") == "0"
    labs.login(lab, "scancel", str(job))


def test_a_replaced_node_comes_back_under_its_name_with_another_address(lab: Lab) -> None:
    old = lab.node("workers-2").instance
    new = lab.begin_replacement("workers-2")
    with pytest.raises(OperationFailed, match="is being replaced already"):
        lab.begin_replacement("workers-2")
    with pytest.raises(InvalidInput):
        lab.begin_replacement(old.instance_id)
    # Whoever began it died; what it had done, somebody else finds, and that twice does no harm.
    assert Lab.open(lab.name).replacements_unfinished()
    Lab.open(lab.name).finish_replacements()
    lab.finish_replacements()
    assert not lab.replacements_unfinished()
    assert new.hostname == old.hostname
    assert new.address != old.address
    assert new.instance_id != old.instance_id
    lab.wait_ready(timeout=240, say=lambda _: None)
    labs.wait_until(
        lambda: labs.login(lab, "sinfo", "-h", "-n", new.hostname, "-o", "%o").stdout.strip() == new.address,
        120,
        "Slurm knows the new address",
    )
    ran = labs.login(lab, "srun", "-p", "gpu", "-w", new.hostname, "hostname")
    assert ran.stdout.strip() == new.hostname


def test_a_reboot_that_was_ordered_is_done_once_by_whoever_comes(lab: Lab) -> None:
    instance = lab.node("workers-1").instance.instance_id
    container, before = lab.node("workers-1").container, started(lab)
    assert rebooting.unfinished(lab) == []
    lab.fault("workers-1", "pause")
    rebooting.begin(lab, instance)
    assert started(lab) == before
    # Whoever ordered it died.
    provider = Docker(lab.name)
    provider.carry_on_reboots()
    labs.wait_until(lambda: started(lab)[container] != before[container], 120, "the machine boots")
    labs.wait_until(lambda: rebooting.unfinished(lab) == [], 60, "nothing is left to do")
    after = started(lab)
    rebooting.finish(lab, instance)
    provider.carry_on_reboots()
    assert started(lab) == after
    lab.wait_schedulable(timeout=240, say=lambda _: None, nodes=[lab.node("workers-1").instance.hostname])


@pytest.mark.parametrize(("kind", "docker_word"), [("pause", "paused"), ("kill", "exited")])
def test_a_broken_machine_is_seen_and_heals(lab: Lab, kind: str, docker_word: str) -> None:
    host = lab.node("workers-1").instance.hostname
    before = labs.slurmd_start(lab, host)
    lab.fault("workers-1", kind)
    assert lab.node("workers-1").running == docker_word
    lab.fault("workers-1", "heal")
    if kind == "kill":
        labs.wait_for_another_slurmd(lab, host, before)
    lab.wait_ready(timeout=240, say=lambda _: None)
    assert labs.login(lab, "srun", "-p", "gpu", "-w", host, "hostname").stdout


def test_a_disconnected_machine_hears_nobody_until_it_heals(lab: Lab) -> None:
    name, address = lab.node("workers-1").instance.hostname, lab.node("workers-1").instance.address
    controller = lab.runner("controller-1")
    assert controller.run(["ping", "-c1", "-W2", address], timeout=120).returncode == 0
    lab.fault("workers-1", "disconnect")
    assert controller.run(["ping", "-c1", "-W2", address], timeout=120).returncode != 0
    lab.fault("workers-1", "heal")
    assert controller.run(["ping", "-c1", "-W2", address], timeout=120).returncode == 0
    lab.wait_schedulable(timeout=240, say=lambda _: None, nodes=[name])


def test_unknown_nodes_and_faults_are_named(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="has no node workers-9") as unknown:
        lab.fault("workers-9", "kill")
    assert "workers-1" in unknown.value.hint
    with pytest.raises(InvalidInput, match="no fault 'burn'"):
        lab.fault("workers-1", "burn")


def test_down_removes_its_own_and_nothing_else(lab: Lab) -> None:
    others = everything()
    small = labs.request(("controller", "ml.c5.large", 1, "Controller", None), name="small")
    with labs.running_lab(small) as brief:
        assert {name for name in everything() - others if brief.name in name} == {
            f"{brief.name}-controller-1",
            f"hpadmin-{brief.name}",
        }
    assert not any(brief.name in name for name in everything())
    assert {name for name in others if lab.name in name} <= everything()
    with pytest.raises(InvalidInput):
        Lab.find(brief.name)
