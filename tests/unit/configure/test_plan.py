"""A plan says what changes, what that takes, and whom it would hurt."""

from __future__ import annotations

import dataclasses

import pytest

from hpadmin.configure import plan as planning
from hpadmin.configure.history import Result, Revision
from hpadmin.configure.layout import gres_of, layout
from hpadmin.configure.live import Live, LiveJob
from hpadmin.configure.plan import Plan
from hpadmin.configure.requirements import Requirement
from hpadmin.configure.stakes import ALL, not_allowed, stakes
from hpadmin.model import Strategy
from hpadmin.slurm.reader import JobInfo, NodeInfo, PartitionInfo, ReservationInfo
from hpadmin.slurm.states import JobState, NodeState

CONF = """\
ClusterName=c
SlurmctldHost=ctl
NodeName=n[1-4] CPUs=8 Sockets=2 CoresPerSocket=2 ThreadsPerCore=2 Gres=gpu:4
PartitionName=dev Nodes=ALL Default=YES
PartitionName=p Nodes=n[1-2]
"""
GRES = "NodeName=n[1-4] Name=gpu File=/dev/nvidia[0-3]\n"


def files(conf: str = CONF, gres: str = GRES, **more: str) -> dict[str, bytes]:
    named = {name.replace("_", "."): text.encode() for name, text in more.items()}
    return {"slurm.conf": conf.encode(), "gres.conf": gres.encode(), **named}


def job(
    number: int, nodes: str = "", *, state: str = "RUNNING", partition: str = "dev", wants: str = ""
) -> LiveJob:
    info = JobInfo(
        job_id=number, state=JobState.parse(state), reason="", user="ada", account="", partition=partition,
        qos="", node_count=1, nodes=nodes, batch_host="", gres="", submit_time=0, start_time=0, end_time=0,
    )  # fmt: skip
    return LiveJob(info, tuple(nodes.split(",")) if nodes else (), tuple(wants.split(",")) if wants else ())


def live(
    *jobs: LiveJob,
    conf: str = CONF,
    matches: bool = True,
    release: tuple[int, int] = (24, 11),
    **settings: str,
) -> Live:
    """A Slurm that runs `conf`."""
    seen = layout({"slurm.conf": conf.encode()}, release)
    return Live(
        release=release,
        settings={"HASH_VAL": "Match" if matches else "Different Ours=0x1 Slurmctld=0x2", **settings},
        nodes={
            name: NodeInfo(
                name,
                NodeState.parse("IDLE"),
                cores=seen.nodes[name].cores,
                gres=",".join(f"{gres}:{count}" for gres, _, count in seen.nodes[name].gres),
            )
            for name in seen.order
        },
        partitions={name: PartitionInfo(name, "UP", "", default=False) for name in seen.partitions},
        jobs=jobs,
        reservations=(),
    )


def plan(wanted: dict[str, bytes], now: Live | None, disk: dict[str, bytes] | None = None) -> Plan:
    on_disk = files() if disk is None else disk
    return planning.make(Strategy.OVERWRITE, last=on_disk, disk=on_disk, wanted=wanted, live=now)


def test_nothing_to_change_is_an_empty_plan() -> None:
    made = plan(files(), live(job(1, "n1")))
    assert (made.changes, made.stakes, made.new_base) == ((), (), False)


def test_each_change_of_meaning_is_one_line_with_what_it_takes() -> None:
    conf = CONF.replace("n[1-4] CPUs", "n[1-5] CPUs").replace(
        "PartitionName=p Nodes=n[1-2]", "SlurmdTimeout=400"
    )
    made = plan(files(conf, GRES.replace("n[1-4]", "n[1-5]")), live())
    assert [(change.file, change.kind, change.subject, change.requires) for change in made.changes] == [
        ("slurm.conf", "setting added", "SlurmdTimeout", Requirement.RECONFIGURE),
        ("slurm.conf", "partition removed", "PartitionName=p", Requirement.RECONFIGURE),
        ("slurm.conf", "node added", "NodeName=n5", Requirement.RECONFIGURE),
        ("gres.conf", "gres added", "NodeName=n5 gpu", Requirement.RECONFIGURE),
    ]


def test_other_spelling_is_a_change_of_text_that_takes_nothing() -> None:
    made = plan(files("# tidy\n" + CONF), live())
    (change,) = made.changes
    assert (change.kind, change.requires) == ("text changed", Requirement.NOTHING)


