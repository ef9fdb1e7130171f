"""`on_create.sh` on machines of files: which Python it takes, what it installs, and that it can be stopped."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "lifecycle/on_create.sh"
TOOLS = ("cat", "chmod", "dirname", "ln", "mkdir", "mkfifo", "mktemp", "mv", "od", "rm", "sh", "tee", "touch")

PYTHON = """#!/bin/sh
# A Python of release RELEASE that can do PROGRAM; its environments have a pip that makes it able to run hpadmin.
case "$*" in
    *version_info\\ \\<*) [ RELEASE -ge 11 ] ;;
    *ensurepip*) exit 0 ;;
    "-m venv "*)
        echo "venv by RELEASE" >>"$DONE"
        mkdir -p "$3/bin"
        printf '#!/bin/sh\\necho "pip $*" >>"$DONE"; touch "%s/has-hpadmin"\\n' "$3" >"$3/bin/pip"
        printf '#!/bin/sh\\n[ -e "%s/has-hpadmin" ] || exit 86\\n' "$3" >"$3/bin/python3"
        printf 'shift 2; echo "lifecycle by RELEASE: $*" >>"$DONE"\\n' >>"$3/bin/python3"
        chmod 755 "$3/bin/pip" "$3/bin/python3"
        ;;
    *) exit 86 ;;
esac
"""
APT = """#!/bin/sh
# apt-get and apt-cache of a mirror that has python3.11; the first `update` meets a network that blinks.
echo "${0##*/} $*" >>"$DONE"
case "$*" in
    *update*) [ -e "$DONE.blinked" ] || { touch "$DONE.blinked"; exit 100; } ;;
    "show "*) [ "$2" = python3.11-venv ] ;;
    *install*) ln -s "$BIN/hidden" "$BIN/python3.11" ;;
esac
"""


@dataclass
class Host:
    """What the script finds: its folder, the programs on PATH, and what was done with them."""

    root: Path

    def program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        # Never through one of the links to this machine's own programs.
        with path.open("x") as file:
            file.write(text)
        path.chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": str(self.root / "bin"),
            "BIN": str(self.root / "bin"),
            "DONE": str(self.root / "done"),
            "TMPDIR": str(self.root / "tmp"),
        }
        # A shell cannot trap what was ignored when it began, as SIGHUP is for all below a nohup(1).
        script = [str(shutil.which("env")), "--default-signal", str(self.root / "lifecycle/on_create.sh")]
        pipe = subprocess.PIPE
        return subprocess.Popen([*script, *arguments], env=environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=60)
        assert said == (self.root / "log/provisioning.log").read_text()
        assert list((self.root / "tmp").iterdir()) == []
        return process.returncode, said

    def done(self) -> list[str]:
        path = self.root / "done"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name in ("bin", "lifecycle", "tmp"):
        (tmp_path / name).mkdir()
    for name in TOOLS:
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    text = SCRIPT.read_text()
    for path, here in (("/var/log/provision", "log"), ("/opt/hpadmin", "environment")):
        assert path in text
        text = text.replace(path, str(tmp_path / here))
    (tmp_path / "lifecycle/on_create.sh").write_text(text)
    (tmp_path / "lifecycle/on_create.sh").chmod(0o755)
    found = Host(tmp_path)
    found.program("sleep", "#!/bin/sh\n")
    return found


def test_it_is_sound_shell() -> None:
    subprocess.run(["sh", "-n", str(SCRIPT)], check=True)
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


def test_a_python_that_is_there_and_new_enough_needs_nothing_of_apt(host: Host) -> None:
    host.program("python3", PYTHON.replace("RELEASE", "10"))
    host.program("python3.12", PYTHON.replace("RELEASE", "12"))
    assert host.run("--bundle", "/b")[0] == 0
    done = host.done()
    assert done[0] == "venv by 12"
    assert done[1].startswith("pip install ")
    assert done[2:] == ["lifecycle by 12: --bundle /b"]


def test_where_the_machines_own_python_is_too_old_apt_is_asked_for_others(host: Host) -> None:
    host.program("python3", PYTHON.replace("RELEASE", "10"))
    host.program("hidden", PYTHON.replace("RELEASE", "11"))
    host.program("apt-get", APT)
    host.program("apt-cache", APT)
    assert host.run()[0] == 0
    done = [line.split(" -qq ")[-1] for line in host.done()]
    assert done == [
        "update",
        "update",
        "apt-cache show python3.13-venv",
        "apt-cache show python3.12-venv",
        "apt-cache show python3.11-venv",
        "install -y python3.11 python3.11-venv",
        "venv by 11",
        "pip install -q --retries 3 hpadmin",
        "lifecycle by 11: ",
    ]


def test_wheels_of_another_python_let_the_next_one_have_a_try(host: Host) -> None:
    (host.root / "lifecycle/wheels").mkdir()
    host.program("python3", PYTHON.replace("RELEASE", "13").replace("touch ", "exit 1; touch "))
    host.program("python3.11", PYTHON.replace("RELEASE", "11"))
    assert host.run()[0] == 0
    assert [line for line in host.done() if line.startswith("venv")] == ["venv by 13", "venv by 11"]


def test_a_machine_on_which_nothing_can_be_installed_fails_and_says_so(host: Host) -> None:
    host.program("apt-get", "#!/bin/sh\nexit 100\n")
    host.program("apt-cache", "#!/bin/sh\nexit 100\n")
    status, said = host.run()
    assert status == 1
    assert said.splitlines()[-1].startswith("on_create failed: stage python failed: no Python 3.11 or later")


def test_a_dry_run_installs_nothing(host: Host) -> None:
    host.program("python3", PYTHON.replace("RELEASE", "12"))
    host.program("apt-get", APT)
    status, said = host.run("--dry-run")
    assert (status, host.done()) == (0, [])
    assert said.startswith("python: install Python 3.11 or later, where there is none, and hpadmin in ")


def test_the_lifecycles_exit_status_is_the_scripts(host: Host) -> None:
    host.program("python3", "#!/bin/sh\necho 'on_create failed: stage storage failed' >&2\nexit 1\n")
    assert host.run() == (1, "on_create failed: stage storage failed\n")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_whoever_stops_the_script_stops_the_lifecycle(host: Host, sent: signal.Signals) -> None:
    # What is said once the lifecycle runs is its process id.
    host.program("python3", f'#!/bin/sh\necho $$\nexec "{shutil.which("sleep")}" 1000\n')
    process = host.start()
    assert process.stdout
    lifecycle = int(process.stdout.readline())
    process.send_signal(sent)
    assert process.wait(timeout=60) == 1
    assert process.stdout.read() == f"on_create failed: it was stopped by {sent.name}\n"
    assert list((host.root / "tmp").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(lifecycle, 0)


def test_nothing_that_is_just_being_started_outlives_a_stop(host: Host) -> None:
    """Moments around the start of the lifecycle: its process is forked, is not yet known, has not yet been executed."""
    host.program("python3", f'#!/bin/sh\nexec "{shutil.which("sleep")}" 1000\n')
    for moment in range(40):
        process = host.start()
        while not stops(process.pid):
            assert process.poll() is None
        time.sleep(moment / 10_000)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert (process.returncode, said) == (1, "on_create failed: it was stopped by SIGTERM\n")
    assert list((host.root / "tmp").iterdir()) == []


def stops(pid: int) -> bool:
    """Whether the process has something to do at SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")), 0)
    return bool(caught >> signal.SIGTERM - 1 & 1)
