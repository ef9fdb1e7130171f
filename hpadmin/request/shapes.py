"""Validation against botocore's service model: types, enums, patterns, limits, unions, required members.

The model travels with botocore, so a newer botocore widens what is accepted by itself. Its patterns carry no
anchors and are meant to match the whole value; its own ParamValidator checks neither patterns nor enums.

Every problem is found in one pass. What is sound comes back as a copy without the unsound parts, so that the
rules which no shape holds (`hpadmin.request.rules`) can judge the rest.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal

from hpadmin.errors import Problem
from hpadmin.request import service_model
from hpadmin.request.document import join
from hpadmin.request.service_model import Shape

Operation = Literal["CreateCluster", "UpdateCluster"]

_MANY_VALUES = 10
"""Enums with more values than this are not listed in a message."""

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that end a line, or that no terminal and no configuration file should ever see."""


class _Unsound:
    """Marks a value that has problems and is left out of the sound copy."""


_UNSOUND: Final = _Unsound()


def check(body: Any, operation: Operation) -> tuple[list[Problem], dict[str, Any]]:
    """Validate `body` as the request of `operation`.

    Returns every problem, and the body without the members that have one.
    """
    if body is None:  # what an empty file says
        return [Problem("", "must be an object, got nothing")], {}
    checker = _Checker(_members_elsewhere(operation))
    sound = checker.check(body, service_model.shape(f"{operation}Request"), "")
    return checker.problems, sound if isinstance(sound, dict) else {}


def instance_types() -> tuple[str, ...]:
    """Return every instance type that CreateCluster takes, in the model's order."""
    return service_model.shape("ClusterInstanceType").enum


