"""The parsers, on what Slurm printed and on what must not be believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpadmin.slurm import text
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.states import JobState
from hpadmin.slurm.text import Unreadable
from tests.unit.slurm.recording import RECORDED, Recorded


def test_recorded_nodes() -> None:
    nodes = {node.name: node for node in CommandReader(Recorded()).nodes()}
    assert list(nodes) == ["n1", "n2", "n3", "n4", "n5", "n6"]
    assert str(nodes["n1"].state) == "IDLE+FAIL"
    assert (nodes["n1"].reason, nodes["n1"].reason_user) == ("Action:Replace", "root")
    assert nodes["n2"].reason == "first line [x@y]\nsecond"
    assert (nodes["n3"].comment, nodes["n3"].extra) == ("hello world", "ex tra")
    assert nodes["n3"].instance_id == "i-0123456789abcdef0"
    assert nodes["n3"].instance_type == "ml.p5.48xlarge"
    assert nodes["n6"].reservation == "deep"
    assert nodes["n4"].port == 17004
    assert nodes["n4"].features == ("a", "b")
    assert nodes["n4"].boot_time > 1_700_000_000


def test_recorded_jobs() -> None:
    jobs = {job.job_id: job for job in CommandReader(Recorded()).jobs()}
    assert jobs[1].nodes == "n[3-4]"
    assert jobs[1].gres == "gres/gpu:1"
    assert jobs[1].array_job_id == 0
    assert (jobs[2].array_job_id, jobs[2].array_task) == (2, "2-5%1")
    assert jobs[2].state is JobState.PENDING
    assert jobs[2].nodes == ""
    assert (jobs[3].array_job_id, jobs[3].array_task) == (2, "1")


def test_recorded_single_job_carries_its_users_text() -> None:
    job = CommandReader(Recorded()).job(1)
    assert job is not None
    assert job.name == "na|me\nx"
    assert job.comment == "Reason=xx"
    assert job.requeue
    assert job.time_limit is None
    assert job.info.nodes == "n[3-4]"
    assert CommandReader(Recorded()).job(999) is None


def test_the_rest_of_the_recording() -> None:
    reader = CommandReader(Recorded())
    assert [part.name for part in reader.partitions()] == ["dev"]
    (reservation,) = reader.reservations()
    assert (reservation.nodes, reservation.flags[0]) == ("n6", "MAINT")
    assert reader.release() == (24, 11)
    assert reader.configuration()["ReturnToService"] == "1"


@pytest.mark.parametrize("line", ["slurm_load_node error: x\n", "NodeName=n1\n", "State=IDLE\nNodeName=n1\n"])
def test_what_is_no_node_is_never_left_out(line: str) -> None:
    good = (RECORDED / "24.11" / "nodes.txt").read_text()
    with pytest.raises(Unreadable):
        text.parse_nodes(line + good)


def test_a_comment_of_two_lines_does_not_hide_the_next_node() -> None:
    nodes = text.parse_nodes(
        "NodeName=n1 State=IDLE AveWatts=0  Comment=one\ntwo \u2028 three \nNodeName=n2 State=DOWN AveWatts=0 \n"
    )
    assert [node.name for node in nodes] == ["n1", "n2"]
    assert nodes[0].comment == "one\ntwo \u2028 three"


@pytest.mark.parametrize("line", ["1|2|3", "x" + "|" * 16, "|" * 16])
def test_a_line_that_is_no_job_is_never_left_out(line: str) -> None:
    with pytest.raises(Unreadable):
        text.parse_jobs(line + "\n")


REASONS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), min_size=1
).filter(lambda value: value == value.strip() and not any(f"{key}=" in value for key in ("Comment", "Extra")))


@given(REASONS, st.integers(1, 2**33))
def test_any_reason_survives(reason: str, when: int) -> None:
    line = f"NodeName=n1 State=IDLE+DRAIN Weight=1  CurrentWatts=0 AveWatts=0  Reason={reason} [root@{when}]"
    (node,) = text.parse_nodes(line)
    assert (node.reason, node.reason_user, node.reason_time) == (reason, "root", when)


def test_no_reservations_is_an_empty_answer() -> None:
    assert text.parse_reservations("No reservations in the system\n") == ()


def test_a_configuration_must_be_one() -> None:
    with pytest.raises(Unreadable):
        text.parse_configuration("")


@pytest.mark.parametrize("broken", ["", "{}", '{"jobs": [{}]}', '{"jobs": 3}'])
def test_json_that_is_no_job_is_refused(broken: str) -> None:
    from hpadmin.slurm.jobjson import parse_job

    with pytest.raises(Unreadable):
        parse_job(broken, 1)
