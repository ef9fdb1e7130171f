"""What is read from Slurm and /proc, and how nodes are judged by it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.nodes.report import HealthReport
from hpadmin.nodes.report import Verdict as HealthVerdict
from hpadmin.recovery.observe import Observation
from hpadmin.recovery.resume import heartbeat, liveness
from hpadmin.recovery.resume.control import read_hints
from hpadmin.recovery.resume.examine import Examination, OnNodes
from hpadmin.recovery.resume.facts import Health, Reach, has_gres, judge
from hpadmin.recovery.resume.heartbeat import Heartbeat, Progress
from hpadmin.recovery.resume.reach import doubted, reach
from hpadmin.recovery.resume.stepcheck import Stepd, leftovers, stepd, sweep
from hpadmin.slurm.command import Completed, Runner
from hpadmin.slurm.reader import NodeInfo
from hpadmin.slurm.states import NodeState

SEEN = Observation(at=1000, nodes={}, unreachable={"far": 990})


def node(
    name: str = "n2", state: str = "ALLOCATED", reason: str = "", extra: str = "", gres: str = ""
) -> NodeInfo:
    return NodeInfo(name, NodeState.parse(state), reason=reason, extra=extra, gres=gres)


FAILED = HealthReport(HealthVerdict.FAILED, 500, "xid-79", "reboot", "PCI:0000:01:00").merged_into("") or ""
WATCHED = HealthReport(HealthVerdict.FAILED, 500, "xid-13", "monitor", "PCI:0000:01:00").merged_into("") or ""


@pytest.mark.parametrize(
    ("info", "how", "health", "dead", "marked"),
    [
        (node(), None, Health.GOOD, False, False),
        (node(), Reach.ANSWERS, Health.GOOD, False, False),
        (node(), Reach.REFUSES, Health.GOOD, False, False),
        (node(), Reach.LOST, Health.BAD, True, False),
        (node(), Reach.SILENT, Health.BAD, True, False),
        (node(), Reach.MUTE, Health.UNSURE, False, False),
        (node(), Reach.DOUBTFUL, Health.UNSURE, False, False),
        (node(state="DOWN", reason="Not responding"), Reach.MUTE, Health.BAD, False, False),
        (node(state="DOWN", reason="Not responding"), None, Health.BAD, True, False),
        (node(state="ALLOCATED+FAIL", reason="Action:Replace"), Reach.ANSWERS, Health.BAD, False, True),
        (node(state="ALLOCATED+FAIL", reason="hpadmin: reboot: xid-79: x"), None, Health.BAD, False, True),
        # An administrator's drain is no fault, nor is history in the Reason of a node in service.
        (
            node(state="ALLOCATED+DRAIN", reason="bad PSU, ticket 4711"),
            Reach.ANSWERS,
            Health.GOOD,
            False,
            False,
        ),
        (node(reason="hpadmin: returned: replaced because of xid-79"), None, Health.GOOD, False, False),
        (
            node(state="MIXED+DRAIN+INVALID_REG", reason="gres/gpu count reported lower"),
            None,
            Health.BAD,
            False,
            False,
        ),
        (node(extra=FAILED), Reach.ANSWERS, Health.BAD, False, False),
        (node(extra=WATCHED), Reach.ANSWERS, Health.GOOD, False, False),
        (node("far"), None, Health.UNSURE, False, False),
        (node("far"), Reach.ANSWERS, Health.GOOD, False, False),
        (node(state="UNKNOWN"), None, Health.UNSURE, False, False),
    ],
)
def test_judging_a_node(info: NodeInfo, how: Reach | None, health: Health, dead: bool, marked: bool) -> None:
    view = judge(info, SEEN, how)
    assert (view.health, view.dead, view.marked) == (health, dead, marked)
    assert view.refuses == (how in (Reach.REFUSES, Reach.MUTE))
    assert view.why or health is Health.GOOD


def test_a_host_that_was_started_since_has_nothing_left_of_the_step() -> None:
    info = replace(node(), boot_time=500)
    assert not judge(info, SEEN, Reach.ANSWERS, since=600).restarted
    assert judge(info, SEEN, Reach.ANSWERS, since=400).restarted
    assert judge(info, SEEN, Reach.ANSWERS, since=500).restarted, "Slurm tells whole seconds"
    assert not judge(info, SEEN, Reach.ANSWERS).restarted


@pytest.mark.parametrize(
    ("words", "gres", "exclusive", "expected"),
    [
        ("cpu=4,node=2", "", True, False),
        ("cpu=4,node=2,gres/gpu=8", "", False, True),
        ("cpu=4,node=2", "gpu:4", True, True),
        ("cpu=4,node=2", "gpu:4", False, False),
    ],
)
def test_jobs_with_gres(words: str, gres: str, exclusive: bool, expected: bool) -> None:
    nodes = {name: node(name, gres=gres) for name in ("n1", "n2")}
    assert has_gres(words, nodes, ("n1", "n2"), exclusive) is expected


def test_sstat_tells_who_is_there_and_who_is_silent() -> None:
    silent = (
        "sstat: error: slurm_job_step_stat: unknown return given from n2: 9001 rc = Communication connection failure\n"
        "sstat: error: problem getting step_layout for StepId=1.0: Communication connection failure\n"
    )
    view = liveness.read_sstat("1.0|n1|441\n1.0|n3|442,443\n1.1|n4|9\n", silent, "1.0")
    assert view == liveness.StepView(frozenset({"n1", "n3"}), frozenset({"n2"}), told=True)
    assert not liveness.read_sstat("", "", "1.0").told


def test_connections_of_a_process_are_those_that_others_opened_to_it() -> None:
    import os

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert liveness.connections(os.getpid()) == frozenset()
        with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
            found = liveness.connections(os.getpid())
            assert len(found) == 1
            port = client.getsockname()[1]
            assert f":{port:04X}>" in next(iter(found))
        assert liveness.connections(os.getpid()) == frozenset()


@contextlib.contextmanager
def serving(address: str, talk: Callable[[socket.socket], object]) -> Iterator[tuple[str, int]]:
    """A server that talks with one after the other, and lets go of each at the end."""
    server = socket.create_server((address, 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


@pytest.fixture
def slurmd() -> Iterator[tuple[str, int]]:
    """Something that closes a connection as soon as the other side does."""
    with serving("127.0.0.1", lambda connection: connection.recv(1)) as address:
        yield address


@pytest.fixture
def sshd() -> Iterator[int]:
    """Something that greets whoever connects, on an address of its own; its port."""
    with serving("127.0.0.2", lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_10.0\r\n")) as address:
        yield address[1]


def test_reaching_a_slurmd_that_lives_one_that_hangs_and_one_that_is_gone(slurmd: tuple[str, int]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as hanging,
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),  # the queue is full: the kernel drops what comes next
    ):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            refused = gone.getsockname()
        targets = {
            "alive": slurmd,
            "hangs": hanging.getsockname(),
            "gone": refused,
            "far": full.getsockname(),
        }
        found = reach(targets, timeout=4.0)
    assert found["alive"] is Reach.ANSWERS
    assert found["hangs"] is Reach.SILENT
    assert found["gone"] is Reach.REFUSES
    assert found["far"] is Reach.LOST


def test_a_host_whose_slurmd_is_silent_is_listened_to_elsewhere(slurmd: tuple[str, int], sshd: int) -> None:
    """127.0.0.2 greets; on 127.0.0.3 the port takes connections, and nobody greets; 127.0.0.4 has no such port."""
    with (
        socket.create_server(("127.0.0.2", 0)) as greets,
        socket.create_server(("127.0.0.3", 0)) as hangs,
        socket.create_server(("127.0.0.3", sshd)),
        socket.create_server(("127.0.0.4", 0)) as alone,
        socket.create_server(("127.0.0.2", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),
    ):
        targets = {
            "alive": slurmd,
            "greets": greets.getsockname(),
            "hangs": hangs.getsockname(),
            "alone": alone.getsockname(),
            "full": full.getsockname(),
        }
        found = reach(targets, timeout=3.0, greeter=sshd)
    assert found == {
        "alive": Reach.ANSWERS,
        "greets": Reach.MUTE,
        "hangs": Reach.SILENT,
        "alone": Reach.SILENT,
        "full": Reach.MUTE,
    }


@pytest.mark.parametrize(
    ("mute", "silent", "answer", "doubted_ones"),
    [
        (1, 0, 5, 0),
        (3, 0, 5, 0),
        (4, 0, 3, 4),
        (4, 1, 3, 4),  # the name service is away, and one host hangs
        (0, 2, 1, 0),
        (0, 4, 3, 4),
        (3, 4, 1, 3),  # these hosts speak elsewhere, those do not
        (3, 5, 1, 8),
    ],
)
def test_most_hosts_do_not_hang_at_once(mute: int, silent: int, answer: int, doubted_ones: int) -> None:
    hosts = [Reach.MUTE] * mute + [Reach.SILENT] * silent + [Reach.ANSWERS] * answer + [Reach.LOST]
    found = doubted({f"n{number}": how for number, how in enumerate(hosts)})
    assert sum(how is Reach.DOUBTFUL for how in found.values()) == doubted_ones
    assert list(found.values())[-1] is Reach.LOST


@dataclass(frozen=True)
class Checks:
    """Runs a node's health check: it ends with `status`, or cannot be run."""

    status: int | None

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        if self.status is None:
            raise OperationFailed("the node does not answer")
        return Completed(tuple(argv), self.status, "", "")


