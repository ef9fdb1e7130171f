"""The training example on a lab: submitted, broken in the middle, and what became of it, read off afterwards."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hpadmin.lab.cluster import Lab
from hpadmin.recovery.resume.store import Incident, Store, path_in
from hpadmin.request import Source
from hpadmin.slurm.command import Runner
from hpadmin.slurm.hostlist import expand
from tests.support import labs
from tests.support.session import Session

USER = "ann"
HOME = f"/home/{USER}"
BUNDLE = {"shared_users.txt": f"{USER},2001\n"}
LIFECYCLE = "profile: container\nhealth_check: true\nslurm:\n  health_check_interval: 10\n"
SETTINGS = """
interval = 1
[policy]
confirm_after = 2
unreachable_after = 6
reboot_within = 60
replace_within = 240
verify_within = 120
storm_nodes = 20
max_in_flight = 8
max_failures = 20
max_replacements_per_hour = 100
"""
_FOLDER = Path(__file__).resolve().parents[2] / "examples" / "training"
_FILE_SYSTEM = "fs-0123456789abcdef0.fsx.us-west-2.amazonaws.com"
_AS_USER = ("runuser", "-u", USER, "--", "env", "-C", HOME, f"HOME={HOME}")
_ENDS = ("COMPLETED", "FAILED", "NODE_FAIL", "CANCELLED", "TIMEOUT")
_START = re.compile(r"^(\S+) start (\d+): (\d+) ranks, going on at step (\d+)$", re.M)
_STEP = re.compile(r"^\S+ step (\d+) of", re.M)


def with_shared_home(source: Source) -> Source:
    """Let every node of a request mount one file system on /home: what is saved there outlives any of them."""
    body = json.loads(source.text)
    for group in body["InstanceGroups"]:
        group["InstanceStorageConfigs"] = [{"FsxOpenZfsConfig": {"DnsName": _FILE_SYSTEM}}]
    body["VpcConfig"] = {
        "SecurityGroupIds": ["sg-0123456789abcdef0"],
        "Subnets": ["subnet-0123456789abcdef0"],
    }
    return Source(json.dumps(body), source.origin)


@dataclass(frozen=True, slots=True)
class Start:
    """The leader's line when all ranks were there."""

    at: float
    count: int
    ranks: int
    step: int


@dataclass(frozen=True)
class Training:
    """One job that trains."""

    lab: Lab
    root: Session
    """Commands on the controller. This job is looked at every second: a session costs next to nothing."""
    job: int
    steps: int

    @staticmethod
    def submit(lab: Lab, *options: str, steps: int = 80, pause: float = 0.4, resume: bool = True) -> Training:
        """Submit ``train.sbatch`` as the user, from the shared home; without `resume` as stock Slurm has it."""
        script = (_FOLDER / "train.sbatch").read_text()
        if not resume:
            script = "\n".join(line for line in script.splitlines() if "--auto-resume" not in line) + "\n"
        root = Session(lab.controller().container)
        for name, text in (("train.py", (_FOLDER / "train.py").read_text()), ("train.sbatch", script)):
            # Others are submitted at the same time, and would read half a file.
            fresh = f"{HOME}/.{uuid.uuid4().hex}"
            root.run(["tee", fresh], timeout=60, stdin=text).check()
            root.run(["mv", fresh, f"{HOME}/{name}"], timeout=60).check()
        words = [
            *_AS_USER,
            f"STEPS={steps}",
            f"PAUSE={pause}",
            "sbatch",
            "--parsable",
            *options,
            "train.sbatch",
        ]
        return Training(lab, root, int(root.run(words, timeout=120).check().stdout), steps)

    def close(self) -> None:
        """Let the session go."""
        self.root.close()

    def output(self) -> str:
        """What the job printed so far; empty before it did."""
        return self.root.run(["cat", f"{HOME}/train-{self.job}.out"], timeout=60).stdout

    def field(self, name: str) -> str:
        """One field of ``scontrol show job``."""
        said = self.root.run(["scontrol", "-o", "show", "job", str(self.job)], timeout=60).stdout
        return next((part.partition("=")[2] for part in said.split() if part.startswith(f"{name}=")), "")

    def starts(self, output: str) -> list[Start]:
        return [
            Start(datetime.fromisoformat(at).timestamp(), int(count), int(ranks), int(step))
            for at, count, ranks, step in _START.findall(output)
        ]

    def wait_for_step(self, step: int, timeout: float = 180) -> None:
        """Wait until the training is that far."""

        def there() -> bool:
            done = [int(number) for number in _STEP.findall(self.output())]
            return bool(done) and done[-1] >= step

        labs.wait_until(there, timeout, f"job {self.job} at step {step}", pause=0.5)

    def wait_for_end(self, timeout: float) -> str:
        """Wait until the job is over; return how. One that has done all its work may be completing for long."""

        def over() -> str | None:
            state = self.field("JobState")
            done = state == "COMPLETING" and f"done: {self.steps} steps" in self.output()
            return state if done or state in _ENDS else None

        return labs.wait_until(over, timeout, f"the end of job {self.job}", pause=1)

    @property
    def pattern(self) -> str:
        """For pgrep -f: the processes of this training, and not the command that looks for them."""
        return rf"[r]un-{self.job}\b"

    def nodes(self) -> list[str]:
        return expand(self.field("NodeList"))

    def step_nodes(self) -> list[str]:
        """The nodes that the training runs on: those of the job without its spares."""
        words = ["squeue", "-h", "-s", "-j", str(self.job), "-o", "%i %N"]
        said = self.root.run(words, timeout=60).stdout
        for line in said.splitlines():
            step, _, nodes = line.partition(" ")
            if step.rpartition(".")[2].isdigit():
                return expand(nodes.strip())
        return []

    def followers(self) -> list[str]:
        """The nodes of the step that the batch script does not run on."""
        host = self.batch_host()
        return [node for node in self.step_nodes() if node != host]

    def batch_host(self) -> str:
        return self.field("BatchHost")

    def result(self) -> str:
        """What identifies the final weights, once every step was done exactly once; else what is wrong."""
        words = [*_AS_USER, "python3", "train.py", "--folder", f"run-{self.job}"]
        done = self.root.run([*words, "--steps", str(self.steps), "--verify"], timeout=60)
        return (done.stdout or done.stderr).strip()

    def helpers(self) -> str:
        """Allocations made for this job and left behind."""
        return labs.login(
            self.lab, "squeue", "-h", "-n", f"auto-resume-{self.job}", "-o", "%i %T"
        ).stdout.strip()


