"""The top level of the command line: help without click, errors without tracebacks."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import hpadmin
from admin_cli.report import reporting_errors
from admin_cli.root import root
from admin_cli.top import COMMANDS, help_text
from hpadmin.errors import DriftBlocks, InvalidInput, OperationFailed, Problem

HPADMIN = str(Path(sys.executable).with_name("hpadmin"))


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_quick_help_is_the_help_that_click_gives(option: str) -> None:
    quick = subprocess.run([HPADMIN, option], capture_output=True, text=True, check=True)
    assert quick.stdout == help_text()
    assert CliRunner().invoke(root, [option]).stdout == help_text()


def test_the_quick_help_imports_no_click() -> None:
    code = "import sys; sys.argv = ['hpadmin', '--help']; from admin_cli.main import cli; cli(); " \
           "sys.exit('click' in sys.modules)"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_version() -> None:
    assert subprocess.run([HPADMIN, "--version"], capture_output=True, text=True, check=True).stdout == (
        f"hpadmin, version {hpadmin.__version__}\n"
    )


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_group_is_there_and_says_what_its_commands_do(name: str) -> None:
    group = importlib.import_module(f"admin_cli.{name}").group
    assert isinstance(group, click.Group)
    for command in group.commands.values():
        done = CliRunner().invoke(root, [name, str(command.name), "--help"])
        assert done.exit_code == 0
        assert command.help


def test_an_unknown_command_is_a_usage_error() -> None:
    done = subprocess.run([HPADMIN, "nosuch"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No such command 'nosuch'" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OperationFailed("it broke", hint="mend it"), 1, "hpadmin: it broke\n  mend it\n"),
        (
            InvalidInput("bad", [Problem("A.b", "no"), Problem("", "never")]),
            2,
            "hpadmin: bad\n  A.b: no\n  never\n",
        ),
        (DriftBlocks("changed by hand"), 4, "hpadmin: changed by hand\n"),
    ],
)
def test_errors_become_words_and_exit_codes(
    error: Exception, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info, reporting_errors():
        raise error
    assert exit_info.value.code == code
    captured = capsys.readouterr()
    assert captured.err == words
    assert captured.out == ""


FULL = "hpadmin: cannot write: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "yes"])
@pytest.mark.parametrize(
    ("redirection", "code", "said"), [(">/dev/full", 1, FULL), (">&-", 0, ""), ("2>/dev/full >&2", 1, "")]
)
@pytest.mark.parametrize("command", ["--help", "--version", "config validate --help"])
def test_output_that_cannot_be_written(
    command: str, redirection: str, code: int, said: str, unbuffered: str
) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {HPADMIN} {command} {redirection}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


@pytest.mark.parametrize("unbuffered", ["", "yes"])
@pytest.mark.parametrize("command", ["--help", "--version", "config validate --help"])
def test_a_reader_that_left_is_no_failure(command: str, unbuffered: str) -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [HPADMIN, *command.split()],
        stdout=pipe,
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(pipe)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_keeps_its_exit_code_where_nobody_can_be_told() -> None:
    line = f"exec {HPADMIN} config validate /no/such/file 2>/dev/full"
    assert subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=False).returncode == 2


def test_stdin_that_is_closed() -> None:
    line = f"exec {HPADMIN} config validate - <&-"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "hpadmin: cannot read stdin: it is closed\n")


def test_other_errors_of_the_system_are_not_taken_for_output() -> None:
    with pytest.raises(FileNotFoundError), reporting_errors():
        raise FileNotFoundError(2, "No such file or directory", "somewhere")


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Every command below `command`, by the words that lead to it."""
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, click.Context(found, context, name, **found.context_settings))


ALL = dict(commands(root, click.Context(root, None, "hpadmin", **root.context_settings)))


@pytest.mark.parametrize("path", [path for path in ALL if path != "hpadmin"])
def test_every_command_has_examples_and_they_use_what_there_is(path: str) -> None:
    lines = (ALL[path].help or "").partition("Examples:")[2].strip().splitlines()
    assert lines
    for line in lines:
        words = shlex.split(line.partition("|")[0].partition("<")[0])
        name = next(" ".join(words[:end]) for end in range(3, 0, -1) if " ".join(words[:end]) in ALL)
        assert name.startswith(path), line
        given = {word.partition("=")[0] for word in itertools.takewhile(lambda word: word != "--", words)}
        known = {
            option for parameter in ALL[name].params for option in parameter.opts + parameter.secondary_opts
        }
        assert {word for word in given if re.match(r"-\w|--\w", word)} <= known, line