def test_a_check_that_came_to_no_verdict_is_told_from_one_that_did() -> None:
    nodes: dict[str, Runner] = {
        "good": Checks(0),
        "bad": Checks(1),
        "sick": Checks(3),
        "error": Checks(2),
        "gone": Checks(None),
    }
    examiner = OnNodes(nodes.get)
    found = examiner.examine([*nodes, "nobody asks"], {"HealthCheckProgram": "/usr/sbin/check"})
    assert found == Examination(frozenset({"good", "bad", "sick"}), frozenset({"error", "gone"}))
    assert examiner.examine(nodes, {}) == Examination()


def test_a_slurmstepd_is_judged_by_its_socket(tmp_path: Path) -> None:
    assert stepd(tmp_path, "n1", 82, 0) is Stepd.ENDED
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(tmp_path / "n1_82.0"))
        alive.listen()
        assert stepd(tmp_path, "n1", 82, 0) is Stepd.ALIVE
    assert stepd(tmp_path, "n1", 82, 0) is Stepd.KILLED
    (tmp_path / "n1_82.1").mkdir()
    assert stepd(tmp_path, "n1", 82, 1) is not Stepd.KILLED


def test_left_over_processes_are_those_of_this_very_step(tmp_path: Path) -> None:
    def process(pid: int, *variables: str) -> None:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "environ").write_bytes(b"\0".join(each.encode() for each in variables) + b"\0")

    process(100, "SLURM_JOB_ID=82", "SLURM_STEP_ID=0", "SLURMD_NODENAME=n1", "HOME=/root")
    process(101, "SLURM_JOB_ID=82", "SLURM_STEP_ID=1", "SLURMD_NODENAME=n1")
    process(102, "SLURM_JOB_ID=820", "SLURM_STEP_ID=0", "SLURMD_NODENAME=n1")
    process(103, "SLURM_JOB_ID=82", "SLURM_STEP_ID=0", "SLURMD_NODENAME=n2")
    (tmp_path / "self").mkdir()
    assert leftovers(82, 0, "n1", tmp_path) == [100]


