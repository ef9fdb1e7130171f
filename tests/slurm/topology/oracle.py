"""Asks a real slurmctld where jobs go. Runs inside a container, with nothing but Python's standard library.

Nodes are ``State=CLOUD`` with programs that do nothing: no slurmd is needed, and a job that starts shows its
nodes at once. Reads one scenario a line (JSON) from standard input and writes it back with an ``outcome`` in
each submit step; a scenario is made by `tests.slurm.topology.scenarios`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path("/tmp/oracle")
CONF = Path(os.environ.get("ORACLE_CONF", ROOT / "etc"))
"""Folder of slurm.conf; another slurmctld than our own can be asked through the environment."""

SLURM_CONF = """\
ClusterName=oracle
SlurmctldHost=localhost
SlurmctldPort=6999
SlurmUser=root
AuthType=auth/slurm
CredType=cred/slurm
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmctldDebug=verbose
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=3600,batch_sched_delay=3600,sched_min_interval=2000000000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=INFINITE
ResumeTimeout=36000
SlurmctldParameters=idle_on_node_suspend,cloud_dns
MaxJobCount=20000
GresTypes=gpu
"""


def command(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands against the oracle's configuration."""
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "SLURM_CONF": str(CONF / "slurm.conf")},
    )


class NotUpError(RuntimeError):
    """slurmctld died, or did not answer within a minute; the message is its log."""


class Controller:
    """A slurmctld with the configuration of one scenario, fresh state, stopped on exit."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Controller:
        shutil.rmtree(ROOT, ignore_errors=True)
        for folder in (CONF, ROOT / "state", ROOT / "spool"):
            folder.mkdir(parents=True)
        key = CONF / "slurm.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        for name, text in self.files.items():
            content = SLURM_CONF.format(root=ROOT) + text if name == "slurm.conf" else text
            (CONF / name).write_text(content)
        self.process = subprocess.Popen(
            ["slurmctld", "-D", "-c", "-f", str(CONF / "slurm.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 240
        while "is UP" not in command("scontrol", "ping").stdout:
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = self.log()
                self.__exit__()
                raise NotUpError(log)
            time.sleep(0.02)
        return self

    def log(self) -> str:
        """What slurmctld has logged so far."""
        path = ROOT / "slurmctld.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __exit__(self, *unused: object) -> None:
        """Kill slurmctld: nothing of its state is kept."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def submit(step: dict[str, Any]) -> dict[str, Any]:
    """Ask for one allocation and tell what became of it; one that pends is cancelled at once.

    salloc and not sbatch: slurmctld decides within the request, so that nothing has to be waited for. salloc
    itself would wait for the nodes to boot, which they never do."""
    with subprocess.Popen(
        ["salloc", "--no-shell", "--time=1000", *step["args"]],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "SLURM_CONF": str(CONF / "slurm.conf")},
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line.strip())
            if " job allocation " in line:
                process.kill()
                break
    if " job allocation " not in said[-1]:
        refusals = [line for line in said if "allocate failed: " in line]
        return {"result": "rejected", "says": (refusals or said)[-1].split("failed: ")[-1]}
    job = said[-1].split()[-1]
    nodes, reason = command("squeue", "-h", "-j", job, "-o", "%N|%r").stdout.strip().split("|")
    if "Granted" in said[-1]:
        return {"result": "starts", "nodes": nodes}
    command("scancel", job)
    while command("squeue", "-h", "-j", job, "-t", "PENDING", "-o", "%i").stdout.strip():
        time.sleep(0.005)
    return {"result": "pending", "says": reason}


def set_state(step: dict[str, Any]) -> None:
    """Drain idle nodes or resume drained ones, and note which they were.

    A job on a node that has not booted would be lost when it is drained, so busy nodes are left alone.
    """
    action = "drain" if step["op"] == "drain" else "resume"
    wanted = "idle" if action == "drain" else "drain"
    states = command("sinfo", "-h", "-N", "-p", "all", "-n", ",".join(step["nodes"]), "-o", "%N %t").stdout
    step["nodes"] = [line.split()[0] for line in states.splitlines() if line.split()[1].startswith(wanted)]
    if step["nodes"]:
        reason = ["Reason=oracle"] if action == "drain" else []
        done = command(
            "scontrol", "update", f"NodeName={','.join(step['nodes'])}", f"State={action}", *reason
        )
        if done.returncode:
            raise RuntimeError(done.stderr)


def play(scenario: dict[str, Any]) -> dict[str, Any]:
    """Run all steps of one scenario on its own slurmctld."""
    with Controller(scenario["files"]):
        for step in scenario["steps"]:
            if step["op"] == "submit":
                step["outcome"] = submit(step)
            else:
                set_state(step)
    return scenario


def complaints(log: str) -> list[str]:
    """What slurmctld warned of, what it died of, and errors about topology, without time stamps.

    Other errors are those of a first start: there is no state to restore yet.
    """
    lines = [line.split("] ", 1)[-1] for line in log.splitlines()]
    return [
        line
        for line in lines
        if line.startswith(("warning:", "fatal:"))
        or (line.startswith("error:") and re.search("topolog|block|switch|hostlist", line, re.IGNORECASE))
    ]


def load(files: dict[str, str]) -> dict[str, Any]:
    """Start slurmctld on these files and tell whether it came up, what it complained of and what it knows."""
    try:
        with Controller(files) as controller:
            topology = command("scontrol", "show", "topology").stdout
            return {"up": True, "complaints": complaints(controller.log()), "topology": topology}
    except NotUpError as failure:
        return {"up": False, "complaints": complaints(str(failure)), "topology": ""}


def sbatch(files: dict[str, str], jobs: list[list[str]]) -> dict[str, Any]:
    """Submit jobs with sbatch on these files: whether each was taken, and what sbatch said."""
    with Controller(files) as controller:
        answers = []
        for args in jobs:
            done = command("sbatch", "--wrap=true", "--output=/dev/null", *args)
            answers.append({"taken": done.returncode == 0, "says": done.stderr.strip()})
        return {"answers": answers, "log": controller.log()}


def ask_only(files: dict[str, str], drained: list[str], jobs: list[list[str]], rounds: int) -> dict[str, Any]:
    """Time ``sbatch --test-only``: seconds a question for the user, and in slurmctld itself (sdiag)."""
    with Controller(files) as controller:
        for start in range(0, len(drained), 500):
            set_state({"op": "drain", "nodes": drained[start : start + 500]})
        said = []
        start_time = time.perf_counter()
        for number in range(rounds * len(jobs)):
            done = command("sbatch", "--test-only", "--wrap=true", *jobs[number % len(jobs)])
            said.append(done.stderr.strip())
        seconds = (time.perf_counter() - start_time) / (rounds * len(jobs))
        inside = re.search(r"REQUEST_JOB_WILL_RUN .*?ave_time:(\d+)", command("sdiag").stdout)
        return {
            "seconds": seconds,
            "inside": int(inside[1]) / 1e6 if inside else None,
            "said": said[: len(jobs)],
            "log": controller.log()[-2000:],
        }


def answer(wanted: dict[str, Any]) -> dict[str, Any]:
    """Do what one line of standard input asks for."""
    if "load" in wanted:
        return load(wanted["load"])
    if "sbatch" in wanted:
        return sbatch(wanted["files"], wanted["sbatch"])
    if "ask" in wanted:
        return ask_only(wanted["files"], wanted["drained"], wanted["ask"], wanted["rounds"])
    return play(wanted)


def main() -> None:
    """Answer every line of standard input: files to load, jobs to submit, or a scenario to play."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line)), separators=(",", ":")) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
