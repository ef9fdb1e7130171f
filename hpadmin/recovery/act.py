"""Doing what was decided, one deed after the other, each written down before the next.

A deed is safe to lose at any instruction: either it leaves a trace that the next look sees, or doing it again
is harmless. Requests to the provider, which are neither, are written down first and carry the old instance's id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hpadmin.errors import HpadminError
from hpadmin.nodes.provider import Answer, Outcome, Provider, ProviderError
from hpadmin.recovery.actions import (
    Acquit,
    Action,
    Advance,
    Ask,
    GiveUp,
    Mark,
    Notice,
    Open,
    Resume,
    Suspect,
    Target,
    Withdraw,
)
from hpadmin.recovery.book import Phase
from hpadmin.recovery.journal import Journal, LostLeadership
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.control import NewState, SlurmControl
from hpadmin.slurm.reader import NodeInfo, SlurmReader

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Actor:
    """Carries decisions out. `clock` tells epoch seconds."""

    reader: SlurmReader
    control: SlurmControl
    provider: Provider
    journal: Journal
    policy: Policy
    clock: Callable[[], float]

    def perform(self, actions: Iterable[Action]) -> int:
        """Do `actions` in order; return how many changed anything that the next look could see.

        A deed that fails, or that one node's words make impossible, is logged and left to the next look; the others
        go on. LostLeadership ends it all.
        """
        changed = 0
        for action in actions:
            try:
                changed += self._perform(action)
            except LostLeadership:
                raise
            except HpadminError as error:
                self._failed(action, error)
        return changed

    def _failed(self, action: Action, error: HpadminError) -> None:
        log.error(
            "a deed failed and will be decided again", extra={"deed": repr(action), "error": error.message}
        )

    def _perform(self, action: Action) -> int:
        now = self.clock()
        match action:
            case Open():
                self.journal.open(
                    now,
                    node=action.node,
                    action=action.action,
                    origin=action.origin,
                    requester=action.requester,
                    why=action.why,
                    now=action.now,
                    fault=action.fault,
                )
                log.warning(
                    "repair wanted",
                    extra={"node": action.node, "repair": action.action.value, "why": action.why},
                )
            case Advance():
                self.journal.advance(
                    now, action.record, action.phase, why=action.why, not_before=action.not_before
                )
                log.info("repair goes on", extra={"node": action.record.node, "phase": action.phase.value})
            case Mark():
                return self._mark(action)
            case Ask():
                self._ask(action)
            case Resume():
                self._resume(action)
            case GiveUp():
                self._give_up(action)
            case Suspect():
                self.journal.suspect(now, action.node)
                return 0
            case Acquit():
                self.journal.acquit(action.node)
                return 0
            case Notice():
                self.journal.tell(now, action.key, action.node, action.text)
                log.warning(action.text, extra={"notice": action.key, "node": action.node})
                return 0
            case Withdraw():
                self.journal.withdraw(action.key)
                return 0
        return 1

    def _unchanged(self, name: str, expected: str) -> NodeInfo | None:
        """Read the node again, just before it is changed; None when its Reason is not the one decided upon."""
        node = self.reader.node(name)
        return node if node is not None and node.reason == expected else None

    def _mark(self, action: Mark) -> int:
        if self._unchanged(action.node, action.expected) is None:
            log.info("node changed meanwhile, left for the next look", extra={"node": action.node})
            return 0
        self.control.set_state([action.node], action.state, action.reason)
        verb = "ended what ran on the node" if action.state is NewState.DOWN else "kept out of scheduling"
        self.journal.note(self.clock(), action.node, "marked", f"{verb}: {action.reason}", action.number)
        return 1

    def _ask(self, action: Ask) -> None:
        for target in action.targets:
            self.journal.asking(
                self.clock(),
                target.record,
                instance=target.instance_id,
                booted=target.booted,
                boot=target.boot_time,
                slurmd=target.slurmd_start,
                report=target.report_boot,
            )
        ids = [target.instance_id for target in action.targets]
        log.warning("asking the provider", extra={"repair": action.action.value, "instances": ids})
        try:
            outcomes = self.provider.repair(action.action, ids)
        except ProviderError as error:
            # Nothing was asked for: as if every one had been told to come back later, or never.
            answer = Answer.LATER if error.transient else Answer.REFUSED
            outcomes = dict.fromkeys(ids, Outcome(answer, message=error.message))
        for target in action.targets:
            self._answered(
                target, outcomes.get(target.instance_id, Outcome(Answer.LOST, message="no answer"))
            )

    def _answered(self, target: Target, outcome: Outcome) -> None:
        now, record = self.clock(), target.record
        said = " ".join(part for part in (outcome.code, outcome.message) if part)
        match outcome.answer:
            case Answer.ACCEPTED:
                self.journal.advance(now, record, Phase.AWAIT, why=said or "the provider accepted")
            case Answer.BUSY:
                self.journal.advance(now, record, Phase.AWAIT, why=f"another operation is under way: {said}")
            case Answer.GONE:
                self.journal.advance(now, record, Phase.AWAIT, why=f"the instance is gone already: {said}")
            case Answer.LOST:
                # The record stays in ASKING, as after a crash: the next looks search for traces.
                self.journal.note(now, record.node, "lost", f"no answer: {said}", record.number)
            case Answer.LATER:
                self.journal.advance(
                    now,
                    record,
                    Phase.READY,
                    why=f"the provider wants to be asked later: {said}",
                    not_before=now + self.policy.retry_after,
                    heard=True,
                )
            case Answer.REFUSED:
                self.journal.advance(
                    now,
                    record,
                    Phase.READY,
                    why=f"the provider refuses: {said}",
                    not_before=now + self.policy.refused_after,
                    heard=True,
                )
                log.error("the provider refuses", extra={"node": record.node, "error": said})

    def _resume(self, action: Resume) -> None:
        record = action.record
        if self._unchanged(record.node, action.expected) is None:
            log.info("node changed meanwhile, left for the next look", extra={"node": record.node})
            return
        self.journal.advance(self.clock(), record, Phase.RETURN, why="healthy")
        self.control.set_state([record.node], NewState.RESUME, action.reason)
        self.journal.advance(self.clock(), record, Phase.REPAIRED, why="back in service")
        log.warning("node is back in service", extra={"node": record.node, "why": record.why})

    def _give_up(self, action: GiveUp) -> None:
        record = action.record
        if self._unchanged(record.node, action.expected) is not None:
            self.control.set_state([record.node], NewState.FAIL, action.reason)
        self.journal.advance(self.clock(), record, Phase.FAILED, why=action.why)
        log.error("repair failed", extra={"node": record.node, "why": action.why})
