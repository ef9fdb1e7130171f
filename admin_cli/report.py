"""How results and errors reach the terminal: data to stdout, words to stderr, never a traceback.

JSON (``-o json``) goes to stdout alone, so that it can be piped; everything for people goes to stderr.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO, TypeVar

import click

from hpadmin.errors import HpadminError, InvalidInput

_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

F = TypeVar("F", bound=Callable[..., Any])


def output_option(function: F) -> F:
    """Add ``-o/--output table|json`` (parameter name ``output``)."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="Form of what is printed; JSON goes to stdout alone.",
    )(function)


def print_json(data: object) -> None:
    """Print `data` as JSON to stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a plain table to stdout: columns as wide as their widest cell, two blanks between."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(header), *(len(row[i]) for row in cells), 0) for i, header in enumerate(headers)]
    for row in [list(headers), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say(message: str) -> None:
    """Say something to the person at the terminal (stderr); where nobody can be told, the work goes on."""
    try:
        click.echo(message, err=True)
    except OSError:
        sys.stderr = _nowhere()


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn hpadmin's own errors, and output that cannot be written, into a message on stderr and an exit code."""
    try:
        yield
    except InvalidInput as error:
        say(f"hpadmin: {error.message}")
        for problem in error.problems:
            say(f"  {problem}")
        _hint(error)
        sys.exit(error.exit_code)
    except HpadminError as error:
        say(f"hpadmin: {error.message}")
        _hint(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        lost_output(error)


def lost_output(error: OSError) -> NoReturn:
    """End the program after what it had to print could not be written."""
    sys.stdout = _nowhere()
    if isinstance(error, BrokenPipeError):
        # The reader of our pipe (head, less) went away: that is its right, and no failure of ours.
        sys.exit(0)
    say(f"hpadmin: cannot write: {error.strerror}")
    sys.exit(1)


def _nowhere() -> TextIO:
    """Return what takes the place of a stream that cannot be written: Python would try its rest again at the end."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123


def _hint(error: HpadminError) -> None:
    if error.hint:
        say(f"  {error.hint}")
