"""A request whose answer nobody heard: what shows that the provider did."""

from __future__ import annotations

import pytest

from hpadmin.nodes.provider import Condition, ProviderInstance, Repair
from hpadmin.recovery.actions import Advance
from hpadmin.recovery.book import Origin, Phase, RepairRecord
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.policy import Policy
from hpadmin.recovery.steps import step
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import NodeState

ASKED = 1000.0
POLICY = Policy()
LATER = ASKED + POLICY.settle


@pytest.mark.parametrize(
    ("action", "booted_before", "instance", "at", "phase"),
    [
        # A lab's machine takes in a change of the cluster by itself: no reboot, and no replacement either.
        (Repair.REBOOT, 100, ("i-1", Condition.STARTING, 100), ASKED, None),
        (Repair.REPLACE, 100, ("i-1", Condition.STARTING, 100), ASKED, None),
        (Repair.REBOOT, 100, ("i-1", Condition.STARTING, 100), LATER, Phase.READY),
        (Repair.REBOOT, 100, ("i-1", Condition.RUNNING, 200), ASKED, Phase.AWAIT),
        (Repair.REPLACE, 100, ("i-2", Condition.STARTING, 200), ASKED, Phase.AWAIT),
        # A provider that tells no boots has nothing but the state to show.
        (Repair.REBOOT, 0, ("i-1", Condition.STARTING, 0), ASKED, Phase.AWAIT),
        (Repair.REPLACE, 0, ("i-1", Condition.STOPPING, 0), ASKED, Phase.AWAIT),
        (Repair.REBOOT, 0, ("i-1", Condition.RUNNING, 0), ASKED, None),
    ],
)
def test_traces_of_a_request(
    action: Repair,
    booted_before: float,
    instance: tuple[str, Condition, float],
    at: float,
    phase: Phase | None,
) -> None:
    record = RepairRecord(
        number=1,
        node="n1",
        action=action,
        origin=Origin.ADMIN,
        requester="root",
        why="kernel update",
        now=False,
        phase=Phase.ASKING,
        opened=ASKED,
        changed=ASKED,
        instance_before="i-1",
        booted_before=booted_before,
        asked=ASKED,
        attempts=1,
    )
    node = NodeInfo("n1", NodeState.parse("IDLE+FAIL"), reason="hpadmin: reboot by root: kernel update")
    instance_id, condition, booted = instance
    known = ProviderInstance(instance_id, "n1", condition, booted=booted)
    done = step(record, node, Observation(at, {"n1": node}, instances={"n1": known}), POLICY)
    assert (done.phase if isinstance(done, Advance) else done) == phase
