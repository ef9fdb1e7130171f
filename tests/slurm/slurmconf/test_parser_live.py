"""Odd files, made afresh in every run: where Slurm's own parser complains, and where we do."""

from __future__ import annotations

import random
import re

import pytest

from hpadmin.slurmconf.view import UNENDED_INCLUDE, view
from tests.support.box import Box
from tests.support.seeds import seed

_HEAD = "ClusterName=lab\nSlurmctldHost=localhost\n"
_PIECES = (
    *(
        "MailProg=/a",
        "mailprog = /b",
        'MailProg="a b"',
        'MailProg="a # b"',
        'MailProg="a"b c',
        "MailProg=",
        'MailProg=""',
    ),
    *(
        "MailProg=a\\#b",
        "MailProg=a\\\\",
        "MailProg=/a \\",
        "MailProg=/a\\ # joins",
        "  MailProg\t=\t/a  ",
        "MailProg+=/a",
    ),
    *(
        "NodeName=n[1-2] CPUs=4",
        "NodeName=n9 Reason= RealMemory=1",
        'NodeName=n8 Reason="a b',
        "NodeName=DEFAULT CPUs=2",
    ),
    *(
        "PartitionName=p Nodes=ALL",
        "PartitionName=q MaxTime=1 State=UP x",
        "JobRequeue=0 KillOnBadExit=1",
        "JobRequeue=1",
    ),
    *(
        "Include a.conf",
        "include a.conf # c",
        " Include a.conf",
        "Include a.conf b",
        "# comment",
        "",
        "\\",
        "\\\\",
        "words",
    ),
    *(
        "NodeSet=s Feature=f",
        "DownNodes=n1 State=DOWN",
        "MailProg=\v/a",
        "MailProg=/a\r",
        "=x",
        "MailProg",
        "MailProg /a",
    ),
)
_TOLD = re.compile(
    r'(?:Parse error in file (?P<file>\S+) line (?P<line>\d+))|(?:"Include" failed in file \S+ line \d+)'
)
_ASK = """
cd /tmp/odd
echo JobRequeue=1 >a.conf
while IFS= read -r -d '' text; do
  printf '%s' "$text" >slurm.conf
  SLURM_CONF=/tmp/odd/slurm.conf timeout 20 scontrol show hostnames x >/dev/null 2>told; code=$?
  printf '%s\\0%s\\0' "$code" "$(cat told)"
done <all
"""


def _file(rng: random.Random) -> str:
    lines = [rng.choice(_PIECES) for _ in range(rng.randrange(1, 7))]
    return _HEAD + rng.choice(["\n", "\n", "\r\n"]).join(lines) + rng.choice(["\n", "\n", ""])


def _complaints(text: str) -> list[int] | None:
    """Return the lines of slurm.conf that we find wrong; None where what Slurm does is up to chance."""
    seen = view("slurm.conf", {"slurm.conf": text, "a.conf": "JobRequeue=1\n"}.get)
    if any(trouble.message == UNENDED_INCLUDE for trouble in seen.troubles):
        return None
    return [trouble.origin.line for trouble in seen.troubles]


@pytest.mark.slurm
def test_we_complain_of_the_lines_that_slurm_complains_of(slurm_box: Box) -> None:
    first = seed(0, 2**32)
    rng = random.Random(first)
    files = [text for text in (_file(rng) for _ in range(200)) if _complaints(text) is not None]
    slurm_box.write_tree("/tmp/odd", {})
    slurm_box.put("/tmp/odd/all", "".join(f"{text}\0" for text in files))
    told = slurm_box.run(["bash", "-c", _ASK], timeout=600).check().stdout.split("\0")
    different = []
    for number, text in enumerate(files):
        refused, complaint = told[2 * number] != "0", told[2 * number + 1]
        theirs = [int(match["line"]) for match in _TOLD.finditer(complaint) if match["line"]]
        ours = _complaints(text)
        if theirs != ours or refused != bool(ours):
            different.append((text, ours, theirs, complaint))
    assert not different, f"seed {first}: {len(different)} of {len(files)}"
