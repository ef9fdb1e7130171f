"""The judges of health, the site's own checkers, and what is told to Slurm."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hpadmin import resources
from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.nodes import checks, healthcheck, healthconf
from hpadmin.nodes.checks import Facts, LogPosition, judge
from hpadmin.nodes.external import External, run
from hpadmin.nodes.external import judge as judge_external
from hpadmin.nodes.faults import FaultAction, Finding
from hpadmin.nodes.healthconf import Expected
from hpadmin.nodes.report import HealthReport, Verdict
from hpadmin.slurm.command import Completed, Local
from hpadmin.slurm.control import NewState
from tests.unit.recovery.world import World

GPUS = Expected(kind="gpu", accelerators=8, devices="/dev/nvidia[0-9]*", efa=32, disks={"/": 5.0})
WELL = Facts(devices=8, efa=32, free={"/": 60.0}, clock_synchronised=True, smi_gpus=8)
XID79 = "NVRM: Xid (PCI:0000:01:00): 79, pid=71039, name=Media, GPU has fallen off the bus."
SMI_LOST = "nvidia-smi exited 15: Unable to determine the device handle for GPU0000:01:00.0: GPU is lost."


@pytest.mark.parametrize(
    ("facts", "code", "action"),
    [
        (replace(WELL, devices=7), "gpu-count", "reboot"),
        (replace(WELL, smi_gpus=7), "gpu-count", "reboot"),
        (replace(WELL, smi_error=SMI_LOST), "gpu-silent", "reboot"),
        (replace(WELL, remap=(("0000:01:00.0", True, False),)), "row-remap-pending", "reboot"),
        (replace(WELL, remap=(("0000:01:00.0", True, True),)), "row-remap-failed", "replace"),
        (replace(WELL, efa=31), "efa-count", "reboot"),
        (replace(WELL, free={"/": 1.0}), "disk-full", "monitor"),
        (replace(WELL, free={"/": None}), "filesystem", "monitor"),
        (replace(WELL, read_only=("/",)), "disk-read-only", "replace"),
        (replace(WELL, mounted={"/fsx": False}), "filesystem", "monitor"),
        (replace(WELL, clock_synchronised=False), "clock", "monitor"),
        (replace(WELL, kernel_lines=("quiet", XID79)), "xid-79", "reboot"),
        (replace(WELL, neuron_ecc={"neuron0": 2}), "neuron-ecc", "replace"),
    ],
)
def test_one_fault_at_a_time(facts: Facts, code: str, action: str) -> None:
    assert [(each.code, each.action.value) for each in judge(GPUS, facts)] == [(code, action)]


def test_a_healthy_node_and_one_of_which_nothing_is_known() -> None:
    assert judge(GPUS, WELL) == ()
    assert judge(GPUS, Facts()) == ()


def test_a_site_may_change_what_a_fault_calls_for() -> None:
    expected = replace(GPUS, actions={"gpu-count": FaultAction.REPLACE})
    assert judge(expected, replace(WELL, devices=7))[0].action is FaultAction.REPLACE


def test_a_site_may_call_for_more_than_nothing() -> None:
    line = "NVRM: Xid (PCI:0000:01:00): 119, pid=1, name=x, Timeout waiting for RPC from GSP!"
    assert judge(GPUS, replace(WELL, kernel_lines=(line,))) == ()
    expected = replace(GPUS, actions={"xid-119": FaultAction.REBOOT})
    [found] = judge(expected, replace(WELL, kernel_lines=(line,)))
    assert (found.code, found.action) == ("xid-119", FaultAction.REBOOT)


def test_the_gravest_comes_first() -> None:
    facts = replace(WELL, devices=7, free={"/": 0.1}, read_only=("/",))
    assert [each.code for each in judge(GPUS, facts)] == ["disk-read-only", "gpu-count", "disk-full"]


def _done(code: int, out: str = "", err: str = "") -> Completed:
    return Completed(("x",), code, out, err)


DCGM = """{"DCGM Diagnostic": {"test_categories": [{"category": "Hardware", "tests": [
  {"name": "Memory", "results": [{"gpu_id": "3", "status": "Fail",
    "warnings": [{"error_id": 95, "error_severity": %d, "warning": "Page retirement limit reached"}]},
    {"gpu_id": "2", "status": "Pass"}]}]}]}}"""


@pytest.mark.parametrize(
    ("form", "done", "expected"),
    [
        ("result-line", _done(0, "x\nHEALTH_CHECK_RESULT:n1:Passed:none:all well\n"), []),
        ("result-line", _done(1, "HEALTH_CHECK_RESULT:n1:Failed:replace:DCGM level 2: GPU 3\n"), ["replace"]),
        ("result-line", _done(1, "HEALTH_CHECK_RESULT:n1:Failed:none:slow\n"), ["monitor"]),
        ("result-line", _done(0, "HEALTH_CHECK_RESULT:n1:Skipped:none:DRAINED\n"), []),
        ("result-line", _done(0, "HEALTH_CHECK_RESULT:n1:Failed:explode:x\n"), ["monitor"]),
        ("result-line", _done(127, "", "no such file"), ["monitor"]),
        ("exit", _done(0, "OK"), []),
        (
            "exit",
            _done(1, "ERROR:  nhc:  Health check failed:  check_fs_mount:  /fsx not mounted\n"),
            ["reboot"],
        ),
        ("nagios", _done(0), []),
        ("nagios", _done(1, "WARN"), ["monitor"]),
        ("nagios", _done(2, "CRITICAL - ib link down"), ["reboot"]),
        ("nagios", _done(3, "UNKNOWN"), ["monitor"]),
        ("dcgmi", _done(0, '{"DCGM GPU Diagnostic": {"test_categories": []}}'), []),
        ("dcgmi", _done(226, DCGM % 2), ["replace"]),
        ("dcgmi", _done(226, DCGM % 6), ["reboot"]),
        ("dcgmi", _done(226, DCGM % 1), ["monitor"]),
        ("dcgmi", _done(1, "Error: Unable to connect to host engine"), ["monitor"]),
        ("dcgmi", _done(0, '{"DCGM Diagnostic": {"test_categories": [null]}}'), ["monitor"]),
        ("dcgmi", _done(0, '{"DCGM Diagnostic": {"test_categories": [{"tests": 3}]}}'), ["monitor"]),
        ("dcgmi", _done(0, "[" * 100_000), ["monitor"]),
    ],
)
def test_checkers_of_the_site(form: str, done: Completed, expected: list[str]) -> None:
    check = External("site", ("/bin/check",), form, FaultAction.REBOOT)
    found = judge_external(check, done)
    assert [each.action.value for each in found] == expected
    assert all(each.text.startswith("site") for each in found)


def test_a_checker_that_hangs_is_itself_a_finding() -> None:
    [found] = run(External("slow", ("sleep", "5"), "exit", timeout=0.2), Local())
    assert (found.action, "did not end" in found.text) == (FaultAction.MONITOR, True)


@pytest.mark.parametrize(("mode", "said"), [(0o755, "Exec format error"), (0o644, "Permission denied")])
def test_a_checker_that_cannot_be_started_is_a_finding(tmp_path: Path, mode: int, said: str) -> None:
    broken = tmp_path / "check"
    broken.write_bytes(b"\x7fELF of another machine")
    broken.chmod(mode)
    [found] = run(External("site", (str(broken),), "exit"), Local())
    assert found.text == f"site: {broken} cannot be run: {said}"
    assert found.action is FaultAction.MONITOR


def test_a_check_that_is_itself_broken_says_nothing_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    argv = ["--json", "--config", str(tmp_path / "health.toml"), "--state", str(tmp_path)]
    monkeypatch.setattr(checks, "judge", broken)
    assert healthcheck.main(argv) == healthcheck.ERROR
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("python", "prolog"), [("exit 3", 1), ("exit 1", 0), ("exit 2", 0), ("kill -9 $$", 0), ("exit 0", 0)]
)
def test_only_a_sick_node_stops_a_job_at_its_prolog(tmp_path: Path, python: str, prolog: int) -> None:
    whole = tmp_path / "python3"
    whole.write_text(f"#!/bin/sh\n{python}\n")
    whole.chmod(0o755)
    plugin = resources.directory("slurm_plugins") / "health" / "hpadmin-health"
    text = plugin.read_text().replace('"/opt/hpadmin/bin/python3"', repr(str(whole)))
    (tmp_path / "light").write_text(text.replace('"/run/hpadmin', f'"{tmp_path}/none'))
    done = Local().run([sys.executable, "-ISB", str(tmp_path / "light"), "prolog"], timeout=60)
    assert done.returncode == prolog


@pytest.fixture(autouse=True)
def no_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel of whoever runs the tests has lines of its own."""
    monkeypatch.setattr(checks, "KMSG", str(tmp_path / "kmsg"))


