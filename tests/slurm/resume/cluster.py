"""A real small cluster in one container, with the plugin and the agent: n1…n6 without GRES, g1…g5 with 4 GPUs.

Its nodes share one host, so killing one leaves a host that answers; whole hosts die in tests/lab.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import docker.errors

from hpadmin.lab import image
from hpadmin.lab.engine import ContainerRunner, connect
from hpadmin.slurm.command import Completed
from hpadmin.slurm.hostlist import expand
from tests.support.box import NO_NAME_SERVICE
from tests.support.slurmds import START_ALONE

USER = "alice"
HOME = "/home/alice"
STATE = "/var/lib/hpadmin"
JOB_STATE = "/var/spool/slurmctld/job_state"
MODULES = "/opt/points"
"""Where the tests' own modules for inside the container lie."""
DAEMONS = """\
AuthType=auth/slurm
AuthInfo=ttl=600
CredType=cred/slurm
SlurmUser=slurm
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd-%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd-%n.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
SlurmdTimeout=300
KillWait=5
PlugStackConfig=/etc/slurm/plugstack.conf
SlurmdParameters=config_overrides
MailProg=/bin/true
"""
"""What slurm.conf says of the daemons of one container, whatever the cluster."""
CONFIGURATION = f"""\
{DAEMONS}ClusterName=resume
SlurmctldHost=ctl
SchedulerParameters=permit_job_expansion,sched_interval=1
MinJobAge=300
GresTypes=gpu
NodeName=n[1-6] Port=[17001-17006] CPUs=2 RealMemory=1000 State=UNKNOWN
NodeName=g[1-5] Port=[18001-18005] CPUs=2 RealMemory=1000 Gres=gpu:4 State=UNKNOWN
PartitionName=dev Nodes=n[1-6] Default=YES MaxTime=INFINITE OverSubscribe=EXCLUSIVE
PartitionName=gpu Nodes=g[1-5] MaxTime=INFINITE OverSubscribe=EXCLUSIVE
"""
NODES = [*(f"n{i}" for i in range(1, 7)), *(f"g{i}" for i in range(1, 6))]
START = f"""{START_ALONE}
set -e
useradd -m {USER}
mkdir -p /etc/slurm /var/spool/slurmctld {STATE} {MODULES}/tests/slurm/resume
dd if=/dev/urandom of=/etc/slurm/slurm.key bs=1024 count=1 2>/dev/null
chmod 600 /etc/slurm/slurm.key
chown slurm /etc/slurm/slurm.key /var/spool/slurmctld
for i in 0 1 2 3; do mknod /dev/fakegpu$i c 1 3; done
for node in {" ".join(NODES)}; do echo "127.0.0.1 $node" >>/etc/hosts; done
echo CgroupPlugin=disabled >/etc/slurm/cgroup.conf
echo 'NodeName=g[1-5] Name=gpu File=/dev/fakegpu[0-3]' >/etc/slurm/gres.conf
echo 'optional spank_auto_resume.so' >/etc/slurm/plugstack.conf
slurmctld
for node in {" ".join(NODES)}; do start_alone slurmd -N $node; done
"""
CONTAINED = {
    "ProctrackType=proctrack/linuxproc": "ProctrackType=proctrack/cgroup",
    "TaskPlugin=task/none": "TaskPlugin=task/cgroup,task/affinity\nPrologFlags=Contain",
}
CGROUPS = """
printf 'CgroupPlugin=autodetect\\nIgnoreSystemd=yes\\nConstrainCores=yes\\n' >/etc/slurm/cgroup.conf
# What the engine mounts of cgroups is this container's own, and read-only until it is asked.
mount -t cgroup,cgroup2 | while read -r _ _ folder _; do mount -o remount,rw,bind "$folder"; done
"""
_KILL_NODE = r"""
kill -9 $(cat /run/slurmd-$1.pid) || true
"""
_KILL_STEPDS = r"""
for pid in $(pgrep -f "^slurmstepd: \[${3:-.*}.*\]"); do
    if ls -l /proc/$pid/cwd /proc/$pid/fd 2>/dev/null | grep -q "/slurmd-$1[./]"; then
        if [ "$2" = tree ]; then
            for task in $(pgrep -P $pid); do kill -9 $task -$task; done 2>/dev/null  # each leads a process group
        fi
        kill -9 $pid
    fi
done
true
"""
# A node that did not answer once, because it was killed or the machine is busy, is asked again by slurmctld after
# 100 s only (a third of SlurmdTimeout); a slurmd that starts registers at once.
_HEAL = rf"""{START_ALONE}
state() {{ sinfo -h -N -n $1 -o %T | head -n 1; }}
for node; do
    if ! kill -0 $(cat /run/slurmd-$node.pid) 2>/dev/null; then
        start_alone slurmd -N $node
    elif [[ $(state $node) == *\* ]]; then
        kill -9 $(cat /run/slurmd-$node.pid)  # a slurmd that is told to end may hang
    fi
    [ $(state $node) = idle ] || {{ echo $node is sick; scontrol update nodename=$node state=resume 2>/dev/null; }}
done
true
"""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cluster:
    """The running cluster."""

    root: ContainerRunner
    user: ContainerRunner

    def sh(self, script: str, *arguments: str, timeout: float = 240) -> Completed:
        """Run a shell script as root."""
        return self.root.run(["bash", "-c", script, "sh", *arguments], timeout=timeout)

    def as_user(self, *argv: str, timeout: float = 240) -> Completed:
        """Run a command as the user, at home."""
        return self.user.run(["env", "-C", HOME, f"HOME={HOME}", *argv], timeout=timeout)

    def script(self, text: str, timeout: float = 240) -> Completed:
        """Run a shell script as the user, at home."""
        return self.as_user("bash", "-c", text, timeout=timeout)

    def submit(self, name: str, body: str, *options: str) -> int:
        """Submit ``NAME.sh``, whose output is ``NAME.out``; return the job."""
        self.root.put(f"{HOME}/{name}.sh", f"#!/bin/bash\n{body}\n", mode=0o755)
        self.sh(f"rm -f {HOME}/{name}.out")
        done = self.as_user(
            "sbatch", "--parsable", "-o", f"{name}.out", "--open-mode=append", *options, f"{name}.sh"
        )
        return int(done.check().stdout)

    def output(self, name: str) -> str:
        return self.sh(f"cat {HOME}/{name}.out 2>/dev/null").stdout

    def state(self, job: int) -> str:
        return self.root.run(
            ["squeue", "-h", "-a", "-j", str(job), "--states=all", "-o", "%T"], timeout=30
        ).stdout.strip()

    def processes(self, job: int, words: str = "") -> list[int]:
        """Return the user's processes of a job whose command line holds `words`, a parent before its children."""
        script = (
            f'for pid in $(pgrep -u {USER} -f -- "$2"); do'
            ' grep -qz "^SLURM_JOB_ID=$1$" /proc/$pid/environ 2>/dev/null && echo $pid; done; true'
        )
        return sorted(int(pid) for pid in self.sh(script, str(job), words).check().stdout.split())

    def queued(self, job: int) -> tuple[str, int]:
        """Return why a job waits, and its priority."""
        done = self.root.run(["squeue", "-h", "-a", "-j", str(job), "-o", "%r %Q"], timeout=120)
        reason, priority = done.check().stdout.split()
        return reason, int(priority)

    def nodes_of(self, job: int) -> list[str]:
        done = self.root.run(["squeue", "-h", "-a", "-j", str(job), "-o", "%N"], timeout=120)
        return expand(done.stdout.strip())

    def wait_output(self, name: str, words: str, seconds: float = 240, times: int = 1) -> str:
        """Wait until the output holds `words` so many times, and return it."""

        def found() -> str | None:
            text = self.output(name)
            return text if text.count(words) >= times else None

        return until(found, seconds, lambda: f"{words!r} in:\n{self.output(name)}\n{self.agent_log()}")

    def wait_state(self, job: int, *states: str, seconds: float = 240) -> str:
        def found() -> str | None:
            state = self.state(job)
            return state if state in states else None

        return until(found, seconds, lambda: f"{states} of job {job}, which is {self.state(job)}")

    def kill_node(self, node: str) -> None:
        """End all that Slurm runs as `node`: slurmd, slurmstepds and what they started."""
        self.sh(_KILL_NODE + _KILL_STEPDS, node, "tree").check()

    def reboot_node(self, node: str) -> None:
        """Let `node` come back at once, as one whose host was started again: nothing is left of what ran there."""
        self.sh(
            START_ALONE
            + _KILL_NODE
            + _KILL_STEPDS
            + "rm -f /var/spool/slurmd-$1/$1_*; start_alone slurmd -b -N $1",
            node,
            "tree",
        ).check()

    @contextlib.contextmanager
    def configured(self, more: str) -> Iterator[None]:
        """Run Slurm with settings more than it has."""
        self._configure(CONFIGURATION + more)
        try:
            yield
        finally:
            self._configure(CONFIGURATION)

    def _configure(self, text: str) -> None:
        self.root.put("/etc/slurm/slurm.conf", text, mode=0o644)
        self.sh("scontrol reconfigure").check()

    def kill_slurmd(self, node: str) -> None:
        self.sh(_KILL_NODE, node).check()

    def kill_stepds(self, node: str, job: int | None = None) -> None:
        """Kill the slurmstepds of `node` alone; what they started stays. Of `job`, only those of its steps."""
        self.sh(_KILL_STEPDS, node, "alone", "" if job is None else f"{job}[.][0-9]").check()

    def wait_written(self, words: str) -> None:
        """Wait until slurmctld has written down jobs of which one has `words`: it does so every five seconds."""
        until(
            lambda: self.sh(f'grep -qaF -- "$1" {JOB_STATE}', words).returncode == 0,
            240,
            lambda: f"{words!r} in {JOB_STATE}",
        )

    def kill_slurmctld(self, meanwhile: str = "") -> None:
        """Kill it, run a shell script as root, and start it again."""
        self.sh(
            "kill -9 $(cat /run/slurmctld.pid); while kill -0 $(cat /run/slurmctld.pid) 2>/dev/null; do :; done"
        )
        if meanwhile:
            self.sh(meanwhile).check()
        self.sh("slurmctld").check()
        until(lambda: self.sh("scontrol ping").returncode == 0, 240, lambda: "slurmctld")

    def heal(self) -> None:
        """Every job away, every node in service."""
        self.root.run(["scancel", "-u", USER], timeout=120)

        def healthy() -> bool:
            return "sick" not in self.sh(_HEAL, *NODES, timeout=120).check().stdout

        until(healthy, 240, lambda: self.root.run(["sinfo", "-N", "-l"], timeout=120).stdout)

    def start_agent(self) -> None:
        for module in ("points", "agent_main", "supervisor_main"):
            source = (Path(__file__).parent / f"{module}.py").read_text()
            self.root.put(f"{MODULES}/tests/slurm/resume/{module}.py", source, mode=0o644)
        self.sh(
            f"cd /; PYTHONPATH={MODULES} setsid /opt/hpadmin/bin/python3 -m tests.slurm.resume.agent_main {STATE}"
            " >>/var/log/agent.log 2>&1 </dev/null & echo $! >/run/agent.pid"
        ).check()

    @contextlib.contextmanager
    def with_points(self) -> Iterator[None]:
        """Let supervisors stop at the points of `points`; the agent does so always."""
        script = f"shift 3; PYTHONPATH={MODULES} exec /opt/hpadmin/bin/python3 -m tests.slurm.resume.supervisor_main"
        self.root.put(f"{MODULES}/python3", f'#!/bin/sh\n{script} "$@"\n', mode=0o755)
        self.sh("mkdir -p /run/points; chmod 777 /run/points").check()
        self._plugin(f" python={MODULES}/python3")
        try:
            yield
        finally:
            self.sh("rm -f /run/points/*")
            self._plugin("")

    def _plugin(self, arguments: str) -> None:
        self.root.put("/etc/slurm/plugstack.conf", f"optional spank_auto_resume.so{arguments}\n", mode=0o644)

    def stop_agent(self) -> None:
        self.sh("kill -9 $(cat /run/agent.pid)")

    def agent_log(self) -> str:
        return self.sh("tail -n 20 /var/log/agent.log").stdout

    def story(self, job: int) -> dict[str, Any]:
        """What ``hpadmin job show`` says."""
        done = self.root.run(
            ["hpadmin", "job", "show", str(job), "--state-dir", STATE, "-o", "json"], timeout=60
        )
        shown: dict[str, Any] = json.loads(done.check().stdout)
        return shown

    def jobs(self) -> dict[int, dict[str, Any]]:
        """What ``hpadmin job list`` says, by job."""
        done = self.root.run(
            ["hpadmin", "job", "list", "--all", "--state-dir", STATE, "-o", "json"], timeout=60
        )
        return {job["job_id"]: job for job in json.loads(done.check().stdout)["jobs"]}


