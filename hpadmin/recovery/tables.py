"""Tables of ``agent.toml`` as frozen dataclasses: every key checked against its field, all problems at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hpadmin.errors import Problem


def read(kind: type[Any], data: object, path: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return the values of table `data` that `kind` may be made with, and what is wrong with the others.

    Fields of type bool, int, float and tuple[str, ...] are known; numbers are not negative. What is a table again
    is taken as it is.
    """
    if not isinstance(data, Mapping):
        return {}, [Problem(path, "must be a table")]
    problems = []
    values: dict[str, Any] = {}
    known = {item.name: str(item.type) for item in fields(kind)}
    for key, value in data.items():
        wrong = _wrong(known[key], value) if key in known else "no such setting"
        if wrong:
            problems.append(Problem(f"{path}.{key}", wrong))
        elif known[key].startswith("tuple"):
            values[key] = tuple(value)
        else:
            values[key] = float(value) if known[key] == "float" else value
    return values, problems


def _wrong(kind: str, value: Any) -> str:
    """Say what keeps `value` from being a `kind`; empty when nothing does."""
    if kind.startswith("Mapping"):
        return ""
    if kind == "bool":
        return "" if isinstance(value, bool) else f"must be true or false, not {value!r}"
    if kind.startswith("tuple"):
        strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return "" if strings else f"must be a list of strings, not {value!r}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {value!r}"
    if kind == "int" and not isinstance(value, int):
        return f"must be a whole number, not {value!r}"
    return f"must not be negative, is {value!r}" if not 0 <= value < float("inf") else ""
