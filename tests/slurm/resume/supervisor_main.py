"""Run inside the container in the place of the supervisor's own main: the same, with the points of `points`."""

from __future__ import annotations

import sys

from hpadmin.recovery.resume.messages import Phase
from hpadmin.recovery.resume.ownjob import OwnJob
from hpadmin.recovery.resume.supervise import main
from hpadmin.recovery.resume.supervisor import Supervisor
from tests.slurm.resume import points

points.after(OwnJob, "tell", "asked", lambda job, request: request.phase is Phase.ASK)
points.after(OwnJob, "tell", "swapping", lambda job, request: request.phase is Phase.SWAP)
points.after(OwnJob, "keep_only", "dropped")
points.before(OwnJob, "merge", "granted")
points.after(OwnJob, "merge", "merged")
points.before(Supervisor, "_attempt", "retrying", lambda supervisor: supervisor.attempt > 0)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
