"""Two racks of light nodes in one container, each behind a cable of its own; one can be lost in an instant.

Each rack is a network namespace with a slurmd for every node. Losing one cuts its cable and kills all that runs
there at once: from then on its addresses do not answer, as those of a real rack without power. The controller, the
agent and the other rack go on. Jobs are of one task; their batch script runs on its node, so what is lost with a
node is the job's batch host, and only a requeue can help.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker.errors

from hpadmin.lab import image
from hpadmin.lab.engine import ContainerRunner, connect
from hpadmin.slurm.command import Completed
from tests.slurm.resume.cluster import DAEMONS, HOME, STATE, USER, until
from tests.support.box import NO_NAME_SERVICE
from tests.support.slurmds import START_ALONE

PER_NODE = 5
"""Jobs that fit on a node."""
CONFIGURATION = f"""\
{DAEMONS}ClusterName=racks
SlurmctldHost=ctl(10.77.0.1)
SelectTypeParameters=CR_Core
SchedulerParameters=permit_job_expansion
MinJobAge=3600
MessageTimeout=60
NodeName=DEFAULT CPUs=PER_NODE RealMemory=1000 State=UNKNOWN
"""
START = f"""
set -e
useradd -m {USER}
mkdir -p /var/spool/slurmctld {STATE}
dd if=/dev/urandom of=/etc/slurm/slurm.key bs=1024 count=1 2>/dev/null
chmod 600 /etc/slurm/slurm.key
chown slurm /etc/slurm/slurm.key /var/spool/slurmctld
echo CgroupPlugin=disabled >/etc/slurm/cgroup.conf
echo 'optional spank_auto_resume.so' >/etc/slurm/plugstack.conf
ip address add 10.77.0.1/32 dev lo
for rack in 1 2; do
    ip netns add rack$rack
    ip link add cable$rack type veth peer name uplink netns rack$rack
    ip address add 10.77.$rack.254/24 dev cable$rack
    ip link set cable$rack up
    ip -n rack$rack address add 10.77.$rack.1/24 dev uplink
    ip -n rack$rack link set uplink up
    ip -n rack$rack link set lo up
    ip -n rack$rack route add default via 10.77.$rack.254
    # Without a cable there is no way to a rack, and nobody else answers for it.
    ip route add unreachable 10.77.$rack.0/24 metric 4096
done
sed -i '/ctl$/d' /etc/hosts 2>/dev/null || grep -v 'ctl$' /etc/hosts >/tmp/hosts && cat /tmp/hosts >/etc/hosts
echo '10.77.0.1 ctl' >>/etc/hosts
# slurmd looks up the name of whoever connects before it answers, and no resolver is reached from the racks: each
# message would take as long as the resolver's patience.
for rack in 1 2; do printf '10.77.%s.254 ctl\n10.77.%s.1 rack%s\n' $rack $rack $rack >>/etc/hosts; done
slurmctld
"""


AGENT = """
import logging, sys, time
from pathlib import Path
from hpadmin.errors import OperationFailed
from hpadmin.recovery.observe import Observation, jobs_by_node
from hpadmin.recovery.resume.part import over_commands
from hpadmin.slurm.command import Local
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.control import CommandControl

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
reader = CommandReader(Local())
part = over_commands(reader, CommandControl(Local()), Local(), Path(sys.argv[1]))
while True:
    try:
        jobs = reader.jobs()
        nodes = {node.name: node for node in reader.nodes()}
        begun = time.monotonic()
        part.cycle(Observation(time.time(), nodes, jobs, jobs_by_node(jobs)))
        logging.info("cycle of %.2f s", time.monotonic() - begun)
    except OperationFailed as error:
        logging.warning("%s", error)
    time.sleep(1)
"""


@dataclass(frozen=True)
class Racks:
    """The running cluster: nodes a1…aN in rack 1, b1…bM in rack 2."""

    root: ContainerRunner
    user: ContainerRunner
    name: str

    def sh(self, script: str, timeout: float = 120) -> Completed:
        """Run a shell script as root."""
        return self.root.run(["bash", "-c", script], timeout=timeout)

    def script(self, text: str, timeout: float = 120) -> Completed:
        """Run a shell script as the user, at home."""
        return self.user.run(["env", "-C", HOME, f"HOME={HOME}", "bash", "-c", text], timeout=timeout)

    def start_agent(self) -> None:
        """Start the agent's part that resumes jobs, with a look every second."""
        self.root.put("/opt/agent.py", AGENT)
        self.sh(
            f"setsid /opt/hpadmin/bin/python3 -I /opt/agent.py {STATE} >/var/log/agent.log 2>&1 </dev/null &"
        )

    def lose_rack(self, rack: int) -> None:
        """Cut its cable, and kill everything there."""
        self.sh(
            f"ip link set cable{rack} down; pids=$(ip netns pids rack{rack}); kill -9 $pids 2>/dev/null || true"
        ).check()

    def jobs(self) -> dict[int, dict[str, Any]]:
        """What ``hpadmin job list`` says, by job."""
        done = self.root.run(
            ["hpadmin", "job", "list", "--all", "--state-dir", STATE, "-o", "json"], timeout=120
        )
        return {job["job_id"]: job for job in json.loads(done.check().stdout)["jobs"]}

    def rpcs(self) -> dict[str, int]:
        """Count of each message type that slurmctld has taken since it was last asked to forget (sdiag)."""
        return read_rpcs(self.root.run(["sdiag"], timeout=240).check().stdout)


