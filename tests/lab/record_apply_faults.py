"""Makes the fault table of applications on a real cluster: docs/evidence/apply-faults.{json,md}.

    python -m tests.lab.record_apply_faults

Takes a lab up, runs jobs on it, and breaks an application that removes a group of nodes in every way of the table:
a kill -9 just before each of its steps, disks, files, daemons, nodes. After each it notes what the cluster ran, then
lets the next ordinary run bring things to an end, and notes what was lost.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.configured import CONF, Configured, configured
from tests.support import labs

TABLE = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "apply-faults.json"
REMAINING = ("controller", "steady")
SECOND = "/tmp/second"
KILL = "kill -KILL $PPID"


@dataclass(frozen=True)
class Row:
    """One fault, and what came of it."""

    fault: str
    exit_code: int
    said: str
    """The first line of what the command said went wrong; empty after a kill."""
    on_disk: str
    """``before``, ``after``, or ``mixed`` (or edited by hand), right after the fault."""
    slurmctld: str
    """What slurmctld ran right after the fault: ``before``, ``after``, ``down``."""
    next_run: str
    """What the next run made of it."""
    lost: list[str]
    """Jobs that no longer ran at the end, nodes that were not idle or at work, files other than wanted."""


@dataclass
class Recorder:
    """The lab with its jobs, and the two states of the files."""

    site: Configured
    jobs: list[int]

    def __post_init__(self) -> None:
        self.rows: list[Row] = []
        self.wanted = {}
        self.put_back()
        self.before = self.site.files()
        self.steps = self._steps()
        self.wanted = self.site.files()
        self.put_back()

    def ask(self, strategy: str = "Overwrite") -> list[str]:
        return self.site.ask(strategy=strategy, groups=REMAINING)

    def put_back(self) -> str:
        """Bring the lab to the state that every row begins with; return what was said of an unfinished run."""
        done = self.site.apply(self.site.ask(strategy="Overwrite")).check()
        labs.wait_until(lambda: len(self.site.lab.slurm_states()) == 5, 60, "all nodes are known")
        self.site.settle()
        return next((line for line in done.stderr.splitlines() if "had not been completed" in line), "")

    def _steps(self) -> list[str]:
        done = self.site.acting("none", "true", self.ask()).check()
        return [line.strip() for line in done.stderr.splitlines() if line.startswith("  ")]

    def record(
        self,
        fault: str,
        *,
        at: str = "none",
        do: str = "true",
        prepare: Callable[[], object] = lambda: None,
        mend: Callable[[], object] = lambda: None,
        words: tuple[str, ...] = (),
        strategy: str = "Overwrite",
    ) -> None:
        """Break an application and append the row."""
        prepare()
        done = self.site.acting(at, do, self.ask(strategy), *words)
        killed = done.returncode in (137, -9)
        second = self.site.sh(f"cat {SECOND} 2>/dev/null || true; rm -f {SECOND}")
        lines = (second + done.stderr).splitlines()
        said = [" ".join(lines[place : place + 2]) if line.endswith(":") else line
                for place, line in enumerate(lines) if line.startswith("hpadmin: ")]  # fmt: skip
        on_disk, slurmctld = self._on_disk(), self._slurmctld()
        mend()
        next_run = self.put_back()
        self.rows.append(
            Row(
                fault,
                done.returncode,
                "" if killed or not said else said[0].removeprefix("hpadmin: "),
                on_disk,
                slurmctld,
                next_run.partition("completed: ")[2].partition(".")[0] or "nothing left to do",
                self._lost(),
            )
        )
        sys.stderr.write(f"{self.rows[-1]}\n")

    def _on_disk(self) -> str:
        found = {
            name: digest
            for name, digest in self.site.files().items()
            if "hpadmin-" not in name and "ballast" not in name
        }
        return "before" if found == self.before else "after" if found == self.wanted else "mixed"

    def _slurmctld(self) -> str:
        known = len(self.site.lab.slurm_states())
        return {5: "before", 2: "after", 0: "down"}.get(known, f"{known} nodes")

    def _lost(self) -> list[str]:
        states = {job: labs.job_field(self.site.lab, job, "JobState") for job in self.jobs}
        lost = [f"job {job} is {state}" for job, state in states.items() if state != "RUNNING"]
        if self.site.files() != self.before:
            lost.append("files are not as they were")
        if not self.site.runs_the_files():
            lost.append("slurmctld runs something else")
        return lost


def record(site: Configured) -> list[Row]:
    """Go through the whole table."""
    jobs = [
        labs.submit(site.lab, "-p", "steady", "-w", host, "--wrap", "sleep 7200")
        for host in site.hosts("steady")
    ]
    for job in jobs:
        labs.wait_for_state(site.lab, job, "RUNNING")
    table = Recorder(site, jobs)
    for number, step in enumerate(table.steps):
        table.record(f"kill -9 before: {step}", at=str(number), do=KILL)
    _disks(table)
    _daemons(table)
    _others(table)
    return table.rows


def _disks(table: Recorder) -> None:
    site = table.site
    small = f"cp -a {CONF} /tmp/conf; mount -t tmpfs -o size=128k tmpfs {CONF}; cp -a /tmp/conf/. {CONF}/"
    fill = f"dd if=/dev/zero of={CONF}/ballast.fill bs=1k count=200 2>/dev/null || true"

    def make_space() -> None:
        site.sh(f"rm -rf {CONF}/ballast.fill /tmp/conf")
        site.unmount(CONF)

    table.record(
        "the disk of the configuration is full",
        prepare=lambda: site.sh(f"{small}; {fill}"),
        mend=make_space,
    )
    table.record(
        "the disk of the state folder is full",
        prepare=lambda: site.sh(
            "cp -a /var/lib/hpadmin /tmp/state; mount -t tmpfs -o size=16k tmpfs /var/lib/hpadmin; "
            "mkdir -p /var/lib/hpadmin/configuration; cat /dev/zero >/var/lib/hpadmin/fill 2>/dev/null || true"
        ),
        mend=lambda: site.sh("umount /var/lib/hpadmin; rm -rf /tmp/state"),
    )
    table.record(
        "the configuration folder is read-only",
        prepare=lambda: site.sh(f"mount --bind {CONF} {CONF}; mount -o remount,bind,ro {CONF}"),
        mend=lambda: site.unmount(CONF),
    )
    table.record(
        "slurm.conf cannot be replaced, other files can",
        prepare=lambda: site.sh(f"mount --bind {CONF}/slurm.conf {CONF}/slurm.conf"),
        mend=lambda: site.unmount(f"{CONF}/slurm.conf"),
    )


def _daemons(table: Recorder) -> None:
    site = table.site
    node = site.lab.node(site.hosts("steady")[0]).instance.name
    # A daemon that was reconfigured goes by the name of the file that it is, slurmctld-wlm with Debian.
    stop = "pkill -TERM '^slurmctld'; while pgrep '^slurmctld' >/dev/null; do sleep 0.1; done"
    start = "pgrep '^slurmctld' >/dev/null || slurmctld"
    table.record("slurmctld is down", prepare=lambda: site.sh(stop), mend=lambda: site.sh(start))
    table.record(
        "slurmctld goes down before it is told", at="reconfigure", do=stop, mend=lambda: site.sh(start)
    )
    table.record(
        "slurmctld goes down while it is watched",
        at="verify",
        do=stop,
        mend=lambda: site.sh(start),
        words=("--timeout", "15"),
    )
    slurmd = site.lab.runner(node)
    table.record(
        "a slurmd hangs before it is told",
        prepare=lambda: slurmd.run(["pkill", "-STOP", "^slurmd"], timeout=10),
        mend=lambda: slurmd.run(["pkill", "-CONT", "^slurmd"], timeout=10),
        words=("--timeout", "15"),
    )
    table.record(
        "a node lost its network before it is told",
        prepare=lambda: site.lab.fault(node, "disconnect"),
        mend=lambda: site.lab.fault(node, "heal"),
        words=("--timeout", "15"),
    )


def _others(table: Recorder) -> None:
    site = table.site
    broken = f"printf 'PartitionName=broken Nodes=nobody\\n' >> {CONF}/slurm.conf"
    mended = f"sed -i '/^PartitionName=broken/d' {CONF}/slurm.conf"
    for how, words in (("", ()), (", and nothing looked before", ("--no-sandbox",))):
        table.record(
            f"Merge keeps a line by hand that slurmctld does not start with{how}",
            prepare=lambda: site.sh(broken),
            mend=lambda: site.sh(mended),
            words=words,
            strategy="Merge",
        )
    table.record(
        "a second run meanwhile (what it said is the second's)",
        at="reconfigure",
        do=f"hpadmin config rollback --yes >/dev/null 2>{SECOND}",
    )
    table.record(
        "a file is edited between plan and application",
        at="let Slurm check the files",
        do=f"echo '# meanwhile' >> {CONF}/slurm.conf",
        mend=lambda: site.sh(f"sed -i '/^# meanwhile$/d' {CONF}/slurm.conf"),
    )
    table.record("Ctrl-C while Slurm is watched", at="verify", do="kill -INT $PPID")
    table.record("the terminal goes away while Slurm is watched", at="verify", do="kill -HUP $PPID")


def markdown(rows: list[Row]) -> str:
    """The table for people."""
    lines = [
        "# What becomes of an application that goes wrong",
        "",
        "Each row is an application that takes two groups out of a running cluster of five nodes (containers, Slurm",
        "24.11.5, a job on each of the two other nodes), broken as the first column says. *On disk* and *slurmctld*",
        "are what there was right after, before anybody did anything about it; *next run* is what the next",
        "`hpadmin config apply` found left to do. *mixed* is a set of files between the two, or one with somebody's",
        "edit. *Lost* are jobs that did not run on, nodes that were not idle or at work in the end, files that were",
        "not as wanted. Made by `python -m tests.lab.record_apply_faults`.",
        "",
        "| fault | exit | on disk | slurmctld | next run | lost | what it said |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.fault} | {'killed' if row.exit_code == 137 else row.exit_code} | {row.on_disk} | {row.slurmctld} "
        f"| {row.next_run} | {', '.join(row.lost) or 'nothing'} | {row.said.replace('|', '/')} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Record, and write both files."""
    with configured() as site:
        rows = record(site)
    TABLE.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    TABLE.with_suffix(".md").write_text(markdown(rows))


if __name__ == "__main__":
    main()
