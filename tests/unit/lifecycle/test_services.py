"""Services, packages and logs: what runs is seen, what must run is started, what others rotate is left to them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.model import NodeType
from hpadmin.slurm.command import Completed
from lifecycle import daemon
from lifecycle.daemon import Running, Stopped, own_processes, stop
from lifecycle.initscripts import AGENT, RESTD, Daemon, script
from lifecycle.machine import Machine
from lifecycle.packages import Packages
from lifecycle.services import SystemV, processes
from lifecycle.settings import Settings
from lifecycle.stages import accounts, extras, inventory
from lifecycle.step import Transient
from tests.unit.lifecycle.support import Answer, Hands, Recorder, machine, situation


def process(
    root: Path, pid: int, name: str, *, state: str = "S", namespaces: str = "", unit: str = ""
) -> None:
    folder = root / f"proc/{pid}"
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(f"0::/{unit}\n")
    (folder / "status").write_text(f"Name:\t{name}\nState:\t{state} (x)\nNSpid:\t{pid}{namespaces}\n")


def test_processes_are_ours_and_alive(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    process(tmp_path, 10, "slurmd")
    process(tmp_path, 11, "slurmd", state="Z")
    process(tmp_path, 12, "slurmd", namespaces="\t1")  # in a container
    process(tmp_path, 13, "slurmctld")
    process(tmp_path, 14, "slurmd-wlm")  # after a reconfigure
    assert processes(host, "slurmd") == [10, 14]


def test_a_program_with_arguments_is_told_from_its_other_commands(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    for pid, line in (
        (10, "python3\0/bin/hpadmin\0agent\0run\0"),
        (11, "python3\0/bin/hpadmin\0node\0list\0"),
    ):
        process(tmp_path, pid, "hpadmin")
        (tmp_path / f"proc/{pid}/cmdline").write_text(line)
    assert processes(host, "hpadmin agent run") == [10]
    assert processes(host, "hpadmin") == [10, 11]


def sysv(root: Path) -> tuple[Machine, list[str]]:
    """A machine with a System V service ``slurmd`` that starts and stops a process, and what was done to it."""
    done: list[str] = []

    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        match argv:
            case ("service", _, "start"):
                done.append("start")
                process(root, 100 + len(done), "slurmd")
            case ("service", _, "stop"):
                done.append("stop")
                for entry in (root / "proc").iterdir():
                    shutil.rmtree(entry)
            case ("update-rc.d", _, "enable"):
                (root / "etc/rc2.d/S01slurmd").touch()
            case ("update-rc.d", _, "disable"):
                (root / "etc/rc2.d/S01slurmd").unlink()
        return Completed(argv, 0, "", "")

    host, _ = machine(root, answer)
    (root / "etc/init.d").mkdir(parents=True)
    (root / "etc/init.d/slurmd").touch()
    (root / "etc/rc2.d").mkdir()
    return host, done


def test_a_daemon_is_started_enabled_and_then_left_alone(tmp_path: Path) -> None:
    host, done = sysv(tmp_path)
    step = Running("slurmd", "slurmd", reads=("/etc/default/slurmd",), clock=Hands().clock())
    assert step.lacking(host) == "start slurmd"
    step.make(host)
    assert step.lacking(host) is None
    assert SystemV(host).enabled("slurmd")
    assert done == ["start"]


def test_a_daemon_is_restarted_when_what_it_reads_at_its_start_changed(tmp_path: Path) -> None:
    host, done = sysv(tmp_path)
    step = Running("slurmd", "slurmd", reads=("/etc/default/slurmd",), clock=Hands().clock())
    step.make(host)
    (tmp_path / "etc/default").mkdir()
    (tmp_path / "etc/default/slurmd").write_text("new")
    assert step.lacking(host) == "restart slurmd, whose configuration changed"
    step.make(host)
    assert step.lacking(host) is None
    assert done == ["start", "stop", "start"]


def test_a_daemon_that_reads_nothing_at_its_start_alone_is_not_restarted_by_the_run_after_a_kill(
    tmp_path: Path,
) -> None:
    host, done = sysv(tmp_path)
    step = Running("slurmd", "slurmd", clock=Hands().clock())
    SystemV(host).start("slurmd")  # and then the run is killed
    assert step.lacking(host) == "let slurmd start at boot"
    step.make(host)
    assert step.lacking(host) is None
    assert done == ["start"]


def test_a_daemon_that_does_not_work_is_told_with_the_last_words_of_its_log(tmp_path: Path) -> None:
    host, _ = sysv(tmp_path)
    (tmp_path / "log").write_text("[1] info\n[2] fatal: no key\n[3] bye\n")

    def dead(argv: tuple[str, ...], stdin: str | None) -> Completed:
        return Completed(argv, 0, "", "")

    broken, _ = machine(tmp_path, dead)
    step = Running("slurmd", "slurmd", log="/log", timeout=5, clock=Hands().clock())
    with pytest.raises(
        Transient, match=r"slurmd does not work 5 s after its start; /log says: fatal: no key"
    ):
        step.make(broken)
    assert host


def test_a_daemon_that_waits_for_others_is_not_started_anew(tmp_path: Path) -> None:
    host, done = sysv(tmp_path)
    step = Running(
        "slurmd", "slurmd", reads=("/etc/default/slurmd",), probe=("ask",), timeout=5, clock=Hands().clock()
    )
    deaf = replace(host, runner=Recorder(lambda argv, stdin: Completed(argv, int(argv[0] == "ask"), "", "")))
    for _ in range(2):
        with pytest.raises(Transient, match="slurmd does not work 5 s after its start"):
            step.make(deaf)
    assert step.lacking(deaf) == "wait for slurmd"
    assert done == ["start"]


def test_a_daemon_that_is_refused_is_killed_and_not_waited_for(tmp_path: Path) -> None:
    host, _ = sysv(tmp_path)
    log = tmp_path / "log"
    log.write_text("[0] error: refused: an earlier one\n")
    asked: list[str] = []

    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        asked.append(argv[0])
        log.write_text(log.read_text() + "[1] error: away\n")
        if asked.count("ask") == 3:
            log.write_text(log.read_text() + "[2] error: refused: no such user\n")
        return Completed(argv, 1, "", "")

    clock = Hands()
    step = Running(
        "slurmd",
        "slurmd",
        probe=("ask",),
        log="/log",
        vain=("error: refused",),
        advice="know it",
        clock=clock.clock(),
    )
    with pytest.raises(
        OperationFailed, match=r"^slurmd is refused: error: refused: no such user$"
    ) as refused:
        step.make(replace(host, runner=Recorder(answer)))
    assert refused.value.hint == "know it"
    assert not isinstance(refused.value, Transient)
    assert asked == ["ask", "ask", "ask", "kill"]
    assert clock.time < 5


def test_what_a_daemon_says_in_its_end_is_not_what_the_next_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, done = sysv(tmp_path)
    log = tmp_path / "log"
    log.write_text("")
    configuration = tmp_path / "etc/default/slurmd"
    step = Running(
        "slurmd",
        "slurmd",
        reads=("/etc/default/slurmd",),
        probe=("ask",),
        log="/log",
        vain=("error: refused",),
        clock=Hands().clock(),
    )
    step.make(host)
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text("another password")
    at_last = daemon.stop

    def complains(*about: Any) -> None:
        at_last(*about)
        log.write_text("[1] error: refused: the old password\n")

    monkeypatch.setattr(daemon, "stop", complains)
    answers = iter([1, 0])

    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        return (
            Completed(argv, next(answers), "", "") if argv[0] == "ask" else host.runner.run(argv, timeout=9)
        )

    step.make(replace(host, runner=Recorder(answer)))
    assert done == ["start", "stop", "start"]


def test_a_daemon_that_a_role_must_not_run_is_stopped_for_good(tmp_path: Path) -> None:
    host, done = sysv(tmp_path)
    Running("slurmd", "slurmd", clock=Hands().clock()).make(host)
    step = Stopped("slurmd", "slurmd", clock=Hands().clock())
    assert step.lacking(host) == "stop slurmd"
    step.make(host)
    assert step.lacking(host) is None
    assert done == ["start", "stop"]
    assert not SystemV(host).enabled("slurmd")


def test_a_daemon_that_hears_no_order_to_end_is_killed(tmp_path: Path) -> None:
    killed: list[tuple[str, ...]] = []

    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        if argv[0] == "kill":
            killed.append(argv)
            if argv[1] == "-KILL":
                (tmp_path / "proc/7/status").unlink()
        return Completed(argv, 0, "", "")

    host, _ = machine(tmp_path, answer)
    process(tmp_path, 7, "slurmdbd")
    clock = Hands()
    stop(host, "slurmdbd", "slurmdbd", clock.clock())
    assert killed == [("kill", "-TERM", "7"), ("kill", "-KILL", "7")]
    assert clock.time >= 60


def test_a_daemon_that_its_script_does_not_find_is_told_to_end(tmp_path: Path) -> None:
    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        if argv[:2] == ("kill", "-TERM"):
            (tmp_path / "proc/7/status").unlink()
        return Completed(argv, 0, "", "")

    host, recorder = machine(tmp_path, answer)
    process(tmp_path, 7, "sackd")
    clock = Hands()
    stop(host, "sackd", "sackd", clock.clock())
    assert recorder.calls == [("service", "sackd", "stop"), ("kill", "-TERM", "7")]
    assert clock.slept == []


def sshd(root: Path, answer: Answer) -> tuple[Machine, Recorder]:
    """A machine whose sshd serves two people: their sessions are processes of that name, as before OpenSSH 9.8."""
    host, recorder = machine(root, answer)
    (root / "etc/init.d").mkdir(parents=True)
    (root / "etc/init.d/ssh").touch()
    (root / "etc/rc2.d").mkdir()
    (root / "etc/rc2.d/S01ssh").touch()
    (root / "run").mkdir()
    (root / "run/sshd.pid").write_text("100\n")
    process(root, 100, "sshd", unit="system.slice/ssh.service")
    process(root, 200, "sshd", unit="user.slice/user-0.slice/session-1.scope")
    process(root, 201, "sshd", unit="system.slice/ssh.service")
    return host, recorder


@pytest.mark.parametrize(
    ("systemd", "reload"),
    [(False, ("service", "ssh", "reload")), (True, ("systemctl", "reload-or-restart", "ssh"))],
)
def test_sshd_takes_in_its_configuration_and_nobodys_session_ends(
    tmp_path: Path, systemd: bool, reload: tuple[str, ...]
) -> None:
    host, recorder = sshd(tmp_path, lambda argv, stdin: Completed(argv, 0, "", ""))
    if systemd:
        (tmp_path / "run/systemd/system").mkdir(parents=True)
    step = next(one for one in accounts.ssh(situation(tmp_path)) if isinstance(one, Running))
    assert step.lacking(host) == "reload ssh, whose configuration changed"
    step.make(host)
    assert step.lacking(host) is None
    assert [call for call in recorder.calls if call[1] not in ("cat", "is-enabled")] == [
        ("/usr/sbin/sshd", "-t"),
        reload,
    ]


def test_a_configuration_that_sshd_refuses_is_told_and_it_goes_on_with_the_old_one(tmp_path: Path) -> None:
    host, recorder = sshd(tmp_path, lambda argv, stdin: Completed(argv, 255, "", "line 3: Bad option"))
    step = next(one for one in accounts.ssh(situation(tmp_path)) if isinstance(one, Running))
    with pytest.raises(OperationFailed, match="sshd -t exited 255 and said: line 3: Bad option"):
        replace(step, clock=Hands().clock()).make(host)
    assert set(recorder.calls) == {("/usr/sbin/sshd", "-t")}


def test_an_sshd_that_is_just_ending_is_started_and_its_configuration_is_its_own_to_check(
    tmp_path: Path,
) -> None:
    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        if argv[1] == "-t":
            (tmp_path / "proc/100/status").unlink()  # and systemd takes its /run/sshd away
        if argv[2:] == ("start",):
            process(tmp_path, 300, "sshd")
            (tmp_path / "run/sshd.pid").write_text("300\n")
        return Completed(argv, 255 if argv[1] == "-t" else 0, "", "Missing privilege separation directory")

    host, recorder = sshd(tmp_path, answer)
    step = next(one for one in accounts.ssh(situation(tmp_path)) if isinstance(one, Running))
    replace(step, clock=Hands().clock()).make(host)
    assert recorder.calls == [("/usr/sbin/sshd", "-t"), ("service", "ssh", "start")]


def test_sessions_are_no_sshd(tmp_path: Path) -> None:
    host, _ = sshd(tmp_path, lambda argv, stdin: Completed(argv, 0, "", ""))
    step = next(one for one in accounts.ssh(situation(tmp_path)) if isinstance(one, Running))
    (tmp_path / "proc/100/status").unlink()
    assert step.lacking(host) == "start ssh"


def test_where_systemd_runs_only_what_is_of_the_unit_is_stopped(tmp_path: Path) -> None:
    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        if argv[0] == "kill":
            (tmp_path / "proc/7/status").unlink()
        return Completed(argv, 0, "", "")

    host, recorder = machine(tmp_path, answer)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    process(tmp_path, 7, "mariadbd", unit="system.slice/mariadb.service")
    process(tmp_path, 8, "mariadbd", unit="user.slice/user-2001.slice/session-3.scope")
    step = Stopped("mariadb", "mariadbd", clock=Hands().clock())
    assert step.lacking(host) == "stop mariadb"
    step.make(host)
    assert [call for call in recorder.calls if call[0] == "kill"] == [("kill", "-TERM", "7")]
    assert step.lacking(host) == "keep mariadb from starting at boot"  # is-enabled says yes here


def test_a_daemon_that_left_its_units_control_group_is_known_to_systemd(tmp_path: Path) -> None:
    host, _ = machine(tmp_path, lambda argv, stdin: Completed(argv, 0, "7\n" if "show" in argv else "", ""))
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    process(tmp_path, 7, "slurmd", unit="system.slice/slurmstepd.scope/system")
    process(tmp_path, 8, "slurmd", unit="user.slice/user-2001.slice/session-3.scope")
    assert own_processes(host, "slurmd", "slurmd") == [7]


def test_a_daemon_that_cannot_even_be_killed_is_told(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    process(tmp_path, 7, "slurmdbd", state="D")
    with pytest.raises(OperationFailed, match="slurmdbd does not stop"):
        stop(host, "slurmdbd", "slurmdbd", Hands().clock())


def test_a_service_that_is_not_there_need_not_be_stopped(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    assert Stopped("slurmdbd", "slurmdbd").lacking(host) is None
    with pytest.raises(OperationFailed, match="slurmdbd is not installed"):
        Running("slurmdbd", "slurmdbd").make(host)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("enroot : Depends: jq but it is not installable", OperationFailed),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 9 (apt)", Transient),
        ("E: Failed to fetch http://deb.debian.org/x  Temporary failure resolving", Transient),
        ("E: Unable to locate package enroot", OperationFailed),
    ],
)
def test_apt_is_tried_again_for_what_passes_and_not_for_what_does_not(
    tmp_path: Path, said: str, kind: type[OperationFailed]
) -> None:
    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        return Completed(argv, 100, said, "") if argv[0] == "env" else Completed(argv, 0, "", "")

    host, _ = machine(tmp_path, answer)
    step = Packages(("enroot",))
    assert step.lacking(host) == "install enroot"
    with pytest.raises(OperationFailed) as error:
        step.make(host)
    assert type(error.value) is kind
    assert said in str(error.value)


def test_installed_packages_are_left_alone(tmp_path: Path) -> None:
    host, _ = machine(tmp_path, lambda argv, stdin: Completed(argv, 0, "installed", ""))
    assert Packages(("enroot",)).lacking(host) is None


def test_a_log_that_another_file_rotates_is_not_named_twice() -> None:
    text = extras.rotation("/var/log/slurm/slurmctld.log {\n}\n", "/var/log/slurm")
    assert "slurmctld.log" not in text
    assert "/var/log/slurm/slurmd.log {" in text
    for log in ("provision/provisioning", "hpadmin-agent", "slurm/slurmrestd"):
        assert f"/var/log/{log}.log {{" in text


def test_slurms_logs_are_rotated_where_they_are(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    wanted = Settings(slurm={"log_directory": "/data/logs"})
    for step in extras.rotate(situation(tmp_path, settings=wanted)):
        step.make(host)
    text = (tmp_path / extras.ROTATION.lstrip("/")).read_text()
    assert "/data/logs/slurmctld.log {" in text
    assert "/var/log/slurm/slurmd.log" not in text


@pytest.mark.parametrize("daemon", [RESTD, AGENT])
def test_a_daemon_of_the_foreground_is_put_into_the_background(tmp_path: Path, daemon: Daemon) -> None:
    text = script(daemon)
    assert f"--background --make-pidfile --output {daemon.background}" in text
    path = tmp_path / "script"
    path.write_text(text)
    subprocess.run(["sh", "-n", str(path)], check=True)


# --- inventory ------------------------------------------------------------------------------------------------


def test_where_systemd_runs_it_watches_the_inventory(tmp_path: Path) -> None:
    active: list[str] = []

    def systemctl(argv: tuple[str, ...], stdin: str | None) -> Completed:
        if argv[1] in ("enable", "restart"):
            active.append(argv[-1])
        asked = argv[1] in ("is-active", "is-enabled")
        return Completed(argv, 1 if asked and not active else 0, "", "")

    box, recorder = machine(tmp_path, systemctl)
    (watching,) = inventory.steps(situation(tmp_path, NodeType.CONTROLLER))
    assert watching.lacking(box) is None  # without systemd
    assert recorder.calls == []
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert watching.lacking(box) == "write hpadmin-inventory.path and its service"
    watching.make(box)
    assert watching.lacking(box) is None
    unit = (tmp_path / "etc/systemd/system/hpadmin-inventory.path").read_text()
    assert f"PathChanged={tmp_path}/resource_config.json\n" in unit
    service = (tmp_path / "etc/systemd/system/hpadmin-inventory.service").read_text()
    assert f"/lifecycle/on_create.sh --bundle {tmp_path}/bundle --resource-config {tmp_path}/" in service


def test_paths_in_units_are_one_word_and_nothing_else() -> None:
    unit = inventory.service_unit("/x/on create.sh", "/b%h", "/$HOME/a")
    assert 'ExecStart="/x/on create.sh" --bundle "/b%%h" --resource-config "/$$HOME/a"\n' in unit
    assert "PathChanged=/a b%%c\n" in inventory.path_unit("/a b%c")
    with pytest.raises(InvalidInput, match="holds a control character"):
        inventory.path_unit("/a\nExecStart=/bin/sh")
