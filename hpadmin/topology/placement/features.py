"""Feature expressions of ``--constraint``: names, ``&`` (or ``,``), ``|`` and parentheses (sbatch(1)).

Counts (``rack*2``), exclusive or (``[a|b]``) and multiple counts choose different nodes for parts of a job
and are refused here, because a plan without them would be wrong."""

from __future__ import annotations

import re

from hpadmin.errors import InvalidInput, Problem

_TOKEN = re.compile(r"\s*([&|,()]|[^&|,()\[\]*\s]+)")


def matches(expression: str, features: frozenset[str]) -> bool:
    """Whether a node with these features satisfies `expression`. Raises InvalidInput when it cannot be read.

    Slurm reads operators from left to right without precedence (``_valid_feature_list``, job_scheduler.c).

    >>> matches("gpu&(fast|big)", frozenset({"gpu", "big"}))
    True
    """
    tokens = _tokens(expression)
    value, rest = _expression(expression, tokens, features)
    if rest:
        raise _unreadable(expression)
    return value


def names_in(expression: str) -> frozenset[str]:
    """The feature names that `expression` uses. Raises InvalidInput when it cannot be read.

    >>> sorted(names_in("gpu&(fast|big)"))
    ['big', 'fast', 'gpu']
    """
    return frozenset(word for word in _tokens(expression) if word not in tuple("&|,()"))


def _tokens(expression: str) -> list[str]:
    tokens = []
    position = 0
    text = expression.strip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _unreadable(expression)
        tokens.append(found[1])
        position = found.end()
    return tokens


def _expression(whole: str, tokens: list[str], features: frozenset[str]) -> tuple[bool, list[str]]:
    value, rest = _operand(whole, tokens, features)
    while rest and rest[0] in "&|,":
        operator = rest[0]
        right, rest = _operand(whole, rest[1:], features)
        value = (value or right) if operator == "|" else (value and right)
    return value, rest


def _operand(whole: str, tokens: list[str], features: frozenset[str]) -> tuple[bool, list[str]]:
    if not tokens:
        raise _unreadable(whole)
    word, rest = tokens[0], tokens[1:]
    if word == "(":
        value, rest = _expression(whole, rest, features)
        if not rest or rest[0] != ")":
            raise _unreadable(whole)
        return value, rest[1:]
    if word in "&|,)":
        raise _unreadable(whole)
    return word in features, rest


def _unreadable(expression: str) -> InvalidInput:
    return InvalidInput(
        f"the constraint {expression!r} cannot be planned with",
        [Problem("--constraint", "expected feature names joined by & and |, with parentheses")],
    )
