"""Slurm releases, as far as topology differs between them.

>>> Release.parse("24.11.5") < Release.parse("25.05")
True
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpadmin.errors import InvalidInput, Problem


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A Slurm release, ``major.minor``; the patch level changes nothing about topology."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Release:
        """Read ``24.11``, ``24.11.5`` or ``slurm 24.11.5``; raises InvalidInput otherwise."""
        found = re.fullmatch(r"(?:slurm(?:-wlm)?[ -])?(\d{2})[.-](\d{2})(?:[.-]\w+)*", text.strip())
        if found is None:
            raise InvalidInput(
                f"{text!r} is no Slurm release",
                [Problem("--slurm-release", "expected a release such as 24.11 or 26.05")],
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.year:02}.{self.month:02}"

    @property
    def reads_yaml(self) -> bool:
        """topology.yaml with several topologies and a partition's ``Topology=`` (25.05)."""
        return self >= Release(25, 5)

    @property
    def permits_gaps(self) -> bool:
        """Blocks may be shorter than the base block size, even empty (25.05)."""
        return self >= Release(25, 5)

    @property
    def prefers_booted(self) -> bool:
        """Nodes that are up are preferred to those that power up (25.05)."""
        return self >= Release(25, 5)

    @property
    def flat_plugin(self) -> str:
        """Name of the plugin without a topology: topology/flat is fatal before 25.05."""
        return "topology/flat" if self >= Release(25, 5) else "topology/default"

    @property
    def segments_span_blocks(self) -> bool:
        """A segment may be larger than the base block (25.11)."""
        return self >= Release(25, 11)

    @property
    def job_submit_knows_segments(self) -> bool:
        """The plugins of JobSubmitPlugins are told of a job's segments (25.11)."""
        return self >= Release(25, 11)

    @property
    def ignores_oversized_segment(self) -> bool:
        """A segment larger than the job is ignored instead of refused (26.05)."""
        return self >= Release(26, 5)

    @property
    def refuses_uneven_segments(self) -> bool:
        """A job whose nodes are no multiple of its segment is refused before anything else is looked at (26.05)."""
        return self >= Release(26, 5)

    @property
    def places_one_node_alone(self) -> bool:
        """A job of one node takes the first node that serves, past any topology (``_get_one_res``, 26.05)."""
        return self >= Release(26, 5)

    @property
    def tells_what_is_missing(self) -> bool:
        """The topology's own reason is that of a job that waits (26.05)."""
        return self >= Release(26, 5)

    @property
    def counts_segments_first(self) -> bool:
        """Segments are counted before any is placed: a job for which there are too few is told so (26.05.5)."""
        return self >= Release(26, 5)

    @property
    def has_exclusive_partitions(self) -> bool:
        """A partition's ``Exclusive`` (NO, NODE, USER, TOPO) is read and shown instead of ``OverSubscribe=EXCLUSIVE``,
        and exclusive use of blocks implies that of nodes (26.05)."""
        return self >= Release(26, 5)


CONF_RELEASE = Release(24, 11)
"""The rules for files that do not say which release reads them."""

YAML_RELEASE = Release(26, 5)
"""The rules for a topology.yaml, which no release before 25.05 reads."""
