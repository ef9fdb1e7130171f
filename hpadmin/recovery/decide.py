"""From a picture of the cluster and the journal to what is done next: a pure function.

Level-triggered: nothing depends on having seen a change happen. Whatever was decided and not done, or done
and not written down, is decided again from what is seen.

The rules that every decision keeps:

* the provider is asked only for a node that is kept out and empty, or dead;
* a Reason that is somebody else's is neither overwritten nor cleared, and its node is left alone;
* what cannot be read is neither healthy nor drained;
* a node comes back only after its new slurmd registered and its own health check passed;
* no more repairs at the provider than the limit, none that nobody asked for while the breaker is open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeGuard

from hpadmin.nodes.provider import Condition, Repair
from hpadmin.recovery import limits, steps
from hpadmin.recovery.actions import Acquit, Action, Advance, Ask, Notice, Open, Suspect, Target, Withdraw
from hpadmin.recovery.book import Book, Phase
from hpadmin.recovery.faulty import candidate, looks_dead, remarks
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.policy import Policy
from hpadmin.slurm.hostlist import fold
from hpadmin.slurm.reader import NodeInfo


def decide(seen: Observation, book: Book, policy: Policy) -> tuple[Action, ...]:
    """Return what is to be done now, in order. The same picture and journal always give the same answer."""
    return tuple(_Decision(seen, book, policy).actions())


@dataclass(frozen=True)
class _Decision:
    seen: Observation
    book: Book
    policy: Policy

    def actions(self) -> Iterator[Action]:
        notices: list[Notice] = list(self._cluster_notices())
        wanted: list[Open] = []
        targets: list[Target] = []
        for node in self._interesting():
            yield from self._suspicion(node)
            notices.extend(remarks(node, self.seen))
            record = self.book.open.get(node.name)
            if record is None:
                found = candidate(node, self.seen, self.book, self.policy)
                if isinstance(found, Open):
                    wanted.append(found)
                elif found is not None:
                    notices.append(found)
                continue
            step = steps.step(record, node, self.seen, self.policy)
            while _at_once(step, record.phase):
                # Phases whose end is in the picture already need no look of their own.
                yield step
                record = replace(record, phase=step.phase, changed=self.seen.at)
                step = steps.step(record, node, self.seen, self.policy)
            if isinstance(step, Target):
                targets.append(step)
            elif isinstance(step, Notice):
                notices.append(step)
            elif step is not None:
                yield step
        for name in self.book.open.keys() - self.seen.nodes.keys():
            yield steps.vanished(self.book.open[name])

        opened, held_back = limits.admit(wanted, self.seen, self.book, self.policy)
        yield from opened
        notices.extend(held_back)
        asked, waiting = limits.ask(targets, self.seen, self.book, self.policy)
        for action in Repair:
            chosen = tuple(target for target in asked if target.record.action is action)
            if chosen:
                yield Ask(action, chosen)
        notices.extend(waiting)
        yield from self._told(notices)

    def _interesting(self) -> Iterator[NodeInfo]:
        """The nodes that anything could be said about: all but the thousands in plain service."""
        instances = self.seen.instances or {}
        failed = {name for name, instance in instances.items() if instance.condition is Condition.FAILED}
        special = self.book.open.keys() | self.book.suspects.keys() | self.seen.unreachable.keys() | failed
        for node in self.seen.nodes.values():
            if node.name in special or not node.state.schedulable or '"failed"' in node.extra:
                yield node

    def _suspicion(self, node: NodeInfo) -> Iterator[Action]:
        dead, known = looks_dead(node, self.seen), node.name in self.book.suspects
        if dead and not known:
            yield Suspect(node.name)
        elif known and not dead:
            yield Acquit(node.name)

    def _cluster_notices(self) -> Iterator[Notice]:
        if self.seen.instances is None:
            yield Notice("provider", f"the provider does not answer: {self.seen.provider_error}")
        if self.seen.cut_off:
            yield Notice(
                "cut-off",
                "no node answers this host: it seems to have lost its own network, and no node counts as dead for that",
            )
        if self.seen.unknown:
            names = fold(sorted(self.seen.unknown))
            yield Notice(
                "protected", f"agent.toml protects {names}, and Slurm has no such node: is it misspelt?"
            )
        asking = [record for record in self.book.open.values() if record.phase is Phase.ASKING]
        if asking and self.seen.instances is None:
            names = ", ".join(sorted(record.node for record in asking))
            yield Notice("lost-answers", f"whether the provider heard us is not known yet for: {names}")

    def _told(self, notices: list[Notice]) -> Iterator[Action]:
        current = {notice.key: notice for notice in notices}
        for key, notice in current.items():
            if self.book.notices.get(key) != notice.text:
                yield notice
        for key in self.book.notices.keys() - current.keys():
            yield Withdraw(key)


def _at_once(step: steps.Step, phase: Phase) -> TypeGuard[Advance]:
    return (
        isinstance(step, Advance)
        and step.phase in (Phase.DRAIN, Phase.READY)
        and step.phase.comes_after(phase)
    )
