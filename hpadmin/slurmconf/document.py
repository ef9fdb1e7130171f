"""A Slurm configuration file as a document: every byte is kept, only what an edit changes is written anew.

>>> document = loads(b"# my cluster\\nClusterName = lab  # short\\nNodeName=n[1-2] CPUs=4")
>>> [statement.key for statement in document.statements if statement.pairs]
['ClusterName', 'NodeName']
>>> dumps(document)
b'# my cluster\\nClusterName = lab  # short\\nNodeName=n[1-2] CPUs=4'

A document knows nothing of what keys mean: `hpadmin.slurmconf.view` does; `hpadmin.slurmconf.edit` edits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hpadmin.errors import InvalidInput
from hpadmin.slurmconf import lexer
from hpadmin.slurmconf.lexer import Pair


class Statement:
    """One logical line: a setting, a record, an Include, a comment or a blank line. Immutable.

    What it says is worked out when first asked for, as most lines of most files are never looked at.
    """

    __slots__ = ("_end", "_logical", "_pairs", "raw")

    def __init__(self, raw: str) -> None:
        self.raw = raw
        """The text with its line endings; bytes that are not UTF-8 as surrogate escapes."""
        self._logical: lexer.Logical | None = None
        self._pairs: tuple[Pair, ...] | None = None
        self._end = 0

    def __repr__(self) -> str:
        return f"Statement({self.raw!r})"

    @property
    def logical(self) -> lexer.Logical:
        """What Slurm parses, and where it stands in `raw`."""
        if self._logical is None:
            self._logical = lexer.logical(self.raw)
        return self._logical

    @property
    def head(self) -> tuple[str, str] | None:
        """The first key and its value, as `key` and `value` but found without reading the rest of the line."""
        if self._pairs:
            return self._pairs[0].key, self._pairs[0].value
        return lexer.head(self.logical.text)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The ``Key=value`` pairs in the order of the line; empty for an Include."""
        if self._pairs is None:
            text = self.logical.text
            if lexer.include(text) is not None:
                self._pairs = ()
            else:
                found, self._end = lexer.pairs(text)
                self._pairs = tuple(found)
        return self._pairs

    @property
    def key(self) -> str:
        """The first key as written; empty where there is none."""
        return self.pairs[0].key if self.pairs else ""

    @property
    def value(self) -> str:
        """The value of the first key; empty where there is none."""
        return self.pairs[0].value if self.pairs else ""

    @property
    def attributes(self) -> tuple[Pair, ...]:
        """The pairs after the first."""
        return self.pairs[1:]

    @property
    def include(self) -> str | None:
        """The file name of an Include line; None for any other."""
        found = lexer.include(self.logical.text)
        return found[0] if found else None

    @property
    def leftover(self) -> str:
        """What Slurm cannot make pairs of, without blanks around it; empty for a clean line."""
        text = self.logical.text
        found = lexer.include(text)
        if found is not None:
            return text[found[1] :].strip(lexer.BLANKS)
        assert self.pairs is not None
        return text[self._end :].strip(lexer.BLANKS)

    @property
    def comment(self) -> str:
        """The comment at the end, from its ``#`` to before the line ending; empty without one."""
        start = lexer.comment_start(self.raw)
        return self.raw[start:].rstrip("\r\n") if start >= 0 else ""

    @property
    def is_silent(self) -> bool:
        """Whether Slurm sees nothing here: a blank line or a comment."""
        return lexer.is_blank(self.logical.text)

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """Translate a span of the logical line to the span of `raw` that holds it, escapes included."""
        offsets = self.logical.offsets
        if offsets is None:
            return start, end
        first = self.logical.raw_position(start, len(self.raw))
        if 0 < first <= len(self.raw) and start < len(offsets) and self.raw[first - 1] == "\\":
            first -= 1  # the backslash that escapes the first character
        return first, (offsets[end - 1] + 1 if end > start else first)


class Document:
    """The statements of one file, in order. Joined, their raw texts are the file."""

    __slots__ = ("statements",)

    def __init__(self, statements: Iterable[Statement] = ()) -> None:
        self.statements: list[Statement] = list(statements)

    def __len__(self) -> int:
        return len(self.statements)

    def copy(self) -> Document:
        """Return a document that can be edited without changing this one; statements are shared."""
        return Document(self.statements)

    def numbered(self) -> Iterator[tuple[int, Statement]]:
        """Yield each statement with the number of its first physical line, from 1."""
        line = 1
        for statement in self.statements:
            yield line, statement
            line += statement.raw.count("\n") or 1

    def line_of(self, index: int) -> int:
        """Return the number of the first physical line of the statement at `index`, from 1."""
        return 1 + sum(statement.raw.count("\n") for statement in self.statements[:index])

    @property
    def newline(self) -> str:
        """The line ending of the file: that of its first line, ``\\n`` for an empty file."""
        for statement in self.statements:
            if statement.raw.endswith("\r\n"):
                return "\r\n"
            if statement.raw.endswith("\n"):
                return "\n"
        return "\n"

    @property
    def text(self) -> str:
        """The whole file; bytes that are not UTF-8 as surrogate escapes."""
        return "".join([statement.raw for statement in self.statements])


def loads(content: bytes | str) -> Document:
    """Read a file of any content; nothing is refused, as what Slurm cannot read is kept as it is.

    Text stands for its UTF-8 bytes, surrogate escapes for the bytes that are not UTF-8.
    Raises InvalidInput for text that stands for no bytes (other lone surrogates).
    """
    if isinstance(content, str):
        try:
            content.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise InvalidInput(f"character {error.start} stands for no bytes: {error.reason}") from None
        text = content
    else:
        text = content.decode("utf-8", "surrogateescape")
    return Document(map(Statement, lexer.statements(text)))


def dumps(document: Document) -> bytes:
    """Return the file's bytes: those that were read, where nothing was edited."""
    return document.text.encode("utf-8", "surrogateescape")
