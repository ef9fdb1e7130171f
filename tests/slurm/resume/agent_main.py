"""Run inside the container: the agent's part that resumes jobs, over and over, without any provider of nodes."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from hpadmin.errors import OperationFailed
from hpadmin.recovery.observe import Observation, jobs_by_node
from hpadmin.recovery.resume.control import CommandJobControl
from hpadmin.recovery.resume.part import over_commands
from hpadmin.slurm.command import Local
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.control import CommandControl
from tests.slurm.resume import points

points.before(CommandControl, "set_state", "seen")
points.after(CommandControl, "set_state", "marked")
points.before(CommandJobControl, "answer", "decided", lambda control, job, text: "action=WAIT" not in text)
points.after(CommandJobControl, "answer", "answered", lambda control, job, text: "action=WAIT" not in text)
points.after(CommandJobControl, "requeue", "requeued")
points.after(CommandJobControl, "start_now", "hurried")


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    runner = Local()
    reader = CommandReader(runner)
    part = over_commands(reader, CommandControl(runner), runner, Path(sys.argv[1]))
    while True:
        try:
            jobs = reader.jobs()
            nodes = {node.name: node for node in reader.nodes()}
            part.cycle(Observation(time.time(), nodes, jobs, jobs_by_node(jobs)))
        except OperationFailed as error:
            logging.getLogger(__name__).warning("%s", error)
        time.sleep(1)


if __name__ == "__main__":
    main()
