"""The Jinja environment of conf_templates/: nothing undefined, nothing unchecked.

Every value passes the filter ``value``, which refuses what Slurm would read as something else. The inputs were
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
    )
    made.filters["value"] = value
    made.filters["secret"] = secret
    return made


def value(given: Any) -> str:
    """Return the text of a value that may stand in a Slurm file.

    Raises InvalidInput for text that could end the line, begin a comment or open a quote
    (src/common/parse_config.c, _strip_comments and the key=value expression).
    """
    text = str(given)
    if found := _UNSAFE.search(text):
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
    return '"' + given.replace("\\", "\\\\").replace("#", "\\#") + '"'
