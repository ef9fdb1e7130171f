"""plugstack.conf, which has a language of its own: ``required|optional|include path [arguments]``.

The rules are those of ``src/common/spank.c``: ``#`` starts a comment wherever it stands, blanks separate, nothing
is quoted, an Include may be a pattern, and of one plugin named twice only the first is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpadmin.slurmconf import rewrite
from hpadmin.slurmconf.document import Document, Statement


@dataclass(frozen=True, slots=True)
class Line:
    """One line that Slurm understands."""

    option: str
    """``required``, ``optional`` or ``include``."""
    path: str
    """The plugin, or the pattern of an include."""
    arguments: tuple[str, ...]
    number: int
    """Line in the file, from 1."""
    place: int
    """Index among the statements of the document."""

    @property
    def text(self) -> str:
        """The line without comment, blanks made one."""
        return " ".join((self.option, self.path, *self.arguments))

    @property
    def plugin(self) -> str:
        """What makes two lines the same plugin: the file name, as Slurm looks for it in its plugin folders too."""
        return self.path if self.option == "include" else self.path.rpartition("/")[2]


def parse_line(statement: Statement) -> tuple[str, str, tuple[str, ...]] | None:
    """Return option, path and arguments of a line; None for a blank one and for one that Slurm ignores."""
    words = (
        statement.raw.partition("\0")[0].partition("#")[0].replace("\t", " ").replace("\n", " ").split(" ")
    )
    words = [word.rstrip("\r") for word in words]
    words = [word for word in words if word]
    if len(words) < 2 or words[0] not in ("required", "optional", "include"):
        return None
    return words[0], words[1], tuple(words[2:])


def lines(document: Document) -> list[Line]:
    """Return the lines that Slurm understands, in order."""
    found = []
    for place, (number, statement) in enumerate(document.numbered()):
        parsed = parse_line(statement)
        if parsed is not None:
            found.append(Line(*parsed, number=number, place=place))
    return found


def with_text(statement: Statement, text: str) -> Statement:
    """Return the statement with another `Line.text`; its comment and line ending stay."""
    ending = rewrite.line_ending(statement.raw)
    body, sign, comment = statement.raw[: len(statement.raw) - len(ending)].partition("#")
    blanks = body[len(body.rstrip()) :] if sign else ""
    return Statement(f"{text}{blanks}{sign}{comment}{ending}")
