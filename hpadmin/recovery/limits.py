"""How much repair at once: the limits, the storm, the breaker. Pure."""

from __future__ import annotations

from hpadmin.nodes.provider import Repair
from hpadmin.recovery.actions import Notice, Open, Target
from hpadmin.recovery.book import Book, Phase, RepairRecord
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.policy import Policy


def breaker_failures(book: Book, policy: Policy, at: float) -> tuple[RepairRecord, ...]:
    """Return the failed replacements that count against the breaker."""
    since = max(at - policy.failure_window, book.breaker_reset)
    return tuple(
        record
        for record in book.closed
        if record.phase is Phase.FAILED and record.action is Repair.REPLACE and record.changed > since
    )


def breaker_notice(book: Book, policy: Policy, at: float) -> Notice | None:
    """Return why the breaker is open; None while it is closed."""
    failures = breaker_failures(book, policy, at)
    if len(failures) < policy.max_failures:
        return None
    names = ", ".join(sorted({record.node for record in failures}))
    return Notice(
        "breaker",
        f"automatic repair has stopped: {len(failures)} replacements failed within {policy.failure_window:g} s"
        f" ({names}); 'hpadmin agent reset' starts it again",
    )


def admit(
    wanted: list[Open], seen: Observation, book: Book, policy: Policy
) -> tuple[list[Open], list[Notice]]:
    """Return which of the wanted repairs begin, and what holds the others back. Orders always begin."""
    ordered = [each for each in wanted if not each.origin.automatic]
    automatic = [each for each in wanted if each.origin.automatic]
    notices = []
    breaker = breaker_notice(book, policy, seen.at)
    if breaker is not None:
        notices.append(breaker)
        automatic = []
    under_way = sum(record.origin.automatic for record in book.open.values())
    faulty = len(automatic) + under_way
    if automatic and faulty > max(policy.storm_nodes, policy.storm_fraction * len(seen.nodes)):
        notices.append(
            Notice(
                "storm",
                f"{faulty} of {len(seen.nodes)} nodes are faulty at once, which is rarely the nodes' own fault:"
                " automatic repair waits for a person",
            )
        )
        automatic = []
    return [*ordered, *automatic], notices


def ask(
    targets: list[Target], seen: Observation, book: Book, policy: Policy
) -> tuple[list[Target], list[Notice]]:
    """Return which of the ready repairs may go to the provider now: people's first, then the oldest."""
    notices: list[Notice] = []
    room = policy.max_in_flight - sum(record.in_flight for record in book.open.values())
    replaced = sum(
        record.action is Repair.REPLACE
        and record.origin.automatic
        and record.attempts > 0  # 0 again after a request that was not carried out
        and record.asked > seen.at - 3600
        for record in (*book.open.values(), *book.closed)
    )
    breaker = breaker_notice(book, policy, seen.at)
    chosen: list[Target] = []
    for target in sorted(targets, key=lambda each: (each.record.origin.automatic, each.record.opened)):
        record = target.record
        if record.origin.automatic:
            if breaker is not None:
                notices.append(breaker)
                continue
            if record.action is Repair.REPLACE:
                if replaced >= policy.max_replacements_per_hour:
                    notices.append(
                        Notice(
                            "rate", f"{replaced} replacements in the last hour: the others wait their turn"
                        )
                    )
                    continue
                replaced += 1
        if room <= 0:
            break
        room -= 1
        chosen.append(target)
    return chosen, notices
