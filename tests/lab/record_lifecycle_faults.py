"""Makes the table of faults while nodes are created: docs/evidence/lifecycle-faults.{json,md}.

    python -m tests.lab.record_lifecycle_faults [SCENARIO…]

The long and wide versions of what tests/lab/test_lifecycle_faults.py shows in every run: kills at every single change
of every stage, waits of minutes, twenty nodes at once. With names, only those scenarios are recorded anew.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.test_lifecycle_faults import kill_everywhere
from tests.support import labs
from tests.support.bare import FILE_SYSTEM, PYTHON, bare

TABLE = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "lifecycle-faults.json"
LATE = 120
"""Seconds that a controller, a file server or slurmdbd is late."""
EVERYWHERE = ("identity", "storage", "users", "ssh", "authentication", "logs")


@dataclass(frozen=True)
class Row:
    """One scenario, and what came of it."""

    name: str
    fault: str
    outcome: str
    seconds: float
    """From the fault's begin to the last node's being ready."""
    load: float
    """Of the machine, in the end: how many wanted a core."""


def controller_late() -> tuple[str, str]:
    """The controller comes minutes after its nodes."""
    with bare("head-1", "door-1", "work-1") as machines:
        machines.begin("work-1")
        machines.begin("door-1")
        time.sleep(LATE)
        waiting = [str(machines.state(name)["stage"]) for name in ("door-1", "work-1")]
        said = machines.log("work-1").splitlines()[-1].partition("compute: ")[2]
        assert machines.on_create("head-1", timeout=900).returncode == 0
        machines.wait("work-1", "done", 600)
        machines.wait("door-1", "done", 600)
        node = machines.run("work-1", "hostname").strip()
        assert machines.run("door-1", "srun", "-D", "/", "hostname").strip() == node
        return (
            f"the controller is switched on {LATE} s after a login and a compute node",
            f"they waited in the stages {' and '.join(waiting)} (“{said}”) and ran a job in the end",
        )


def slurmdbd_down() -> tuple[str, str]:
    """slurmdbd dies whenever it is started, for minutes."""
    with bare("head-1", lifecycle="profile: container\naccounting: true\n") as machines:
        machines.run("head-1", "mv", "/usr/sbin/slurmdbd", "/usr/sbin/slurmdbd.real")
        machines.runner("head-1").put("/usr/sbin/slurmdbd", "#!/bin/sh\nexit 1\n", mode=0o755)
        machines.begin("head-1")
        labs.wait_until(
            lambda: machines.state("head-1").get("stage") == "accounting", 300, "the stage accounting"
        )
        time.sleep(LATE)
        said = [line for line in machines.log("head-1").splitlines() if "accounting: " in line][-1]
        state = machines.state("head-1")
        machines.run("head-1", "mv", "/usr/sbin/slurmdbd.real", "/usr/sbin/slurmdbd")
        if state["status"] == "failed":
            assert machines.on_create("head-1", timeout=900).returncode == 0
        machines.wait("head-1", "done", 600)
        assert "UP" in machines.run("head-1", "scontrol", "ping")
        told = said.partition("accounting: ")[2].partition("; trying again")[0]
        ended = "the next run finished" if state["status"] == "failed" else "it went on by itself"
        return f"slurmdbd dies at its start, for {LATE} s", f"“{told}”; {ended}"


def file_server_late() -> tuple[str, str]:
    """The file server is not there for minutes."""
    with bare("head-1", "work-1", users="ann,2001\n", home=True) as machines:
        machines.begin("head-1")
        machines.begin("work-1")
        time.sleep(LATE)
        stages = {str(machines.state(name)["stage"]) for name in ("head-1", "work-1")}
        assert stages == {"storage"}, stages
        machines.serve()
        for name in ("head-1", "work-1"):
            machines.wait(name, "done", 600)
            assert machines.run(name, "ls", "/home").split() == ["ann"]
        attempts = machines.outcome("work-1", "storage")["attempts"]
        return f"the file server comes {LATE} s late", f"both nodes are ready; {attempts} attempts to mount"


def file_server_away() -> tuple[str, str]:
    """The file server hangs while homes are made."""
    with bare("head-1", users="".join(f"u{n},{2000 + n}\n" for n in range(40)), home=True) as machines:
        server = machines.client.containers.get(machines.serve())
        machines.begin("head-1")
        labs.wait_until(lambda: machines.state("head-1").get("stage") == "users", 300, "the stage users")
        labs.wait_until(lambda: "make home /home/u3" in machines.log("head-1"), 300, "a few homes")
        server.pause()
        time.sleep(60)
        server.unpause()
        machines.wait("head-1", "done", 900)
        assert len(machines.run("head-1", "ls", "-A", "/home").split()) == 40
        attempts = machines.outcome("head-1", "users")["attempts"]
        return (
            "the file server hangs for 60 s while 40 homes are made",
            f"all 40 are whole and nothing else is there; {attempts} attempts",
        )


def killed(name: str, *stages: str) -> tuple[str, str]:
    """Kills at every change of these stages of a machine, in the order that it goes through them; make the others."""
    others = [each for each in ("head-1", "work-1", "door-1") if each != name]
    lifecycle = "profile: container\naccounting: true\nrest: true\n"
    with bare(name, *others, lifecycle=lifecycle, users="ann,2001\n", home=True) as machines:
        machines.serve()
        if name != "head-1":
            assert machines.on_create("head-1").returncode == 0
        counts = kill_everywhere(machines, name, (0, 500), *stages)
        assert all(counts.values()), counts
        for other in others:
            assert machines.on_create(other).returncode == 0
        node = machines.run("work-1", "hostname").strip()
        submit = ("runuser", "-u", "ann", "--", "srun", "-D", "/home/ann", "--account=users", "hostname")
        for host in ("head-1", "door-1"):
            assert machines.run(host, *submit).strip() == node
    listed = ", ".join(f"{stage} {count}" for stage, count in counts.items())
    return (
        "kill -9 before every single change that a stage makes, and a moment into every command, each in a run of its "
        f"own: {sum(counts.values())} on a {ROLES[name]} ({listed})",
        "every next run went on and none failed; the last made the node, and a user's job ran; no temporary file was "
        "left; a further run changed nothing",
    )


ROLES = {
    "head-1": "controller with accounting and slurmrestd",
    "door-1": "login node",
    "work-1": "compute node",
}


def kills_controller() -> tuple[str, str]:
    """Kills at every change of a controller's stages up to Slurm's configuration."""
    return killed("head-1", *EVERYWHERE, "submission", "tokens", "configuration")


def kills_controller_daemons() -> tuple[str, str]:
    """Kills at every change of the stages of a controller's daemons."""
    return killed("head-1", "accounting", "controller", "associations", "rest")


