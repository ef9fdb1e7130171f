"""Slurm judges a copy of the files to come, before any of them is in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hpadmin.configure import apply as applying
from hpadmin.configure import folder
from hpadmin.configure import plan as planning
from hpadmin.configure.history import History, Result
from hpadmin.errors import DriftBlocks
from hpadmin.model import Strategy
from hpadmin.slurm.command import Completed


class Parser:
    """Stands for scontrol: reads the folder that SLURM_CONF names, and looks at a file of ours meanwhile."""

    def __init__(self, watched: Sequence[Path]) -> None:
        self.watched = watched
        self.read: dict[str, str] = {}
        self.on_disk: list[str] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        if list(argv) == ["scontrol", "show", "hostnames", "localhost"]:
            assert env is not None
            draft = Path(env["SLURM_CONF"]).parent
            self.read = {
                str(path.relative_to(draft)): path.read_text() for path in draft.rglob("*") if path.is_file()
            }
            self.on_disk = [path.read_text() for path in self.watched]
        return Completed(tuple(argv), 0, "", "")


def test_files_outside_of_the_folder_are_checked_as_copies(tmp_path: Path) -> None:
    conf = tmp_path / "etc" / "slurm"
    conf.mkdir(parents=True)
    beside, far = tmp_path / "etc" / "beside.conf", tmp_path / "far.conf"
    beside.write_text("SlurmdTimeout=300\n")
    far.write_text("KillWait=30\n")
    ours = "ClusterName=c\nSlurmdTimeout={0}\nKillWait={0}\n"
    site = f"ClusterName=c\nInclude ../beside.conf\nInclude {far}\n"
    (conf / "slurm.conf").write_text(site)
    made = planning.make(
        Strategy.MERGE,
        last={"slurm.conf": b"ClusterName=c\nSlurmdTimeout=300\nKillWait=30\n"},
        disk=folder.read(conf),
        wanted={"slurm.conf": ours.format(60).encode()},
        live=None,
    )
    history = History(tmp_path / "state", conf)
    parser = Parser([beside, far])
    closed = applying.apply(history, made, parser, applying.Order(reconfigure=False, sandbox=False))
    assert parser.on_disk == ["SlurmdTimeout=300\n", "KillWait=30\n"]
    included = [line.split()[1] for line in parser.read["slurm.conf"].splitlines()[1:]]
    assert [parser.read[name] for name in included] == ["SlurmdTimeout=60\n", "KillWait=60\n"]
    assert closed is not None
    assert closed.result is Result.WRITTEN
    assert (conf / "slurm.conf").read_text() == site
    assert (beside.read_text(), far.read_text()) == ("SlurmdTimeout=60\n", "KillWait=60\n")
    assert history.before(closed) == {"../beside.conf": b"SlurmdTimeout=300\n", str(far): b"KillWait=30\n"}


def test_a_merge_that_strands_lines_of_the_site_writes_nothing(tmp_path: Path) -> None:
    conf = "ClusterName=c\nNodeName=n[1-2]\n"
    site = f"{conf}PartitionName=site Nodes=n2\n".encode()
    (tmp_path / "slurm.conf").write_bytes(site)
    made = planning.make(
        Strategy.MERGE,
        last={"slurm.conf": conf.encode()},
        disk=folder.read(tmp_path),
        wanted={"slurm.conf": conf.replace("n[1-2]", "n1").encode()},
        live=None,
    )
    assert [change.kind for change in made.changes] == ["node removed"]
    history = History(tmp_path / "state", tmp_path)
    with pytest.raises(DriftBlocks, match="name nodes that the request removes") as refused:
        applying.apply(history, made, Parser(()), applying.Order(reconfigure=False))
    assert "take the nodes out of these lines" in refused.value.hint
    assert (tmp_path / "slurm.conf").read_bytes() == site
    assert history.revisions() == ()
