"""A configuration changes as a whole, or not at all, wherever the run dies."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpadmin.configure import atomic
from hpadmin.configure.desired import file_mode
from hpadmin.configure.history import Fence, History, Result, Revision, Unreadable
from hpadmin.configure.transaction import JobsAtStake, Transaction, Verified, file_records
from hpadmin.errors import OperationFailed

BEFORE = {"slurm.conf": b"ClusterName=one\n", "cgroup.conf": b"old\n", "topology.conf": b"SwitchName=s\n"}
AFTER = {"slurm.conf": b"ClusterName=two\n", "cgroup.conf": b"new\n", "gres.conf": b"Name=gpu\n"}
REMOVED = ("topology.conf",)


@dataclass
class FakeSlurm:
    """Stands for Slurm: fails where it is told to, and remembers what it was asked."""

    fails: dict[str, OperationFailed] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    closed: Fence = field(default_factory=Fence)
    to_close: Fence = field(default_factory=lambda: Fence(("n1",), (("p", "UP"),)))

    def _do(self, name: str) -> None:
        self.asked.append(name)
        if name in self.fails:
            raise self.fails[name]

    def fence(self) -> Fence:
        self._do("fence")
        return self.to_close

    def close(self, fence: Fence) -> None:
        self._do("close")
        self.closed = fence

    def reopen(self, fence: Fence) -> None:
        self._do("reopen")
        self.closed = Fence()

    def check_jobs(self) -> None:
        self._do("check_jobs")

    def check_jobs_back(self) -> None:
        self._do("check_jobs_back")

    def reconfigure(self) -> None:
        self._do("reconfigure")

    def verify(self) -> Verified:
        self._do("verify")
        return Verified(("n9",), ("n9 is down",))

    def verify_back(self) -> Verified:
        self._do("verify_back")
        return Verified()


def write(conf: Path, files: dict[str, bytes]) -> None:
    conf.mkdir(exist_ok=True)
    for name, content in files.items():
        (conf / name).write_bytes(content)


def begin(history: History, *, reconfigure: bool = True) -> Revision:
    records, before = file_records(history.conf_dir, AFTER, removed=REMOVED, mode=lambda _: 0o640)
    draft = Revision(0, "apply", "Managed", "ada", "ctl", 1, "2026-01-01T00:00:00+00:00", reconfigure)
    return history.create(dataclasses.replace(draft, files=records), before=before, after=AFTER, wanted=AFTER)


def on_disk(conf: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in conf.iterdir()}


@pytest.fixture
def history(tmp_path: Path) -> History:
    write(tmp_path / "etc", BEFORE)
    return History(tmp_path / "state", tmp_path / "etc")


def apply(history: History, slurm: FakeSlurm, step: Callable[[str], None] = lambda _: None) -> Revision:
    with history.lock("apply"):
        return Transaction(history, begin(history), slurm, step).run()


def test_all_files_change_and_the_record_says_so(history: History) -> None:
    steps: list[str] = []
    closed = apply(history, FakeSlurm(), steps.append)
    assert on_disk(history.conf_dir) == AFTER
    assert (closed.result, closed.waiting_nodes, closed.detail) == (Result.APPLIED, ("n9",), "n9 is down")
    assert history.revisions() == (closed,)
    assert history.base() == AFTER
    assert history.before(closed) == BEFORE
    published = [step for step in steps if step.startswith(("publish ", "remove "))]
    assert published == [
        "publish cgroup.conf",
        "publish gres.conf",
        "publish slurm.conf",
        "remove topology.conf",
    ]


def test_modes_and_owners_stay_and_the_state_is_private(history: History) -> None:
    (history.conf_dir / "slurm.conf").chmod(0o604)
    apply(history, FakeSlurm())
    assert (history.conf_dir / "slurm.conf").stat().st_mode & 0o777 == 0o604
    assert (history.conf_dir / "gres.conf").stat().st_mode & 0o777 == 0o640
    for path in (history.folder, *history.folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    ("on_disk_before", "mode_before", "mode_after"),
    [(b"old\n", 0o644, 0o600), (b"secret\n", 0o644, 0o600), (b"old\n", 0o400, 0o400), (None, None, 0o600)],
)
def test_a_secret_file_is_never_left_to_others(
    history: History, on_disk_before: bytes | None, mode_before: int | None, mode_after: int
) -> None:
    path = history.conf_dir / "slurmdbd.conf"
    if on_disk_before is not None and mode_before is not None:
        path.write_bytes(on_disk_before)
        path.chmod(mode_before)
    after = {"slurmdbd.conf": b"secret\n"}
    records, before = file_records(history.conf_dir, after, removed=(), mode=file_mode)
    assert [record.name for record in records] == ["slurmdbd.conf"]
    draft = Revision(0, "apply", "Managed", "ada", "ctl", 1, "2026-01-01T00:00:00+00:00", reconfigure=True)
    recorded = dataclasses.replace(draft, files=records)
    with history.lock("apply"):
        revision = history.create(recorded, before=before, after=after, wanted=after)
        Transaction(history, revision, FakeSlurm(), lambda _: None).run()
    assert path.read_bytes() == b"secret\n"
    assert path.stat().st_mode & 0o777 == mode_after
    assert file_records(history.conf_dir, after, removed=(), mode=file_mode) == ((), {})


def test_a_symbolic_link_stays_one(history: History, tmp_path: Path) -> None:
    shared = tmp_path / "shared.conf"
    (history.conf_dir / "slurm.conf").rename(shared)
    (history.conf_dir / "slurm.conf").symlink_to(shared)
    apply(history, FakeSlurm())
    assert (history.conf_dir / "slurm.conf").is_symlink()
    assert shared.read_bytes() == AFTER["slurm.conf"]


def removed_link(history: History, tmp_path: Path, *, relative: bool) -> Path:
    """Make the file that goes a symbolic link; return where it leads."""
    shared = tmp_path / "shared"
    shared.mkdir()
    target = shared / "topology.conf"
    link = history.conf_dir / "topology.conf"
    link.rename(target)
    link.symlink_to("../shared/topology.conf" if relative else target)
    return target


@pytest.mark.parametrize("relative", [True, False])
def test_of_a_symbolic_link_that_goes_nothing_is_left_behind(
    history: History, tmp_path: Path, relative: bool
) -> None:
    target = removed_link(history, tmp_path, relative=relative)
    apply(history, FakeSlurm())
    assert on_disk(history.conf_dir) == AFTER
    assert on_disk(target.parent) == {"topology.conf": BEFORE["topology.conf"]}


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("where", ["check_jobs", "verify"])
def test_a_symbolic_link_that_went_comes_back_as_one(
    history: History, tmp_path: Path, where: str, relative: bool
) -> None:
    target = removed_link(history, tmp_path, relative=relative)
    leads_to = (history.conf_dir / "topology.conf").readlink()
    with pytest.raises(OperationFailed, match="the files from before are in place"):
        apply(history, FakeSlurm(fails={where: OperationFailed("no")}))
    assert on_disk(history.conf_dir) == BEFORE
    assert (history.conf_dir / "topology.conf").readlink() == leads_to
    assert on_disk(target.parent) == {"topology.conf": BEFORE["topology.conf"]}


@pytest.mark.parametrize("where", ["fence", "close", "check_jobs", "reconfigure", "verify"])
def test_where_slurm_says_no_the_files_from_before_are_back(history: History, where: str) -> None:
    slurm = FakeSlurm(fails={where: OperationFailed("Slurm says no")})
    with pytest.raises(OperationFailed, match=r"Slurm says no.*the files from before are in place"):
        apply(history, slurm)
    assert on_disk(history.conf_dir) == BEFORE
    assert slurm.closed == Fence()
    (record,) = history.revisions()
    assert record.result is Result.RESTORED
    assert history.base() is None


def test_where_going_back_would_end_jobs_the_new_files_stay(history: History) -> None:
    slurm = FakeSlurm(
        fails={"verify": OperationFailed("n3 is lost"), "check_jobs_back": JobsAtStake("job 7 runs on n5")}
    )
    with pytest.raises(OperationFailed, match=r"n3 is lost; job 7 runs on n5 .*the new files stay"):
        apply(history, slurm)
    assert on_disk(history.conf_dir) == AFTER
    assert history.base() == AFTER
    assert history.revisions()[-1].result is Result.KEPT


def test_a_slurm_that_is_gone_gets_its_files_back(history: History) -> None:
    gone = OperationFailed("slurmctld does not answer")
    slurm = FakeSlurm(fails=dict.fromkeys(("reconfigure", "check_jobs_back", "reopen"), gone))
    with pytest.raises(OperationFailed, match="is opened by the next run"):
        apply(history, slurm)
    assert on_disk(history.conf_dir) == BEFORE
    assert history.revisions()[-1].fence_left


def steps_of_a_run(history: History) -> list[str]:
    steps: list[str] = []
    apply(history, FakeSlurm(), steps.append)
    return steps


def die_before(history: History, number: int) -> None:
    """Run in a process of its own, which kills itself before step `number`."""
    process = os.fork()
    if process == 0:
        left = number

        def step(_: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            apply(history, FakeSlurm(), step)
        finally:
            os._exit(1)  # a fork of pytest must never come back to it
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status), status
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_killed_before_any_step_the_next_run_ends_with_all_or_nothing(tmp_path: Path) -> None:
    write(tmp_path / "etc", BEFORE)
    steps = steps_of_a_run(History(tmp_path / "state", tmp_path / "etc"))
    assert len(steps) > 15
    for number, step in enumerate(steps):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / "etc", BEFORE)
        history = History(folder / "state", folder / "etc")
        die_before(history, number)
        told = steps.index("look at the jobs again") <= number
        unfinished = history.unfinished()
        assert unfinished is not None, step
        slurm = FakeSlurm()
        with history.lock("apply"):
            closed = Transaction(history, unfinished, slurm, lambda _: None).finish_or_undo()
        assert on_disk(history.conf_dir) == (AFTER if told else BEFORE), step
        assert closed.result is (Result.APPLIED if told else Result.RESTORED), step
        assert ("reconfigure" in slurm.asked) == told, step
        assert history.unfinished() is None
        fenced = steps.index("close the fence") <= number
        assert ("reopen" in slurm.asked) == fenced, step


def test_after_a_kill_what_somebody_else_changed_is_left_alone(history: History) -> None:
    steps = steps_of_a_run(History(history.folder.parents[2] / "other", history.conf_dir))
    write(history.conf_dir, BEFORE)
    (history.conf_dir / "gres.conf").unlink()
    die_before(history, steps.index("publish slurm.conf"))
    (history.conf_dir / "cgroup.conf").write_bytes(b"by hand\n")
    unfinished = history.unfinished()
    assert unfinished is not None
    with history.lock("apply"):
        closed = Transaction(history, unfinished, FakeSlurm(), lambda _: None).finish_or_undo()
    assert on_disk(history.conf_dir) == {**BEFORE, "cgroup.conf": b"by hand\n"}
    assert "cgroup.conf" in closed.detail


def test_an_interrupt_puts_the_files_back(history: History) -> None:
    def step(name: str) -> None:
        if name == "verify":
            raise KeyboardInterrupt

    with pytest.raises(OperationFailed, match="interrupted"):
        apply(history, FakeSlurm(), step)
    assert on_disk(history.conf_dir) == BEFORE


@pytest.mark.parametrize("name", ["cgroup.conf", "slurm.conf"])
def test_a_file_that_cannot_be_replaced_undoes_the_others(
    history: History, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = atomic.publish

    def refuse(path: Path) -> None:
        if path.name == name:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        publish(path)

    monkeypatch.setattr(atomic, "publish", refuse)
    with pytest.raises(OperationFailed, match=f"{name} cannot be written: Operation not permitted"):
        apply(history, FakeSlurm())
    assert on_disk(history.conf_dir) == BEFORE


def test_what_somebody_else_writes_meanwhile_is_not_overwritten(history: History) -> None:
    def step(name: str) -> None:
        if name == "look at the jobs":
            (history.conf_dir / "cgroup.conf").write_bytes(b"by hand\n")

    with pytest.raises(OperationFailed, match=r"somebody else changed cgroup\.conf meanwhile"):
        apply(history, FakeSlurm(), step)
    assert on_disk(history.conf_dir) == {**BEFORE, "cgroup.conf": b"by hand\n"}


def damage(history: History, number: int, text: str) -> None:
    (history.folder / "revisions" / f"{number:06d}" / "record.json").write_text(text)


def recorded(history: History, number: int) -> dict[str, Any]:
    text = (history.folder / "revisions" / f"{number:06d}" / "record.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def twice(history: History) -> None:
    apply(history, FakeSlurm())
    write(history.conf_dir, BEFORE)
    apply(history, FakeSlurm())


def test_a_damaged_record_of_before_stops_nobody(history: History) -> None:
    twice(history)
    damage(history, 1, "{")
    damaged, last = history.entries()
    assert isinstance(damaged, Unreadable)
    assert history.revisions() == (last,)
    assert history.current() == last
    assert history.base() == AFTER
    assert history.unfinished() is None
    apply(history, FakeSlurm())
    assert history.revisions()[-1].number == 3
    with pytest.raises(OperationFailed, match="the record of revision 1 cannot be read") as refused:
        history.get(1)
    assert "move" in refused.value.hint


def test_a_damaged_record_that_may_be_the_last_application_is_not_passed_over(history: History) -> None:
    twice(history)
    damage(history, 2, "{}")
    for look in (history.current, history.base, history.unfinished):
        with pytest.raises(OperationFailed, match=r"revision 2 cannot be read: .*its format is None"):
            look()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"number": 7}, "it is that of revision 7"),
        ({"number": "1"}, "number is of the wrong kind"),
        ({"started": "yesterday"}, "yesterday"),
        ({"finished": 5}, "finished is of the wrong kind"),
        ({"finished": ""}, "Invalid isoformat string"),
        ({"result": ["applied"]}, "not a valid Result"),
        ({"files": {}}, "files or fence"),
        ({"files": [3]}, "no FileRecord"),
        ({"files": [{"name": "slurm.conf"}]}, "before is missing"),
        ({"fence": []}, "files or fence"),
        ({"fence": {"nodes": [1]}}, "nodes is of the wrong kind"),
        ({"fence": {"partitions": ["up"]}}, "fence.partitions"),
        ({"waiting_nodes": "n1"}, "waiting_nodes is of the wrong kind"),
        ({"reconfigure": "yes"}, "reconfigure is of the wrong kind"),
        ({"format": 2}, "its format is 2, this hpadmin knows 1"),
    ],
)
def test_a_record_of_another_form_is_unreadable_and_says_why(
    history: History, change: dict[str, Any], reason: str
) -> None:
    apply(history, FakeSlurm())
    damage(history, 1, json.dumps({**recorded(history, 1), **change}))
    (entry,) = history.entries()
    assert isinstance(entry, Unreadable)
    assert reason in entry.reason


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "[" * 100_000, "\udcff"])
def test_any_text_is_at_worst_unreadable(history: History, text: str) -> None:
    apply(history, FakeSlurm())
    path = history.folder / "revisions" / "000001" / "record.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert isinstance(history.entries()[0], Unreadable)


def test_a_record_without_release_or_links_is_read(history: History) -> None:
    closed = apply(history, FakeSlurm())
    old = recorded(history, 1)
    del old["release"]
    for entry in old["files"]:
        del entry["link"]
    damage(history, 1, json.dumps(old))
    assert history.revisions() == (closed,)


def test_without_reconfigure_slurm_is_not_asked(history: History) -> None:
    slurm = FakeSlurm()
    with history.lock("apply"):
        closed = Transaction(history, begin(history, reconfigure=False), slurm, lambda _: None).run()
    assert closed.result is Result.WRITTEN
    assert on_disk(history.conf_dir) == AFTER
    assert slurm.asked == []


def test_the_second_of_two_is_told_who_holds_the_lock(history: History) -> None:
    with history.lock("apply"):
        other = History(history.folder.parents[1], history.conf_dir)
        with (
            pytest.raises(OperationFailed, match=rf"is being changed already: apply by .*pid {os.getpid()}"),
            other.lock("rollback"),
        ):
            pytest.fail("two held the lock")


def test_a_state_folder_without_space_or_rights_is_told_before_anything_is_written(tmp_path: Path) -> None:
    write(tmp_path / "etc", BEFORE)
    (tmp_path / "state").write_text("a file where a folder should be")
    history = History(tmp_path / "state", tmp_path / "etc")
    with (
        pytest.raises(OperationFailed, match="nothing can be recorded, so nothing was written"),
        history.lock("apply"),
    ):
        pytest.fail("the lock was taken")
    assert on_disk(history.conf_dir) == BEFORE


def test_a_full_disk_is_named_with_the_file_that_did_not_fit(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_content = os.fsync

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == ".slurm.conf.hpadmin-new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_content(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OperationFailed, match=r"slurm\.conf\.hpadmin-new cannot be written: No space left on device"
    ):
        apply(history, FakeSlurm())
    assert on_disk(history.conf_dir) == BEFORE