def kills_login() -> tuple[str, str]:
    """Kills at every change of every stage of a login node."""
    return killed("door-1", *EVERYWHERE, "submission", "login")


def kills_compute() -> tuple[str, str]:
    """Kills at every change of every stage of a compute node."""
    return killed("work-1", *EVERYWHERE, "programs", "submission", "compute")


def twenty_at_once() -> tuple[str, str]:
    """Twenty nodes start together and make the same homes."""
    users = 5
    source = labs.with_home(
        labs.request(
            ("controller", "ml.c5.xlarge", 1, "Controller", None),
            ("work", "ml.c5.xlarge", 20, "Compute", "p"),
        ),
        FILE_SYSTEM,
    )
    listed = "".join(f"u{n},{2000 + n}\n" for n in range(users))
    with labs.running_lab(source, bundle={"shared_users.txt": listed}, timeout=2400) as lab:
        runner = lab.runner("controller-1")
        assert len(lab.slurm_states()) == 20
        script = (
            "set -e; for n in $(seq 0 4); do d=/home/u$n; s=$d/.ssh; "
            'test "$(ssh-keygen -y -f $s/id_ed25519)" = "$(cat $s/id_ed25519.pub)"; '
            'test "$(grep -c ^ssh-ed25519 $s/authorized_keys)" = 1; grep -qF "$(cat $s/id_ed25519.pub)" '
            '$s/authorized_keys; test "$(stat -c %U:%a $d)" = u$n:700; done; '
            "ls -A /home; find /home -name '.hpadmin*' -o -name '*hpadmin-new*'"
        )
        listing = runner.run(["sh", "-c", script], timeout=300).check().stdout.split()
        assert listing == [f"u{n}" for n in range(users)], listing
        hosts = labs.login(lab, "srun", "-N20", "-D", "/", "hostname", timeout=600).stdout.split()
        assert len(set(hosts)) == 20
    return (
        "20 nodes and their controller start at once, and all make the homes of the same 5 users",
        "20 nodes idle, a job over all of them ran; 5 homes, each whole, with one key pair and one line for it",
    )


