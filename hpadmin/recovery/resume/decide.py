"""What becomes of a failed step: a pure function of what is known."""

from __future__ import annotations

from collections.abc import Sequence

from hpadmin.recovery.resume.facts import Health, History, JobView, NodeView
from hpadmin.recovery.resume.limits import Limits
from hpadmin.recovery.resume.messages import Action, Answer, Cause, Request
from hpadmin.slurm.hostlist import fold


def decide(
    request: Request,
    job: JobView,
    nodes: Sequence[NodeView],
    history: History,
    limits: Limits,
    *,
    age: float,
) -> Answer:
    """Answer a question that was first seen `age` seconds ago.

    `nodes` are those of the job, and those that Slurm has taken from it since its step began.
    """

    def answer(action: Action, text: str, bad: tuple[str, ...] = ()) -> Answer:
        within = limits.within if action is Action.RETRYSTEP else 0
        return Answer(request.id, request.step, action, bad, within, text)

    # A step that runs is not hurt by the death of a slurmd; one that is to start again cannot do so there.
    no_slurmd = request.cause is not Cause.SILENT
    bad = tuple(node for node in nodes if node.health is Health.BAD or (node.refuses and no_slurmd))
    unsure = [node.name for node in nodes if node.health is Health.UNSURE]
    if unsure and age < limits.diagnosis:
        return answer(Action.WAIT, f"looking at {fold(unsure)}")
    restarted = [node.name for node in nodes if node.restarted]
    if not bad and not restarted and request.cause not in (Cause.LOST, Cause.STUCK):
        noted = [f"{node.name}: {node.why}" for node in nodes if node.why]
        return answer(Action.NONE, "; ".join(["no fault of the nodes was found", *noted]))

    names = tuple(node.name for node in bad)
    why = "; ".join(f"{node.name}: {node.why}" for node in bad)
    if not why and restarted:
        why = f"{fold(restarted)} started again while the step ran"
    elif not why:
        why = (
            "Slurm gave no other nodes" if request.cause is Cause.STUCK else "processes of the step were lost"
        )
    allowed = min(limits.resumes, request.most) if request.most else limits.resumes
    # A resume that got stuck is the one already counted.
    if history.resumes >= allowed + (request.cause is Cause.STUCK):
        return answer(Action.FAIL, f"{why}; but the budget of {allowed} resumes is used up")
    if history.quick_failures >= limits.quick_failures:
        quick = f"it failed within {limits.quick:g} s after each of the last {limits.quick_failures} resumes"
        return answer(Action.FAIL, f"{why}; but {quick}, so the program is at fault")
    if not bad and request.cause is not Cause.STUCK:
        return answer(Action.RETRYSTEP, why)

    left = len(set(job.nodes) - set(names))
    stuck = _why_not_in_place(request, job, names, left)
    if not stuck:
        return answer(Action.RETRYSTEP, why, names)
    if not job.batch:
        return answer(Action.FAIL, f"{why}; {stuck}, and only batch jobs can be requeued")
    if not job.requeue:
        return answer(
            Action.FAIL, f"{why}; {stuck}, and the job forbids a requeue (--no-requeue or JobRequeue=0)"
        )
    return answer(Action.REQUEUE, f"{why}; {stuck}", names)


def _why_not_in_place(request: Request, job: JobView, bad: tuple[str, ...], left: int) -> str:
    """Say why the step cannot start again inside its allocation; empty when it can."""
    if job.batch_host and job.batch_host in bad:
        return "the batch script's own node is lost"
    if left == 0:
        return "no node of the job is left"
    if request.cause is Cause.STUCK:
        return "the job could not grow"
    if request.want and left >= request.want:
        return ""
    if job.gres:
        return "Slurm cannot add nodes to a job with GRES"
    if job.holds_blocks:
        return "Slurm lets no node of a block join a job that holds the block for itself (--exclusive=topo)"
    if not job.can_grow:
        return (
            "no node can join (permit_job_expansion is missing, disable_job_shrink is set, PrologFlags has Alloc, "
            "TaskPlugin binds tasks to cores, or the job does not hold whole nodes)"
        )
    return ""
