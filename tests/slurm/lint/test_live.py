"""A sample of the recorded tables against a live Slurm, the key tables against its parser, and the sandbox itself."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator

import pytest

from hpadmin.errors import OperationFailed
from hpadmin.slurm import sandbox
from hpadmin.slurmconf import lint
from hpadmin.slurmconf.lint import facts, lint_files
from tests.slurm.lint.record import CAPABILITIES, RECORDED, ask
from tests.support.box import Box, box
from tests.unit.slurmconf_lint.cases import BASE, CASES, GOOD, Case
from tests.unit.slurmconf_lint.test_lint import YAML, with_yaml

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def roomy() -> Iterator[Box]:
    """A container in which a sandbox can be made."""
    with box("24.11", capabilities=CAPABILITIES) as running:
        yield running


@pytest.fixture(scope="module")
def roomy_26() -> Iterator[Box]:
    """The same with Slurm 26.05."""
    with box("26.05", capabilities=CAPABILITIES) as running:
        yield running


def sample() -> list[Case]:
    """Cases of every subject, and good ones, that need no slurmd."""
    return [case for case in CASES if not case.node][::20] + [case for case in GOOD if not case.node][::8]


@pytest.mark.parametrize("case", sample(), ids=lambda case: case.name)
def test_the_record_still_holds(roomy: Box, case: Case) -> None:
    assert ask(roomy, case) == json.loads(RECORDED.read_text())[case.name]


@pytest.mark.parametrize("name", ["more GRES than devices", "one gres.conf line for all nodes"])
def test_a_node_registers_as_recorded(roomy: Box, name: str) -> None:
    case = next(case for case in [*CASES, *GOOD] if case.name == name)
    recorded = json.loads(RECORDED.read_text())[name]["slurmd"]
    answer = ask(roomy, case)["slurmd"]
    assert (answer["state"], answer["reason"]) == (recorded["state"], recorded["reason"])


def unrecognised(runner: Box, lines: list[str]) -> list[str]:
    """The keys that Slurm's parser does not know, of a slurm.conf with these lines."""
    text = "\n".join(["ClusterName=c", "SlurmctldHost=h", *lines, ""])
    runner.write_tree("/tmp/keys", {"slurm.conf": text})
    done = runner.run(
        ["scontrol", "show", "hostnames", "x"], timeout=240, env={"SLURM_CONF": "/tmp/keys/slurm.conf"}
    )
    mark = "unrecognized key: "
    return [line.partition(mark)[2].strip() for line in done.stderr.splitlines() if mark in line]


@pytest.mark.parametrize("release", ["24.11", "26.05"])
def test_the_key_tables_are_those_of_the_parser(release: str, request: pytest.FixtureRequest) -> None:
    """Every key that any release since 15.08 had, one a line; nodes and partitions with one attribute each."""
    runner: Box = request.getfixturevalue("slurm_box" if release == "24.11" else "slurm_box_26")
    plain = [key for key in facts.known("slurm.conf").values() if not key.opens_line]
    expected = {key.name for key in plain if release not in key.releases}
    assert set(unrecognised(runner, [f"{key.name}=1" for key in plain])) == expected
    for opener in ("NodeName", "PartitionName", "DownNodes", "NodeSet"):
        keys = list(facts.known(f"slurm.conf {opener}").values())
        lines = [f"{opener}=n{index} {key.name}=1" for index, key in enumerate(keys)]
        expected = {key.name for key in keys if release not in key.releases}
        assert set(unrecognised(runner, lines)) == expected


@pytest.mark.parametrize(
    ("text", "partition", "accepted"),
    [
        (YAML, "flat", True),
        (YAML, "flad", False),
        (YAML.replace("[4]", "[4, 6]"), "flat", False),
        (YAML.replace("block: b2", "block: b1"), "flat", False),
    ],
)
def test_topology_yaml_is_taken_or_refused_as_the_lint_says(
    roomy_26: Box, text: str, partition: str, accepted: bool
) -> None:
    files = with_yaml(text, f"PartitionName=p Nodes=cpu1 Topology={partition}")
    errors = [found for found in lint_files(files, release="26.05") if found.severity is lint.Severity.ERROR]
    verdict = sandbox.check(roomy_26, {**files, "slurm.key": os.urandom(1024)})
    assert (verdict.accepted, not errors) == (accepted, accepted), verdict.messages


def test_slurmdbd_refuses_a_file_that_others_can_read(roomy: Box) -> None:
    roomy.run(["mkdir", "-p", "/tmp/dbd"], timeout=120).check()
    roomy.put("/tmp/dbd/slurmdbd.conf", "StorageType=accounting_storage/mysql\n", mode=0o644)
    roomy.run(["cp", "/tmp/dbd/slurmdbd.conf", "/etc/slurm/slurmdbd.conf"], timeout=120).check()
    done = roomy.run(["slurmdbd", "-D"], timeout=120)
    roomy.run(["rm", "/etc/slurm/slurmdbd.conf"], timeout=120).check()
    assert done.returncode != 0
    assert "should be 600" in done.stderr


CONTROLLER = """\
ClusterName=real
SlurmctldHost=box
SlurmUser=root
AuthType=auth/slurm
CredType=cred/slurm
StateSaveLocation=/var/spool/real
SlurmctldLogFile=/var/log/slurm/real.log
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=INFINITE
ResumeTimeout=3600
SlurmctldParameters=idle_on_node_suspend,cloud_dns
MailProg=/bin/true
SelectType=select/cons_tres
NodeName=n[1-4] CPUs=4 RealMemory=1000 State=CLOUD
PartitionName=dev Nodes=n[1-4] Default=YES
PartitionName=old Nodes=n[3-4]
"""


