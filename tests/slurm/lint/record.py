"""Record what Slurm really does with each case of `tests.unit.slurmconf_lint.cases`.

    python -m tests.slurm.lint.record            # writes recorded.json and corpus.json there

It also asks what slurmctld makes of the real sites' files in tests/data/corpus, apart from what only their own hosts
could tell: users, keys, plugin folders.

slurmctld: a throw-away one (`hpadmin.slurm.sandbox`) in a container. Where a case names a node, a slurmd of that
node registers with a slurmctld, both in a network of their own, and what becomes of the node is recorded too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hpadmin.slurm.sandbox import Severity, Verdict, check
from tests.support.box import Box, box
from tests.unit.slurmconf_lint.cases import CASES, GOOD, Case

TABLES = Path(__file__).resolve().parents[2] / "unit" / "slurmconf_lint"
RECORDED = TABLES / "recorded.json"
CORPUS = Path(__file__).resolve().parents[2] / "data" / "corpus" / "slurm"
ELSEWHERE = {
    "AuthType": "auth/slurm",
    "CredType": "cred/slurm",
    "AuthAltTypes": '""',
    "SlurmUser": "root",
    "SlurmdUser": "root",
    "PluginDir": "/usr/lib/x86_64-linux-gnu/slurm-wlm",
}
"""Settings of the sites that this container cannot follow."""
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN")

REGISTER = r"""
set -u
conf=$1 node=$2
# Both daemons as one user: slurmd's root need not be slurmctld's.
sed -i 's/^SlurmUser=.*/SlurmUser=root/; s/NodeAddr=[^ ]*//' "$conf/slurm.conf"
sed -i 's/^SlurmctldHost=.*/SlurmctldHost=localhost/' "$conf/slurm.conf"
echo 'SlurmdParameters=config_overrides' >> "$conf/slurm.conf"
mkdir -p /var/spool/slurmctld /var/spool/slurmd
rm -rf /var/spool/slurmctld/* /var/spool/slurmd/*
ip link set lo up && ip address add 198.18.0.1 dev lo
echo "127.0.0.1 localhost" > /tmp/hosts
for name in box "$node"; do echo "198.18.0.1 $name" >> /tmp/hosts; done
for name in gpu1 gpu2 gpu3 gpu4 cpu1 cpu2 cpu3 cpu4 head head2; do
    [ "$name" = "$node" ] || echo "198.18.0.2 $name" >> /tmp/hosts
done
mount --bind /tmp/hosts /etc/hosts
export SLURM_CONF=$conf/slurm.conf
slurmctld -D -i > /tmp/slurmctld.log 2>&1 & controller=$!
slurmd -D -N "$node" > /tmp/slurmd.log 2>&1 & daemon=$!
state=""
for _ in $(seq 150); do
    state=$(scontrol --oneliner show node "$node" 2>/dev/null)
    case "$state" in
        *INVAL*|*State=IDLE\ *) break ;;
    esac
    kill -0 $daemon 2>/dev/null && kill -0 $controller 2>/dev/null || break
    sleep 0.2
done
kill -9 $controller $daemon 2>/dev/null
wait
echo "STATE $(echo "$state" | grep -o ' State=[^ ]*' | head -1)"
echo "REASON $(echo "$state" | grep -o ' Reason=[^[]*' | head -1)"
grep -hE '(error|fatal|warning): ' /tmp/slurmd.log | grep -vE "$3"
exit 0
"""
SLURMD_NOISE = "cgroup|CPU frequency|Node configuration differs|Unable to register|contact slurm controller"
"""What slurmd says because it runs in a container next to a controller that has only just started."""


def of_slurmctld(verdict: Verdict) -> dict[str, Any]:
    """What a table keeps of a verdict."""
    return {
        "accepted": verdict.accepted,
        "said": [
            f"{message.severity}: {message.text}"
            for message in verdict.said(Severity.FATAL, Severity.ERROR, Severity.WARNING)
        ],
    }


def ask(runner: Box, case: Case) -> dict[str, Any]:
    """Let slurmctld judge the case, and a slurmd register where it names a node."""
    files = {**case.files, "slurm.key": os.urandom(1024)}
    answer = of_slurmctld(check(runner, files, timeout=150))
    if case.node and answer["accepted"]:
        answer["slurmd"] = register(runner, case)
    return answer


def register(runner: Box, case: Case) -> dict[str, Any]:
    """Let the node's slurmd register; return the node's state and reason, and what slurmd complained of."""
    folder = "/tmp/register"
    runner.run(["rm", "-rf", folder], timeout=120).check()
    # Without plugins: the container has none, and slurmd would only complain of that.
    files = {name: content.decode() for name, content in case.files.items() if name != "plugstack.conf"}
    runner.write_tree(folder, files)
    runner.put(f"{folder}/slurm.key", os.urandom(1024), mode=0o600)
    for device in ("/dev/fakegpu0", "/dev/fakegpu1"):
        if runner.run(["test", "-e", device], timeout=120).returncode:
            runner.run(["mknod", device, "c", "1", "3"], timeout=120).check()
    done = runner.run(
        ["unshare", "--net", "--mount", "--", "bash", "-s", "--", folder, case.node, SLURMD_NOISE],
        timeout=90,
        stdin=REGISTER,
    ).check()
    state, reason, *said = done.stdout.splitlines()
    return {
        "state": state.partition("State=")[2],
        "reason": reason.partition("Reason=")[2].strip(),
        "said": [line.partition(": ")[2].replace(folder + "/", "") for line in said],
    }


def of_corpus(runner: Box) -> dict[str, Any]:
    """What slurmctld makes of every file of real sites."""
    answers = {}
    for path in sorted(CORPUS.glob("*.conf")):
        key = os.urandom(1024)
        files = {"slurm.conf": path.read_bytes(), "cgroup.conf": b"CgroupPlugin=disabled\n", "slurm.key": key}
        answers[path.name] = of_slurmctld(check(runner, files, overrides=ELSEWHERE, timeout=150))
    return answers


def write(path: Path, table: dict[str, Any]) -> None:
    """Write a table with one entry a line."""
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(answer)}" for name, answer in table.items())
    path.write_text(f"{{\n{lines}\n}}\n")


def main() -> None:
    """Record every case; with ``--new`` only those that are not recorded yet."""
    known: dict[str, Any] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    new = sys.argv[1:] == ["--new"]
    with box("24.11", capabilities=CAPABILITIES) as runner:
        version = runner.run(["slurmctld", "-V"], timeout=120).check().stdout.strip()
        for case in [*CASES, *GOOD]:
            if new and case.name in known:
                continue
            known[case.name] = ask(runner, case)
            sys.stderr.write(f"{case.name}: {json.dumps(known[case.name])}\n")
        if not new:
            write(TABLES / "corpus.json", of_corpus(runner))
    order = [case.name for case in [*CASES, *GOOD]]
    table = {name: known[name] for name in order if name in known}
    write(RECORDED, table)
    sys.stderr.write(f"{len(table)} cases recorded with {version}\n")


if __name__ == "__main__":
    main()