def test_what_lives_of_a_step_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process tells by its environment whose it is, the other only its slurmstepd knows."""
    job, own = 4_000_000_000, {"SLURM_STEP_ID": "0", "SLURMD_NODENAME": "n1"}
    with (
        subprocess.Popen(["/bin/sleep", "600"], env={**own, "SLURM_JOB_ID": str(job)}) as told,
        subprocess.Popen(["/bin/sleep", "600"], env={}) as silent,
        subprocess.Popen(["/bin/sleep", "600"], env={**own, "SLURM_JOB_ID": str(job + 1)}) as other,
    ):
        scontrol = tmp_path / "scontrol"
        scontrol.write_text(
            f"#!/bin/sh\necho 'PID JOBID STEPID LOCALID GLOBALID'\necho '{silent.pid} {job} 0 0 0'\n"
            f"[ \"$*\" = 'listpids {job}.0 n1' ]\n"
        )
        scontrol.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert sweep(job, 0, "n1", alive=False) == (1, 0)
        assert told.wait(60) == -signal.SIGKILL
        assert silent.poll() is None
        assert sweep(job, 0, "n1", alive=True) == (1, 0)
        assert silent.wait(60) == -signal.SIGKILL
        assert sweep(job, 0, "n1", alive=False) == (0, 0)
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("text", ["600", "log:", "log:x", ":60", "log:1", "/f:-5", "/f:٣٠"])
def test_heartbeats_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        heartbeat.parse(text, "/")


@pytest.mark.parametrize("relative", [True, False])
def test_a_heartbeat_file_is_where_its_name_was_written(tmp_path: Path, relative: bool) -> None:
    name, folder = ("beat-%j", str(tmp_path)) if relative else (f"{tmp_path}/beat-%j", "/")
    beat = heartbeat.parse(f"{name}:30", folder)
    assert beat is not None
    assert beat.file(82) == tmp_path / "beat-82"
    assert heartbeat.parse("", folder) is None


def test_a_sign_of_progress_is_another_time_of_the_file_whatever_clock_it_is_of(tmp_path: Path) -> None:
    file = tmp_path / "beat"
    progress = Progress(Heartbeat(str(file), 30), 82, 100.0)
    assert progress.quiet(104.0) == 4
    file.touch()
    for moment, written in ((108.0, 5.0), (112.0, 10.0), (116.0, 9.9e9), (120.0, 7.0)):
        os.utime(file, (written, written))
        assert progress.quiet(moment) == 0
    assert [progress.overdue(moment) for moment in range(124, 156, 4)] == [False] * 7 + [True]


def test_time_in_which_nobody_looked_is_no_silence(tmp_path: Path) -> None:
    """The supervisor was stopped, most likely together with the step: a job that is suspended, a Ctrl-Z."""
    progress = Progress(Heartbeat(str(tmp_path / "beat"), 30), 82, 100.0)
    assert progress.quiet(104.0) == 4
    assert progress.quiet(9004.0) == 4
    assert progress.quiet(9008.0) == 8


def test_a_file_that_cannot_be_looked_at_is_no_silence(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    progress = Progress(Heartbeat(str(loop), 30), 82, 100.0)
    progress.quiet(104.0)
    loop.symlink_to(loop)
    assert progress.quiet(108.0) == 0
    assert "loop" in progress.trouble
    loop.unlink()
    assert progress.quiet(112.0) == 4
    assert progress.trouble == ""


@pytest.mark.parametrize(
    ("beat", "line", "environment", "why"),
    [
        ("log:30", "srun train", {}, "standard output is no file"),
        ("log:30", "srun -o all train", {}, "standard output is no file"),
        ("log:30", "srun --output=out-%t train", {}, "goes to out-%t: name that file"),
        ("log:30", "srun train", {"SLURM_STDOUTMODE": "o"}, "goes to o: name that file"),
        ("/f:30", "srun -o x train", {}, ""),
    ],
)
def test_what_cannot_be_seen_is_not_watched(
    beat: str, line: str, environment: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = heartbeat.parse(beat, "/")
    assert parsed is not None
    reader, writer = os.pipe()
    found = os.fstat(writer)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda _: found)
        unseen = parsed.unseen(line.split(), environment)
    os.close(reader)
    os.close(writer)
    assert why in unseen
    assert bool(why) is bool(unseen)


def test_hints_are_taken_from_lines_that_are_jobs() -> None:
    text = (
        "JobId=5 JobName=auto-resume-4 UserId=a(1) Extra=auto-resume  StdErr=x\n"
        "JobId=4 JobName=train UserId=a(1) Comment=hi Extra=<auto-resume/1 step=0 phase=ask>  StdErr=x\n"
        "JobId=6 JobName=x Comment=forged\n"
        "JobId=4711 JobName=y Extra=<auto-resume/1 forged>\n"
        "no job at all Extra=<auto-resume/1 >\n"
    )
    hints = read_hints(text)
    assert set(hints.records) == {4, 4711}
    assert hints.helpers == {5: 4}
