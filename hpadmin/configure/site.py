"""The site's own decisions as a file: `RenderOptions` from JSON or YAML.

    # /etc/hpadmin/site.yaml
    release: "24.11"
    auth: slurm
    spares: 1

Members are the fields of `hpadmin.configure.options.RenderOptions`; what is absent keeps its default.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_args, get_type_hints

from hpadmin.configure.options import RenderOptions
from hpadmin.errors import InvalidInput, Problem
from hpadmin.request import document
from hpadmin.request.shapes import did_you_mean, shown

DEFAULT_FILE = "/etc/hpadmin/site.yaml"

_PATH = re.compile(r"/[A-Za-z0-9._/+-]*")
_SCRIPT = re.compile(r"(/[A-Za-z0-9._/+-]*/)?[A-Za-z0-9][A-Za-z0-9._+-]*")
_SETTING = re.compile(r"[A-Z][A-Za-z0-9]*")
_UNSAFE = re.compile(r"""[^ -~]|[#"'\\]|^$""")
DATABASE_USER = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_PATTERNS = {
    "release": (re.compile(r"[0-9]{2}\.[0-9]{2}(\.[0-9]+)?"), "a Slurm release such as 24.11"),
    "slurm_user": (re.compile(r"[a-z_][a-z0-9_-]{0,31}"), "a user name"),
    "storage_user": (DATABASE_USER, "a database user"),
    "state_directory": (_PATH, "an absolute path"),
    "spool_directory": (_PATH, "an absolute path"),
    "log_directory": (_PATH, "an absolute path"),
    "storage_ca": (_PATH, "an absolute path"),
    "device_prefix": (_PATH, "an absolute path"),
    "mail_program": (_PATH, "an absolute path"),
    "device_files": (_PATH, "an absolute path"),
    # Arguments are separated by blanks; nothing that a shell or slurm.conf reads differently.
    "reboot_program": (re.compile(r"/[A-Za-z0-9._/+= -]*"), "a program with plain arguments"),
    "prolog": (_SCRIPT, "a script: an absolute path, or a name beside slurm.conf"),
    "epilog": (_SCRIPT, "a script: an absolute path, or a name beside slurm.conf"),
    "health_check_program": (_PATH, "an absolute path"),
    "private_data": (
        re.compile(r"accounts|events|jobs|nodes|partitions|reservations|usage|users"),
        "a word of PrivateData",
    ),
    "spank_plugins": (
        re.compile(r"(required|optional) [A-Za-z0-9._/+-]+( [A-Za-z0-9._/+=:,-]+)*"),
        "'required' or 'optional', a plugin and its arguments",
    ),
}
_LIMITS = {"health_check_interval": 65533}
"""Slurm keeps it in 16 bits, of which the two largest values mean something else (slurm/slurm.h, NO_VAL16)."""


def load(source: document.Source) -> RenderOptions:
    """Parse a site file. Raises InvalidInput with every problem."""
    parsed = document.parse(source.text, origin=source.origin)
    problems = list(parsed.problems)
    found = {} if parsed.value is None else parsed.value
    if not isinstance(found, dict):
        problems.append(Problem("", f"must be an object, got {shown(found)}"))
        found = {}
    hints = get_type_hints(RenderOptions)
    known = [field.name for field in dataclasses.fields(RenderOptions)]
    settings: dict[str, Any] = {}
    for key, value in found.items():
        if key not in known:
            problems.append(Problem(key, f"is not a setting{did_you_mean(key, known)}"))
            continue
        checked, wrong = _check(key, value, hints[key])
        problems += wrong
        settings[key] = checked
    if problems:
        raise InvalidInput(f"{source.origin} is not a valid site file", problems)
    return RenderOptions(**settings)


def _check(key: str, value: Any, hint: Any) -> tuple[Any, list[Problem]]:
    """Return the value as `RenderOptions` holds it, and what is wrong with it."""
    if key == "device_files":
        return _device_files(value)
    if key == "settings":
        return _settings(value)
    if key in ("spank_plugins", "private_data"):
        return _strings(key, value)
    if key == "block_sizes":
        if isinstance(value, list) and value and all(_is_size(size) for size in value):
            return tuple(value), []
        return (), [Problem(key, f"must be a list of sizes, got {shown(value)}")]
    choices = [choice for choice in get_args(hint) if choice is not type(None)]
    if choices and not any(isinstance(choice, type) for choice in choices):
        listed = ", ".join(str(choice) for choice in choices)
        fits = any(value == choice and type(value) is type(choice) for choice in choices)
        return value, [] if fits else [Problem(key, f"must be one of {listed}; got {shown(value)}")]
    kind = next((choice for choice in choices if isinstance(choice, type)), hint)
    if value is None and choices:
        return None, []
    if type(value) is not kind:
        wanted = {int: "a whole number", bool: "true or false", str: "a string"}[kind]
        return value, [Problem(key, f"must be {wanted}, got {shown(value)}")]
    if isinstance(value, int) and value < 0:
        return value, [Problem(key, f"must be at least 0, got {value}")]
    if isinstance(value, int) and value > _LIMITS.get(key, value):
        return value, [Problem(key, f"must be at most {_LIMITS[key]}, got {value}")]
    return value, _pattern(key, key, value) if isinstance(value, str) else []


def _strings(key: str, value: Any, path: str = "") -> tuple[tuple[str, ...], list[Problem]]:
    path = path or key
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return (), [Problem(path, f"must be a list of strings, got {shown(value)}")]
    problems = [found for i, item in enumerate(value) for found in _pattern(key, f"{path}[{i}]", item)]
    return tuple(value), problems


def _device_files(value: Any) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    if not isinstance(value, dict):
        return {}, [Problem("device_files", f"must be an object of lists, got {shown(value)}")]
    found, problems = {}, []
    for group, listed in value.items():
        where = document.join("device_files", group)
        found[group], wrong = _strings("device_files", listed, where)
        problems += wrong
        if listed == []:
            problems.append(
                Problem(where, "must have a file at least: leave the group out to detect its devices")
            )
        for index, file in enumerate(found[group]):
            if file in found[group][:index]:
                problems.append(Problem(f"{where}[{index}]", f"{shown(file)} is listed twice"))
    return found, problems


def _settings(value: Any) -> tuple[dict[str, str], list[Problem]]:
    if not isinstance(value, dict):
        return {}, [Problem("settings", f"must be an object, got {shown(value)}")]
    found, problems = {}, []
    for name, setting in value.items():
        where = document.join("settings", name)
        if not _SETTING.fullmatch(name):
            problems.append(Problem(where, f"{shown(name)} is not the name of a setting"))
        if isinstance(setting, bool) or not isinstance(setting, str | int):
            problems.append(Problem(where, f"must be a string, got {shown(setting)}"))
        elif _UNSAFE.search(str(setting)):
            problems.append(Problem(where, f"{shown(setting)} holds what slurm.conf would read differently"))
        found[name] = str(setting)
    return found, problems


def _pattern(key: str, path: str, value: str) -> list[Problem]:
    if key not in _PATTERNS:
        return []
    pattern, what = _PATTERNS[key]
    return [] if pattern.fullmatch(value) else [Problem(path, f"{shown(value)} is not {what}")]


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
