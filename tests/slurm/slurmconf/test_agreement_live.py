"""A few configurations of real sites in every run: what we read is what slurmctld says."""

from __future__ import annotations

import pytest

from tests.slurm.slurmconf.corpus import adapt, ask, corpus, differences, without_unknown_keys
from tests.support.box import Box

SAMPLE = (
    "SchedMD+slurm.conf",
    "eggplantW+slurm_for_gpu.conf",
    "kapliy+cloud.conf",
    "rug-cit-hpc+league-of-robots.conf",
    "slaclab+slurm-docker-2.conf",
    "vuw-research-computing+raapoi-tools.conf",
)
"""DEFAULT lines, hundreds of nodes, several partitions of one node, old keys, folded and single lines."""


@pytest.mark.slurm
@pytest.mark.parametrize("name", SAMPLE)
def test_nodes_and_partitions_are_what_slurmctld_says(slurm_box: Box, name: str) -> None:
    host = slurm_box.run(["hostname"], timeout=240).check().stdout.strip()
    adapted = without_unknown_keys(slurm_box, adapt(name, dict(corpus())[name], host))
    told = ask(slurm_box, adapted)
    assert not told.refused
    assert told.nodes
    assert differences(adapted, told) == []