@pytest.mark.parametrize(
    ("line", "takes"),
    [
        ("SlurmctldPort=7000", Requirement.RESTART_ALL),
        ("AuthType=auth/slurm", Requirement.RESTART_ALL),
        ("SlurmdPort=7001", Requirement.RESTART_SLURMD),
        ("StateSaveLocation=/x", Requirement.RESTART_SLURMCTLD),
        ("SlurmdTimeout=1", Requirement.RECONFIGURE),
        ("SelectType=select/linear", Requirement.RECONFIGURE),
    ],
)
def test_what_a_setting_takes(line: str, takes: Requirement) -> None:
    made = plan(files(CONF + line + "\n"), live())
    assert [change.requires for change in made.changes] == [takes]
    assert bool(made.restarts) == (not takes.by_reconfigure)


def test_slurmdbd_and_cores_of_gres_need_their_own_daemon() -> None:
    before = files(slurmdbd_conf="DbdHost=a\n")
    after = files(gres=GRES.replace("\n", " Cores=0-1\n"), slurmdbd_conf="DbdHost=b\n")
    takes = {change.file: change.requires for change in plan(after, live(), before).changes}
    assert takes == {
        "gres.conf": Requirement.RESTART_SLURMCTLD,
        "slurmdbd.conf": Requirement.RESTART_SLURMDBD,
    }


EDGES = {
    "its node goes": (CONF.replace("n[1-4]", "n[1-2,4]"), job(1, "n3"), "runs on n3, which would go"),
    "its node becomes FUTURE": (
        CONF.replace("NodeName=n[1-4]", "NodeName=n3 State=FUTURE\nNodeName=n[1-2,4]"),
        job(1, "n3"),
        "runs on n3, which would go",
    ),
    "a node it waits for goes": (
        CONF.replace("n[1-4]", "n[1-3]"),
        job(1, state="PENDING", wants="n4"),
        "asks for n4, which would go",
    ),
    "its partition goes": (CONF.replace("=p ", "=q "), job(1, "n1", partition="p"), "partition p goes"),
    "one of its partitions goes": (
        CONF.replace("=p ", "=q "),
        job(1, state="PENDING", partition="dev,p"),
        "partition p goes",
    ),
    "its node gets fewer cores": (
        CONF.replace("CPUs=8 Sockets=2", "CPUs=4 Sockets=1"),
        job(1, "n1"),
        "runs on n1, whose cores would change",
    ),
    "its node gets more GPUs": (CONF.replace("gpu:4", "gpu:5"), job(1, "n1"), "whose GRES would change"),
    "its node loses its GPUs": (CONF.replace(" Gres=gpu:4", ""), job(1, "n1"), "whose GRES would change"),
    "steps lose what gathers their accounting": (
        CONF + "JobAcctGatherType=jobacct_gather/linux\n",
        job(1, "n1"),
        "jobacctgathertype must not change under running jobs",
    ),
}


@pytest.mark.parametrize("edge", EDGES)
def test_a_job_that_would_end_is_named_with_the_change_that_ends_it(edge: str) -> None:
    conf, victim, reason = EDGES[edge]
    bystander = job(2, state="PENDING") if "accounting" in edge else job(2, "n2")
    harmless = "cores" in edge or "GPUs" in edge
    made = plan(files(conf), live(victim, *(() if harmless else (bystander,))))
    assert [(stake.name, reason in stake.reason) for stake in made.stakes] == [("1", True)]
    assert {1} == {number for change in made.changes for number in change.affects_jobs}
    assert {change.requires for change in made.changes if change.affects_jobs} == {Requirement.DRAIN}
    assert made.refused(frozenset()) == made.stakes
    assert made.refused(frozenset({"1"})) == made.refused(frozenset({ALL})) == ()


def test_the_same_memory_or_features_hurt_nobody() -> None:
    conf = CONF.replace("Gres=gpu:4", "Gres=gpu:4 RealMemory=5 Feature=x Weight=3")
    assert plan(files(conf), live(job(1, "n1"))).stakes == ()


BLOCK = CONF.replace("NodeName=n[1-4] ", "TopologyPlugin=topology/block\nNodeName=n[3,1,2,4] ")
SWAPPED = BLOCK.replace("n[3,1,2,4]", "n[3,2,1,4]")


@pytest.mark.parametrize(
    ("nodes", "release", "lost"),
    [
        ("n1,n2", (24, 11), True),
        ("n1,n4", (24, 11), False),
        ("n1,n2", (25, 5), False),
        ("n2", (24, 11), False),
    ],
)
def test_where_the_table_has_the_order_of_the_lines_swapping_them_ends_jobs_across(
    nodes: str, release: tuple[int, int], lost: bool
) -> None:
    running = live(job(1, nodes), conf=BLOCK, release=release)
    now = layout({"slurm.conf": SWAPPED.encode()}, release)
    found = stakes(running, layout({"slurm.conf": BLOCK.encode()}, release), now)
    assert [stake.reordered for stake in found] == ([True] if lost else [])