def test_the_kernel_log_is_read_where_it_was_left(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.write_text(f"{XID79}\n")
    lines, position = checks.read_kernel_log(str(log), None)
    assert lines == ()
    with log.open("a") as file:
        file.write("one\ntwo\nhalf a l")
    lines, position = checks.read_kernel_log(str(log), position)
    assert lines == ("one", "two")
    with log.open("a") as file:
        file.write("ine\n")
    lines, position = checks.read_kernel_log(str(log), position)
    assert lines == ("half a line",)
    log.rename(tmp_path / "kern.log.1")
    log.write_text("after the rotation\n")
    lines, position = checks.read_kernel_log(str(log), position)
    assert lines == ("after the rotation",)
    assert checks.read_kernel_log(str(tmp_path / "none"), position) == ((), LogPosition())
    assert checks.read_kernel_log("none", None) == ((), LogPosition())
    assert checks.read_kernel_log(str(log), LogPosition())[0] == ("after the rotation",)


def test_what_was_written_before_the_log_was_rotated_is_read(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.write_text("one\n")
    _, position = checks.read_kernel_log(str(log), None)
    with log.open("a") as file:
        file.write(f"{XID79}\n")
    log.rename(tmp_path / "kern.log.1")
    log.write_text("two\n")
    lines, position = checks.read_kernel_log(str(log), position)
    assert lines == (XID79, "two")
    assert checks.read_kernel_log(str(log), position)[0] == ()


def test_a_fault_between_boot_and_first_look_is_in_the_kernels_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "kern.log"
    log.write_text("of the boot before\n")
    ring = iter([b"6,1,5,-;Linux version 6.8\n SUBSYSTEM=x\n", f"2,2,9,-;{XID79}\n".encode()])

    def read(handle: int, size: int) -> bytes:
        if (record := next(ring, None)) is None:
            raise BlockingIOError
        return record

    Path(checks.KMSG).touch()
    monkeypatch.setattr(os, "read", read)
    lines, position = checks.read_kernel_log(str(log), None)
    assert lines == ("Linux version 6.8", XID79)
    assert (position.path, position.offset) == (str(log), log.stat().st_size)


def test_a_log_that_users_write_to_is_not_read_for_the_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LOG", str(tmp_path / "kern.log"))
    Path(checks.KMSG).touch()
    assert checks._log_path("auto") == checks.KMSG
    (tmp_path / "kern.log").touch()
    assert checks._log_path("auto") == str(tmp_path / "kern.log")


def test_a_directory_that_does_not_answer_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checks.look_at([str(tmp_path)])[str(tmp_path)]
    assert found is not None
    assert (found[0], found[1] is not None, found[2]) == (False, True, False)
    assert checks.look_at([str(tmp_path / "none")]) == {str(tmp_path / "none"): (False, None, None)}
    hangs = tmp_path / "python3"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hangs))
    assert checks.look_at(["/fsx"], seconds=0.2) == {"/fsx": None}
    [told] = judge(GPUS, replace(WELL, silent=("/fsx",)))
    assert (told.code, told.text) == ("filesystem", "/fsx does not answer")


