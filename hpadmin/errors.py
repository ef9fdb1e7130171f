"""The errors that hpadmin raises on purpose: each says what is wrong and what to do about it.

Anything else that escapes is a defect. The command line turns these into exit codes (`admin_cli.main`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with an input.

    `path` is a JSON path (``InstanceGroups[0].InstanceCount``), a ``file:line``, or empty.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class HpadminError(Exception):
    """Base of all deliberate errors. `hint` says what to do next; it may be empty."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class OperationFailed(HpadminError):
    """Something that was tried did not work; nothing of it is left half done unless the message says so."""


class InvalidInput(HpadminError):
    """The input is wrong. Carries every problem that was found, not just the first."""

    exit_code = 2

    def __init__(self, message: str, problems: Iterable[Problem] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {problem}" for problem in self.problems)])


class DriftBlocks(HpadminError):
    """The strategy is `Managed` and the files on disk are not those last applied."""

    exit_code = 4