def test_leaving_block_topology_reorders_too() -> None:
    made = plan(files(), live(job(1, "n1,n3"), conf=BLOCK), files(BLOCK))
    assert [stake.reordered for stake in made.stakes] == [True]
    hurting = [change.subject for change in made.changes if change.affects_jobs]
    assert "TopologyPlugin" in hurting


def test_a_node_that_registered_itself_does_not_go() -> None:
    now = live(job(1, "d1"))
    dynamic = NodeInfo("d1", NodeState.parse("ALLOCATED+DYNAMIC_NORM"))
    now = dataclasses.replace(now, nodes={**now.nodes, "d1": dynamic})
    assert plan(files(CONF + "SlurmdTimeout=9\n"), now).stakes == ()


def test_where_slurmctld_runs_something_else_its_own_word_counts() -> None:
    # Somebody took n4 out of the file and told nobody: the next reconfigure ends what runs there.
    edited = files(CONF.replace("n[1-4]", "n[1-3]"))
    made = plan(edited, live(job(1, "n4"), matches=False), edited)
    assert [change.kind for change in made.changes] == ["not in effect"]
    assert [stake.name for stake in made.stakes] == ["1"]


def test_a_reservation_loses_nodes_or_its_partition() -> None:
    held = ReservationInfo("r", "n[3-4]", "ada", ("MAINT",), 0, 0)
    in_p = ReservationInfo("s", "n1", "ada", (), 0, 0, partition="p")
    now = dataclasses.replace(live(), reservations=(held, in_p))
    made = plan(files(CONF.replace("n[1-4]", "n[1-3]").replace("=p ", "=q ")), now)
    assert [(stake.name, stake.reason) for stake in made.stakes] == [
        ("r", "loses n4"),
        ("s", "its partition p goes: it is deleted"),
    ]
    assert not_allowed(made.stakes, {"r"}) == made.stakes[1:]


def test_without_slurmctld_what_might_hurt_says_drain() -> None:
    made = plan(files(CONF.replace("n[1-4]", "n[1-3]")), None)
    assert {change.requires for change in made.changes if change.kind == "node removed"} == {
        Requirement.DRAIN
    }


def test_managed_drift_blocks_and_shows_what_would_be_undone() -> None:
    disk = files(CONF.replace("Nodes=n[1-2]", "Nodes=n[1-3]"))
    made = planning.make(Strategy.MANAGED, last=files(), disk=disk, wanted=files(), live=live(job(1, "n1")))
    assert [finding.setting for finding in made.blocking] == ["PartitionName=p Nodes"]
    assert made.files == {}
    assert [change.subject for change in made.changes] == ["PartitionName=p Nodes"]


def test_going_back_removes_what_came_since() -> None:
    later = files(topology_conf="SwitchName=s Nodes=n[1-4]\n")
    made = planning.going_back(
        last=later, disk=later, files=files(), wanted=files(), governed={"topology.conf"}, live=live()
    )
    assert made.removed == ("topology.conf",)
    assert "topology.conf" not in made.after


@pytest.mark.parametrize(
    ("result", "boot", "untold"),
    [
        (Result.APPLIED, "0", False),
        (Result.WRITTEN, "1767225599", True),
        (Result.WRITTEN, "1767225601", False),
    ],
)
def test_written_files_are_told_once_slurmctld_started_after_them(
    result: Result, boot: str, untold: bool
) -> None:
    revision = Revision(1, "apply", "Managed", "ada", "ctl", 1, "", False, result=result)
    revision = dataclasses.replace(revision, finished="2026-01-01T00:00:00+00:00")
    assert planning.is_untold(revision, live(BOOT_TIME=boot)) is untold
    assert not planning.is_untold(revision, None)  # the next slurmctld to start reads them


@pytest.mark.parametrize(
    ("attributes", "cores"),
    [
        ("CPUs=8", 8),
        ("CPUs=8 ThreadsPerCore=2", 4),
        ("CPUs=8 CoresPerSocket=2 ThreadsPerCore=2", 4),
        ("Sockets=2 CoresPerSocket=4", 8),
        ("Boards=2 SocketsPerBoard=2 CoresPerSocket=3", 12),
        ("CoresPerSocket=6", 6),
        ("CPUs=7 CoresPerSocket=2", 2),
        ("", 1),
    ],
)
def test_cores_are_worked_out_as_slurm_does(attributes: str, cores: int) -> None:
    seen = layout({"slurm.conf": f"NodeName=n {attributes}\n"}, (24, 11))
    assert seen.nodes["n"].cores == cores


def test_gres_lists() -> None:
    assert gres_of("gpu:2(S:0,1),gpu:h100:1") == {("gpu", "", 2), ("gpu", "h100", 1)}
    assert gres_of("(null)") == gres_of("") == frozenset()
    assert gres_of("GPU") == {("gpu", "", 1)}
