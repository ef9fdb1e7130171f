"""shared_users.txt: what is meant, and every way to abuse it, with the exact words."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.errors import InvalidInput, OperationFailed
from lifecycle.impersonate import as_user
from lifecycle.users import User, conflicts, parse, parse_keys

FILE = "shared_users.txt"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2JhcmJhemZvb2JhcmJhemZvb2JhcmJhemZv"


def test_lines_comments_blanks_and_homes() -> None:
    text = "# people\r\n\nann,2001,/fsx/ann\n  bob , 2002 \n"
    assert parse(text, FILE) == (User("ann", 2001, "/fsx/ann"), User("bob", 2002, "/home/bob"))


NAME = "is no user name: lower-case letters, digits, - and _, at most 32, no digit first"
UID = "is no user id: it must be a number from 1000 to 59999"
HOME = "is no home directory: an absolute path of letters, digits, . _ and -, without .."
SYSTEM = "is no home directory: it is the system's own, or a whole file system"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ann", "must be NAME,UID[,HOME], got 'ann'"),
        ("ann,2001,/fsx/ann,extra", "must be NAME,UID[,HOME], got 'ann,2001,/fsx/ann,extra'"),
        ("-rf,2001", f"'-rf' {NAME}"),
        ("$(reboot),2001", f"'$(reboot)' {NAME}"),
        ("a;reboot,2001", f"'a;reboot' {NAME}"),
        ("Ann,2001", f"'Ann' {NAME}"),
        ("ann:x:0:0::/:/bin/sh,2001", f"'ann:x:0:0::/:/bin/sh' {NAME}"),
        (f"{'a' * 33},2001", f"'{'a' * 33}' {NAME}"),
        ("ann,0", f"'0' {UID}"),
        ("ann,999", f"'999' {UID}"),
        ("ann,65534", f"'65534' {UID}"),
        ("ann,-1", f"'-1' {UID}"),
        ("ann,2001 --home /", f"'2001 --home /' {UID}"),
        ("ann,0x7d1", f"'0x7d1' {UID}"),
        ("ann,２００１", f"'２００１' {UID}"),
        ("ann,2001,fsx/ann", f"'fsx/ann' {HOME}"),
        ("ann,2001,/fsx/../etc", f"'/fsx/../etc' {HOME}"),
        ("ann,2001,/fsx/ann/", f"'/fsx/ann/' {HOME}"),
        ("ann,2001,/fsx/`id`", f"'/fsx/`id`' {HOME}"),
        ("ann,2001,/fsx/a b", f"'/fsx/a b' {HOME}"),
        ("ann,2001,/etc/cron.d", f"'/etc/cron.d' {SYSTEM}"),
        ("ann,2001,/root/ann", f"'/root/ann' {SYSTEM}"),
        ("ann,2001,/fsx", f"'/fsx' {SYSTEM}"),
        ("ann,2001,/var/lib/mysql", f"'/var/lib/mysql' {SYSTEM}"),
        ("ann,2001,/opt/slurm/etc", f"'/opt/slurm/etc' {SYSTEM}"),
        ("ann,2001,/home/ok/inside", "'/home/ok/inside' is inside the home of ok"),
        ("slurm,2001", "the name slurm belongs to the system"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(line: str, said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(f"ok,2000\n{line}\n", FILE, reserved=["slurm"])
    assert [(problem.path, problem.message) for problem in error.value.problems] == [(f"{FILE}:2", said)]


def test_everything_is_told_at_once() -> None:
    with pytest.raises(InvalidInput) as error:
        parse("1x,5,y\nann,2001\nann,2001\n", FILE)
    assert [str(problem) for problem in error.value.problems] == [
        f"{FILE}:1: '1x' {NAME}",
        f"{FILE}:1: '5' {UID}",
        f"{FILE}:1: 'y' {HOME}",
        f"{FILE}:3: ann is already used in line 2",
        f"{FILE}:3: 2001 is already used in line 2",
        f"{FILE}:3: /home/ann is already used in line 2",
    ]


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_whatever_is_accepted_can_stand_in_passwd_and_on_a_command_line(text: str) -> None:
    try:
        users = parse(text, FILE)
    except InvalidInput:
        return
    for user in users:
        for value in (user.name, user.home):
            assert not set(value) & set(":\n\r\0 ,;$`'\"\\|&<>*?()")
        assert not user.name.startswith("-")
        assert ".." not in user.home.split("/")


def test_accounts_of_an_earlier_run_are_no_conflict_and_others_are() -> None:
    users = (User("ann", 2001, "/home/ann"), User("bob", 2002, "/home/bob"), User("cy", 2003, "/home/cy"))
    found = conflicts(users, [("ann", 2001), ("bob", 1500), ("dee", 2003)], [("ann", 2001)])
    assert [str(problem) for problem in found] == [
        "bob: has user id 1500 on this machine, 2002 is wanted",
        "cy: user id 2003 belongs to dee on this machine",
    ]


def test_groups_that_users_cannot_have_are_told_before_anything_is_made() -> None:
    users = (User("ann", 2001, "/home/ann"), User("sudo", 2002, "/home/sudo"), User("cy", 2003, "/home/cy"))
    found = conflicts(users, [], [("ann", 2001), ("sudo", 27), ("project", 2003)])
    assert [str(problem) for problem in found] == [
        "sudo: has group id 27 on this machine, 2002 is wanted",
        "cy: group id 2003 belongs to project on this machine",
    ]


def test_public_keys() -> None:
    assert parse_keys(f"# mine\n{KEY} ann@laptop\n\n{KEY}\n", "ann.pub") == (f"{KEY} ann@laptop", KEY)


@pytest.mark.parametrize(
    "line",
    [
        f'command="reboot" {KEY}',
        "ssh-ed25519 short",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        f"{KEY} with\x07bell",
        f"{KEY}\rssh",
    ],
)
def test_what_is_no_plain_public_key_is_refused_without_repeating_it(line: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_keys(line, "ann.pub")
    assert [str(problem) for problem in error.value.problems] == [
        "ann.pub:1: is no public key (type, key, comment; no options)"
    ]


def test_a_child_does_its_work_with_a_tight_umask(tmp_path: Path) -> None:
    as_user(os.getuid(), os.getgid(), lambda: (tmp_path / "made").touch())
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


def test_a_child_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(OperationFailed, match=r"did not end within 0\.01 s"):
        as_user(os.getuid(), os.getgid(), signal.pause, timeout=0.01)


def test_what_fails_in_a_child_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        as_user(os.getuid(), os.getgid(), lambda: (tmp_path / "none/made").touch())
    assert error.value.filename == str(tmp_path / "none/made")

    def refuse() -> None:
        raise OperationFailed("not like this")

    with pytest.raises(OperationFailed, match="not like this"):
        as_user(os.getuid(), os.getgid(), refuse)
