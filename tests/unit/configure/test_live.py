"""One look at a running Slurm, from what its commands printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hpadmin.configure.live import WithConf, look
from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Completed

NODE = (
    "NodeName={name} Arch=x86_64 CoresPerSocket=3 CPUAlloc=0 CPUEfctv=12 CPUTot=12 CPULoad=0.1 "
    "AvailableFeatures=(null) ActiveFeatures=(null) Gres=gpu:4(S:0) NodeAddr=n NodeHostName=n Port=6818 "
    "RealMemory=100 AllocMem=0 FreeMem=9 Sockets=2 Boards=1 State=IDLE ThreadsPerCore=2 TmpDisk=0 Weight=1 "
    "Partitions=dev BootTime=1 SlurmdStartTime=7 LastBusyTime=1 CfgTRES=cpu=12 AllocTRES= CurrentWatts=0 AveWatts=0 \n"
)
SAID = {
    "show config": (
        "Configuration data as of 1\nClusterName = c\nHASH_VAL = Match\nSLURM_VERSION = 24.11.5\n\n"
    ),
    "show nodes": NODE.format(name="n2") + NODE.format(name="n1"),
    "show partitions": "PartitionName=dev State=UP Nodes=n[1-2] Default=YES\n",
    "show reservations": "ReservationName=r StartTime=1 EndTime=9 Nodes=n1 Flags=MAINT PartitionName=dev\n",
    "-o %A|%n": "5|(null)\n6|n[1-2]\n7|\n",
}


class Recorded:
    """A Runner that answers with what was recorded."""

    def __init__(self, **other: str) -> None:
        self.environments: list[Mapping[str, str] | None] = []
        self.said = {**SAID, **other}

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        self.environments.append(env)
        command = " ".join(argv)
        said = next((text for ending, text in self.said.items() if command.endswith(ending)), "")
        return Completed(tuple(argv), 0, said, "")


def test_a_look_tells_what_a_change_may_touch() -> None:
    live = look(Recorded())
    assert live.release == (24, 11)
    assert live.runs_the_files
    assert list(live.nodes) == ["n2", "n1"], "the order of slurmctld's table"
    node = live.nodes["n1"]
    assert (node.cores, node.gres, node.slurmd_start_time) == (6, "gpu:4(S:0)", 7)
    assert live.reservations[0].partition == "dev"
    assert live.partitions["dev"].nodes == "n[1-2]"


def test_every_command_reads_the_folder_in_question() -> None:
    recorded = Recorded()
    look(WithConf(recorded, Path("/here")))
    assert {(env or {}).get("SLURM_CONF") for env in recorded.environments} == {"/here/slurm.conf"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("-o %A|%n", "five|n1\n"),
        ("show config", "ClusterName = c\nSLURM_VERSION = new\n\n"),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_answer(command: str, said: str) -> None:
    with pytest.raises(OperationFailed):
        look(Recorded(**{command: said}))


def test_what_went_wrong_is_told_without_what_cleans_the_environment() -> None:
    class Refused(Recorded):
        def run(
            self,
            argv: Sequence[str],
            *,
            timeout: float,
            stdin: str | None = None,
            env: Mapping[str, str] | None = None,
        ) -> Completed:
            return Completed(tuple(argv), 1, "", "Unable to contact slurm controller\n")

    with pytest.raises(OperationFailed) as caught:
        look(Refused())
    assert (
        caught.value.message == "scontrol show config exited 1 and said: Unable to contact slurm controller"
    )
