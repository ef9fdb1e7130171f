"""Text to plain data: JSON or YAML, with every duplicate key and the place of a syntax error.

YAML is read by the rules of JSON (YAML 1.2's core schema): ``no`` and ``2026-01-01`` are strings, not a
boolean and a date, so that a request means the same in both forms.

>>> parse('{"ClusterName": "c"}', origin="request.json").value
{'ClusterName': 'c'}
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpadmin.errors import InvalidInput, Problem

_MAX_VALUES = 500_000
"""More values than any request or inventory has; stops YAML whose aliases unfold without end."""

_MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Source:
    """A text and where it came from."""

    text: str
    origin: str
    """A file name, or ``stdin``."""
    directory: Path | None = None
    """Where the file lies; None for stdin and for texts that never were a file."""


@dataclass(frozen=True, slots=True)
class Document:
    """Parsed data with the problems that its syntax allows but its readers would never see."""

    value: Any
    origin: str
    problems: tuple[Problem, ...] = ()


def read_source(path: Path | str) -> Source:
    """Read a file; ``-`` is stdin. Raises InvalidInput when there is nothing to read or it is not UTF-8."""
    if not str(path):
        raise InvalidInput("cannot read a file without a name")
    if str(path) == "-":
        if sys.stdin is None:  # it was closed when this process started
            raise InvalidInput("cannot read stdin: it is closed")
        raw, origin, directory = sys.stdin.buffer.read(), "stdin", None
        if not raw:
            raise InvalidInput("stdin is empty, or was read already for another file")
    else:
        path = Path(path)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
        origin, directory = str(path), path.resolve().parent
    try:
        return Source(raw.decode("utf-8-sig"), origin, directory)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InvalidInput(
            f"{origin} is not UTF-8", [Problem(f"{origin}:{line}", "byte is not UTF-8")]
        ) from error


def parse(text: str, *, origin: str) -> Document:
    """Parse `text` as JSON, or as YAML when `origin` ends in .yaml or .yml or the text is not a JSON object.

    Raises InvalidInput with line and column when the syntax is broken.
    """
    as_yaml = origin.endswith((".yaml", ".yml"))
    as_json = origin.endswith(".json") or text.lstrip()[:1] in ("{", "[")
    if as_json and not as_yaml:
        return _parse_json(text, origin)
    return _parse_yaml(text, origin)


class _Pairs(dict[str, Any]):
    """A JSON object that remembers which of its keys were written more than once."""

    duplicates: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = _Pairs(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        found.duplicates = tuple(key for key, count in counts.items() if count > 1)
    return found


def _parse_json(text: str, origin: str) -> Document:
    def constant(name: str) -> Any:
        raise InvalidInput(f"{origin} is not JSON", [Problem(origin, f"{name} is no JSON value")])

    try:
        value = json.loads(text, object_pairs_hook=_pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        problem = Problem(f"{origin}:{error.lineno}:{error.colno}", error.msg)
        raise InvalidInput(f"{origin} is not valid JSON", [problem]) from error
    except RecursionError as error:
        raise InvalidInput(f"{origin} is not valid JSON", [Problem(origin, "nested too deeply")]) from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise InvalidInput(
            f"{origin} is not valid JSON", [Problem(origin, "a number is too long")]
        ) from error
    problems: list[Problem] = []
    _find_duplicates(value, "", problems)
    return Document(value, origin, tuple(problems))


def _find_duplicates(value: Any, path: str, problems: list[Problem]) -> None:
    stack = [(value, path)]
    while stack:
        value, path = stack.pop()
        if isinstance(value, _Pairs):
            problems.extend(Problem(join(path, key), "written more than once") for key in value.duplicates)
            stack.extend((item, join(path, key)) for key, item in value.items())
        elif isinstance(value, list):
            stack.extend((item, f"{path}[{index}]") for index, item in enumerate(value))


def join(path: str, key: str) -> str:
    """Return the JSON path of member `key`: ``a.b``, or ``a["b c"]`` where the name is not a plain word."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", key):
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key)}]"


def _parse_yaml(text: str, origin: str) -> Document:
    # Imported here: most requests are JSON, and every command waits for what this module imports.
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark else origin
        raise InvalidInput(
            f"{origin} is not valid YAML", [Problem(where, str(error.problem or error.context))]
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(f"{origin} is not valid YAML", [Problem(origin, said)]) from error
    if node is None:
        return Document(None, origin)
    builder = _YamlBuilder(origin)
    return Document(builder.build(node, "", 0), origin, tuple(builder.problems))


class _YamlBuilder:
    """Turns PyYAML's node graph into plain data by JSON's rules."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.problems: list[Problem] = []
        self.values = 0

    def build(self, node: Any, path: str, depth: int) -> Any:
        import yaml

        self.values += 1
        if self.values > _MAX_VALUES or depth > _MAX_DEPTH:
            raise InvalidInput(
                f"{self.origin} is not usable YAML",
                [Problem(path, "nested too deeply, or aliases without end")],
            )
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if node.style is None and node.tag != "tag:yaml.org,2002:str":
            return _plain_scalar(node.value)
        return node.value

    def _mapping(self, node: Any, path: str, depth: int) -> dict[str, Any]:
        import yaml

        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(path, "a member's name must be a string"))
                continue
            key = key_node.value
            if key_node.tag == "tag:yaml.org,2002:merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    value = self.build(source, path, depth + 1)
                    if isinstance(value, dict):
                        merged = {**value, **merged}
                    else:
                        self.problems.append(Problem(path, "<< must merge a mapping"))
                continue
            if key in found:
                line = key_node.start_mark.line + 1
                self.problems.append(
                    Problem(join(path, key), f"written more than once (again in line {line})")
                )
            found[key] = self.build(value_node, join(path, key), depth + 1)
        return {**merged, **found}


_YAML_INT = re.compile(r"[-+]?[0-9]{1,20}")
_YAML_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def _plain_scalar(text: str) -> Any:
    """Resolve an unquoted scalar by YAML 1.2's core schema (section 10.3.2)."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _YAML_INT.fullmatch(text):
        return int(text)
    if _YAML_FLOAT.fullmatch(text):
        return float(text)
    return text
