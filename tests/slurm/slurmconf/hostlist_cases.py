"""Host lists for holding `hpadmin.slurm.hostlist` against scontrol, and the asking of scontrol itself.

As a program it makes the recorded cases that every test run replays:

    python -m tests.slurm.slurmconf.hostlist_cases 24000 tests/data/hostlists.json.xz
"""

from __future__ import annotations

import json
import lzma
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hpadmin.slurm.command import Runner
from hpadmin.slurm.hostlist import HostlistError, count
from tests.support.box import box

Answer = tuple[str, str | None]
"""What ``show hostnames`` printed, and what ``show hostlist`` did; None where that was refused."""

CONF = "ClusterName=lab\nSlurmctldHost=localhost\nNodeName=n1\n"
_ASK = r"""
export SLURM_CONF=/tmp/hostlists/slurm.conf
while IFS= read -r -d '' text; do
  names=$(scontrol show hostnames -- "$text" 2>/dev/null)
  if list=$(scontrol show hostlist -- "$text" 2>/dev/null); then code=0; else code=1; fi
  printf '%s\0%s\0%s\0' "$names" "$code" "$list"
done < /tmp/hostlists/cases
"""


def ask(runner: Runner, put: Callable[[str, str], None], cases: Sequence[str]) -> list[Answer]:
    """Return scontrol's answer to every case. `put` writes a file where `runner` runs."""
    runner.run(["mkdir", "-p", "/tmp/hostlists"], timeout=240).check()
    put("/tmp/hostlists/slurm.conf", CONF)
    put("/tmp/hostlists/cases", "".join(f"{case}\0" for case in cases))
    told = runner.run(["bash", "-c", _ASK], timeout=60 + len(cases)).check().stdout.split("\0")[:-1]
    assert len(told) == 3 * len(cases)
    return [
        (names, folded if code == "0" else None)
        for names, code, folded in zip(told[::3], told[1::3], told[2::3], strict=True)
    ]


def _number(rng: random.Random) -> str:
    value = rng.choice([rng.randrange(12), rng.randrange(120), rng.randrange(95, 1100), rng.randrange(10**6)])
    return f"{value:0{rng.choice([0, 0, 0, 1, 2, 3, 4])}d}"


def _range(rng: random.Random) -> str:
    if rng.random() < 0.4:
        return _number(rng)
    low = _number(rng)
    high = int(low) + rng.randrange(rng.choice([1, 4, 12]))
    return f"{low}-{high:0{rng.choice([0, len(low), len(low)])}d}"


def _ranges(rng: random.Random) -> str:
    return f"[{','.join(_range(rng) for _ in range(rng.choice([1, 1, 2, 3])))}]"


def _word(rng: random.Random) -> str:
    return rng.choice(["n", "node", "ip-10-1-", "gpu-a1-", "R2", "x", "", "a.b", "rack1_", "N", "-", "é"])


def _name(rng: random.Random) -> str:
    parts = [_word(rng)]
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3])):
        parts.append(_ranges(rng) if rng.random() < 0.75 else _number(rng))
        parts.append(rng.choice(["", "", "-", "s", ".local", "n", "-ib0", "x1"]))
    return "".join(parts)


def _list(rng: random.Random) -> str:
    return rng.choice([",", ",", ",", ", ", " ", ",,", "\t"]).join(
        _name(rng) for _ in range(rng.randrange(1, 4))
    )


def _plain(rng: random.Random) -> str:
    """Names in runs, as a scheduler lists them: what folding is about."""
    word = rng.choice(["n", "ip-10-0-", "a1b", "", "node-"])
    width = rng.choice([0, 0, 1, 2, 3, 4])
    start = rng.choice([0, 1, 8, 9, 97, 98, 99, 995])
    names = []
    for step in range(rng.randrange(1, 14)):
        number = start + step if rng.random() < 0.85 else start + rng.randrange(20)
        names.append(f"{word}{number:0{width if rng.random() < 0.9 else rng.randrange(5)}d}")
        if rng.random() < 0.1:
            names.append(rng.choice(["login", "n", "x2", names[0]]))
    if rng.random() < 0.2:
        rng.shuffle(names)
    return ",".join(names)


def _hostile(rng: random.Random) -> str:
    alphabet = rng.choice(["n01[],-", "a[1-2],x ", "[]09-,", "n1[]-x+ \t\n,.2"])
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 16)))


def _damaged(rng: random.Random) -> str:
    text = list(_list(rng))
    for _ in range(rng.randrange(1, 3)):
        if text:
            place = rng.randrange(len(text))
            text[place : place + rng.randrange(2)] = rng.choice(["", "[", "]", "-", ",", "x", "0", " "])
    return "".join(text)


_ODD = (
    "",
    ",",
    "n[]",
    "n[1-]",
    "n[-1]",
    "n[1a-2]",
    "n[1-2a]",
    "n[+1-3]",
    "n[ 1-3]",
    "n[1- 3]",
    "n[3-1]",
    "n[1--2]",
    "n[1,]",
    "n[0x1-2]",
    "n[000x133]",
    "n[1-2]]",
    "n]1[",
    "n[1-2",
    "n1-2]",
    "n18446744073709551615",
    "n99999999999999999999999",
    "n18446744073709551615,m0",
    "n[99999999999999999999]",
    "n[0-65535]s",
    "n[0-65536]",
    "n[00001-65536]x",
    "a[0-70000]b[1]",
    "a[0-40000,0-40000]b[1]",
    "a[x]b[1-2]c[3]",
    "a[1-2]b[x]c[3]",
    "a[1-2]b[1-2]c[x]",
    "a[1b[2-3]",
    "a]b[1,2]c,d",
    "n1\vn2",
    "n\v1,n2",
    "1,2,3",
    "001,002",
    "n9,n10,n099,n100",
    "n09,n10,n011",
    "n1,n1,n1",
    "n2,n1",
)


def cases(rng: random.Random, number: int) -> list[str]:
    """Return `number` different lists, the odd ones first; none that scontrol takes for an option or a file."""
    makers = (_list, _name, _plain, _plain, _hostile, _damaged)
    found = dict.fromkeys(_ODD)
    while len(found) < number:
        text = rng.choice(makers)(rng)
        if text.startswith(("-", "/")) or "\0" in text:
            continue
        try:
            if count(text) > 400:
                continue
        except HostlistError:
            pass
        found[text] = None
    return list(found)[:number]


def load(path: Path) -> list[tuple[str, Answer]]:
    """Return recorded cases with scontrol's answers."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [(text, (names, folded)) for text, names, folded in json.load(file)]


def main() -> None:
    """Record."""
    number, path = int(sys.argv[1]), Path(sys.argv[2])
    chosen = cases(random.Random(20241105), number)
    with box("24.11") as running:
        answers = ask(running, lambda name, text: running.put(name, text), chosen)
    rows = [[text, names, folded] for text, (names, folded) in zip(chosen, answers, strict=True)]
    text = json.dumps(rows, ensure_ascii=False, indent=0)
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
