"""A lab whose configuration changes while jobs run on it, through the installed command on its controller."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hpadmin.errors import OperationFailed
from hpadmin.lab.cluster import Lab
from hpadmin.request import Source
from hpadmin.slurm.command import Completed
from tests.support import labs

CONF = "/etc/slurm"
SITE = "/etc/hpadmin/site.yaml"
INVENTORY = "/opt/ml/config/resource_config.json"
WORK = "/tmp/configured"
ACTOR = Path(__file__).with_name("act_in_apply.py")
GROUPS = (
    ("controller", "ml.c5.xlarge", 1, "Controller", None),
    ("steady", "ml.c5.xlarge", 2, "Compute", "steady"),
    ("gpu", "ml.g5.12xlarge", 1, "Compute", "gpu"),
    ("extra", "ml.c5.xlarge", 2, "Compute", "extra"),
)


@dataclass
class Configured:
    """The lab, and what is asked of its controller."""

    lab: Lab

    def __post_init__(self) -> None:
        self.controller = self.lab.runner(self.lab.controller().instance.name)
        self.inventory = json.loads(self.sh(f"cat {INVENTORY}"))
        self.site = yaml.safe_load(self.sh(f"cat {SITE}"))
        self.sh(f"mkdir -p {WORK}")
        self.controller.put(f"{WORK}/act_in_apply.py", ACTOR.read_text())

    def sh(self, script: str, *, timeout: float = 120) -> str:
        """Run a script on the controller."""
        return self.controller.run(["sh", "-ec", script], timeout=timeout).check().stdout

    def hosts(self, group: str) -> list[str]:
        """Slurm's names of a group's nodes."""
        return [node.instance.hostname for node in self.lab.nodes() if node.instance.group == group]

    def ask(
        self,
        *,
        groups: Sequence[str] = ("controller", "steady", "gpu", "extra"),
        strategy: str = "Managed",
        partitions: dict[str, str] | None = None,
        types: dict[str, str] | None = None,
        gpus: int = 4,
    ) -> list[str]:
        """Put a request for `groups` on the controller; return the words that name it and its inventory."""
        chosen = []
        for name, instance_type, count, node_type, partition in GROUPS:
            if name in groups:
                named = (partitions or {}).get(name, partition)
                chosen.append((name, (types or {}).get(name, instance_type), count, node_type, named))
        orchestrator = {"Slurm": {"SlurmConfigStrategy": strategy}}
        source = labs.request(*chosen, Orchestrator=orchestrator)
        inventory = dict(self.inventory)
        inventory["InstanceGroups"] = [
            {**group, "InstanceType": (types or {}).get(group["Name"], group["InstanceType"])}
            for group in self.inventory["InstanceGroups"]
            if group["Name"] in groups
        ]
        self.controller.put(f"{WORK}/request.json", source.text)
        self.controller.put(f"{WORK}/inventory.json", json.dumps(inventory))
        devices = {
            group: files[:gpus] for group, files in self.site["device_files"].items() if group in groups
        }
        self.controller.put(f"{WORK}/site.yaml", yaml.safe_dump({**self.site, "device_files": devices}))
        return [
            f"{WORK}/request.json",
            "--inventory",
            f"{WORK}/inventory.json",
            "--site",
            f"{WORK}/site.yaml",
        ]

    def config(self, verb: str, *words: str, timeout: float = 300) -> Completed:
        """Run ``hpadmin config VERB`` on the controller."""
        return self.controller.run(["hpadmin", "config", verb, *words], timeout=timeout)

    def apply(self, words: Sequence[str], *more: str) -> Completed:
        return self.config("apply", *words, "--yes", "-o", "json", *more)

    def acting(self, step: str, command: str, words: Sequence[str], *more: str) -> Completed:
        """Apply, with a shell command run just before `step`."""
        python = ["/opt/hpadmin/bin/python3", f"{WORK}/act_in_apply.py", step, command]
        return self.controller.run(
            [*python, "config", "apply", *words, "--yes", "-o", "json", *more], timeout=300
        )

    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.config("history", "-o", "json").check().stdout)[
            "revisions"
        ]
        return found

    def files(self) -> dict[str, str]:
        """Digest by name of every file in the configuration folder."""
        said = self.sh(f"cd {CONF}; find . -type f -name '*.*' ! -name '*.key' -exec sha256sum {{}} +")
        return {line.split()[1]: line.split()[0] for line in said.splitlines()}

    def runs_the_files(self) -> bool:
        return "HASH_VAL                = Match" in self.sh("scontrol show config")

    def settle(self) -> None:
        """Wait until every node that Slurm knows is idle or at work."""
        labs.wait_until(
            lambda: all(
                state in ("idle", "mixed", "allocated") for state in self.lab.slurm_states().values()
            ),
            120,
            "every node is idle or at work",
        )

    def unmount(self, path: str) -> None:
        """Take away what a test mounted over a path of the configuration, once nobody has a file of it open.

        Every command of Slurm's reads slurm.conf at its start, so that a mount is in use for moments.
        """

        def gone() -> bool:
            done = self.controller.run(["umount", path], timeout=120)
            if done.returncode != 0:
                holders = self.controller.run(["fuser", "-vm", path], timeout=120)
                raise OperationFailed(f"{done.stderr.strip()}\n{holders.stdout}{holders.stderr}")
            return True

        labs.wait_until(gone, 120, f"{path} is unmounted")

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[str]]:
        """Ask slurmctld five times a second meanwhile; afterwards the list holds the questions that failed."""
        self.sh(
            f"rm -f {WORK}/stop {WORK}/failed; "
            f"(while [ ! -e {WORK}/stop ]; do timeout 20 squeue -h >/dev/null 2>>{WORK}/failed "
            f"|| date >>{WORK}/failed; sleep 0.2; done; touch {WORK}/stopped) >/dev/null 2>&1 &"
        )
        failed: list[str] = []
        try:
            yield failed
        finally:
            self.sh(f"touch {WORK}/stop")
            labs.wait_until(lambda: self.sh(f"ls {WORK}").find("stopped") >= 0, 60, "the watch ends")
            failed += self.sh(f"cat {WORK}/failed 2>/dev/null || true; rm -f {WORK}/stopped").splitlines()


@contextlib.contextmanager
def configured() -> Iterator[Configured]:
    """Bring the lab up."""
    with labs.running_lab(source()) as lab:
        yield Configured(lab)


def source() -> Source:
    """The request that the lab is brought up with."""
    return labs.request(*GROUPS)
