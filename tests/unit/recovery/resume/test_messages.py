"""The records in a job's Extra and AdminComment: exact, tolerant of strangers' text, impossible to forge across."""

from __future__ import annotations

import string
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.recovery.resume.messages import (
    MAX_COMMENT,
    MAX_EXTRA,
    MAX_TEXT,
    Action,
    Answer,
    Cause,
    Phase,
    Request,
    answers,
    drop,
    put,
    reply,
    requests,
)

ids = st.text("0123456789abcdef", min_size=8, max_size=8)
steps = st.integers(0, 0xFFFFFFFF)
names = st.one_of(
    st.integers(0, 999).map("node-{}".format),
    st.tuples(st.integers(0, 255), st.integers(0, 255)).map(lambda ends: "ip-10-1-{}-{}".format(*ends)),
)
nodes = st.lists(names, unique=True, max_size=80).map(tuple)
some_requests = st.builds(
    Request,
    id=ids,
    step=steps,
    phase=st.just(Phase.ASK),
    attempt=st.integers(0, 99),
    cause=st.sampled_from(Cause),
    exit_code=st.integers(0, 255),
    want=st.integers(0, 10000),
    ran=st.integers(0, 10**8),
    most=st.integers(0, 1000),
    restart=st.integers(0, 99),
)
quiet_ones = st.builds(
    Request,
    id=st.just(""),
    step=steps,
    phase=st.sampled_from([Phase.WATCH, Phase.SWAP]),
    restart=st.integers(0, 3),
)
some_answers = st.builds(
    Answer,
    id=ids,
    step=steps,
    action=st.sampled_from(Action),
    bad=nodes,
    within=st.integers(0, 7 * 86400),
    text=st.text(max_size=400),
)
strangers = st.text(string.printable.replace("<", "").replace(">", ""), max_size=60)


@given(strangers, some_requests)
@settings(max_examples=100)
def test_what_is_written_is_read(text: str, request: Request) -> None:
    assert requests(put(text, request)) == {request.step: request}
    assert requests(put(text, request), request.restart) == {request.step: request}
    assert requests(put(text, request), request.restart + 1) == {}


@given(st.lists(st.one_of(some_requests, quiet_ones), max_size=30, unique_by=lambda each: each.step))
@settings(max_examples=100)
def test_all_that_is_said_of_many_steps_is_read(every: list[Request]) -> None:
    text = ""
    for request in every:
        text = put(text, request)
    assert requests(text) == {request.step: request for request in every}
    for request in every:
        text = drop(text, request.step)
    assert text == ""


@given(strangers, some_answers)
@settings(max_examples=100)
def test_answers_are_read_and_their_words_are_plain(text: str, answer: Answer) -> None:
    (read,) = answers(reply(text, answer, {})).values()
    assert read == answer
    assert len(read.text) <= MAX_TEXT
    assert not set(read.text) & set("<>\"'\\\n")


@given(some_requests, some_requests)
@settings(max_examples=50)
def test_records_of_two_steps_stand_beside_each_other(one: Request, other: Request) -> None:
    text = put(put("mine", one), other)
    assert requests(text) == {one.step: one} | {other.step: other}
    assert drop(text, one.step, other.step) == "mine"
    assert other.step not in requests(drop(text, other.step))


@pytest.mark.parametrize(
    "text",
    [
        "<auto-resume/1 step=0 id=7f3a90c1 phase=ask want=$(reboot)>",
        "<auto-resume/1 step=4294967296 id=7f3a90c1 phase=ask>",
        "<auto-resume/1 steps=0-1 id=7f3a90c1 phase=ask>",
        "<auto-resume/1 phase=watch steps=0-4096>",
        "<auto-resume/1 phase=watch steps=3-2>",
        "<auto-resume/1 phase=watch steps=0,,2>",
        "<auto-resume/1 step=-1 id=7f3a90c1 phase=ask cause=exit>",
        "<auto-resume/1 step=0 id=../../etc phase=ask cause=exit>",
        "<auto-resume/1 step=0 id=7f3a90c1 phase=reboot cause=exit>",
        "<auto-resume/1 step=0 id=7f3a90c1 phase=ask cause=exit exit=99999999999999999999>",
        "<auto-resume/1 id=7f3a90c1 phase=ask cause=exit>",
        "<auto-resume/2 step=0 id=7f3a90c1 phase=ask cause=exit>",
        "<auto-resume/1 step=0 id=7f3a90c1\nphase=ask cause=exit>",
        "<auto-resume/1 step=٣ id=7f3a90c1 phase=ask cause=exit>",
        "<auto-resume/1 >",
        "",
    ],
)
def test_what_does_not_parse_exactly_is_no_request(text: str) -> None:
    assert requests(text) == {}