def read_rpcs(text: str) -> dict[str, int]:
    """Read the counts by message type out of ``sdiag``.

    >>> read_rpcs("Remote Procedure Call statistics by message type\\n\\tREQUEST_PING ( 1008) count:12 ave_time:1\\n")
    {'REQUEST_PING': 12}
    """
    part = text.partition("statistics by message type")[2].partition("statistics by user")[0]
    return {name: int(count) for name, count in re.findall(r"(\w+)\s+\(\s*\d+\) count:(\d+)", part)}


@contextlib.contextmanager
def racks(first: int, second: int) -> Iterator[Racks]:
    """Start a cluster with so many nodes in racks 1 and 2, without an agent; take it away at the end."""
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
        cap_add=["SYS_ADMIN", "NET_ADMIN"],  # network namespaces, and cables between them
        security_opt=["apparmor=unconfined"],
        sysctls={"net.ipv4.ip_forward": "1"},
        labels={"hpadmin.test": "box"},
    )
    try:
        running = Racks(ContainerRunner(client, name), ContainerRunner(client, name, USER), name)
        running.root.run(["mkdir", "-p", "/etc/slurm"], timeout=120).check()
        running.root.put("/etc/slurm/slurm.conf", _configuration(first, second))
        running.sh(START).check()
        for rack, letter, count in ((1, "a", first), (2, "b", second)):
            running.sh(
                f"{START_ALONE}for i in $(seq {count}); do"
                f" start_alone ip netns exec rack{rack} slurmd -N {letter}$i || exit; done",
                300,
            ).check()
        until(
            lambda: set(running.sh("sinfo -h -o %T").stdout.split()) == {"idle"},
            300,
            lambda: running.sh("sinfo; tail -n 20 /var/log/slurmctld.log /var/log/slurmd-a1.log").stdout,
        )
        yield running
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True)
        client.close()


def _configuration(first: int, second: int) -> str:
    lines = [CONFIGURATION.replace("PER_NODE", str(PER_NODE))]
    for rack, letter, count in ((1, "a", first), (2, "b", second)):
        ports = f"Port=[{rack}8001-{rack}{8000 + count}]"
        lines.append(
            f"NodeName={letter}[1-{count}] NodeAddr=10.77.{rack}.1 {ports} NodeHostname={letter}[1-{count}]\n"
        )
    lines.append(f"PartitionName=dev Nodes=a[1-{first}],b[1-{second}] Default=YES MaxTime=INFINITE\n")
    return "".join(lines)


SCRIPT = f"""#!/bin/bash
echo "start ${{SLURM_RESTART_COUNT-0}} $(date +%s.%N)" >>{HOME}/out/$SLURM_JOB_ID
until [ -e {HOME}/end ]; do sleep 5; done
"""
WATCHED = "<auto-resume/1 phase=watch steps=0>"
"""The record of a supervisor whose step runs; a job that carries it is looked after."""


def submit(cluster: Racks, count: int, other: str) -> list[int]:
    """Start `count` jobs that are looked after, none of them on the nodes `other`; return them in their order."""
    cluster.root.put(f"{HOME}/job.sh", SCRIPT, mode=0o755)
    cluster.script("mkdir -p out").check()
    cluster.sh(f"scontrol update nodename={other} state=drain reason=later").check()
    options = f"--parsable --auto-resume=1 -n1 -o /dev/null --extra='{WATCHED}'"
    loop = f"for i in $(seq {count}); do sbatch {options} job.sh; done"
    ids = [int(word) for word in cluster.script(loop, 600).check().stdout.split()]
    until(lambda: running(cluster) >= count, 600, lambda: cluster.sh("squeue | tail; sinfo").stdout)
    until(lambda: len(starts(cluster, ids)) == count, 900, lambda: cluster.sh("squeue | tail").stdout)
    cluster.sh(f"scontrol update nodename={other} state=resume").check()
    return ids


def running(cluster: Racks) -> int:
    return len(cluster.sh("squeue -h -t R -o %A").stdout.split())


def starts(cluster: Racks, ids: list[int]) -> dict[int, list[float]]:
    """When the script of each job started, each time, in seconds since the epoch; without those that never did."""
    found: dict[int, list[float]] = {}
    for line in cluster.sh(f"cd {HOME}/out && grep -H start *").stdout.splitlines():
        job, _, rest = line.partition(":")
        if int(job) in ids:
            found.setdefault(int(job), []).append(float(rest.split()[2]))
    return found


def latency(cluster: Racks) -> float:
    """How long a ``squeue`` takes now, in seconds, measured where it runs."""
    done = cluster.sh("s=$(date +%s%N); squeue -h -o %A >/dev/null; echo $(($(date +%s%N) - s))").check()
    return int(done.stdout) / 1e9