@dataclass
class Agent:
    """The real command, watching a lab from outside."""

    lab: Lab
    folder: Path

    @contextlib.contextmanager
    def running(self, settings: str = SETTINGS) -> Iterator[Agent]:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "agent.toml").write_text(settings)
        words = ["--lab", self.lab.name, "--state-dir", str(self.folder)]
        words += ["--config", str(self.folder / "agent.toml")]
        program = [str(Path(sys.executable).with_name("hpadmin")), "agent", "run", *words]
        with (self.folder / "agent.log").open("ab") as log:
            agent = subprocess.Popen(program, stdout=log, stderr=log)
        try:
            yield self
            assert agent.poll() is None, f"the agent ended by itself:\n{self.log()}"
        finally:
            agent.terminate()
            agent.wait(60)
            sys.stderr.write(self.log())  # shown where the test fails

    def incidents(self, job: int) -> tuple[Incident, ...]:
        """What the agent wrote down about a job."""
        store = Store(path_in(self.folder))
        try:
            record = store.job(job)
            return () if record is None else store.incidents(record)
        finally:
            store.close()

    def verdicts(self, job: int) -> list[float]:
        """When it decided that a step of this job is to be started again or given up (epoch seconds)."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [
            float(line["time"])
            for line in lines
            if line["message"] == "answered a failed step" and line["job"] == job and line["action"] != "NONE"
        ]

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()


def idle_nodes(lab: Lab, partition: str, runner: Runner | None = None) -> list[str]:
    """The nodes of a partition that nothing runs on."""
    runner = runner or lab.runner(lab.controller().instance.name)
    words = ["sinfo", "-h", "-p", partition, "-t", "idle", "-N", "-o", "%N"]
    return runner.run(words, timeout=60).stdout.split()


def wait_for_idle(lab: Lab, partition: str, count: int, *, patience: float) -> None:
    """Wait until so many nodes of a partition are idle; one that the agent has given up is mended by hand."""
    deadline = time.monotonic() + patience
    with contextlib.closing(Session(lab.controller().container)) as runner:
        while len(idle := idle_nodes(lab, partition, runner)) < count:
            if time.monotonic() > deadline:
                _mend(lab, partition, idle)
                deadline = time.monotonic() + patience
            time.sleep(1)


def _mend(lab: Lab, partition: str, idle: Sequence[str]) -> None:
    for node in lab.nodes():
        host = node.instance.hostname
        if node.instance.group == partition and host not in idle:
            sys.stderr.write(f"mending {host}, which is {node.running}\n")
            lab.fault(host, "heal")
            lab.reboot(host)
            labs.login(lab, "scontrol", "update", f"nodename={host}", "state=resume", check=False)
