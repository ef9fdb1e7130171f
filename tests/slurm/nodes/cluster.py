"""A small real cluster in one container: slurmctld and several slurmds, with device files for GPUs."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hpadmin
from hpadmin import resources
from hpadmin.slurm.commands import CommandReader
from hpadmin.slurm.control import CommandControl
from tests.support.box import Box, box
from tests.support.labs import wait_until
from tests.support.slurmds import START_ALONE

CONF = """\
ClusterName=box
SlurmctldHost=box
SlurmUser=root
AuthType=auth/slurm
CredType=cred/slurm
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd.%n
SlurmdPidFile=/run/slurmd.%n.pid
SlurmctldPidFile=/run/slurmctld.pid
SlurmdLogFile=/var/log/slurmd.%n.log
SlurmctldLogFile=/var/log/slurmctld.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SlurmdParameters=config_overrides
ReturnToService=2
GresTypes=gpu
MailProg=/bin/true
{more}
NodeName=n[1-{count}] NodeAddr=127.0.0.1 Port=[17001-{last}] CPUs=4 RealMemory=1000 Gres=gpu:2 Feature=a,b
PartitionName=dev Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Cluster:
    """Slurm at work in a box."""

    box: Box
    count: int
    release: str

    @property
    def reader(self) -> CommandReader:
        return CommandReader(self.box)

    @property
    def control(self) -> CommandControl:
        return CommandControl(self.box)

    def sh(self, *argv: str, check: bool = True) -> str:
        done = self.box.run(list(argv), timeout=240)
        return (done.check() if check else done).stdout

    def slurmd(self, name: str) -> None:
        self.sh("sh", "-c", START_ALONE + 'start_alone slurmd -N "$1"', "sh", name)

    def stop_slurmd(self, name: str) -> None:
        self.sh("pkill", "-F", f"/run/slurmd.{name}.pid")

    def state(self, name: str) -> str:
        found = self.reader.node(name)
        assert found is not None
        return str(found.state)


@contextlib.contextmanager
def cluster(release: str = "24.11", *, count: int = 3, more: Sequence[str] = ()) -> Iterator[Cluster]:
    """Start slurmctld and `count` slurmds; `more` are further lines of slurm.conf."""
    with box(release) as running:
        names = [f"n{index}" for index in range(1, count + 1)]
        conf = CONF.format(count=count, last=17000 + count, more="\n".join(more))
        running.write_tree(
            "/etc/slurm",
            {
                "slurm.conf": conf,
                "gres.conf": f"NodeName=n[1-{count}] Name=gpu File=/dev/fakegpu[0-1]\n",
                "cgroup.conf": "CgroupPlugin=disabled\n",
            },
        )
        script = [
            "set -e",
            "head -c 1024 /dev/urandom >/etc/slurm/slurm.key; chmod 600 /etc/slurm/slurm.key",
            "for i in 0 1; do mknod -m 666 /dev/fakegpu$i c 1 3; done",
            "mkdir -p /var/spool/slurmctld /var/log /etc/hpadmin /run/slurm",
            *(f"echo 127.0.0.1 {name} >>/etc/hosts" for name in names),
        ]
        running.run(["sh", "-c", "\n".join(script)], timeout=240).check()
        made = Cluster(running, count, release)
        install(running)
        made.sh("slurmctld")
        for name in names:
            made.slurmd(name)
        wait_until(lambda: all(node.state.schedulable for node in made.reader.nodes()), 240, "all nodes idle")
        yield made


def install(running: Box) -> None:
    """Put this checkout's hpadmin into the box, where the light check looks for it."""
    source = Path(hpadmin.__file__).parent
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(
            source,
            "usr/lib/python3/dist-packages/hpadmin",
            filter=lambda member: None if "__pycache__" in member.name else member,
        )
        tar.add(
            resources.directory("slurm_plugins") / "health" / "hpadmin-health",
            "usr/local/sbin/hpadmin-health",
        )
    running.client.api.put_archive(running.container, "/", buffer.getvalue())
    running.run(["mkdir", "-p", "/opt/hpadmin/bin"], timeout=120).check()
    running.run(["ln", "-sf", "/usr/bin/python3", "/opt/hpadmin/bin/python3"], timeout=120).check()
