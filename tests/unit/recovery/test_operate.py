"""Orders by hand: what is accepted, what is refused and how that is said, how progress is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner

from admin_cli.root import root
from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.nodes import reasons
from hpadmin.nodes.provider import ProviderError, Repair
from hpadmin.recovery import operate
from hpadmin.recovery.book import Book, Origin, Phase, RepairRecord
from hpadmin.recovery.observe import Observation, observe
from hpadmin.slurm.control import NewState
from tests.unit.recovery.world import World


@pytest.fixture
def world() -> World:
    return World(4)


def look(world: World) -> Observation:
    return observe(world, world, at=world.now)


def problems(caught: pytest.ExceptionInfo[InvalidInput]) -> list[str]:
    return [str(problem) for problem in caught.value.problems]


def test_hostlists_and_instance_ids_name_nodes_once(world: World) -> None:
    world.nodes_["n3"].machine.instance_id = "i-0123456789abcdef0"
    assert operate.resolve(["n[0-1]", "i-0123456789abcdef0", "n1"], look(world)) == ("n0", "n1", "n3")


def test_every_bad_word_is_named_and_nothing_is_done(world: World) -> None:
    with pytest.raises(InvalidInput, match="nothing was done") as caught:
        operate.resolve(["n0", "n9", "x[1-", "i-0aaaaaaaaaaaaaaa1", ""], look(world))
    assert problems(caught) == [
        "n9: is no node of this cluster",
        "x[1-: Invalid hostlist: x[1-",
        "i-0aaaaaaaaaaaaaaa1: is no instance of this cluster",
        "'': names no node",
    ]


def test_no_word_at_all(world: World) -> None:
    with pytest.raises(InvalidInput) as caught:
        operate.resolve([], look(world))
    assert problems(caught) == ["no node was named"]


def test_an_instance_id_while_the_provider_is_silent(world: World) -> None:
    world.provider_down = True
    with pytest.raises(InvalidInput) as caught:
        operate.resolve(["i-0123456789abcdef0"], look(world))
    assert problems(caught) == ["i-0123456789abcdef0: cannot be looked up: the provider does not answer"]


def test_what_may_not_be_ordered(world: World) -> None:
    world.admin("n0", NewState.DRAIN, "bad PSU")
    seen = replace(look(world), protected=frozenset({"n1"}))
    with pytest.raises(InvalidInput, match="nothing was done") as caught:
        operate.check_orderable(["n0", "n1", "n2"], Repair.REPLACE, seen)
    assert problems(caught) == [
        "n0: alice keeps it out: 'bad PSU'; have that settled first",
        "n1: is a controller, protected or this very host: hpadmin does not replace it",
    ]


def test_an_order_says_who_and_why(world: World) -> None:
    operate.order(
        ["n0", "n1"], Repair.REPLACE, author="alice", why="bad\nNIC", now=True, reader=world, control=world
    )
    assert world.nodes_["n1"].reason == "hpadmin: replace(now) by alice: bad NIC"
    order = reasons.read(world.nodes_["n1"].reason).order
    assert order is not None
    assert (order.action, order.now, order.author, order.text) == (Repair.REPLACE, True, "alice", "bad NIC")


def test_a_node_taken_meanwhile_stops_the_whole_order(world: World) -> None:
    world.admin("n1", NewState.DRAIN, "mine")
    with pytest.raises(OperationFailed, match="somebody took n1 meanwhile; nothing was done"):
        operate.order(
            ["n0", "n1"], Repair.REBOOT, author="a", why="x", now=False, reader=world, control=world
        )
    assert world.nodes_["n0"].reason == ""


def test_without_rights(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OperationFailed("scontrol update exited 1 and said: slurm_update error: Invalid user id")

    monkeypatch.setattr(world, "set_state", refuse)
    with pytest.raises(OperationFailed, match="you may not change nodes of this cluster") as caught:
        operate.order(["n0"], Repair.REBOOT, author="a", why="x", now=False, reader=world, control=world)
    assert "AdminLevel=Administrator" in caught.value.hint


def test_jobs_that_would_be_hit(world: World) -> None:
    job, other = world.submit("n0", "n1"), world.submit("n2")
    assert [each.job_id for each in operate.jobs_hit(["n1"], look(world))] == [job]
    assert other not in [each.job_id for each in operate.jobs_hit(["n0", "n1"], look(world))]


@pytest.mark.parametrize(
    ("phase", "result", "text", "done", "failed"),
    [
        (Phase.DRAIN, "", "waiting for jobs 4, 7", False, False),
        (Phase.READY, "", "ready, waiting for its turn", False, False),
        (Phase.ASKING, "", "asking the provider to reboot i-1", False, False),
        (Phase.AWAIT, "", "at the provider; waiting for the node to come back", False, False),
        (Phase.VERIFY, "", "back; waiting for its health check", False, False),
        (Phase.REPAIRED, "", "back in service", True, False),
        (Phase.FAILED, "not back", "failed: not back", False, True),
        (Phase.CANCELLED, "bob", "given up: bob", False, True),
    ],
)
def test_progress_by_the_journal(
    world: World, phase: Phase, result: str, text: str, done: bool, failed: bool
) -> None:
    record = RepairRecord(
        1,
        "n0",
        Repair.REBOOT,
        Origin.ADMIN,
        "a",
        "x",
        False,
        phase,
        1,
        50,
        instance_before="i-1",
        result=result,
    )
    book = Book(closed=(record,)) if phase.closed else Book(open={"n0": record})
    told = operate.progress("n0", Repair.REBOOT, 10, world.node("n0"), book, (7, 4))
    assert (told.text, told.done, told.failed) == (text, done, failed)


def test_progress_by_slurm_alone(world: World) -> None:
    def told(since: float = 0) -> operate.Progress:
        return operate.progress("n0", Repair.REBOOT, since, world.node("n0"), None, world.jobs_of("n0"))

    job = world.submit("n0")
    assert job is not None
    operate.order(["n0"], Repair.REBOOT, author="a", why="x", now=False, reader=world, control=world)
    assert told().text == f"waiting for job {job}"
    world.finish(job)
    assert told().text == "IDLE+FAIL"
    world.set_state(["n0"], NewState.FAIL, "hpadmin: hold: reboot failed: not back")
    assert told().failed
    world.set_state(["n0"], NewState.RESUME, "hpadmin: returned: rebooted because of x")
    assert told().done
    # A return of earlier days is not the end of today's order.
    assert not told(since=world.now + 1).done


def test_what_a_list_shows(world: World) -> None:
    world.admin("n0", NewState.DRAIN, "bad PSU")
    world.admin("n1", NewState.FAIL, "hpadmin: hold: x")
    job = world.submit("n2")
    world.advance(10)
    world.die("n3")
    nodes = {node.name: node for node in operate.summarise(look(world), {"n2": "b1"})}
    assert (nodes["n0"].owner, nodes["n0"].reason, nodes["n0"].since) == ("alice", "bad PSU", 1000)
    assert nodes["n1"].owner == "hpadmin"
    assert (nodes["n2"].jobs, nodes["n2"].block, nodes["n2"].health) == ((job,), "b1", "passed")
    assert nodes["n3"].health == "failed"


def test_blocks_and_leaf_switches() -> None:
    text = (
        "BlockName=b1 BlockIndex=0 Nodes=n[1-2] BlockSize=2\n"
        "BlockName=b2 BlockIndex=1 Nodes=n3 BlockSize=2\n"
        "AggregatedBlock=b1,b2 BlockIndex=2 Nodes=n[1-3] BlockSize=4\n"
    )
    assert operate.blocks_of(text) == {"n1": "b1", "n2": "b1", "n3": "b2"}
    tree = (
        "SwitchName=top Level=1 LinkSpeed=1 Nodes=n[1-2] Switches=s1\n"
        "SwitchName=s1 Level=0 LinkSpeed=1 Nodes=n[1-2]\n"
    )
    assert operate.blocks_of(tree) == {"n1": "s1", "n2": "s1"}
    assert operate.blocks_of("") == {}


def test_a_silent_provider_is_part_of_the_picture(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> object:
        raise ProviderError("time ran out", transient=True)

    monkeypatch.setattr(world, "instances", silent)
    seen = look(world)
    assert seen.instances is None
    assert seen.provider_error == "time ran out"
    assert len(seen.nodes) == 4


@pytest.mark.parametrize("command", ["replace", "reboot"])
def test_the_command_wants_nodes(command: str) -> None:
    result = CliRunner().invoke(root, ["node", command])
    assert result.exit_code == 2
    assert "NODE..." in result.output