class _Checker:
    def __init__(self, elsewhere: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._elsewhere = elsewhere
        """Top-level members that only another operation has, and that operation."""

    def check(self, value: Any, shape: Shape, path: str) -> Any:
        """Report what is wrong with `value`; return its sound part, or _UNSOUND."""
        if value is None:
            return self._wrong(path, "is null: leave it out or give it a value")
        kind = shape.kind
        if kind == "structure":
            return self._structure(value, shape, path)
        if kind == "list":
            return self._list(value, shape, path)
        if kind == "map":
            return self._map(value, shape, path)
        if kind == "string":
            return self._string(value, shape, path)
        if kind in ("integer", "long"):
            return self._number(value, shape, path, "a whole number", int)
        if kind in ("float", "double"):
            return self._number(value, shape, path, "a number", (int, float))
        if kind == "boolean":
            return value if isinstance(value, bool) else self._wrong_type(path, "true or false", value)
        if kind == "timestamp":
            return value if _is_timestamp(value) else self._wrong_type(path, "a time (ISO 8601)", value)
        return value

    def _wrong(self, path: str, message: str) -> _Unsound:
        self.problems.append(Problem(path, message))
        return _UNSOUND

    def _wrong_type(self, path: str, wanted: str, value: Any) -> _Unsound:
        return self._wrong(path, f"must be {wanted}, got {shown(value)}")

    def _structure(self, value: Any, shape: Shape, path: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong_type(path, "an object", value)
        sound = {}
        for key, item in value.items():
            if key not in shape.members:
                self._wrong(join(path, key), self._unknown(key, shape, path))
                continue
            checked = self.check(item, shape.members[key], join(path, key))
            if checked is not _UNSOUND:
                sound[key] = checked
        for key in shape.required:
            if key not in value:
                self._wrong(join(path, key), "is required")
        if shape.facts.get("union"):
            given = [key for key in value if key in shape.members]
            if len(given) != 1:
                got = " and ".join(given) if given else "none"
                return self._wrong(path, f"must have exactly one of {', '.join(shape.members)}; got {got}")
        return sound

    def _unknown(self, key: str, shape: Shape, path: str) -> str:
        if not path and key in self._elsewhere:
            return f"is a member of {self._elsewhere[key]} and not of this operation"
        return f"is not a member of {shape.name}{did_you_mean(key, shape.members)}"

    def _list(self, value: Any, shape: Shape, path: str) -> Any:
        if not isinstance(value, list):
            return self._wrong_type(path, "a list", value)
        self._size(len(value), shape, path, "item")
        checked = [
            self.check(item, shape.part("member"), f"{path}[{index}]") for index, item in enumerate(value)
        ]
        # An unsound item keeps its place as None, so that the paths of the others stay right.
        return [None if item is _UNSOUND else item for item in checked]

    def _map(self, value: Any, shape: Shape, path: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong_type(path, "an object", value)
        self._size(len(value), shape, path, "entry")
        sound = {}
        for key, item in value.items():
            where = join(path, key)
            known = self._string(key, shape.part("key"), where)
            checked = self.check(item, shape.part("value"), where)
            if known is not _UNSOUND and checked is not _UNSOUND:
                sound[key] = checked
        return sound

    def _size(self, size: int, shape: Shape, path: str, what: str) -> None:
        low, high = shape.facts.get("min"), shape.facts.get("max")
        if low is not None and size < low:
            self._wrong(path, f"must have at least {_counted(low, what)}, got {size}")
        if high is not None and size > high:
            self._wrong(path, f"must have at most {_counted(high, what)}, got {size}")

    def _string(self, value: Any, shape: Shape, path: str) -> Any:
        if not isinstance(value, str):
            return self._wrong_type(path, "a string", value)
        if shape.enum:
            return value if value in shape.enum else self._wrong(path, _not_in_enum(value, shape.enum))
        low, high = shape.facts.get("min"), shape.facts.get("max")
        if low is not None and len(value) < low:
            return self._wrong(path, f"must have at least {_counted(low, 'character')}, got {len(value)}")
        # The length comes before the pattern: some patterns take long on long values.
        if high is not None and len(value) > high:
            return self._wrong(path, f"must have at most {_counted(high, 'character')}, got {len(value)}")
        if CONTROL.search(value):
            return self._wrong(path, f"{shown(value)} holds a line end or another control character")
        pattern = shape.facts.get("pattern")
        if pattern is not None and not _matches(pattern, value):
            return self._wrong(path, f"{shown(value)} does not match {pattern}")
        return value

    def _number(
        self, value: Any, shape: Shape, path: str, wanted: str, kinds: type | tuple[type, ...]
    ) -> Any:
        if isinstance(value, bool) or not isinstance(value, kinds):
            return self._wrong_type(path, wanted, value)
        low, high = shape.facts.get("min"), shape.facts.get("max")
        if low is not None and value < low:
            return self._wrong(path, f"must be at least {low}, got {value}")
        if high is not None and value > high:
            return self._wrong(path, f"must be at most {high}, got {value}")
        return value


def shown(value: Any) -> str:
    """Return a short form of a value for a message, never more than one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def _counted(count: int, what: str) -> str:
    plural = {"entry": "entries"}.get(what, f"{what}s")
    return f"{count} {what if count == 1 else plural}"


def _not_in_enum(value: str, allowed: Iterable[str]) -> str:
    choices = list(allowed)
    if len(choices) > _MANY_VALUES:
        return f"{shown(value)} is not among the {len(choices)} known values{did_you_mean(value, choices)}"
    return f"must be one of {', '.join(choices)}; got {shown(value)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the known name that is closest to `word`, or nothing."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def _is_timestamp(value: Any) -> bool:
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _matches(pattern: str, value: str) -> bool:
    """Whether the whole of `value` matches a pattern of the service model."""
    alphabet = "".join(sorted(set(value))) if r"\p{" in pattern else ""
    try:
        return _compiled(pattern, alphabet).fullmatch(value) is not None
    except re.error:
        # A pattern of a later model that Python cannot read: the service judges it, and nothing that is rendered
        # rests on it alone (hpadmin.configure.templates).
        return True


@lru_cache(maxsize=256)
def _compiled(pattern: str, alphabet: str) -> re.Pattern[str]:
    r"""Compile a pattern of the service model.

    ``\d`` and its kin mean ASCII there. ``\p{L}`` (any letter) does not exist in Python: it becomes those characters
    of `alphabet`, all that the value has, whose Unicode category begins with ``L``.
    """

    def characters(match: re.Match[str]) -> str:
        fitting = [char for char in alphabet if unicodedata.category(char).startswith(match[1])]
        # A noncharacter keeps a set from being empty, which Python would read as unfinished.
        return "".join(re.escape(char) for char in [*fitting, "\U0010ffff"])

    return re.compile(re.sub(r"\\p\{([A-Z][a-z]?)\}", characters, pattern), re.ASCII)


def _members_elsewhere(operation: Operation) -> dict[str, str]:
    other = "UpdateCluster" if operation == "CreateCluster" else "CreateCluster"
    here = service_model.shape(f"{operation}Request").members
    there = service_model.shape(f"{other}Request").members
    return dict.fromkeys(there.keys() - here.keys(), other)
