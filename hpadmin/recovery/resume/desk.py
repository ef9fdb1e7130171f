"""What questions and requeues have in common: the tools of the agent's part, and settling a decision."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol, TypeVar

from hpadmin.nodes import reasons
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.resume.control import JobControl
from hpadmin.recovery.resume.examine import Examiner
from hpadmin.recovery.resume.facts import (
    Health,
    JobView,
    NodeView,
    Reach,
    has_gres,
)
from hpadmin.recovery.resume.limits import Limits
from hpadmin.recovery.resume.messages import Action, Answer, Cause, Request
from hpadmin.recovery.resume.reach import doubted
from hpadmin.recovery.resume.reach import reach as speak
from hpadmin.recovery.resume.store import Incident, JobRecord, State, Store
from hpadmin.slurm import growth
from hpadmin.slurm.control import NewState, SlurmControl
from hpadmin.slurm.hostlist import expand, fold
from hpadmin.slurm.reader import JobDetail, SlurmReader

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Reacher(Protocol):
    """How slurmds are spoken to: `hpadmin.recovery.resume.reach.reach`."""

    def __call__(
        self, targets: Mapping[str, tuple[str, int]], *, timeout: float, greeter: int | None = None
    ) -> dict[str, Reach]: ...


SLURMD_PORT = 6818
SSH_PORT = 22
"""Whose server speaks first: a second sign of life."""
GLIMPSE_SECONDS = 0.5
"""A healthy slurmd answers within milliseconds."""
MEANWHILE_SECONDS = 0.5
"""While hosts are waited for, what is urgent is looked at so often."""
COMPARED = 5
"""So many hosts that nobody asked about are spoken to along with those that are silent."""
UNASKED = "agent"
"""The beginning of the request id of incidents that no supervisor asked about."""


@dataclass(frozen=True)
class Desk:
    """Slurm, the store and the limits, and what is done with all of them."""

    reader: SlurmReader
    nodes: SlurmControl
    jobs: JobControl
    store: Store
    limits: Limits = field(default_factory=Limits)
    reacher: Reacher | None = None
    examiner: Examiner | None = None
    examined: dict[str, set[str]] = field(default_factory=dict)
    """Which nodes have looked at themselves, for which open question: kept from cycle to cycle."""
    meanwhile: Callable[[], object] = lambda: None
    """What is urgent while hosts are waited for; raises nothing."""
    _kept_out: set[str] = field(default_factory=set, init=False)
    """Nodes that were marked in this cycle: a rack holds many jobs, and the picture is that of its start."""
    _given_up: set[str] = field(default_factory=set, init=False)
    _reached: dict[str, Reach] = field(default_factory=dict, init=False)
    """What was found out in this cycle: a dead node is waited for once, not once for each of its jobs."""
    _beside: dict[str, Reach] = field(default_factory=dict, init=False)
    """Hosts that nobody asked about, spoken to once, along with those that were silent: they tell what silence means
    just now (`doubted`), and of themselves nothing yet."""

    def save(self, record: JobRecord, state: State, now: float, **about: object) -> JobRecord:
        return self.store.save(replace(record, state=state, **about), now)  # type: ignore[arg-type]

    def settle(
        self,
        record: JobRecord,
        incident: Incident,
        request: Request,
        answer: Answer,
        views: Sequence[NodeView],
        quick: int,
        seen: Observation,
    ) -> JobRecord:
        """Keep the bad nodes away from everybody, then write the decision down; only then it is told and done."""
        bad = [view for view in views if view.health is Health.BAD or view.refuses]
        self._mark(bad, seen, record.job_id)
        with self.store.together():
            record = self._write_down(record, incident, request, answer, quick, seen)
        log.warning(
            "answered a failed step",
            extra={
                "job": record.job_id,
                "step": request.step,
                "action": answer.action.value,
                "why": answer.text,
            },
        )
        return record

    def _write_down(
        self,
        record: JobRecord,
        incident: Incident,
        request: Request,
        answer: Answer,
        quick: int,
        seen: Observation,
    ) -> JobRecord:
        self.store.decide(incident, answer.action, answer.text, fold(answer.bad), seen.at)
        resumed = answer.action in (Action.RETRYSTEP, Action.REQUEUE)
        goes_on = request.cause.still_runs and answer.action is Action.NONE
        state = {
            Action.RETRYSTEP: State.RESUMING,
            Action.REQUEUE: State.REQUEUING,
            Action.FAIL: State.FAILED,
        }.get(answer.action, record.state)
        record = self.save(
            record,
            state,
            seen.at,
            resumes=record.resumes + (resumed and request.cause is not Cause.STUCK),
            quick=record.quick if goes_on else quick,
            last_action=record.last_action if goes_on else answer.action.value,
            reason=record.reason if goes_on else answer.text,
        )
        if goes_on:
            self.store.discard(incident)
        elif answer.action in (Action.NONE, Action.FAIL):
            self.store.finish(incident, "", seen.at)
        return record

    def _mark(self, bad: Iterable[NodeView], seen: Observation, job_id: int) -> None:
        for view in bad:
            node = seen.nodes[view.name]
            foreign = reasons.read(node.reason).owner is reasons.Owner.FOREIGN and node.state.kept_out
            if view.marked or foreign or view.name in seen.protected or view.name in self._kept_out:
                continue
            reason = reasons.write("replace", f"{view.why} (found for job {job_id})")
            self.nodes.set_state([view.name], NewState.FAIL, reason)
            self._kept_out.add(view.name)

    def requeue(self, job_id: int, views: Iterable[NodeView], seen: Observation) -> None:
        """Put a job back into the queue, past its dead nodes.

        A requeued job completes on its nodes before it can start again, and a dead one never says that it has:
        it is marked down, or the job would wait for SlurmdTimeout.
        """
        self.jobs.requeue(job_id)
        for view in views:
            if view.dead:
                self.give_up(view.name, view.why, seen, job_id)

    def give_up(self, name: str, why: str, seen: Observation, job_id: int) -> None:
        """Mark a dead node down, under the Reason that keeps it out already, whosever that is.

        Down alone it would be given jobs as soon as its slurmd registers (ReturnToService=2), which a host that is
        started again or replaced does before anybody has looked at it: so it is marked failed as well.
        """
        node = seen.nodes[name]
        if node.state.down or name in seen.protected or name in self._given_up:
            return
        kept = node.reason.partition(" : ")[0] if node.state.kept_out else ""
        reason = kept or reasons.write("replace", f"{why} (found for job {job_id})")
        if not node.state.kept_out and name not in self._kept_out:
            self.nodes.set_state([name], NewState.FAIL, reason)
        self.nodes.set_state([name], NewState.DOWN, reason)
        self._kept_out.add(name)
        self._given_up.add(name)

    def aside(self, work: Callable[[], Result]) -> Result:
        """Do `work`, which waits for hosts that may be dead, and what is urgent while it goes on."""
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(work)
            while not wait([working], MEANWHILE_SECONDS).done:
                self.meanwhile()
            return working.result()

    def reach(self, names: Iterable[str], seen: Observation) -> dict[str, Reach]:
        """Speak to the slurmds of `names`; those that do not answer get a second chance at once.

        A connection is the kernel's work, and a lost packet comes again after a second: where there is none, the
        second chance is short. A host that has it and hangs gets as long as before.
        """
        wanted = [name for name in names if name in seen.nodes]
        targets = _targets((name for name in wanted if name not in self._reached), seen)
        if targets:
            self._reached.update(self._speak(targets, seen))
        known = doubted({**self._beside, **self._reached})
        if targets and (doubtful := [name for name, how in known.items() if how is Reach.DOUBTFUL]):
            log.warning("most hosts are silent: is the name service away?", extra={"nodes": fold(doubtful)})
        return {name: known[name] for name in wanted if name in known}

    def glimpse(self, names: Iterable[str], seen: Observation) -> set[str]:
        """Speak to the slurmds of `names`, and wait for none; return those of which more is to be awaited (`reach`)."""
        wanted = (name for name in dict.fromkeys(names) if name in seen.nodes and name not in self._reached)
        targets = _targets(wanted, seen)
        found = (self.reacher or speak)(targets, timeout=GLIMPSE_SECONDS) if targets else {}
        settled = {name: how for name, how in found.items() if how in (Reach.ANSWERS, Reach.REFUSES)}
        self._reached.update(settled)
        return targets.keys() - settled.keys()

    def _speak(self, targets: Mapping[str, tuple[str, int]], seen: Observation) -> Mapping[str, Reach]:
        ask, patience = self.reacher or speak, self.limits.silent_after
        found = self.aside(lambda: ask(targets, timeout=patience))
        again = {name: targets[name] for name, how in found.items() if how in (Reach.SILENT, Reach.LOST)}
        if not again:
            return found
        beside: Mapping[str, tuple[str, int]] = {}
        if any(found[name] is Reach.SILENT for name in again):
            beside = self._others(seen, targets)
        else:
            patience /= 2
        second = self.aside(lambda: ask({**again, **beside}, timeout=patience, greeter=SSH_PORT))
        self._beside.update((name, second[name]) for name in beside)
        return {**found, **{name: second[name] for name in again}}

    def _others(self, seen: Observation, asked: Container[str]) -> Mapping[str, tuple[str, int]]:
        """Return a few hosts that nobody asked about."""
        unknown = (
            name
            for name, node in seen.nodes.items()
            if name not in asked and name not in self._reached and not node.state.down
        )
        return _targets(islice(unknown, COMPARED), seen)


def _targets(names: Iterable[str], seen: Observation) -> dict[str, tuple[str, int]]:
    """Return where the slurmds of these nodes listen, as far as that is known."""
    return {
        name: (node.address, node.port or SLURMD_PORT)
        for name in names
        if (node := seen.nodes[name]).address and not node.state.powered_away
    }


def job_view(detail: JobDetail, seen: Observation, configuration: Mapping[str, str]) -> JobView:
    held = tuple(expand(detail.info.nodes)) if detail.info.nodes else ()
    parameters = configuration.get("SchedulerParameters", "").split(",")
    return JobView(
        job_id=detail.info.job_id,
        nodes=held,
        batch_host=detail.info.batch_host if detail.batch else "",
        batch=detail.batch,
        requeue=detail.requeue,
        gres=has_gres(_gres_words(detail), seen.nodes, held, detail.exclusive),
        can_grow=(
            "permit_job_expansion" in parameters
            and "disable_job_shrink" not in parameters
            and not growth.at_allocation(configuration.get("PrologFlags", ""))
            and not growth.binds_cores(configuration.get("TaskPlugin", ""))
            # On a node that others may share, Slurm gives the cores that the job does not hold to somebody else.
            and detail.exclusive
        ),
        # Other topologies know no such thing (`_block_by_topology`, select/cons_tres/job_test.c).
        holds_blocks=detail.exclusive_topo and configuration.get("TopologyPlugin", "").endswith("/block"),
    )


def _gres_words(detail: JobDetail) -> str:
    """All that tells of GRES in a job: what it holds is in its TRES only where those are accounted for."""
    words = [detail.tres_allocated, detail.info.gres]
    words += [str(detail.raw.get(f"tres_per_{what}", "")) for what in ("job", "node", "socket", "task")]
    held = detail.raw.get("gres_detail")
    return " ".join([*words, *(f"gres/{each}" for each in held if each)] if isinstance(held, list) else words)
