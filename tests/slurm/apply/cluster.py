"""A small real cluster in one container: a daemonised slurmctld and a slurmd for each of several nodes.

The configuration folder lies on the host under the same path as in the container: what is under test runs on the
host, as a process that can be killed, and Slurm's commands run inside.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import docker.errors

from hpadmin.configure import folder
from hpadmin.configure import plan as planning
from hpadmin.configure.apply import Order, apply
from hpadmin.configure.history import History, Revision
from hpadmin.configure.live import Live, WithConf, look
from hpadmin.errors import OperationFailed
from hpadmin.lab import image
from hpadmin.lab.engine import ContainerRunner, connect
from hpadmin.model import Strategy
from tests.support.box import NO_NAME_SERVICE
from tests.support.session import Session

NODES = ("n1", "n2", "n3", "n4", "n5", "n6")
GPUS = 4

_HEAD = """\
ClusterName=apply
SlurmctldHost=ctl
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd-%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd-%n.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
MailProg=/bin/true
GresTypes=gpu
SlurmdTimeout=3600
MessageTimeout=5
TCPTimeout=1
"""


def files(
    nodes: Mapping[str, str] | None = None,
    *,
    partitions: Mapping[str, str] | None = None,
    extra: str = "",
    gres: Mapping[str, int] | None = None,
) -> dict[str, bytes]:
    """A configuration: node name to its attributes, partition to its nodes, GPUs by node."""
    nodes = nodes if nodes is not None else dict.fromkeys(NODES[:4], "CPUs=4 RealMemory=100")
    partitions = partitions if partitions is not None else {"dev": "ALL Default=YES"}
    gres = gres or {}
    lines = [_HEAD + extra]
    for name, attributes in nodes.items():
        gpus = f" Gres=gpu:{gres[name]}" if name in gres else ""
        lines.append(f"NodeName={name} Port={17000 + int(name[1:])} {attributes}{gpus}\n")
    lines += [f"PartitionName={name} Nodes={members}\n" for name, members in partitions.items()]
    devices = [
        f"NodeName={name} Name=gpu File=/dev/fakegpu[0-{count - 1}]\n"
        for name, count in gres.items()
        if count
    ]
    return {
        "slurm.conf": "".join(lines).encode(),
        "gres.conf": "".join(devices).encode(),
        "cgroup.conf": b"CgroupPlugin=disabled\n",
    }


class Cluster:
    """The container, its configuration folder, and a history of what was applied to it."""

    def __init__(self, session: Session, root: Path) -> None:
        self.inside = session
        self.conf_dir = root / "etc"
        self.state_dir = root / "state"
        self.runner = WithConf(session, self.conf_dir)

    @property
    def history(self) -> History:
        return History(self.state_dir, self.conf_dir)

    def sh(self, script: str, *, timeout: float = 240) -> str:
        """Run a shell script inside, with the configuration of this cluster; return what it printed."""
        return self.runner.run(["sh", "-ec", script], timeout=timeout).check().stdout

    def start(self, content: Mapping[str, bytes], nodes: tuple[str, ...] = NODES[:4]) -> None:
        """Start all daemons on a fresh state, with an empty history."""
        self.stop()
        for path in (self.conf_dir, self.state_dir):
            shutil.rmtree(path, ignore_errors=True)
        self.conf_dir.mkdir()
        for name, data in content.items():
            (self.conf_dir / name).write_bytes(data)
        self.sh("rm -rf /var/spool/slurm* /var/log/slurm*; mkdir -p /var/spool/slurmctld; slurmctld")
        self.start_nodes(*nodes)
        self.await_idle(nodes)

    def start_nodes(self, *nodes: str) -> None:
        for name in nodes:
            self.sh(f"slurmd -N {name} -f {self.conf_dir}/slurm.conf")

    def stop_slurmctld(self) -> None:
        """End slurmctld in good order: what it knows of jobs is saved."""
        self.sh("pkill -TERM slurmctld")
        wait(lambda: not self.inside.run(["pgrep", "^slurmctld"], timeout=120).stdout, "slurmctld is gone")

    def stop(self) -> None:
        """End every daemon and job process."""
        self.inside.run(
            [
                "sh",
                "-c",
                "pkill -CONT slurm; pkill -KILL slurm; pkill -KILL -fx 'sleep 3600'; rm -f /run/slurm*.pid; true",
            ],
            timeout=120,
        )
        wait(lambda: not self.inside.run(["pgrep", "^slurm"], timeout=120).stdout, "all daemons are gone")

    def look(self) -> Live:
        return look(self.runner)

    def states(self) -> dict[str, str]:
        return {name: str(node.state) for name, node in self.look().nodes.items()}

    def await_idle(self, nodes: tuple[str, ...]) -> None:
        wait(lambda: all(self.states().get(name) == "IDLE" for name in nodes), f"{nodes} are idle")

    def submit(self, *options: str, run: bool = True) -> int:
        """Submit a job that sleeps; wait until it runs, unless it is to wait."""
        job = int(self.sh(f"cd /tmp; sbatch --parsable {' '.join(options)} --wrap 'sleep 3600'"))
        if run:
            wait(lambda: self.job_state(job) == "RUNNING", f"job {job} runs")
        return job

    def job_state(self, job: int) -> str:
        return self.sh(f"squeue -h -t all -j {job} -o %T").strip()

    def cancel_all(self) -> None:
        self.sh("scancel -u root")
        wait(lambda: not self.sh("squeue -h").strip(), "the queue is empty")

    def plan(
        self, content: Mapping[str, bytes], strategy: Strategy = Strategy.OVERWRITE, *, blind: bool = False
    ) -> planning.Plan:
        base = self.history.base()
        return planning.make(
            strategy,
            last=base,
            disk=folder.read(self.conf_dir, {*content, *(base or ())}),
            wanted=content,
            live=None if blind else self.look(),
        )

    def apply(
        self, content: Mapping[str, bytes], strategy: Strategy = Strategy.OVERWRITE, **order: object
    ) -> Revision | None:
        defaults: dict[str, object] = {"timeout": 20, "sandbox": False}
        return apply(
            self.history,
            self.plan(content, strategy),
            self.inside,
            Order(**{**defaults, **order}),  # type: ignore[arg-type]
        )

    def on_disk(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.conf_dir.iterdir()}

    def answers(self) -> bool:
        return self.runner.run(["scontrol", "ping"], timeout=15).returncode == 0


def wait(condition: Callable[[], bool], what: str, *, seconds: float = 240) -> None:
    """Wait until `condition` holds; a Slurm that does not answer yet is waited for too."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OperationFailed):
            if condition():
                return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def cluster(release: str = "24.11") -> Iterator[Cluster]:
    """A container with everything ready, and nothing started."""
    client = connect()
    tag = image.ensure_slurm(client, release)
    name = f"hpadmin-test-apply-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="hpadmin-apply-") as folder_name:
        root = Path(folder_name)
        container = client.containers.run(
            tag,
            ["sleep", "infinity"],
            name=name,
            hostname="ctl",
            dns=list(NO_NAME_SERVICE),
            detach=True,
            init=True,
            cap_add=["SYS_ADMIN", "NET_ADMIN"],
            security_opt=["apparmor=unconfined"],
            extra_hosts=dict.fromkeys(NODES, "127.0.0.1"),
            volumes={str(root): {"bind": str(root), "mode": "rw"}},
            labels={"hpadmin.test": "apply"},
        )
        runner = ContainerRunner(client, name)
        try:
            setup = [
                "dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=128 status=none",
                "chown munge: /etc/munge/munge.key; chmod 400 /etc/munge/munge.key",
                "install -d -o munge -g munge /run/munge /var/log/munge /var/lib/munge",
                "setpriv --reuid munge --regid munge --clear-groups munged",
                *(f"mknod /dev/fakegpu{i} c 1 3" for i in range(GPUS)),
            ]
            runner.run(["sh", "-ec", "\n".join(setup)], timeout=240).check()
            session = Session(name)
            yield Cluster(session, root)
            session.close()
        finally:
            # What the container wrote belongs to root there; it removes its own.
            with contextlib.suppress(OperationFailed):
                runner.run(["sh", "-c", f"rm -rf {root}/*"], timeout=120)
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True)
            client.close()
