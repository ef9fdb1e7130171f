"""How patient the site is with steps that fail: the table ``[resume]`` of ``agent.toml``."""

from __future__ import annotations

from dataclasses import dataclass

from hpadmin.errors import Problem
from hpadmin.recovery import tables
from hpadmin.recovery.resume.messages import SERVICE_SECONDS


@dataclass(frozen=True, slots=True)
class Limits:
    """All of it. Times are seconds."""

    resumes: int = 10
    """Of one job, over all its runs; a user may ask for fewer (``--auto-resume=N``). 0 turns it off."""
    quick: float = 60
    """A step that fails so soon after a resume made no progress; 0: that is never said."""
    quick_failures: int = 3
    """So many of those in a row are the program's fault."""
    silent_after: float = 3
    """A host that takes connections and says nothing for so long, twice, hangs."""
    diagnosis: float = 30
    """After this time an unsure node counts as good: what cannot be read is no fault."""
    service: float = SERVICE_SECONDS
    """A step waits so long for a node; then it keeps its exit code."""

    @property
    def within(self) -> int:
        """The service timeout as an answer carries it: 0 where it is the one that supervisors know."""
        return 0 if self.service == SERVICE_SECONDS else int(self.service)


_AT_LEAST = {"quick_failures": 1, "silent_after": 0.1, "service": 1}
_AT_MOST = {"resumes": 1000, "silent_after": 60, "diagnosis": 600, "service": 7 * 86400}


def read(data: object, path: str = "resume") -> tuple[Limits, list[Problem]]:
    """Check and take the table; what is wrong comes back as problems, all of them."""
    values, problems = tables.read(Limits, data, path)
    for key, least in _AT_LEAST.items():
        if values.get(key, least) < least:
            problems.append(Problem(f"{path}.{key}", f"must be at least {least:g}, is {values[key]:g}"))
    for key, most in _AT_MOST.items():
        if values.get(key, most) > most:
            problems.append(Problem(f"{path}.{key}", f"must be at most {most:g}, is {values[key]:g}"))
    return (Limits() if problems else Limits(**values)), problems
