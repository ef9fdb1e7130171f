"""The Jinja environment of conf_templates/: nothing undefined, nothing unchecked.

Whatever a template prints passes `value`, which refuses what Slurm would read as something else. The inputs were
validated long before; this is the second line of defence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hpadmin import resources
from hpadmin.errors import InvalidInput, Problem
from hpadmin.slurm import hostlist

if TYPE_CHECKING:
    from jinja2 import Environment

_PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._/+-]*")
_UNSAFE = re.compile(r"""[\x00-\x1f\x7f\x85\u2028\u2029#"'\\]""")
_UNSAFE_OR_BLANK = re.compile(rf"\s|{_UNSAFE.pattern}")


class _Escaped(str):
    """Text that was made safe on purpose."""

    __slots__ = ()


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the environment that renders conf_templates/*.j2."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(resources.directory("conf_templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Slurm's files are no markup; `value` guards what they would misread
        finalize=value,
    )
    made.filters["secret"] = secret
    made.filters["words"] = words
    return made


def value(given: Any) -> str:
    """Return the text of a value that may stand in a Slurm file.

    Raises InvalidInput for text that could end the line, begin a comment, open a quote, or begin another setting
    (src/common/parse_config.c, _strip_comments and the key=value expression).
    """
    if isinstance(given, _Escaped):
        return given
    return _without(_UNSAFE_OR_BLANK, str(given))


def words(given: str) -> str:
    """Return text that may hold blanks: between quotes, or on a line of its own. Raises InvalidInput as `value`."""
    return _Escaped(_without(_UNSAFE, given))


def _without(unsafe: re.Pattern[str], text: str) -> str:
    if found := unsafe.search(text):
        problem = Problem("", f"{text!r} cannot stand in a Slurm file: it holds {found[0]!r}")
        raise InvalidInput("a value would be read differently by Slurm", [problem])
    return text


def listed(names: Iterable[str]) -> str:
    """Return plain names (nodes, addresses, device files) as a folded host list, in their order.

    Raises InvalidInput for a name that a host list would take for several, or for none.
    """
    names = list(names)
    if wrong := [name for name in names if not _PLAIN.fullmatch(name)]:
        problems = [Problem("", f"{name!r} is no plain name") for name in wrong]
        raise InvalidInput("a name would be read differently by Slurm", problems)
    return hostlist.fold(names)


def secret(given: str) -> str:
    """Return a password as it must be written: quoted, with ``#`` and backslashes escaped.

    Raises InvalidInput, without repeating the password, when it holds what no Slurm file can carry: a quote, or
    a control character.
    """
    if re.search(r'["\x00-\x1f\x7f]', given):
        problem = Problem("", "it holds a double quote or a control character; choose another password")
        raise InvalidInput("the password cannot stand in slurmdbd.conf", [problem])
    return _Escaped('"' + given.replace("\\", "\\\\").replace("#", "\\#") + '"')