def until(condition: Callable[[], Result | None], seconds: float, what: Callable[[], str]) -> Result:
    """Wait until `condition` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what()}")
        time.sleep(0.25)
    return result


@contextlib.contextmanager
def cluster(
    settings: str = "", files: Mapping[str, str] | None = None, *, contained: bool = False
) -> Iterator[Cluster]:
    """Start one, with its agent, and take it away at the end.

    `settings` and `files` come to its configuration; `contained`: its jobs are kept in cgroups.
    """
    client = connect()
    tag = image.ensure_node(client, "24.11")
    name = f"hpadmin-test-{uuid.uuid4().hex[:10]}"
    container = client.containers.run(
        tag,
        ["infinity"],
        entrypoint="sleep",
        name=name,
        hostname="ctl",
        dns=list(NO_NAME_SERVICE),
        detach=True,
        init=True,
        # SYS_PTRACE to see which node a slurmstepd belongs to.
        cap_add=["MKNOD", "SYS_PTRACE", *(["SYS_ADMIN", "SYS_NICE"] if contained else [])],
        # AppArmor forbids mounts to containers, whatever their capabilities; without any it stays as it is.
        security_opt=["apparmor=unconfined"] if contained else [],
        labels={"hpadmin.test": "box"},
    )
    try:
        running = Cluster(ContainerRunner(client, name), ContainerRunner(client, name, USER))
        configuration, start = CONFIGURATION + settings, START
        if contained:
            for plain, kept in CONTAINED.items():
                configuration = configuration.replace(plain, kept)
            start = start.replace("\nslurmctld\n", CGROUPS + "slurmctld\n")
        for file, text in {"slurm.conf": configuration, **(files or {})}.items():
            running.root.put(f"/etc/slurm/{file}", text, mode=0o644)
        running.sh(start, timeout=120).check()
        until(
            lambda: set(running.sh("sinfo -h -o %T").stdout.split()) == {"idle"},
            240,
            lambda: running.sh("sinfo; tail -n 20 /var/log/slurmctld.log").stdout,
        )
        running.start_agent()
        yield running
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True)
        client.close()