def lock_for_minutes() -> tuple[str, str]:
    """apt's lock is held longer than apt waits for it."""
    with bare("work-1", lifecycle="profile: container\nobservability: true\n") as machines:
        machines.runner("work-1").put(
            "/root/lock.py",
            "import fcntl, os, signal\n"
            "for name in ('/var/lib/dpkg/lock-frontend', '/var/lib/apt/lists/lock'):\n"
            "    fcntl.lockf(os.open(name, os.O_RDWR | os.O_CREAT, 0o640), fcntl.LOCK_EX)\n"
            "signal.pause()\n",
        )
        machines.detached("work-1", f"{PYTHON} /root/lock.py")
        machines.begin("work-1")
        labs.wait_until(lambda: "trying again" in machines.log("work-1"), 300, "apt gives up once")
        said = [line for line in machines.log("work-1").splitlines() if "observability: " in line][-1]
        return (
            "apt's lock is held for longer than apt waits",
            f"tried again: “{said.partition('observability: ')[2]}”",
        )


SCENARIOS: dict[str, Callable[[], tuple[str, str]]] = {
    "controller-late": controller_late,
    "slurmdbd-down": slurmdbd_down,
    "file-server-late": file_server_late,
    "file-server-away": file_server_away,
    "apt-lock": lock_for_minutes,
    "twenty-at-once": twenty_at_once,
    "kills-controller": kills_controller,
    "kills-controller-daemons": kills_controller_daemons,
    "kills-login": kills_login,
    "kills-compute": kills_compute,
}


def markdown(rows: list[Row]) -> str:
    """The table for people."""
    lines = [
        "# What becomes of nodes whose creation goes wrong",
        "",
        "Each row is a cluster of real machines (containers, Slurm 24.11.5), broken as the first column says while its",
        "nodes were created. *Seconds* are those of the whole scenario, on two cores that others used as well: *load*",
        "is how many wanted one in the end. Made by `python -m tests.lab.record_lifecycle_faults`; shorter",
        "versions run in tests/lab/test_lifecycle_faults.py.",
        "",
        "| fault | what came of it | seconds | load |",
        "|---|---|---|---|",
        *(
            f"| {row.fault} | {row.outcome.replace('|', '/')} | {row.seconds:.0f} | {row.load:.0f} |"
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def main(names: list[str]) -> None:
    """Record, and write both files after each scenario."""
    rows = {row["name"]: Row(**row) for row in json.loads(TABLE.read_text())} if TABLE.exists() else {}
    for name in names or SCENARIOS:
        begin = time.monotonic()
        fault, outcome = SCENARIOS[name]()
        rows[name] = Row(
            name, fault, outcome, round(time.monotonic() - begin, 1), round(os.getloadavg()[0], 1)
        )
        ordered = [rows[each] for each in SCENARIOS if each in rows]
        TABLE.write_text(json.dumps([asdict(row) for row in ordered], indent=1, ensure_ascii=False) + "\n")
        TABLE.with_suffix(".md").write_text(markdown(ordered))
        sys.stderr.write(f"{name}: {outcome}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
