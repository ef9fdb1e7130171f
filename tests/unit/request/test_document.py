"""Text to data: JSON, YAML by JSON's rules, and what broken text is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.errors import InvalidInput
from hpadmin.request.document import parse, read_source

# YAML allows no control characters, even where JSON has them unescaped (YAML 1.2, section 5.1).
TEXT = st.text(st.characters(exclude_categories=["C"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def problems_of(text: str, origin: str) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        parse(text, origin=origin)
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("", "r.json:1:1", "Expecting value"),
        ("{", "r.json:1:2", "Expecting property name enclosed in double quotes"),
        ('{"a": 1,}', "r.json:1:8", "Illegal trailing comma before end of object"),
        ('{\n  "a": 1\n  "b": 2\n}', "r.json:3:3", "Expecting ',' delimiter"),
        ('{"a": "x\ny"}', "r.json:1:9", "Invalid control character at"),
        ('{"a": 1} {"b": 2}', "r.json:1:10", "Extra data"),
        ('{"a": NaN}', "r.json", "NaN is no JSON value"),
        ('{"a": -Infinity}', "r.json", "-Infinity is no JSON value"),
        ('{"a": ' + "9" * 5000 + "}", "r.json", "a number is too long"),
        ("[" * 100_000, "r.json", "nested too deeply"),
    ],
)
def test_malformed_json(text: str, path: str, message: str) -> None:
    found = problems_of(text, "r.json")
    if message == "Illegal trailing comma before end of object":
        # Python 3.13 has this message, earlier versions tell of the brace behind the comma.
        assert found[0][0] in (path, "r.json:1:9")
        return
    assert found == [(path, message)]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("a: [1, 2", "r.yaml:1:9", "expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n b: 2", "r.yaml:2:3", "mapping values are not allowed here"),
        ("a: *nobody", "r.yaml:1:4", "found undefined alias 'nobody'"),
        ("a: 1\n---\nb: 2", "r.yaml:2:1", "but found another document"),
        ("a: @x", "r.yaml:1:4", "found character '@' that cannot start any token"),
        ("a: &x [*x]", "a[0]" + "[0]" * 99, "nested too deeply, or aliases without end"),
    ],
)
def test_malformed_yaml(text: str, path: str, message: str) -> None:
    assert problems_of(text, "r.yaml") == [(path, message)]


def test_aliases_that_unfold_without_end() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert problems_of("\n".join(levels), "r.yaml")[0][1] == "nested too deeply, or aliases without end"


@pytest.mark.parametrize("origin", ["r.json", "r.yaml"])
def test_duplicate_keys_are_told_with_their_place(origin: str) -> None:
    text = '{"Groups": [{"Name": "a", "Count": 1, "Name": "b"}], "Groups ": 1, "Groups ": 2}'
    found = [problem.path for problem in parse(text, origin=origin).problems]
    assert sorted(found) == ["Groups[0].Name", '["Groups "]']


def test_yaml_means_what_json_means() -> None:
    text = """
    # a comment
    NodeRecovery: None
    Country: no
    Date: 2026-01-01
    Time: 12:30:45
    Octal: 010
    Quoted: "8"
    Count: 8
    Yes: true
    Nothing:
    """
    assert parse(text, origin="stdin").value == {
        "NodeRecovery": "None",
        "Country": "no",
        "Date": "2026-01-01",
        "Time": "12:30:45",
        "Octal": 10,
        "Quoted": "8",
        "Count": 8,
        "Yes": True,
        "Nothing": None,
    }


def test_yaml_anchors_and_merges() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: &more {b: 4, c: 5}\ngroup: {<<: [*base, *more], b: 3}\n"
    assert parse(text, origin="r.yaml").value["group"] == {"a": 1, "b": 3, "c": 5}


@given(VALUES)
@settings(max_examples=50, deadline=None)
def test_json_is_read_the_same_as_yaml(value: Any) -> None:
    text = json.dumps({"value": value}, ensure_ascii=False)
    assert parse(text, origin="r.json").value == {"value": value}
    assert parse(text, origin="r.yaml").value == {"value": value}


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for origin in ("r.json", "r.yaml", "stdin"):
        try:
            parsed = parse(text, origin=origin)
        except InvalidInput:
            continue
        assert parsed.origin == origin


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(b"\xef\xbb\xbf{}\r\n")
    source = read_source(path)
    assert (source.text, source.directory) == ("{}\r\n", tmp_path)
    path.write_bytes(b"{\n\xff}")
    with pytest.raises(InvalidInput) as caught:
        read_source(path)
    assert caught.value.problems[0].path == f"{path}:2"
    with pytest.raises(InvalidInput, match=r"cannot read .*: No such file"):
        read_source(tmp_path / "absent")
    with pytest.raises(InvalidInput, match=r"cannot read .*: Is a directory"):
        read_source(tmp_path)