MARK = "seen-running"
"""Comment of the waiting job, once the other one runs."""


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fail after a minute."""
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def controller(roomy: Box) -> Iterator[Box]:
    """A real slurmctld in the container, with a job on n1 and one waiting in the partition old."""
    files = {"slurm.conf": CONTROLLER, "cgroup.conf": "CgroupPlugin=disabled\n", "notes.txt": "beside\n"}
    roomy.write_tree("/etc/slurm", files)
    roomy.put("/etc/slurm/slurm.key", os.urandom(1024), mode=0o600)
    roomy.run(["mkdir", "-p", "/var/spool/real", "/var/log/slurm"], timeout=120).check()
    roomy.run(["slurmctld", "-i"], timeout=120).check()
    until(lambda: roomy.run(["scontrol", "ping"], timeout=120).returncode == 0)
    script = "#!/bin/sh\nsleep 600\n"
    roomy.run(["sbatch", "-w", "n1", "-N1"], timeout=120, stdin=script).check()
    roomy.run(["sbatch", "-p", "old", "-H"], timeout=120, stdin=script).check()
    until(lambda: roomy.run(["squeue", "-h", "-o", "%N", "-j", "1"], timeout=120).stdout.strip() == "n1")
    # slurmctld writes its state down every few seconds; the throw-away one starts from there. A file that is
    # younger than the last job need not hold it, or hold the first as running: its writing may have begun before.
    roomy.run(["scontrol", "update", "jobid=2", f"comment={MARK}"], timeout=120).check()
    until(lambda: roomy.run(["grep", "-q", MARK, "/var/spool/real/job_state"], timeout=120).returncode == 0)
    yield roomy
    pid = roomy.run(["cat", "/run/slurmctld.pid"], timeout=120).stdout.strip()
    roomy.run(["kill", "-9", pid], timeout=120)
    roomy.run(["rm", "-rf", "/etc/slurm/slurm.conf", "/var/spool/real"], timeout=120)


def test_a_copy_of_the_state_tells_which_jobs_a_change_would_end(controller: Box) -> None:
    def verdict(text: str) -> sandbox.Verdict:
        files = {"slurm.conf": text.encode()}
        return sandbox.check(
            controller, files, conf_dir="/etc/slurm", beside=True, state="/var/spool/real", timeout=60
        )

    socket = controller.run(["stat", "-c", "%i", "/run/slurmctld/sack.socket"], timeout=120).stdout
    jobs = controller.run(["squeue", "-h", "-o", "%i %T"], timeout=120).stdout
    hosts = controller.run(["cat", "/etc/hosts"], timeout=120).stdout

    unchanged = verdict(CONTROLLER + "# a comment\n")
    assert (unchanged.accepted, unchanged.jobs) == (True, ())
    shorter = verdict(CONTROLLER.replace("n[1-4]", "n[2-4]"))
    assert shorter.accepted
    assert [job.job_id for job in shorter.jobs] == [1]
    without = verdict(CONTROLLER.replace("PartitionName=old Nodes=n[3-4]\n", ""))
    assert without.accepted
    assert [job.job_id for job in without.jobs] == [2]
    assert "Invalid partition (old)" in without.jobs[0].reason
    refused = verdict(CONTROLLER + "PartitionName=more Nodes=n9\n")
    assert not refused.accepted
    renamed = verdict(CONTROLLER.replace("ClusterName=real", "ClusterName=other"))
    assert not renamed.accepted
    assert any("CLUSTER NAME MISMATCH" in message.text for message in renamed.messages)

    # Nothing of it reached the real one or stayed behind.
    assert controller.run(["scontrol", "ping"], timeout=120).returncode == 0
    assert controller.run(["stat", "-c", "%i", "/run/slurmctld/sack.socket"], timeout=120).stdout == socket
    assert controller.run(["squeue", "-h", "-o", "%i %T"], timeout=120).stdout == jobs
    assert controller.run(["cat", "/etc/hosts"], timeout=120).stdout == hosts
    left = controller.run(["sh", "-c", "ls -d /tmp/hpadmin-sandbox-* 2>/dev/null"], timeout=120).stdout
    assert not left


def test_programs_of_the_site_do_not_run_in_the_sandbox(roomy: Box) -> None:
    roomy.put("/usr/local/bin/touched", "#!/bin/sh\ntouch /tmp/touched\n", mode=0o755)
    lines = [
        f"{key}=/usr/local/bin/touched"
        for key in ("SlurmctldPrimaryOnProg", "SlurmctldPrimaryOffProg", "PrologSlurmctld", "EpilogSlurmctld")
    ]
    text = BASE["slurm.conf"] + "\n".join([*lines, "SlurmctldDebug=quiet", ""])
    files = {"slurm.conf": text.encode(), "slurm.key": os.urandom(1024)}
    assert sandbox.check(roomy, files).accepted
    assert roomy.run(["test", "-e", "/tmp/touched"], timeout=120).returncode != 0


def test_an_absolute_include_is_read_where_the_runner_runs(roomy: Box) -> None:
    roomy.run(["mkdir", "-p", "/srv/site"], timeout=120).check()
    roomy.put("/srv/site/part.conf", "PartitionName=q Nodes=nowhere\n")
    text = BASE["slurm.conf"] + "Include /srv/site/part.conf\n"
    files = {"slurm.conf": text.encode(), "slurm.key": os.urandom(1024)}
    verdict = sandbox.check(roomy, files)
    assert not verdict.accepted
    assert any("Invalid node names in partition q" in message.text for message in verdict.messages)


def test_without_the_capabilities_it_says_what_is_needed(slurm_box: Box) -> None:
    with pytest.raises(OperationFailed) as raised:
        sandbox.check(slurm_box, {"slurm.conf": BASE["slurm.conf"].encode()})
    assert "NET_ADMIN" in raised.value.hint
