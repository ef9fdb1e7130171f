"""What becomes of a failed step: the table of cases, and laws over all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.recovery.resume.decide import decide
from hpadmin.recovery.resume.facts import Health, History, JobView, NodeView
from hpadmin.recovery.resume.limits import Limits
from hpadmin.recovery.resume.messages import Action, Cause, Phase, Request

ASK = Request("7f3a90c1", 0, Phase.ASK, exit_code=1, want=4)
JOB = JobView(82, ("n1", "n2", "n3", "n4"), "n1", batch=True, requeue=True, gres=False, can_grow=True)
LIMITS = Limits()


def good(*names: str) -> list[NodeView]:
    return [NodeView(name, Health.GOOD) for name in names]


def bad(name: str) -> NodeView:
    return NodeView(name, Health.BAD, "gone", dead=True)


def restarted(name: str) -> NodeView:
    return NodeView(name, Health.GOOD, restarted=True)


LOST_N2 = [*good("n1", "n3", "n4"), bad("n2")]
HELD = replace(JOB, nodes=(*JOB.nodes, "n5"), gres=True)


@pytest.mark.parametrize(
    ("request_", "job", "nodes", "history", "action", "words"),
    [
        (ASK, JOB, good(*JOB.nodes), History(), Action.NONE, "no fault"),
        (ASK, JOB, LOST_N2, History(), Action.RETRYSTEP, "n2: gone"),
        (
            ASK,
            JOB,
            [*good("n1", "n3", "n4"), restarted("n2")],
            History(),
            Action.RETRYSTEP,
            "n2 started again",
        ),
        (
            replace(ASK, cause=Cause.CUT),
            replace(JOB, gres=True),
            [*good("n1", "n3", "n4"), restarted("n2")],
            History(),
            Action.RETRYSTEP,
            "n2 started again",
        ),
        (ASK, replace(JOB, gres=True), LOST_N2, History(), Action.REQUEUE, "GRES"),
        (ASK, HELD, [*LOST_N2, *good("n5")], History(), Action.RETRYSTEP, "n2"),
        (ASK, replace(JOB, gres=True, requeue=False), LOST_N2, History(), Action.FAIL, "--no-requeue"),
        (ASK, replace(JOB, gres=True, batch=False), LOST_N2, History(), Action.FAIL, "only batch jobs"),
        (ASK, replace(JOB, can_grow=False), LOST_N2, History(), Action.REQUEUE, "permit_job_expansion"),
        (ASK, replace(JOB, holds_blocks=True), LOST_N2, History(), Action.REQUEUE, "--exclusive=topo"),
        (ASK, replace(JOB, batch_host="n2"), LOST_N2, History(), Action.REQUEUE, "batch script"),
        (ASK, JOB, LOST_N2, History(resumes=10), Action.FAIL, "budget of 10"),
        (replace(ASK, most=2), JOB, LOST_N2, History(resumes=2), Action.FAIL, "budget of 2"),
        (replace(ASK, most=500), JOB, LOST_N2, History(resumes=10), Action.FAIL, "budget of 10"),
        (ASK, JOB, LOST_N2, History(3, quick_failures=3), Action.FAIL, "the program is at fault"),
        (replace(ASK, cause=Cause.LOST), JOB, good(*JOB.nodes), History(), Action.RETRYSTEP, "were lost"),
        (replace(ASK, cause=Cause.SILENT), JOB, good(*JOB.nodes), History(), Action.NONE, "no fault"),
        (replace(ASK, cause=Cause.HANG), JOB, good(*JOB.nodes), History(), Action.NONE, "no fault"),
        (replace(ASK, cause=Cause.STUCK), JOB, LOST_N2, History(), Action.REQUEUE, "could not grow"),
        (replace(ASK, cause=Cause.STUCK), JOB, good("n1", "n3"), History(), Action.REQUEUE, "could not grow"),
        (
            replace(ASK, cause=Cause.STUCK),
            JOB,
            LOST_N2,
            History(resumes=10),
            Action.REQUEUE,
            "could not grow",
        ),
    ],
)
def test_cases(
    request_: Request, job: JobView, nodes: list[NodeView], history: History, action: Action, words: str
) -> None:
    answer = decide(request_, job, nodes, history, LIMITS, age=0)
    assert answer.action is action
    assert words in answer.text
    assert answer.id == request_.id


def test_the_site_says_how_often_and_how_long() -> None:
    limits = Limits(resumes=1, service=600)
    answer = decide(ASK, JOB, LOST_N2, History(), limits, age=0)
    assert (answer.action, answer.within) == (Action.RETRYSTEP, 600)
    assert decide(ASK, JOB, LOST_N2, History(resumes=1), limits, age=0).action is Action.FAIL
    assert decide(ASK, JOB, LOST_N2, History(), LIMITS, age=0).within == 0


def test_a_slurmd_that_is_gone_does_not_hurt_a_step_that_runs() -> None:
    nodes = [*good("n1", "n3", "n4"), NodeView("n2", Health.GOOD, "slurmd does not run", refuses=True)]
    running = decide(replace(ASK, cause=Cause.SILENT), JOB, nodes, History(), LIMITS, age=0)
    assert (running.action, running.bad) == (Action.NONE, ())
    for cause in (Cause.CUT, Cause.EXIT, Cause.LOST):
        ended = decide(replace(ASK, cause=cause), JOB, nodes, History(), LIMITS, age=0)
        assert (ended.action, ended.bad) == (Action.RETRYSTEP, ("n2",))


def test_unsure_nodes_are_waited_for_but_not_for_ever() -> None:
    nodes = [*good("n1", "n3", "n4"), NodeView("n2", Health.UNSURE)]
    assert decide(ASK, JOB, nodes, History(), LIMITS, age=0).action is Action.WAIT
    assert decide(ASK, JOB, nodes, History(), LIMITS, age=LIMITS.diagnosis).action is Action.NONE


views = st.lists(
    st.builds(
        NodeView,
        st.just("n"),
        st.sampled_from(Health),
        st.just("why"),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
).map(lambda found: [replace(view, name=f"n{number}") for number, view in enumerate(found)])


@given(
    views,
    st.builds(
        Request,
        st.just("00000000"),
        st.just(0),
        st.just(Phase.ASK),
        cause=st.sampled_from(Cause),
        want=st.integers(0, 6),
        most=st.integers(0, 3),
    ),
    st.builds(History, st.integers(0, 12), st.integers(0, 4)),
    *[st.booleans()] * 4,
    st.floats(0, 60),
)
@settings(max_examples=300)
def test_laws(
    nodes: list[NodeView],
    request: Request,
    history: History,
    batch: bool,
    requeue: bool,
    gres: bool,
    can_grow: bool,
    age: float,
) -> None:
    names = tuple(view.name for view in nodes)
    job = JobView(1, names, names[0] if batch else "", batch, requeue, gres, can_grow)
    answer = decide(request, job, nodes, history, LIMITS, age=age)
    faulty = {view.name for view in nodes if view.health is Health.BAD or view.refuses}
    assert set(answer.bad) <= faulty, "a good node is never dropped"
    if answer.action in (Action.RETRYSTEP, Action.REQUEUE):
        assert history.resumes <= LIMITS.resumes
        assert faulty or request.cause in (Cause.LOST, Cause.STUCK), (
            "without a fault nothing is started again"
        )
    if answer.action is Action.REQUEUE:
        assert batch
        assert requeue, "who forbids a requeue is not requeued"
    if answer.action is Action.RETRYSTEP and gres and answer.bad:
        assert len(names) - len(answer.bad) >= request.want > 0, "a job with GRES never has to grow"
    if batch and names[0] in answer.bad:
        assert answer.action is not Action.RETRYSTEP, "the batch host cannot be dropped"
    assert answer.text
