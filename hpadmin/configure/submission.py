"""What refuses impossible jobs at submission: the Lua plugin that a release of Slurm runs, and its files.

slurmctld is told of a job's segments only since 25.11; before that, the user's own command is asked (cli_filter(7)).
Both read their scripts beside slurm.conf (src/lua/slurm_lua.c). To nodes without a configuration of their own the
controller sends cli_filter.lua with it, and no other script (src/common/fetch_config.c): those find
hpadmin_segments.lua in `SHARE`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpadmin import resources
from hpadmin.topology.release import Release

SHARE = "/usr/share/hpadmin"
"""Where a node has hpadmin_segments.lua that has no configuration folder of its own (cli_filter.lua knows it, too)."""
HELPER = "hpadmin_segments.lua"
"""The judgement itself, which both plugins load."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin of slurm.conf(5) and its script."""

    setting: str
    value: str
    script: str
    file: str
    """Slurm's own part of it."""


_IN_SLURMCTLD = Plugin("JobSubmitPlugins", "lua", "job_submit.lua", "job_submit_lua.so")
_IN_COMMANDS = Plugin("CliFilterPlugins", "cli_filter/lua", "cli_filter.lua", "cli_filter_lua.so")


def plugin(release: str) -> Plugin:
    """Return the plugin that learns of segments in a release of Slurm.

    >>> plugin("24.11.5").setting, plugin("26.05").setting
    ('CliFilterPlugins', 'JobSubmitPlugins')
    """
    return _IN_SLURMCTLD if Release.parse(release).job_submit_knows_segments else _IN_COMMANDS


def files(chosen: Plugin) -> dict[str, str]:
    """Return the scripts that lie beside slurm.conf: name and text."""
    return {name: script(name) for name in (chosen.script, HELPER)}


def script(name: str) -> str:
    """Return the text of one of hpadmin's Lua scripts."""
    return (resources.directory("slurm_plugins") / "topology" / name).read_text(encoding="utf-8")
