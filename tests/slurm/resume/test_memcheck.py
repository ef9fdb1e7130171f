"""The SPANK plugin in real commands of Slurm under valgrind, built with every warning an error.

What valgrind finds in Slurm itself is Slurm's; an error counts here when a frame of our plugin is in it.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker.errors
import pytest

from hpadmin import resources
from hpadmin.lab import image
from hpadmin.lab.engine import ContainerRunner, connect
from tests.slurm.resume.cluster import until
from tests.support.box import NO_NAME_SERVICE

pytestmark = pytest.mark.slurm

HERE = Path(__file__).parent / "memcheck"
PLUGIN = "spank_auto_resume.so"
CONFIGURATION = """\
ClusterName=memcheck
SlurmctldHost=box
AuthType=auth/slurm
CredType=cred/slurm
SlurmUser=slurm
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SchedulerParameters=permit_job_expansion
SlurmdParameters=config_overrides
MessageTimeout=60
PlugStackConfig=FOLDER/plugstack.conf
NodeName=box CPUs=8 RealMemory=500
PartitionName=dev Nodes=box Default=YES OverSubscribe=FORCE:8
"""
PLUGINS = {
    "ours": f"optional {PLUGIN} python=/usr/local/bin/supervisor",
    "no-python": f"optional {PLUGIN} python=/nonexistent/python3",
    "no-hpadmin": f"optional {PLUGIN} python=/usr/bin/python3",
    "careless": "optional /tmp/careless.so",
}
START = """
set -e
mkdir -p /var/spool/slurmctld /var/spool/slurmd
head -c 1024 /dev/urandom >/etc/slurm/slurm.key
chmod 600 /etc/slurm/slurm.key
chown slurm /etc/slurm/slurm.key /var/spool/slurmctld
echo CgroupPlugin=disabled >/etc/slurm/cgroup.conf
printf '#!/bin/sh\\necho "supervisor: $*"\\n' >/usr/local/bin/supervisor
chmod 755 /usr/local/bin/supervisor
make -C /src install
gcc -shared -fPIC -g -O0 -o /tmp/careless.so /tmp/careless.c
slurmctld -f /etc/slurm/slurm.conf
slurmd -f /etc/slurm/slurm.conf
"""
VALGRIND = (
    "valgrind --quiet --xml=yes --xml-file=/tmp/NAME.xml --leak-check=full --show-leak-kinds=definite"
    " --keep-debuginfo=yes --num-callers=40"
)
"""Of leaks the certain ones: Slurm keeps its copies of our options behind pointers into their middle."""
ERROR = re.compile(r"<error>.*?</error>", re.DOTALL)


@dataclass(frozen=True)
class Run:
    """One command under valgrind: whose plugstack, what runs, and what it must have said and returned."""

    plugins: str
    command: str
    words: str
    status: int = 0


RUNS = {
    "no option": Run("ours", "srun -N1 -n1 echo plain", "plain"),
    "our own child": Run(
        "ours",
        "bash -c 'HPADMIN_AUTO_RESUME_PARENT=$$ HPADMIN_AUTO_RESUME_PIPE=2 VALGRIND srun --auto-resume=3"
        ' --auto-resume-heartbeat=log:600 -N1 -n1 bash -c "echo ${HPADMIN_AUTO_RESUME_PARENT-gone}"; exit $?\'',
        r"(?s)gone.*\d+ 0 1\n",
    ),
    "taken over": Run(
        "ours",
        "srun --auto-resume=3 --auto-resume-spares=2 -N1 train 'a b'",
        r"(?s)supervisor: -I -c .*hpadmin\.recovery\.resume\.supervise.* 3 2  /usr/bin/srun -- \S*srun --auto-resume=3"
        r" --auto-resume-spares=2 -N1 train a b\n",
    ),
    "nothing to take over": Run(
        "no-python",
        "srun --auto-resume=1 -N1 -n1 echo went on",
        r"(?s)went on.*the step runs without auto-resume",
    ),
    "nothing to take over with": Run(
        "no-hpadmin",
        "srun --auto-resume=1 -N1 -n1 bash -c 'echo went on ${HPADMIN_AUTO_RESUME_PARENT-gone} ${LC_CTYPE-plain}'",
        r"(?s)went on gone plain.*No module named 'hpadmin'.*the step runs without auto-resume",
    ),
    "a job with spares": Run(
        "ours", "sbatch --hold --auto-resume=1 --auto-resume-spares=2 -N1 --wrap true", "Submitted batch job"
    ),
    "a refused job": Run(
        "ours", "sbatch --auto-resume=1 --auto-resume-heartbeat=soon -N1 --wrap true", "is FILE:SECONDS", 1
    ),
    "a careless plugin": Run("careless", "srun -N1 -n1 echo plain", "plain"),
}


@pytest.fixture(scope="module")
def box() -> Iterator[ContainerRunner]:
    """A node of its own, with valgrind and the plugin as its Makefile builds it."""
    client = connect()
    base = image.ensure_slurm(client, "24.11")
    built, _ = client.images.build(
        path=str(HERE), buildargs={"BASE": base}, tag="hpadmin/memcheck:24.11", rm=True
    )
    name = f"hpadmin-test-{uuid.uuid4().hex[:10]}"
    container = client.containers.run(
        built.id or "", ["sleep", "infinity"], name=name, hostname="box", detach=True, init=True,
        dns=list(NO_NAME_SERVICE), labels={"hpadmin.test": "box"},
    )  # fmt: skip
    try:
        runner = ContainerRunner(client, name)
        runner.run(["mkdir", "-p", "/src", "/etc/slurm"], timeout=120).check()
        for source in ("Makefile", "spank_auto_resume.c"):
            runner.put(f"/src/{source}", (resources.directory("slurm_plugins") / source).read_text())
        runner.put("/tmp/careless.c", (HERE / "careless.c").read_text())
        for label, plugins in {"slurm": PLUGINS["ours"], **PLUGINS}.items():
            folder = f"/etc/{label}"
            runner.run(["mkdir", "-p", folder], timeout=120).check()
            runner.put(f"{folder}/slurm.conf", CONFIGURATION.replace("FOLDER", folder))
            runner.put(f"{folder}/plugstack.conf", plugins + "\n")
        runner.run(["bash", "-c", START], timeout=120).check()
        until(
            lambda: runner.run(["sinfo", "-h", "-o", "%T"], timeout=120).stdout.strip() == "idle",
            120,
            lambda: runner.run(["sinfo", "-N", "-l"], timeout=120).stdout,
        )
        yield runner
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True)
        client.close()


@pytest.mark.parametrize("name", RUNS)
def test_valgrind_finds_nothing_in_the_plugin(box: ContainerRunner, name: str) -> None:
    run, file = RUNS[name], name.replace(" ", "-")
    valgrind = VALGRIND.replace("NAME", file)
    command = run.command.replace("VALGRIND", valgrind)
    if valgrind not in command:
        command = f"{valgrind} {command}"
    done = box.run(["bash", "-c", command], timeout=240, env={"SLURM_CONF": f"/etc/{run.plugins}/slurm.conf"})
    said = done.stdout + done.stderr
    assert re.search(run.words, said), said
    assert done.returncode == run.status
    errors = ERROR.findall(box.run(["cat", f"/tmp/{file}.xml"], timeout=120).check().stdout)
    ours = [error for error in errors if PLUGIN in error]
    assert not ours, "\n".join(ours)[:4000]
    if run.plugins == "careless":  # such a plugin is seen
        kinds = {
            kind
            for error in errors
            if "careless.so" in error
            for kind in re.findall("<kind>(.*?)</kind>", error)
        }
        assert kinds >= {"UninitCondition", "Leak_DefinitelyLost"}