class _Slow:
    """Each command takes ten seconds of `clock`, or as long as it may."""

    def __init__(self) -> None:
        self.now = 0.0
        self.given: list[float] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        self.given.append(timeout)
        self.now += min(timeout, 10)
        return _done(0)


def test_all_programs_together_have_so_long(tmp_path: Path) -> None:
    slow = _Slow()
    sites = tuple(External(f"site{index}", ("x",), "exit") for index in range(4))
    facts = checks.ask_tools(Expected(externals=sites), Facts(), slow, seconds=25, clock=lambda: slow.now)
    assert slow.given == [25, 15, 5]
    [found] = facts.external
    assert found.text == "site3 was not run: those before it took all the time there is"


def test_what_needs_no_program_is_told_before_any_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(2)
    monkeypatch.setenv("SLURMD_NODENAME", "n0")
    monkeypatch.setattr(healthcheck, "CommandReader", lambda _: world)
    monkeypatch.setattr(healthcheck, "CommandControl", lambda _: world)
    monkeypatch.setattr(checks, "gather", lambda *_: Facts(kernel_lines=(XID79,)))
    before: list[str] = []

    def ask(expected: Expected, facts: Facts, *_: object, seconds: float) -> Facts:
        before.append(world.nodes_["n0"].reason)
        assert 0 < seconds <= 45
        return replace(facts, external=(Finding("dcgm-isolate", FaultAction.REPLACE, "GPU 3"),))

    monkeypatch.setattr(checks, "ask_tools", ask)
    argv = ["--config", str(tmp_path / "health.toml"), "--state", str(tmp_path / "state"), "--job"]
    assert healthcheck.main(argv) == healthcheck.SICK
    assert [reason.partition(" PCI")[0] for reason in before] == ["hpadmin: reboot: xid-79:"]
    assert world.nodes_["n0"].reason == "hpadmin: replace: dcgm-isolate: GPU 3"


