"""A container with Slurm installed and nothing running: for tests that need Slurm's own programs.

The container has its own network, so that a throw-away slurmctld can never speak to a real cluster.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence

import docker.errors

from hpadmin.lab import image
from hpadmin.lab.engine import ContainerRunner, connect

NO_NAME_SERVICE = ("127.0.0.1",)
"""Nobody is there, which one is told at once. Slurm looks up 0.0.0.0 at every reconfigure, and whoever connects to it,
and serves nobody until it is answered: no test may hang on a name service outside."""


class Box(ContainerRunner):
    """A started container: `run`, `put`, and its name in `container`."""

    def write_tree(self, folder: str, files: dict[str, str]) -> None:
        """Write `files` (relative name to text) below `folder`, which is made."""
        self.run(["mkdir", "-p", folder], timeout=30).check()
        for name, text in files.items():
            self.put(f"{folder}/{name}", text, mode=0o600 if name == "slurmdbd.conf" else 0o644)


@contextlib.contextmanager
def box(
    release: str = "24.11",
    *,
    hostname: str = "box",
    privileged: bool = False,
    capabilities: Sequence[str] = (),
) -> Iterator[Box]:
    """A fresh container of Slurm `release`, removed at the end.

    `hpadmin.slurm.sandbox` needs the capabilities SYS_ADMIN and NET_ADMIN in it.
    The image is built when it is missing; where that fails the test fails: nothing is skipped.
    """
    client = connect()
    tag = image.ensure_slurm(client, release)
    name = f"hpadmin-test-{uuid.uuid4().hex[:10]}"
    container = client.containers.run(
        tag,
        ["sleep", "infinity"],
        name=name,
        hostname=hostname,
        detach=True,
        init=True,
        dns=list(NO_NAME_SERVICE),
        privileged=privileged,
        cap_add=list(capabilities),
        # AppArmor forbids mounts to containers, whatever their capabilities; without any it stays as it is.
        security_opt=["apparmor=unconfined"] if capabilities else [],
        labels={"hpadmin.test": "box"},
    )
    try:
        yield Box(client, name)
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True)
        client.close()