def test_how_long_nodes_are_waited_for_is_told_where_the_site_says_so() -> None:
    answer = Answer("7f3a90c1", 0, Action.RETRYSTEP, ("n2",), 600, "n2: gone")
    assert "within=600" in answer.record()
    assert answers(answer.record()) == {0: answer}
    assert "within" not in Answer("7f3a90c1", 0, Action.RETRYSTEP, ("n2",)).record()


def test_a_request_is_no_answer_and_the_other_way_round() -> None:
    request = Request("7f3a90c1", 0, Phase.ASK)
    assert answers(request.record()) == {}
    assert requests(Answer("7f3a90c1", 0, Action.RETRYSTEP, ("n2",)).record()) == {}


def test_steps_that_run_share_a_record_and_eight_long_questions_fit_beside_them() -> None:
    text = ""
    for step in range(100):
        text = put(text, Request("", step, Phase.WATCH))
    assert text == "<auto-resume/1 phase=watch steps=0-99>"
    for step in range(8):
        text = put(text, Request("7f3a90c1", step * 9, Phase.ASK, 9, Cause.SILENT, 143, 1000, 99999))
    assert len(text) <= MAX_EXTRA
    assert len(requests(text)) == 100


def test_a_supervisor_that_was_started_before_an_upgrade_is_understood() -> None:
    old = "<auto-resume/1 step={} id=7f3a90c1 phase={} attempt=0 cause=exit want=4 lost=n[1-999999]>"
    assert requests(old.format(0, "watch") + old.format(1, "ask")) == {
        0: Request("", 0, Phase.WATCH),
        1: Request("7f3a90c1", 1, Phase.ASK, want=4),
    }


def test_what_a_user_writes_costs_no_more_than_its_length() -> None:
    """A few characters name millions of nodes or steps: none of them are made."""
    record = "<auto-resume/1 step={} id=7f3a90c1 phase=ask lost=a[0-999][0-999]>"
    tracemalloc.start()
    try:
        assert len(requests("".join(record.format(step) for step in range(15)))) == 15
        assert requests("<auto-resume/1 phase=watch steps=0-4294967295>" * 20) == {}
        assert len(requests("<auto-resume/1 phase=watch steps=0-4000 restart=9>" * 20)) == 4001
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_answers_are_kept_as_long_as_somebody_waits_for_them() -> None:
    text = "owner: physics"
    for step in range(200):
        request = Request(f"{step:08x}", step, Phase.ASK)
        text = reply(text, Answer(request.id, step, Action.NONE), {step: request})
    assert text == "<auto-resume/1 step=199 id=000000c7 action=NONE> owner: physics"


def test_of_answers_that_do_not_fit_the_latest_are_kept_and_a_supervisor_reads_them() -> None:
    bad = tuple(f"ip-10-1-{number % 256}-{number * 7 % 256}" for number in range(400))
    asked = {step: Request(f"{step:08x}", step, Phase.ASK) for step in range(12)}
    text = "x" * 5000
    for step, request in asked.items():
        text = reply(text, Answer(request.id, step, Action.RETRYSTEP, bad), asked)
        assert answers(text[:MAX_COMMENT])[step].bad == bad
    assert len(text) <= MAX_COMMENT
    assert sorted(answers(text)) == list(range(12 - len(answers(text)), 12))
