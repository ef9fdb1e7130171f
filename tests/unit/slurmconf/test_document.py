"""Whatever a file holds comes back byte for byte, and is read in linear time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpadmin.errors import InvalidInput
from hpadmin.slurmconf import Document, dumps, lexer, loads
from hpadmin.slurmconf.view import view

CORPUS = Path(__file__).parents[2] / "data" / "corpus"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


def look_everywhere(document: Document) -> None:
    """Ask every statement for everything: nothing of it may fail."""
    for _, statement in document.numbered():
        assert statement.leftover is not None
        assert statement.comment is not None
        assert statement.is_silent in (True, False)
        assert (statement.head is None) == (not statement.pairs)
        assert statement.include is None or not statement.pairs
        for pair in statement.pairs:
            start, end = statement.raw_span(pair.value_start, pair.end)
            assert 0 <= start <= end <= len(statement.raw)


def check(content: bytes) -> None:
    """The file's bytes come back, whole and from its statements, and it can be viewed as any kind of file."""
    document = loads(content)
    assert dumps(document) == content
    assert lexer.statements(document.text) == [statement.raw for statement in document.statements]
    look_everywhere(document)
    for name in ("slurm.conf", "gres.conf", "topology.conf", "plugstack.conf"):
        seen = view(name, {name: content}.get)
        assert seen.troubles is not None
        assert seen.nodes is not None


def test_the_corpus_is_there() -> None:
    assert len(FILES) > 120


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_real_files_come_back(path: Path) -> None:
    check(path.read_bytes())


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_come_back(content: bytes) -> None:
    check(content)


pieces = st.sampled_from(
    [
        *(
            "NodeName=n[1-4]",
            "CPUs = 4",
            "PartitionName=all Nodes=ALL",
            "Include a.conf",
            "include %c",
            "INCLUDE\tx",
        ),
        *(
            'Reason="a b"',
            'Reason="a # b"',
            'Key=""',
            "Key=",
            "\\",
            "\\\\",
            "\\#",
            "#",
            '"',
            " ",
            "\t",
            "\r",
            "\n",
        ),
        *(
            "\r\n",
            "\\\n",
            "\\ \n",
            "\\ # c\n",
            "\0",
            "\v",
            "\xff",
            "é",
            "\ufeff",
            "SlurmdPort=1",
            "+=2",
            "DEFAULT",
        ),
    ]
)


@given(st.lists(pieces, max_size=25).map("".join))
@settings(max_examples=500, deadline=None)
@example("NodeName=a \\")
@example("NodeName=a \\\n\\\n# x\nCPUs=1")
def test_made_up_files_come_back(text: str) -> None:
    check(text.encode("latin-1", "replace"))
    check(text.encode())


def test_random_bytes_of_the_grammar_come_back() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        check(bytes(rng.choice(b'\\#"=a \n\r\0\xff\t1[,') for _ in range(rng.randrange(60))))


def test_text_stands_for_its_bytes() -> None:
    assert dumps(loads("ClusterName=é\r\n")) == "ClusterName=é\r\n".encode()
    assert dumps(loads("a=\udcff")) == b"a=\xff"
    with pytest.raises(InvalidInput):
        loads("a=\ud800")


def hostile(size: int) -> Iterator[str]:
    """Files that are long in one respect."""
    yield "\\\n" * size
    yield "\\" * size
    yield "#" * size
    yield "\\#" * size
    yield 'a="' * size
    yield 'a="x" ' * size
    yield "a" * size
    yield " " * size + "x"
    yield "a" + " " * size + "x"
    yield "a=b\n" * size
    yield "NodeName=n[" + ",".join(str(number) for number in range(size // 8)) + "] CPUs=1\n"
    yield "NodeName=DEFAULT CPUs=1\n" * (size // 20) + "NodeName=n1\n"
    yield "".join(f"NodeName=DEFAULT k{number}=1\nNodeName=n{number}\n" for number in range(size // 20))
    yield "Include slurm.conf\n" * (size // 20)
    yield "\0" * size


@pytest.mark.parametrize("number", range(15))
def test_hostile_files_take_linear_time(number: int) -> None:
    text = list(hostile(20_000))[number]
    started = time.process_time()
    check(text.encode())
    assert time.process_time() - started < 10, "a fraction of a second of the processor"
