"""Steps: they see what is lacking, make it so, and a second look finds nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from hpadmin.errors import OperationFailed
from lifecycle.machine import Machine
from lifecycle.step import Absent, Access, Block, Directory, File, Step
from tests.unit.lifecycle.support import machine, me


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    "step",
    [
        File("/etc/a", "text\n"),
        File("/etc/deep/er/key", b"\x00\xff", 0o400, "munge"),
        Block("/etc/hosts", ("10.0.0.1 head",)),
        Directory("/var/log/slurm", 0o750, "slurm"),
    ],
    ids=lambda step: type(step).__name__,
)
def test_what_was_made_lacks_nothing_and_making_it_again_changes_nothing(tmp_path: Path, step: Step) -> None:
    host, _ = machine(tmp_path)
    assert step.lacking(host)
    step.make(host)
    assert step.lacking(host) is None
    path = tmp_path / step.path.lstrip("/")  # type: ignore[attr-defined]  # all of the above have one
    before = path.lstat().st_mode, path.is_file() and path.read_bytes()
    step.make(host)
    assert (path.lstat().st_mode, path.is_file() and path.read_bytes()) == before
    assert not list(tmp_path.rglob("*hpadmin-new*"))


def test_looking_changes_nothing(tmp_path: Path) -> None:
    host, recorder = machine(tmp_path)
    for step in (File("/a/b", "x"), Block("/c", ("x",)), Directory("/d"), Absent("/g")):
        step.lacking(host)
    assert [path.name for path in tmp_path.rglob("*")] == ["proc"]
    assert recorder.calls == []


def test_a_secret_is_never_readable_by_others_not_even_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = machine(tmp_path)
    seen: list[int] = []
    fsync = os.fsync

    def watching(descriptor: int) -> None:
        seen.extend(mode_of(path) for path in tmp_path.rglob("*") if path.is_file())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watching)
    opened = os.open

    def opening(path: str | Path, flags: int, mode: int = 0o777) -> int:
        descriptor = opened(path, flags, mode)
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", opening)
    File("/etc/munge/munge.key", b"k" * 32, 0o400, "munge").make(host)
    assert seen
    assert all(found & 0o077 == 0 for found in seen)


def test_a_mode_that_was_loosened_is_seen_and_mended(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    step = File("/key", "k", 0o400, "munge")
    step.make(host)
    (tmp_path / "key").chmod(0o644)
    assert step.lacking(host) == "set the mode of /key to 0400"
    step.make(host)
    assert mode_of(tmp_path / "key") == 0o400


def test_a_link_where_a_file_belongs_is_replaced_and_what_it_leads_to_is_kept(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    (tmp_path / "precious").write_text("theirs")
    (tmp_path / "target").symlink_to(tmp_path / "precious")
    File("/target", "ours").make(host)
    assert (tmp_path / "precious").read_text() == "theirs"
    assert not (tmp_path / "target").is_symlink()


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = machine(tmp_path)
    (tmp_path / "conf").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        File("/conf", "new").make(host)
    assert (tmp_path / "conf").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "proc"]


def test_what_a_killed_run_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    (tmp_path / ".conf.host.hpadmin-new").write_text("half")
    File("/conf", "whole").make(host)
    assert (tmp_path / "conf").read_text() == "whole"
    assert not (tmp_path / ".conf.host.hpadmin-new").exists()


def test_a_file_that_is_mounted_over_is_rewritten_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = machine(tmp_path)
    (tmp_path / "hosts").write_text("127.0.0.1 localhost and a long line\n")
    inode = (tmp_path / "hosts").stat().st_ino

    def busy(self: Path, target: Path) -> Path:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    File("/hosts", "short\n").make(host)
    assert (tmp_path / "hosts").read_text() == "short\n"
    assert (tmp_path / "hosts").stat().st_ino == inode
    assert not (tmp_path / ".hosts.host.hpadmin-new").exists()


@pytest.mark.parametrize(
    ("before", "lines", "after"),
    [
        (b"", ("a",), b"# BEGIN hpadmin\na\n# END hpadmin\n"),
        (b"x", ("a",), b"x\n# BEGIN hpadmin\na\n# END hpadmin\n"),
        (b"x\r\n\xff\n", ("a",), b"x\r\n\xff\n# BEGIN hpadmin\na\n# END hpadmin\n"),
        (
            b"# BEGIN hpadmin\nold\n# END hpadmin\ny\n",
            ("new",),
            b"y\n# BEGIN hpadmin\nnew\n# END hpadmin\n",
        ),
        (b"x\n# BEGIN hpadmin\nold\n# END hpadmin\n", (), b"x\n"),
    ],
)
def test_a_block_leaves_every_other_byte_alone(
    tmp_path: Path, before: bytes, lines: tuple[str, ...], after: bytes
) -> None:
    host, _ = machine(tmp_path)
    (tmp_path / "f").write_bytes(before)
    Block("/f", lines).make(host)
    assert (tmp_path / "f").read_bytes() == after
    assert Block("/f", lines).lacking(host) is None


@pytest.mark.parametrize(
    "marks", [b"# BEGIN hpadmin\n", b"# BEGIN hpadmin\n# BEGIN hpadmin\n# END hpadmin\n"]
)
def test_a_block_whose_end_is_missing_takes_nothing_of_the_file_with_it(tmp_path: Path, marks: bytes) -> None:
    host, _ = machine(tmp_path)
    before = b"x\n" + marks + b"precious\n"
    (tmp_path / "f").write_bytes(before)
    with pytest.raises(OperationFailed, match=r"^/f: the block that begins in line 2 has no end$"):
        Block("/f", ("a",)).make(host)
    assert (tmp_path / "f").read_bytes() == before


def test_a_directory_keeps_what_is_in_it(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data/precious").write_text("x")
    Directory("/data", 0o755).make(host)
    assert (tmp_path / "data/precious").read_text() == "x"
    assert mode_of(tmp_path / "data") == 0o755


def test_an_account_that_does_not_exist_is_named(tmp_path: Path) -> None:
    host = Machine(tmp_path, owner=lambda user: None)
    with pytest.raises(OperationFailed, match="the system account munge does not exist"):
        File("/key", "k", 0o400, "munge").make(host)
    assert not (tmp_path / "key").exists()


def test_access_changes_no_content(tmp_path: Path) -> None:
    host = Machine(tmp_path, owner=me)
    (tmp_path / "f").write_text("x")
    step = Access("/f", 0o600, "slurm")
    assert step.lacking(host)
    step.make(host)
    assert step.lacking(host) is None
    assert (tmp_path / "f").read_text() == "x"


def test_absent(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    (tmp_path / "f").write_text("x")
    assert Absent("/f").lacking(host) == "remove /f"
    Absent("/f").make(host)
    assert Absent("/f").lacking(host) is None
