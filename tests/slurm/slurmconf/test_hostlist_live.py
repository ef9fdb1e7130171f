"""Fresh host lists in every run, held against scontrol itself."""

from __future__ import annotations

import random

import pytest

from tests.slurm.slurmconf.hostlist_cases import ask, cases
from tests.support.box import Box
from tests.support.seeds import seed
from tests.unit.test_hostlist import ours


@pytest.mark.slurm
def test_fresh_cases_agree_with_scontrol(slurm_box: Box) -> None:
    first = seed(0, 2**32)
    chosen = cases(random.Random(first), 400)
    told = ask(slurm_box, lambda name, text: slurm_box.put(name, text), chosen)
    different = [
        (text, answer, ours(text)) for text, answer in zip(chosen, told, strict=True) if ours(text) != answer
    ]
    assert not different, f"seed {first}"