@pytest.mark.parametrize(("mount", "prolog"), [("", 0), ("import time; time.sleep(60)", 1)])
def test_the_light_check_does_not_wait_for_a_file_system(tmp_path: Path, mount: str, prolog: int) -> None:
    whole, screen = tmp_path / "python3", tmp_path / "screen"
    whole.write_text("#!/bin/sh\nexit 3\n")
    whole.chmod(0o755)
    screen.write_text("mount\t/proc\ndisk\t/\t0.0\n")
    text = (resources.directory("slurm_plugins") / "health" / "hpadmin-health").read_text()
    for old, new in (
        ("/opt/hpadmin/bin/python3", str(whole)),
        ("/run/hpadmin/health/screen", str(screen)),
        ("SECONDS = 5", f"SECONDS = {0.2 if mount else 60}"),
        ('if kind == "mount":', f'if kind == "mount":\n        {mount}'),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "light").write_text(text)
    done = Local().run([sys.executable, "-ISB", str(tmp_path / "light"), "prolog"], timeout=100)
    assert (done.returncode, done.stderr) == (prolog, "")


def test_a_fault_of_the_kernel_log_lasts_until_the_next_boot(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.write_text("")
    expected = Expected(kernel_log=str(log), clock=False)
    memory = healthcheck.Remembered("boot")
    result, memory = healthcheck.conclude(expected, memory, checks.gather(expected, memory.position), at=1)
    assert result.verdict is Verdict.PASSED
    log.write_text(f"{XID79}\n")
    for _ in range(2):
        result, memory = healthcheck.conclude(
            expected, memory, checks.gather(expected, memory.position), at=2
        )
        assert (result.verdict, result.report.fault, result.report.action) == (
            Verdict.FAILED,
            "xid-79",
            "reboot",
        )
    healthcheck.remember(tmp_path / "state", memory, expected, result, slurmd=None)
    assert not (tmp_path / "state" / "screen").exists()
    assert healthcheck.recall(tmp_path / "state").kernel == ()  # another boot


def test_what_is_told_to_slurm() -> None:
    world = World(3)
    failed = HealthReport(Verdict.FAILED, world.now, "xid-79", "reboot", "PCI:0000:01:00")
    healthcheck.tell("n0", failed, world, world)
    assert world.nodes_["n0"].reason == "hpadmin: reboot: xid-79: PCI:0000:01:00"
    assert world.nodes_["n0"].info().state.failing
    world.admin("n1", NewState.DRAIN, "bad PSU")
    healthcheck.tell("n1", failed, world, world)
    assert world.nodes_["n1"].reason == "bad PSU"
    assert HealthReport.read(world.nodes_["n1"].extra) == failed
    world.nodes_["n2"].extra = "somebody's own words"
    healthcheck.tell("n2", HealthReport(Verdict.PASSED, world.now), world, world)
    assert world.nodes_["n2"].extra == "somebody's own words"
    assert world.nodes_["n2"].info().state.schedulable
    with pytest.raises(OperationFailed, match="no node n9"):
        healthcheck.tell("n9", failed, world, world)


def test_a_report_goes_beside_what_extra_holds() -> None:
    merged = HealthReport(Verdict.PASSED, 5).merged_into('{"rack": "r1"}')
    assert merged == '{"rack":"r1","hpadmin":{"health":"passed","at":5}}'
    assert HealthReport.read(merged) == HealthReport(Verdict.PASSED, 5)
    for extra in ("", "x", "[]", "{}", '{"hpadmin": 3}', '{"hpadmin": {"health": "well", "at": 1}}', "{"):
        assert HealthReport.read(extra) is None


def test_the_configuration_is_checked_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "health.toml"
    path.write_text(
        '[accelerators]\nkind="tpu"\ncount="8"\n[colour]\nx=1\n[actions]\nxid-79="explode"\nfoo="reboot"\n'
        '[[external]]\nname="a b"\ncommand="ls"\nform="xml"\ntimeout=0\n'
    )
    with pytest.raises(InvalidInput) as caught:
        healthconf.load(path)
    assert sorted(problem.path for problem in caught.value.problems) == [
        "accelerators.count",
        "accelerators.kind",
        "actions.foo",
        "actions.xid-79",
        "colour",
        "external[0].command",
        "external[0].form",
        "external[0].name",
        "external[0].timeout",
    ]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ('external = "nhc"', ["external"]),
        ("external = [1]", ["external[0]"]),
        ('[external]\nname = "nhc"', ["external"]),
        ('[[external]]\nname = "nhc"\ncommand = ["nhc"]\nform = ["exit"]', ["external[0].form"]),
        ("actions = 1", ["actions"]),
        ('[disk]\n"/" = "2 %"\n"/tmp" = 101\nhome = 1', ["disk./", "disk./tmp", "disk.home"]),
        ("[filesystems]\nmounts = [1, 'fsx', '/a\\tb']", ["filesystems.mounts"] * 2),
        ('[accelerators]\nkind = ["gpu"]\ncount = -1', ["accelerators.count", "accelerators.kind"]),
    ],
)
def test_values_of_another_kind_are_told(tmp_path: Path, text: str, paths: list[str]) -> None:
    path = tmp_path / "health.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        healthconf.load(path, inventory=tmp_path / "none")
    assert sorted({problem.path for problem in caught.value.problems}) == sorted(set(paths))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"InstanceGroups": 3}',
        '{"InstanceGroups": [{"Instances": [null]}]}',
        '{"InstanceGroups": [{"InstanceType": "ml.new.99xlarge", "Instances": [{"InstanceName": "w-1"}]}]}',
    ],
)
def test_an_inventory_that_does_not_tell_adds_nothing(tmp_path: Path, text: str) -> None:
    inventory = tmp_path / "resource_config.json"
    inventory.write_text(text)
    assert healthconf.load(tmp_path / "none.toml", inventory=inventory, host="w-1").accelerators is None


