"""The records in a job's Extra and AdminComment: exact, tolerant of strangers' text, impossible to forge across."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.recovery.resume.messages import (
    MAX_TEXT,
    Action,
    Answer,
    Cause,
    Phase,
    Request,
    answers,
    drop,
    put,
    requests,
)

ids = st.text("0123456789abcdef", min_size=8, max_size=8)
nodes = st.lists(st.integers(0, 999).map("node-{}".format), unique=True, max_size=6).map(tuple)
some_requests = st.builds(
    Request,
    id=ids,
    step=st.integers(0, 99999),
    phase=st.sampled_from(Phase),
    attempt=st.integers(0, 99),
    cause=st.sampled_from(Cause),
    exit_code=st.integers(0, 255),
    want=st.integers(0, 10000),
    ran=st.integers(0, 10**8),
    most=st.integers(0, 1000),
    restart=st.integers(0, 99),
    lost=nodes,
)
some_answers = st.builds(
    Answer,
    id=ids,
    step=st.integers(0, 99999),
    action=st.sampled_from(Action),
    bad=nodes,
    text=st.text(max_size=400),
)
strangers = st.text(string.printable.replace("<", "").replace(">", ""), max_size=60)


@given(strangers, some_requests)
@settings(max_examples=100)
def test_what_is_written_is_read(text: str, request: Request) -> None:
    assert requests(put(text, request.record())) == {request.step: request}
    assert requests(put(text, request.record()), request.restart) == {request.step: request}
    assert requests(put(text, request.record()), request.restart + 1) == {}


@given(strangers, some_answers)
@settings(max_examples=100)
def test_answers_are_read_and_their_words_are_plain(text: str, answer: Answer) -> None:
    read = answers(put(text, answer.record()))[answer.step]
    assert read == answer
    assert len(read.text) <= MAX_TEXT
    assert not set(read.text) & set("<>\"'\\\n")


@given(some_requests, some_requests)
@settings(max_examples=50)
def test_records_of_two_steps_stand_beside_each_other(one: Request, other: Request) -> None:
    text = put(put("mine", one.record()), other.record())
    assert requests(text) == {one.step: one} | {other.step: other}
    assert drop(text) == "mine"
    assert other.step not in requests(drop(text, other.step))


@pytest.mark.parametrize(
    "text",
    [
        "<auto-resume/1 step=0 id=7f3a90c1 phase=ask attempt=0 cause=exit lost=$(reboot)>",
        "<auto-resume/1 step=0 id=7f3a90c1 phase=ask attempt=0 cause=exit lost=n[1-99999999]>",
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
