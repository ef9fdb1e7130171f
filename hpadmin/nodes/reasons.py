"""What a node's Reason asks for, and whose it is.

Two kinds of words are acted on: HyperPod's, which are exact, and our own, which start with `PREFIX`.
Slurm itself appends `` : …`` to any Reason (`set_node_reason` in src/slurmctld/node_mgr.c). Its own words count as such
only where they are all there is: a person may begin with the same ones.

>>> read("Action:Replace : Not responding").order
Order(action=<Repair.REPLACE: 'replace'>, now=False, text='', author='')
>>> read("hpadmin: reboot: xid-79: GPU has fallen off the bus").owner
<Owner.OURS: 'ours'>
>>> read("action: replace").near_miss
'Action:Replace'
>>> read("bad PSU, ticket 4711").owner
<Owner.FOREIGN: 'foreign'>
>>> read("Node unexpectedly rebooted : Not responding").owner
<Owner.NOBODY: 'nobody'>
>>> read("Not responding on IPMI, alice is debugging").owner
<Owner.FOREIGN: 'foreign'>
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

from hpadmin.nodes.provider import Repair
from hpadmin.slurm.command import printable

PREFIX = "hpadmin:"
EXACT = {"Action:Reboot": Repair.REBOOT, "Action:Replace": Repair.REPLACE}
"""HyperPod's words, with state fail or down."""

HOLD = "hold"
RETURNED = "returned"

SLURMS_OWN = ("Not responding", "Node unexpectedly rebooted", "reboot timed out")
"""Reasons that slurmctld gives by itself to a node that went away: nobody's decision, so a repair may take over."""

_OURS = re.compile(
    r"hpadmin: (?P<verb>reboot|replace|hold|returned)(?P<now>\(now\))?(?: by (?P<author>[^\s:]+))?: (?P<text>.*)",
    re.DOTALL,
)
_SIMILAR = 0.85


class Owner(StrEnum):
    """Whose a Reason is."""

    NOBODY = "nobody"
    """Empty, only Slurm's own remark about a node that went away, or what we left on a node that we brought back."""
    OURS = "ours"
    ORDER = "order"
    """One of the exact words: an administrator's, or HyperPod's own monitor's."""
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Order:
    """A repair that a Reason asks for."""

    action: Repair
    now: bool
    """Running jobs are not waited for."""
    text: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A Reason, understood."""

    owner: Owner
    order: Order | None = None
    near_miss: str = ""
    """The exact word that was probably meant; empty otherwise."""
    suffix: str = ""
    """What Slurm appended."""


def read(reason: str) -> Reading:
    """Say whose `reason` is and what it asks for. Slurm's own remarks count as nobody's."""
    own, _, suffix = reason.partition(" : ")
    if not reason or all(part in SLURMS_OWN for part in reason.split(" : ")):
        return Reading(Owner.NOBODY, suffix=reason)
    if own in EXACT:
        return Reading(Owner.ORDER, Order(EXACT[own], now=False), suffix=suffix)
    found = _OURS.fullmatch(own)
    if found is not None and found["verb"] == RETURNED:
        return Reading(Owner.NOBODY, suffix=suffix)
    if found is not None:
        order = None
        if found["verb"] in (Repair.REBOOT, Repair.REPLACE):
            order = Order(Repair(found["verb"]), bool(found["now"]), found["text"], found["author"] or "")
        return Reading(Owner.OURS, order, suffix=suffix)
    return Reading(Owner.FOREIGN, near_miss=_near_miss(own), suffix=suffix)


def is_returned(reason: str) -> bool:
    """True for the Reason that a node keeps after we brought it back: history, not an order."""
    found = _OURS.fullmatch(reason.partition(" : ")[0])
    return found is not None and found["verb"] == RETURNED


def write(verb: str, text: str, *, now: bool = False, author: str = "") -> str:
    """Return a Reason of ours. `text` loses what would make it unreadable or look like Slurm's own suffix.

    >>> write("replace", "bad NIC", author="alice")
    'hpadmin: replace by alice: bad NIC'
    """
    plain = " ".join(re.sub(r'["\x00-\x1f\x7f\x85\u2028\u2029]', " ", printable(text)).split()).replace(
        " : ", ": "
    )
    by = " by " + re.sub(r"[^\w.@-]", "_", author) if author else ""
    return f"{PREFIX} {verb}{'(now)' if now else ''}{by}: {plain or '-'}"


def _near_miss(text: str) -> str:
    """The exact word that `text` resembles: other case, blanks, a full stop, a typing error, the bare verb."""
    squeezed = re.sub(r"[\s.!;,_-]+", "", text).casefold()
    for word, action in EXACT.items():
        target = word.casefold()
        if squeezed in (target, action.value, f"action{action.value}"):
            return word
        if squeezed.startswith(target):
            return word
        if abs(len(squeezed) - len(target)) <= 2 and _ratio(squeezed, target) >= _SIMILAR:
            return word
    return ""


def _ratio(one: str, two: str) -> float:
    return SequenceMatcher(None, one, two, autojunk=False).ratio()