def test_what_the_inventory_adds(tmp_path: Path) -> None:
    inventory = tmp_path / "resource_config.json"
    inventory.write_text(
        '{"InstanceGroups": [{"Name": "w", "InstanceType": "ml.p5.48xlarge", "Instances":'
        ' [{"InstanceName": "w-1", "CustomerIpAddress": "10.1.2.3"}]}]}'
    )
    expected = healthconf.load(tmp_path / "none.toml", inventory=inventory, host="ip-10-1-2-3")
    assert (expected.kind, expected.accelerators, expected.efa) == ("gpu", 8, 32)
    assert expected.devices == "/dev/nvidia[0-9]*"
    assert healthconf.load(tmp_path / "none.toml", inventory=inventory, host="elsewhere").accelerators is None


class _Smi:
    def __init__(self, listed: Completed, rows: Completed) -> None:
        self.answers = {"-L": listed}
        self.rows = rows

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        return self.answers.get(argv[1], self.rows)


def test_nvidia_smi_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    smi = _Smi(
        _done(0, "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2)\n"),
        _done(0, "00000000:53:00.0, 0, 0\n00000000:64:00.0, Yes, 0\n"),
    )
    expected = Expected(kind="gpu", accelerators=8, clock=False, kernel_log="none")
    facts = checks.ask_tools(expected, checks.gather(expected, None), smi, seconds=45)
    assert facts.smi_gpus == 2
    assert facts.remap == (("00000000:53:00.0", False, False), ("00000000:64:00.0", True, False))
    assert [each.code for each in judge(expected, facts)] == ["gpu-count", "row-remap-pending"]
