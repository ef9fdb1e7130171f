"""Host lists against answers of real scontrol (24.11.5), recorded by tests/slurm/slurmconf/hostlist_cases.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.errors import InvalidInput
from hpadmin.slurm import hostlist
from hpadmin.slurm.hostlist import HostlistError, count, expand, fold, split
from tests.slurm.slurmconf.hostlist_cases import Answer, load

RECORDED = load(Path(__file__).parents[1] / "data" / "hostlists.json.xz")


def ours(text: str) -> Answer:
    """Answer as scontrol does."""
    try:
        return "\n".join(expand(text)), fold([text])
    except HostlistError:
        return "", None


def test_there_are_enough_recorded_cases() -> None:
    assert len({text for text, _ in RECORDED}) >= 20_000


def test_every_recorded_answer_is_ours() -> None:
    different = [(text, told, ours(text)) for text, told in RECORDED if ours(text) != told]
    assert not different


@pytest.mark.parametrize("text", ["n[", "n[3-1]", "n[1,x]", "a[0-70000]", "a[0-65536]b[1]"])
def test_an_invalid_list_is_named_as_scontrol_names_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        expand(text)
    assert isinstance(caught.value, InvalidInput)
    assert caught.value.message == f"Invalid hostlist: {text}"
    assert caught.value.problems


names = st.text(alphabet="abn-._0123456789", min_size=1, max_size=12)


@given(st.lists(names, max_size=30))
@settings(max_examples=300, deadline=None)
def test_folding_loses_nothing(hosts: list[str]) -> None:
    assert expand(fold(hosts)) == hosts
    assert count(fold(hosts)) == len(hosts)


@given(st.text(alphabet="n1[]-, x\t\n0", max_size=40))
@settings(max_examples=500, deadline=None)
def test_nothing_but_the_one_error_is_raised(text: str) -> None:
    try:
        assert count(text) == len(expand(text))
    except HostlistError:
        return
    if "[" not in text and "]" not in text:
        assert expand(fold([text])) == expand(text)


def test_split_cuts_outside_brackets() -> None:
    assert split("a[1,2],b c[3-4,7]x") == ["a[1,2]", "b", "c[3-4,7]x"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "[]" * 100_000,
        "a[1" * 50_000 + "]" * 50_000,
        "1" * 300_000 + "x",
        "9" * 300_000,
        "[1]" * 5_000,
    ],
)
def test_hostile_lists_end_soon(text: str) -> None:
    started = time.process_time()
    ours(text)
    assert time.process_time() - started < 5


def test_a_hundred_thousand_names_take_linear_time() -> None:
    hosts = [f"ip-10-{number >> 16}-{number >> 8 & 255}-{number & 255}" for number in range(100_000)]
    started = time.process_time()
    folded = fold(hosts)
    expanded = expand(folded)
    assert expanded == hosts
    assert time.process_time() - started < 10, "well under a second of the processor"


@pytest.mark.parametrize("count", [40, 400])
def test_a_bracket_that_comes_again_is_read_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = 0
    read = hostlist._range

    def counted(text: str) -> tuple[int, int, int]:
        nonlocal parsed
        parsed += 1
        return read(text)

    monkeypatch.setattr(hostlist, "_range", counted)
    bracket = ",".join(["1"] * count)
    assert hostlist.expand(f"a[{bracket},x]b[1-{count}]c[1]") == []
    assert len(hostlist.expand(f"a[{bracket}]b[1-{count}]c[1]")) == count * count
    assert parsed <= 2 * (count + 5)
