"""Commands in a container that goes while they run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Completed
from tests.support import labs
from tests.support.box import Box, box

pytestmark = pytest.mark.slurm


def _outcome(inside: Box) -> Completed | OperationFailed:
    try:
        return inside.run(["sleep", "600"], timeout=600)
    except OperationFailed as error:
        return error


@pytest.mark.parametrize("gone", ["kill", "remove"])
def test_a_container_that_goes_ends_the_command_and_not_whoever_ran_it(gone: str) -> None:
    with box() as inside, ThreadPoolExecutor(4) as pool:
        running = [pool.submit(_outcome, inside) for _ in range(4)]
        pgrep = ["pgrep", "-c", "-x", "sleep"]
        count = "5\n"  # the container's own one, too
        labs.wait_until(lambda: inside.run(pgrep, timeout=60).stdout == count, 120, "all commands run")
        container = inside.client.containers.get(inside.container)
        if gone == "kill":
            container.kill()
        else:
            container.remove(force=True)
        for each in running:
            result = each.result(120)
            assert isinstance(result, OperationFailed) or result.returncode != 0
        assert isinstance(_outcome(inside), OperationFailed)
