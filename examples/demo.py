"""The main job, end to end: requests become real Slurm clusters, real jobs run, and each lands where it should.

Run by `make demo`. Every command is shown before it runs, so that it can be repeated by hand.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
HPADMIN = [str(Path(sys.executable).with_name("hpadmin"))]
SCENARIOS: tuple[tuple[list[str], list[int], str], ...] = (
    (["-N4"], [4], "a job of a block's size gets one whole UltraServer"),
    (["-N8"], [4, 4], "twice the size takes both"),
    (["-N6"], [2, 4], "without segments one block is filled before the next is used"),
    (["-N6", "--segment=3"], [3, 3], "each segment of three stays within one UltraServer"),
    (["-N3", "--exclusive=topo"], [3], "one UltraServer, and nobody else on it"),
)
"""Options of sbatch on two UltraServers of four nodes, how many nodes come from each, and why."""


def main() -> int:
    """Show both example clusters; return 0 when every job ran where it should."""
    failures = 0
    for show in (guide_cluster, ultraserver_cluster):
        try:
            failures += show()
        finally:
            hpadmin("lab", "down", "--name", "demo", check=False)
    say("")
    say(
        "Every job ran where it should."
        if not failures
        else f"{failures} jobs did not run where they should."
    )
    return 1 if failures else 0


def guide_cluster() -> int:
    """The developer guide's complete CreateCluster example: GPU and CPU groups, two partitions and dev."""
    title("The guide's CreateCluster example becomes a Slurm cluster")
    request = EXAMPLES / "guide.json"
    hpadmin("config", "validate", str(request))
    hpadmin("lab", "up", str(request), "--name", "demo")
    hpadmin("lab", "status", "--name", "demo")
    on_login("sinfo", "-o", "%12P %6D %8t %14G %N")
    failures = 0
    gpus = on_login(
        "srun",
        "-p",
        "gpu-training",
        "-N2",
        "--gres=gpu:8",
        "sh",
        "-c",
        'echo "$(hostname): $CUDA_VISIBLE_DEVICES"',
    )
    failures += verdict(
        gpus.count(": 0,1,2,3,4,5,6,7") == 2, "two nodes of gpu-training, each with its eight A100 devices"
    )
    mixed = on_login("srun", "-p", "dev", "-N12", "hostname")
    failures += verdict(
        len(set(mixed.split())) == 12, "dev holds all twelve compute nodes, GPU and CPU alike"
    )
    return failures


def ultraserver_cluster() -> int:
    """Two UltraServers of four nodes: the topology guide's scenarios, scaled down."""
    title("Two UltraServers: sbatch sees their blocks")
    request = EXAMPLES / "ultraservers.json"
    hpadmin("lab", "up", str(request), "--name", "demo", "--ultraserver-nodes", "4")
    on_login("cat", "/etc/slurm/topology.conf", node="controller-1")
    nodes = json.loads(hpadmin("lab", "status", "--name", "demo", "-o", "json", quiet=True))["nodes"]
    block_of = {node["hostname"]: node["ultraserver"] for node in nodes}
    failures = 0
    for arguments, expected, why in SCENARIOS:
        wait_for_quiet()  # the nodes of a job that completes are not free yet, for Slurm and for the forecast alike
        foreseen = json.loads(
            on_login("hpadmin", "topology", "place", "-p", "training", *arguments, "-o", "json")
        )
        ran_on = on_login("srun", "-p", "training", *arguments, "hostname").split()
        got = Counter(str(block_of[name]) for name in ran_on)
        failures += verdict(sorted(got.values()) == expected, f"{dict(got)}: {why}")
        failures += verdict(
            sorted(foreseen["nodes"]) == sorted(ran_on),
            "the very nodes that hpadmin topology place had named",
        )
    return failures


def wait_for_quiet(seconds: float = 120) -> None:
    """Wait until no job is left, not even one that completes."""
    deadline = time.monotonic() + seconds
    while hpadmin(
        "lab", "exec", "--name", "demo", "login-1", "--", "squeue", "--noheader", quiet=True
    ).strip():
        if time.monotonic() > deadline:
            raise SystemExit(f"there are jobs after {seconds:g} s")
        time.sleep(0.5)


def on_login(*argv: str, node: str = "login-1") -> str:
    return hpadmin("lab", "exec", "--name", "demo", node, "--", *argv)


def hpadmin(*argv: str, check: bool = True, quiet: bool = False) -> str:
    """Run a command of hpadmin as anybody would; show it and what it printed; return its standard output."""
    if not quiet:
        say(f"\n$ hpadmin {shlex.join(argv)}")
    done = subprocess.run(
        [*HPADMIN, *argv], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False
    )
    if not quiet:
        say(done.stdout.rstrip())
    if check and done.returncode != 0:
        raise SystemExit(f"hpadmin {argv[0]} {argv[1]} exited {done.returncode}")
    return done.stdout


def verdict(holds: bool, what: str) -> int:
    """Say whether something holds; return 0 when it does, else 1."""
    say(f"  {'right' if holds else 'WRONG'}: {what}")
    return 0 if holds else 1


def title(text: str) -> None:
    say(f"\n=== {text} ===  ({time.strftime('%H:%M:%S')})")


def say(text: str) -> None:
    if text.strip() or not text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
