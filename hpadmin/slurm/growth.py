"""What of Slurm's configuration keeps a running job from going on with a node that it took over; pure.

>>> at_allocation("Serial,X11")
['x11']
>>> binds_cores("task/cgroup,task/affinity")
['task/affinity', 'task/cgroup']
"""

from __future__ import annotations

_AT_ALLOCATION = frozenset(
    {"alloc", "contain", "deferbatch", "forcerequeueonfail", "nohold", "runinjob", "x11"}
)
"""PrologFlags that are or imply Alloc (slurm.conf(5))."""
_BINDING = frozenset({"affinity", "cgroup"})


def at_allocation(prolog_flags: str) -> list[str]:
    """Return those of these PrologFlags that run the Prolog when a job starts, not when its first step does.

    Then a slurmd runs no step of a job that it was not told of at its start (`_wait_for_request_launch_prolog`,
    src/slurmd/slurmd/req.c): one on a node that joined later fails, and the node is drained for it.
    """
    return [word for word in _words(prolog_flags) if word in _AT_ALLOCATION]


def binds_cores(task_plugin: str) -> list[str]:
    """Return those of these TaskPlugins that bind tasks to the cores that the job holds.

    A job that took over another's nodes holds no cores of the last of them: the two jobs' core bitmaps are laid over
    each other from their beginnings (`job_resources_bits_copy`, src/common/job_resources.c). A step that is bound to
    its cores fails there ("Slurmd could not execve job", "task_g_set_affinity: Invalid argument").
    """
    return [word for word in _words(task_plugin) if word.rpartition("/")[2] in _BINDING]


def _words(setting: str) -> list[str]:
    return sorted(word.strip().lower() for word in setting.split(","))
