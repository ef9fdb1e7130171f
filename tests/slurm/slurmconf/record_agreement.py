"""Compare all configurations of the corpus with slurmctld once, and write what came of it:

python -m tests.slurm.slurmconf.record_agreement docs/evidence/slurmconf-agreement.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.slurm.slurmconf.corpus import (
    DROPPED,
    FORCED,
    adapt,
    ask,
    corpus,
    differences,
    without_unknown_keys,
)
from tests.support.box import box

_HEAD = """# What we read and what slurmctld says

Recorded by `python -m tests.slurm.slurmconf.record_agreement`, with Slurm 24.11.5; `tests/slurm/slurmconf` compares a
few of these files in every run. Compared are, for every node, CPUs, boards, sockets, cores, threads, memory, disk,
weight, features, address and host name, and for every partition its nodes, their CPUs and {fields} of its limits and
flags: `scontrol show nodes` and `scontrol show partitions` against `hpadmin.slurmconf.view`.

The files are those of real sites (`tests/data/corpus/INDEX.tsv` names the origin of each). They are started by a
slurmctld alone in a container, so each was changed with `hpadmin.slurmconf.edit` as follows; NodeName, PartitionName,
NodeSet and DownNodes lines stay as they are, save for what the last column says.

* Set: {forced}.
* Taken out: {dropped}.
* `cgroup.conf` is `CgroupPlugin=disabled`; all names of nodes are in `/etc/hosts`.

**{compared} of {total} files are accepted and compared, with {nodes} nodes and {partitions} partitions:
{differing} differ.** Those that Slurm refuses even so are listed below them with its reason.

| file | nodes | partitions | differences | changed besides |
|---|---|---|---|---|
"""


def main() -> None:
    """Record."""
    compared, refused = [], []
    with box("24.11") as running:
        host = running.run(["hostname"], timeout=240).check().stdout.strip()
        for name, content in corpus():
            adapted = without_unknown_keys(running, adapt(name, content, host))
            told = ask(running, adapted)
            sys.stderr.write(f"{name}: {told.refused or 'compared'}\n")
            if told.refused:
                refused.append((name, told.refused))
            else:
                compared.append((adapted, told, differences(adapted, told)))
    rows = [
        f"| {adapted.name} | {len(told.nodes)} | {len(told.partitions)} | {'; '.join(found) or 'none'} "
        f"| {'; '.join(adapted.notes)} |"
        for adapted, told, found in compared
    ]
    head = _HEAD.format(
        fields="twenty",
        forced=", ".join(f"`{key}={value}`" for key, value in FORCED.items())
        + ", `SlurmctldHost` and `SlurmctldPort`",
        dropped=", ".join(f"`{key}`" for key in sorted(DROPPED)),
        compared=len(compared),
        total=len(compared) + len(refused),
        nodes=sum(len(told.nodes) for _, told, _ in compared),
        partitions=sum(len(told.partitions) for _, told, _ in compared),
        differing=sum(bool(found) for _, _, found in compared),
    )
    tail = ["", "## Refused by Slurm 24.11.5", "", "| file | reason |", "|---|---|"]
    tail += [f"| {name} | {reason.replace('|', '/')} |" for name, reason in refused]
    Path(sys.argv[1]).write_text(head + "\n".join([*rows, *tail]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
