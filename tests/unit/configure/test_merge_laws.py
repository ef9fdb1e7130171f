"""Laws of the three strategies, over made-up clusters that a request and a site change independently."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.configure.compare import differences
from hpadmin.configure.merge import Outcome, combine
from hpadmin.model import Strategy
from hpadmin.slurm import hostlist
from hpadmin.slurmconf.facts import Interner, facts
from hpadmin.slurmconf.view import view
from tests.unit.configure.worlds import World, changed, request_style, site_style, worlds

Texts = dict[str, str]


@dataclass(frozen=True)
class Case:
    """Last applied, made of it by the site, made of it by the request; and as files."""

    applied: World
    site: World
    request: World
    disk: Texts

    @property
    def last(self) -> Texts:
        return request_style(self.applied)

    @property
    def wanted(self) -> Texts:
        return request_style(self.request)

    def merged(self) -> Outcome:
        return combine(Strategy.MERGE, last=self.last, disk=self.disk, wanted=self.wanted)


@st.composite
def cases(draw: st.DrawFn, *, site_changes: bool = True, request_changes: bool = True) -> Case:
    applied = draw(worlds())
    site = draw(changed(applied)) if site_changes else applied
    request = draw(changed(applied)) if request_changes else applied
    return Case(applied, site, request, draw(site_style(site)))


def _disk_after(case: Case, outcome: Outcome) -> dict[str, bytes]:
    before = {name: text.encode() for name, text in case.disk.items() if name not in outcome.removed}
    return {**before, **outcome.files}


def _facts(files: dict[str, bytes]) -> dict[tuple[str, ...], str]:
    """Read files back into the places and values of `World.facts`."""
    seen = facts(view("slurm.conf", files.get), Interner())
    found: dict[tuple[str, ...], str] = {}
    for key, fact in seen.settings.items():
        if key != "prolog":
            found["setting", key] = fact.value.text
    found.update({("prolog", value): value for value in seen.view.values("Prolog")})
    for name, node in seen.nodes.items():
        found["node", name] = ""
        found.update({("node", name, key): value.text for key, value in node.shape.items()})
        found.update({("node", name, key): value for key, value in node.each})
    for (_, name), record in seen.records.items():
        found["partition", name] = ""
        found.update({("partition", name, key): value.text for key, value in record.attributes.items()})
    devices = facts(view("gres.conf", files.get), Interner())
    for (name, _, _), lines in devices.gres.items():
        found["gres", name] = ",".join(text.partition("=")[2] for text in lines.texts)
    return found


def _lowered(found: dict[tuple[str, ...], str]) -> dict[tuple[str, ...], str]:
    return {
        (*key[:-1], key[-1].lower()) if key[0] in ("setting",) or len(key) == 3 else key: value
        for key, value in found.items()
    }


@given(cases())
@settings(max_examples=80, deadline=None)
def test_merging_twice_changes_nothing_more(case: Case) -> None:
    once = case.merged()
    disk = _disk_after(case, once)
    recorded = combine(Strategy.MERGE, last=case.wanted, disk=disk, wanted=case.wanted)
    assert {**disk, **recorded.files} == disk
    assert not recorded.removed
    assert not recorded.conflicts
    unrecorded = combine(Strategy.MERGE, last=case.last, disk=disk, wanted=case.wanted)
    assert {**disk, **unrecorded.files} == disk


@given(cases(request_changes=False))
@settings(max_examples=50, deadline=None)
def test_what_only_the_site_changed_stays_byte_for_byte(case: Case) -> None:
    outcome = case.merged()
    assert _disk_after(case, outcome) == {name: text.encode() for name, text in case.disk.items()}
    assert not outcome.conflicts


def _prologs(files: dict[str, bytes]) -> list[str]:
    return view("slurm.conf", files.get).values("Prolog")


@given(cases())
@settings(max_examples=80, deadline=None)
def test_the_order_of_a_list_follows_the_side_that_changed_it(case: Case) -> None:
    sides = [case.applied.prologs, case.site.prologs, case.request.prologs]
    common = set.intersection(*map(set, sides))
    base, site, request = ([name for name in side if name in common] for side in sides)
    outcome = case.merged()
    found = _prologs(_disk_after(case, outcome))
    assert len(set(found)) == len(found)
    kept = [name for name in found if name in common]
    if site in (base, request):
        assert kept == request
    else:
        assert kept == site
        assert request == base or any(each.setting == "Prolog (order)" for each in outcome.conflicts)
    site_alone = [name for name in case.site.prologs if name not in case.request.prologs and name in found]
    assert [name for name in found if name in site_alone] == site_alone


@given(cases(site_changes=False))
@settings(max_examples=80, deadline=None)
def test_what_only_the_request_changed_lands(case: Case) -> None:
    outcome = case.merged()
    assert differences(case.wanted, _disk_after(case, outcome)) == ()
    assert _prologs(_disk_after(case, outcome)) == list(case.request.prologs)
    assert not outcome.conflicts
    assert not outcome.lost


@given(cases())
@settings(max_examples=120, deadline=None)
def test_each_value_follows_the_side_that_changed_it(case: Case) -> None:
    outcome = case.merged()
    result = _facts(_disk_after(case, outcome))
    base, site, request = (_lowered(world.facts()) for world in (case.applied, case.site, case.request))
    for place in {*base, *site, *request}:
        parent = place[:2]
        if len(place) == 3 and not all(parent in side for side in (base, site, request)):
            continue
        before, theirs, ours = base.get(place), site.get(place), request.get(place)
        if len(place) == 2 and _removed_and_changed(place, base, site, request):
            assert outcome.conflicts, place
        elif theirs == before:
            assert result.get(place) == ours, place
        elif ours in (before, theirs):
            assert result.get(place) == theirs, place
        elif _is_list(place, before, theirs, ours):
            added = (_elements(theirs) | _elements(ours)) - _elements(before)
            assert added <= _elements(result.get(place)), place
        else:
            assert outcome.conflicts, place


def _is_list(place: tuple[str, ...], base: str | None, site: str | None, request: str | None) -> bool:
    """Tell whether a value is merged element by element."""
    named = place[-1] in ("feature", "allowgroups", "nodes") and "ALL" not in (base, site, request)
    return named and site is not None and request is not None


def _elements(value: str | None) -> set[str]:
    return set(hostlist.expand(value or ""))


def _removed_and_changed(place: tuple[str, ...], *sides: dict[tuple[str, ...], str]) -> bool:
    """Tell whether one side removed a record to whose attributes the other did something."""
    base, site, request = ({key: value for key, value in side.items() if key[:2] == place} for side in sides)
    return bool(base) and bool(site) != bool(request) and base not in (site, request)


@given(cases())
@settings(max_examples=50, deadline=None)
def test_overwrite_is_a_fresh_render_after_anything(case: Case) -> None:
    outcome = combine(Strategy.OVERWRITE, last=case.last, disk=case.disk, wanted=case.wanted)
    assert outcome.files == {name: text.encode() for name, text in case.wanted.items()}
    assert differences(case.wanted, _disk_after(case, outcome)) == () or "more.conf" in case.disk


@given(cases(site_changes=False))
@settings(max_examples=50, deadline=None)
def test_managed_without_drift_equals_overwrite(case: Case) -> None:
    managed, overwrite = (
        combine(strategy, last=case.last, disk=case.disk, wanted=case.wanted)
        for strategy in (Strategy.MANAGED, Strategy.OVERWRITE)
    )
    assert not managed.drift
    assert not managed.blocked
    assert (managed.files, managed.removed) == (overwrite.files, overwrite.removed)


@given(cases())
@settings(max_examples=50, deadline=None)
def test_managed_blocks_exactly_when_overwrite_would_lose_something(case: Case) -> None:
    managed, overwrite = (
        combine(strategy, last=case.last, disk=case.disk, wanted=case.wanted)
        for strategy in (Strategy.MANAGED, Strategy.OVERWRITE)
    )
    assert managed.blocking == overwrite.lost
    assert managed.blocked == bool(overwrite.lost)
    assert not (managed.blocked and managed.files)


@given(cases())
@settings(max_examples=50, deadline=None)
def test_the_first_adoption_keeps_what_the_site_has(case: Case) -> None:
    outcome = combine(Strategy.MERGE, last=None, disk=case.disk, wanted=case.wanted)
    disk = _disk_after(case, outcome)
    result = _facts(disk)
    site, request = _lowered(case.site.facts()), _lowered(case.request.facts())
    for place in {*site, *request}:
        if place not in request:
            assert result.get(place) == site[place], place
        elif place not in site:
            assert result.get(place) == request[place], place
        elif site[place] == request[place]:
            assert result.get(place) == site[place], place
        elif _is_list(place, None, site[place], request[place]):
            assert _elements(result.get(place)) == _elements(site[place]) | _elements(request[place]), place
        else:
            assert outcome.conflicts
    again = combine(Strategy.MERGE, last=None, disk=disk, wanted=case.wanted)
    assert {**disk, **again.files} == disk
